"""The semi-implicit posterior: a Gaussian whose parameters are themselves random, a network of text and noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int
from pydantic import field_validator
from torch import Tensor, nn

from textvae.parts.noise import Noise, same_noise
from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.posteriors.gaussian import positive
from textvae.parts.posteriors.posterior import ENTRIES, Expectation, PosteriorNetwork, PosteriorSettings, Rate
from textvae.parts.priors import Place, Prior
from textvae.settings.fields import DepthOrNone, Scale, Size, SizeOrNone
from textvae.settings.schedules import Constant, Schedule

# Components of a sentence in evaluation where K = 0: the mean of its posterior is told from all of them.
ALONE = 50
# The largest K.
MOST_COMPONENTS = 100_000


@dataclass(frozen=True)
class SemiImplicit:
    """q(z|x) = E over lambda of N(z; lambda), known by components lambda = (mean, std) drawn for each sentence.

    The first `own` components, J of them, are what codes are drawn from; the K after them stand beside each of the
    J when a density is asked for. With K = 0 the surrogate density of a code is that of its own Gaussian.

    References: Fu et al. 2020, eq. 7, 8, 12, 15 and 16; Yin and Zhou 2018.
    """

    means: Float[Tensor, "batch components latent"]
    stds: Float[Tensor, "batch components latent"]
    own: int

    @property
    def mean(self) -> Float[Tensor, "batch latent"]:
        """The average of all components' means: an estimate of E[z|x], as `expectation` says."""
        return self.means.mean(1)

    @property
    def expectation(self) -> Expectation:
        """`mean` and its variance given x, without bias: what it scatters by which components were drawn."""
        return Expectation(self.mean, self.means.var(1, correction=1) / self.means.shape[1])

    def standardised(self, place: Place) -> "SemiImplicit":
        """Return the posterior of u = (z - mean) / std."""
        mean, std = place.mean[:, None], place.std[:, None]
        return SemiImplicit((self.means - mean) / std, self.stds / std, self.own)

    @property
    def apart(self) -> "SemiImplicit":
        """The same posteriors by components that no first code was drawn from: the K, or with K = 0 all J but one.

        Such a density of a first code has no component that made it, so that an information by these is one from
        below where that by `log_prob` is one from above. There must be such a component, as there is in evaluation.
        """
        first = self.own if self.means.shape[1] > self.own else 1
        return SemiImplicit(self.means[:, first:], self.stds[:, first:], own=1)

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws, code j from component j; when there are more codes than components, in turns."""
        drawn = noise(samples, self.means.shape[2])
        mean, std = self._components(torch.arange(samples, device=drawn.device) % self.means.shape[1])
        return mean + std * drawn

    def log_prob(
        self, z: Float[Tensor, "sample batch latent"], entries: int = ENTRIES
    ) -> Float[Tensor, "sample batch"]:
        """log q~_K(z_j) of codes as `rsample` drew them: a stand-in for log q(z_j|x), in nats.

        log 1/(K+1) [N(z_j; lambda_j) + sum over the K further components of N(z_j; lambda_k)]. Given x, a code and
        K + 1 independent components of which one is its own: so the importance weights p(x, z_j) / q~_K(z_j) are
        unbiased for p(x), and E log q~_K(z_j) is at least E log q(z_j|x) and falls to it as K grows. A code that
        was drawn from one of the K has the first component for its (K+1)th. About `entries` numbers are held at
        once, but for what a gradient needs.

        References: Fu et al. 2020, eq. 12 and 15. Eq. 14 prints E + R, and p(z) and q~ for their logarithms; E - R
        and logarithms are meant.
        """
        drawn_from = torch.arange(len(z), device=z.device) % self.means.shape[1]
        own = _log_normal(z, *self._components(drawn_from * (drawn_from < self.own)))
        means, stds = self.means[:, self.own :], self.stds[:, self.own :]
        if not means.shape[1]:
            return own
        rows = max(1, entries // max(1, means.numel()))
        beside = torch.cat([_log_normal(some[:, :, None], means, stds).logsumexp(2) for some in z.split(rows)])
        return torch.logaddexp(own, beside) - math.log(means.shape[1] + 1)

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: the bound is no sum over dimensions."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """Return the mean over codes of log q~_K(z_j) - log p(z_j) in nats: an upper bound on average.

        The paper's R - B_K, which it calls the KL. With K = 0 that is the one-sample form of eq. 15 too, not the
        closed form that eq. 10 has then for a standard normal prior; their expectations are equal.
        """
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "upper")

    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], entries: int = ENTRIES
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q~_K(z_n|x_m) of the first code z_n of each sentence, in nats.

        Each sentence's part is the mixture of the same K + 1 components as in `log_prob` of its first code, so that
        log q~_K(z_n) less this is at most ln N. With J = 1 these are all N (J + K) components.
        """
        used = torch.arange(self.own - 1, self.means.shape[1], device=self.means.device)
        used[0] = 0  # the first of the J, then the K
        means, stds = self.means[:, used], self.stds[:, used]
        weight = means.new_full((len(z) * len(used),), -math.log(len(z) * len(used)), dtype=torch.float64)
        return aggregated_log_prob(z, means.flatten(0, 1), stds.flatten(0, 1), weight, len(used), entries)

    def _components(self, numbers: Int[Tensor, " sample"]) -> tuple[Tensor, Tensor]:
        """Means and scales of some components, (sample, batch, latent) each."""
        mean, std = (part.index_select(1, numbers).transpose(0, 1) for part in (self.means, self.stds))
        return mean, std


