"""A Gaussian sent through invertible maps that depend on the text: what all normalizing-flow posteriors share."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.gaussian import positive
from textvae.parts.posteriors.posterior import PosteriorNetwork, Rate, gradients_with
from textvae.parts.priors import Prior
from textvae.settings.fields import Scale

# Pairs of a code and a posterior that a mixture inverts at once: what fits a processor's cache, and a GPU's cores.
PAIRS, PAIRS_GPU = 1 << 13, 1 << 17


@runtime_checkable
class Map(Protocol):
    """One invertible map of codes, given a vector of context for each sentence."""

    def __call__(
        self, z: Float[Tensor, "*sample batch latent"], context: Float[Tensor, "batch context"]
    ) -> tuple[Tensor, Tensor]:
        """Return the codes after the map and the log determinants of its Jacobian, (*sample, batch)."""
        ...

    def inverse(
        self, z: Float[Tensor, "latent #sample #batch"], context: Float[Tensor, "batch context"]
    ) -> tuple[Tensor, Tensor]:
        """Return the codes before the map, dimensions first, and the log determinants of the map there."""
        ...


@dataclass(frozen=True)
class Flowed:
    """q(z|x): z_0 ~ N(base_mean, diag base_std^2) for each sentence, then the flows.

    References: Rezende and Mohamed 2015, "Variational inference with normalizing flows", eq. 5 to 7.
    """

    slow_mixture: ClassVar[bool] = True

    base_mean: Float[Tensor, "batch latent"]
    base_std: Float[Tensor, "batch latent"]
    context: Float[Tensor, "batch context"]
    flows: tuple[Map, ...]
    # Codes that were drawn, with their log densities: those come for nothing with a draw. Never copied along.
    _drawn: list[tuple[Tensor, int, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def mean(self) -> Float[Tensor, "batch latent"]:
        """Image of the base's mean: a typical code, but not the mean of q(z|x), which has no closed form."""
        return self._sent(self.base_mean)[0]

    @property
    def expectation(self) -> None:
        """None: there is no closed form, and `mean` is another point."""
        return None

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws; their densities are kept for `log_prob` of the same tensor."""
        drawn = noise(samples, self.base_mean.shape[1]).to(self.base_mean)
        z, log_det = self._sent(self.base_mean + self.base_std * drawn)
        log_q = -0.5 * (drawn.square() + math.log(2 * math.pi)).sum(-1) - self.base_std.log().sum(-1) - log_det
        self._drawn[:] = [(z, _version(z), log_q)]
        return z

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats: for the codes last drawn what is known of them, for all others by inversion.

        The inversion is done in float64, as that of a mixture, so that both say the same of a sharp posterior.
        """
        for known, version, log_q in self._drawn:
            if known is z and _version(z) == version and (log_q.requires_grad or not torch.is_grad_enabled()):
                return log_q
        flat = z.flatten(0, -3).movedim(-1, 0) if z.dim() > 2 else z.mT[:, None]
        log_q = self._inverted(flat.double(), self.base_mean.double(), self.base_std.double(), self.context)
        return log_q.view(z.shape[:-1]).to(z)

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: the KL of a flow is no sum over dimensions."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL(q || prior) in nats, averaged over the codes `z`."""
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "monte-carlo")

    @torch.no_grad()
    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], pairs: int | None = None
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats.

        All N^2 inversions in float64, about `pairs` of them at a time in square blocks.
        """
        pairs = pairs or (PAIRS if z.device.type == "cpu" else PAIRS_GPU)
        side = max(1, math.isqrt(pairs))
        codes = z.double().mT[:, :, None]
        mean, std, context = self.base_mean.double(), self.base_std.double(), self.context
        total = codes.new_full((len(z),), -math.inf)
        for first in range(0, len(z), side):
            of = slice(first, first + side)
            for start in range(0, len(z), side):
                part = slice(start, start + side)
                densities = self._inverted(codes[:, part], mean[of], std[of], context[of])
                total[part] = torch.logaddexp(total[part], densities.logsumexp(1))
        return total - math.log(len(z))

    def _sent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return base codes after the flows, and the log determinant of all flows together."""
        with gradients_with(z, self.base_mean, self.context):
            log_det = z.new_zeros(z.shape[:-1])
            for flow in self.flows:
                z, change = flow(z, self.context)
                log_det = log_det + change
            return z, log_det

    def _inverted(self, z: Tensor, mean: Tensor, std: Tensor, context: Tensor) -> Tensor:
        """log q (sample, batch) of codes with their dimensions first, (latent, sample, batch or 1)."""
        with gradients_with(z, self.base_mean, self.context):
            log_det = z.new_zeros(())
            for flow in reversed(self.flows):
                z, change = flow.inverse(z, context)
                log_det = log_det + change
        standard = (z - mean.mT[:, None]) / std.mT[:, None]
        base = -0.5 * (standard.square() + math.log(2 * math.pi)).sum(0) - std.log().sum(1)
        return base - log_det


def _version(z: Tensor) -> int:
    """Return torch's count of changes in place; 0 where it keeps none."""
    return 0 if z.is_inference() else z._version


class LinearFlowPosterior(PosteriorNetwork):
    """Base and maps of each sentence, linear in the encoder's vector, in full precision.

    `map_of` makes a map of codes of `latent` dimensions from its part of the context, which has `each` numbers.
    """

    def __init__(
        self, map_of: Callable[[int, slice], Map], each: int, size: int, latent: int, flows: int, scale: Scale
    ) -> None:
        super().__init__()
        self.scale: Scale = scale
        self.maps = tuple(map_of(latent, slice(n * each, (n + 1) * each)) for n in range(flows))
        self.parameters_of = nn.Linear(size, 2 * latent)
        self.maps_of = nn.Linear(size, flows * each)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> Flowed:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.parameters_of.weight.dtype)
            mean, raw = self.parameters_of(hidden).chunk(2, dim=1)
            return Flowed(mean, positive(raw, self.scale), self.maps_of(hidden), self.maps)
