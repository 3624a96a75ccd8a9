"""A posterior that draws its code in several steps, each of which sees what was drawn before."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.gaussian import gaussian_kl, positive
from textvae.parts.posteriors.posterior import PosteriorNetwork, PosteriorSettings, Rate, gradients_with
from textvae.parts.priors import Prior
from textvae.settings.fields import Depth, Scale, Size
from textvae.settings.problems import Problem

# Pairs of a code and a posterior whose steps a mixture takes at once.
PAIRS, PAIRS_GPU = 1 << 13, 1 << 18


class Steps(nn.Module):
    """A GRU whose state says where the next part of the code is; it reads the text and the part drawn last.

    The code's dimensions are shared out in order among the steps, the first ones taking one more where they do not
    divide. The first step reads zeros in place of a part.
    """

    def __init__(self, latent: int, steps: int, hidden: int, scale: Scale) -> None:
        super().__init__()
        self.scale: Scale = scale
        self.sizes = [len(part) for part in torch.arange(latent).tensor_split(steps) if len(part)]
        self.from_part = nn.Linear(self.sizes[0], 3 * hidden, bias=False)
        self.from_state = nn.Linear(hidden, 3 * hidden)
        self.parameters_of = nn.Linear(hidden, 2 * self.sizes[0])

    def state(
        self, seen: Float[Tensor, "*any gates"], part: Tensor | None, state: Tensor | None
    ) -> Float[Tensor, "*sample batch hidden"]:
        """Return the state of the next step.

        References: Cho et al. 2014, whose GRU stands for the LSTM that Gregor et al. 2015 have.
        """
        if part is not None:
            seen = seen + part @ self.from_part.weight[:, : part.shape[-1]].to(part).mT
        bias = self.from_state.bias.to(seen)
        past = bias if state is None else state @ self.from_state.weight.to(seen).mT + bias
        gates, (candidate, recalled) = self._split(seen, past)
        reset, keep = gates.sigmoid().chunk(2, dim=-1)
        new = (candidate + reset * recalled).tanh()
        return (1 - keep) * new if state is None else new + keep * (state - new)

    def gaussian(self, state: Float[Tensor, "*any hidden"], size: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of a part of `size` dimensions."""
        weight, bias = self.parameters_of.weight.to(state), self.parameters_of.bias.to(state)
        mean, raw = (state @ weight.mT + bias).chunk(2, dim=-1)
        return mean[..., :size], positive(raw[..., :size], self.scale)

    @staticmethod
    def _split(seen: Tensor, past: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the sum for both gates and, separately, the two parts of a candidate."""
        hidden = seen.shape[-1] // 3
        gates = seen[..., : 2 * hidden] + past[..., : 2 * hidden]
        return gates, (seen[..., 2 * hidden :], past[..., 2 * hidden :])


@dataclass(frozen=True)
class MultiStep:
    """q(z|x) = prod_t N(z_t; mean_t(x, z_<t), diag std_t(x, z_<t)^2), z the parts z_1 ... z_T one after another.

    All of z is the code that the decoder sees and the prior is of, so log q(z|x) is exact for every code and the KL
    is a sum of Gaussian KLs, in expectation over the parts drawn before each.

    References: Gregor et al. 2015, "DRAW: a recurrent neural network for image generation", eq. 3, 4 and 10; Bowman
    et al. 2016, section 3, tried a multistep sampling model styled after it. A departure: there a generative
    network with a state of its own reads the parts in turn and adds to a canvas; here the canvas is z itself, of
    which each step writes its dimensions.
    """

    slow_mixture: ClassVar[bool] = True

    seen: Float[Tensor, "batch gates"]
    steps: Steps

    @property
    def mean(self) -> Float[Tensor, "batch latent"]:
        """Each part's mean after the means before it: a typical code, not the mean of q(z|x)."""
        with torch.autocast(self.seen.device.type, enabled=False), gradients_with(self.seen):
            part, state, parts = None, None, []
            for size in self.steps.sizes:
                state = self.steps.state(self.seen, part, state)
                part, _ = self.steps.gaussian(state, size)
                parts.append(part)
            return torch.cat(parts, dim=-1)

    @property
    def expectation(self) -> None:
        """None: there is no closed form, and `mean` is another point."""
        return None

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws, part by part."""
        with torch.autocast(self.seen.device.type, enabled=False), gradients_with(self.seen):
            drawn = noise(samples, sum(self.steps.sizes)).to(self.seen)
            seen = self.seen.expand(samples, -1, -1)
            part, state, parts = None, None, []
            for normal in drawn.split(self.steps.sizes, dim=-1):
                state = self.steps.state(seen, part, state)
                mean, std = self.steps.gaussian(state, normal.shape[-1])
                part = mean + std * normal
                parts.append(part)
            return torch.cat(parts, dim=-1)

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats; computed in float64, as that of a mixture, so that both agree on sharp posteriors."""
        return _log_density(self.steps, self.seen.double(), z.double()).to(z)

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: only the sum is known, as an average over draws."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL(q || prior) in nats, averaged over the codes `z`.

        For the standard normal prior the sum of the parts' KLs in closed form, each given the parts of z before it:
        an estimate without bias that varies less than log q - log p does.
        """
        if prior.standard:
            mean, std = _along(self.steps, self.seen, z)
            return Rate(gaussian_kl(mean, std).sum(-1).mean(0), "monte-carlo")
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "monte-carlo")

    @torch.no_grad()
    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], pairs: int | None = None
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats.

        All N^2 densities in float64, about `pairs` of them at a time in square blocks.
        """
        side = max(1, math.isqrt(pairs or (PAIRS if z.device.type == "cpu" else PAIRS_GPU)))
        codes, seen = z.double(), self.seen.double()
        total = codes.new_full((len(z),), -math.inf)
        for of in seen.split(side):
            for start in range(0, len(z), side):
                part = slice(start, start + side)
                every = codes[part, None].expand(-1, len(of), -1)
                total[part] = torch.logaddexp(total[part], _log_density(self.steps, of, every).logsumexp(1))
        return total - math.log(len(z))


def _along(
    steps: Steps, seen: Float[Tensor, "batch gates"], z: Float[Tensor, "*sample batch latent"]
) -> tuple[Float[Tensor, "*sample batch latent"], Float[Tensor, "*sample batch latent"]]:
    """Return means and standard deviations of all parts of codes, each given the parts before it."""
    with torch.autocast(z.device.type, enabled=False), gradients_with(z, seen):
        part, state, found = None, None, []
        for following in z.split(steps.sizes, dim=-1):
            state = steps.state(seen, part, state)
            found.append(steps.gaussian(state, following.shape[-1]))
            part = following
        mean, std = (
            torch.cat([one.expand(*z.shape[:-1], -1) for one in ones], -1) for ones in zip(*found, strict=True)
        )
        return mean, std


def _log_density(
    steps: Steps, seen: Float[Tensor, "batch gates"], z: Float[Tensor, "*sample batch latent"]
) -> Float[Tensor, "*sample batch"]:
    """log q(z|x) in nats."""
    mean, std = _along(steps, seen, z)
    return torch.distributions.Normal(mean, std, validate_args=False).log_prob(z).sum(-1)


class MultiStepPosterior(PosteriorNetwork):
    """Linear map of the encoder's vector to the input of the steps, and the steps; in full precision.

    With one step it is a Gaussian whose parameters a hidden layer gives.
    """

    def __init__(
        self, size: int, latent: int, steps: int = 4, hidden: int = 64, scale: Scale = "log-variance"
    ) -> None:
        super().__init__()
        self.from_text = nn.Linear(size, 3 * hidden)
        self.steps = Steps(latent, steps, hidden, scale)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> MultiStep:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            return MultiStep(self.from_text(hidden.to(self.from_text.weight.dtype)), self.steps)


class MultiStepSettings(PosteriorSettings):
    """z drawn in `steps` parts, each a Gaussian whose parameters a GRU gives from x and the parts before it."""

    name: Literal["multi-step"]
    steps: Depth = 4
    hidden: Size = 64
    scale: Scale = "log-variance"
    density_anywhere: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> MultiStepPosterior:
        """Build its network."""
        return MultiStepPosterior(size, latent, self.steps, self.hidden, self.scale)

    def problems(self, latent: int) -> list[Problem]:
        """Refuse more steps than there are dimensions to draw."""
        if latent >= self.steps:
            return []
        parts = f"each step draws a part of the code, which has only model.latent = {latent} dimensions"
        return [Problem("steps", parts, f"give {latent} or less", value=self.steps)]