class SemiImplicitPosterior(PosteriorNetwork):
    """lambda = f(x, epsilon), epsilon ~ N(0, I) of `noise` dimensions, concatenated to the encoder's vector.

    f has `layers` tanh layers of `hidden` units, then a linear one; with none it is linear. Mean and scale of a
    component both depend on text and noise, as in Fu et al. 2020 (in Yin and Zhou 2018 the mean alone). What the
    first layer makes of the text is computed once for all components. Without noise all components are equal, and
    with K = 0 too it is the Gaussian posterior. `components` is K where the caller names none: in evaluation.

    References: Fu et al. 2020, section 2.2 and appendix E (100 noise dimensions). Depth and width are not given
    there.
    """

    components: int

    def __init__(
        self,
        size: int,
        latent: int,
        noise: int = 100,
        hidden: int = 128,
        layers: int = 1,
        scale: Scale = "log-variance",
        components: int = 50,
    ) -> None:
        super().__init__()
        self.noise, self.components = noise, components
        self.scale: Scale = scale
        first = hidden if layers else 2 * latent
        self.from_text = nn.Linear(size, first)
        self.from_noise = nn.Linear(noise, first, bias=False) if noise else None
        rest: list[nn.Module] = []
        for layer in range(layers):
            rest += [nn.Tanh(), nn.Linear(hidden, 2 * latent if layer == layers - 1 else hidden)]
        self.rest = nn.Sequential(*rest)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> SemiImplicit:
        """Return the posteriors, with `samples` components to draw codes from and `components` beside them.

        With none beside them there are at least two to draw from, in evaluation 50, for `expectation`.

        Without `noise` every text gets the same noise, always: its code is then a function of the text alone.
        """
        beside = self.components if components is None else components
        # Without components beside codes' own there may be one alone, which does not tell how it scatters.
        own = samples if beside else max(samples, 2 if self.training else ALONE)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.from_text.weight.dtype)
            raw = self.from_text(hidden)[:, None]
            if self.from_noise is None:
                raw = raw.expand(-1, own + beside, -1)
            else:
                drawn = (noise or same_noise(hidden))(own + beside, self.noise)
                raw = raw + self.from_noise(drawn.to(hidden).transpose(0, 1))
            mean, spread = self.rest(raw).chunk(2, dim=2)
            return SemiImplicit(mean, positive(spread, self.scale), own)


def _log_normal(
    z: Float[Tensor, "*#any latent"], mean: Float[Tensor, "*#any latent"], std: Float[Tensor, "*#any latent"]
) -> Float[Tensor, "*any"]:
    """Log density of a diagonal Gaussian in nats, from the differences themselves: nothing cancels."""
    scale = std.log().sum(-1) + z.shape[-1] / 2 * math.log(2 * math.pi)
    return ((z - mean) / std).square().sum(-1) * -0.5 - scale


class SemiImplicitSettings(PosteriorSettings):
    """z ~ N(lambda), lambda a network of x and noise; J `samples` of z a sentence, K `components` beside each."""

    name: Literal["semi-implicit"]
    samples: Size = 5
    components: Schedule = Constant(value=50)
    noise: SizeOrNone = 100
    hidden: Size = 128
    layers: DepthOrNone = 1
    scale: Scale = "log-variance"
    surrogate: ClassVar[bool] = True
    standardises: ClassVar[bool] = True

    @field_validator("components")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        """Refuse a fixed number that is not whole; a schedule's values are rounded."""
        if isinstance(given, Constant) and given.value % 1:
            raise ValueError("components are counted: give a whole number")
        if max(getattr(given, "start", 0.0), given.final) > MOST_COMPONENTS:
            raise ValueError(f"components are drawn for every sentence: give at most {MOST_COMPONENTS:,}")
        return given

    def build(self, size: int, latent: int) -> SemiImplicitPosterior:
        """Build its network."""
        shape = (self.noise, self.hidden, self.layers)
        return SemiImplicitPosterior(size, latent, *shape, self.scale, round(self.components.final))

    def codes(self) -> int:
        """Return J."""
        return self.samples

    def drawn(self, step: int, total: int, per_epoch: int) -> int:
        """Return K at a step."""
        return round(self.components(step, total, per_epoch))

    def schedules(self) -> Mapping[str, Schedule]:
        """Return that of K."""
        return {"components": self.components}

    def step_numbers(self, latent: int) -> dict[str, int]:
        """Return the units of the network for all J + K components, K at its end."""
        most = round(self.components.final)
        return {
            f"components = {most}": (self.samples + most) * (self.noise + self.hidden * self.layers + 2 * latent)
        }
