"""A Gaussian posterior whose means are batch-normalised, so that its KL cannot vanish."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn

from textvae.parts.gather import gathered
from textvae.parts.noise import Noise
from textvae.parts.posteriors.gaussian import DiagonalGaussian, positive
from textvae.parts.posteriors.posterior import PosteriorSettings, Restated
from textvae.settings.fields import Scale

# Added to variances. The usual 1e-5 of batch normalisation would take the bound on the KL away: an encoder of small
# first weights gives means of a variance of 1e-8, which then stay collapsed below it.
EPSILON = 1e-14


class BatchNormPosterior(Restated):
    """A diagonal Gaussian whose means are normalised to deviation `gamma` over the batch, around a learned shift.

    In training over the global batch (biased variance v, plus 1e-14), which makes its mean KL to a standard normal
    prior at least sum_d (gamma^2 v / (v + 1e-14) + shift_d^2) / 2 nats. In evaluation with the `centre` and
    `variance` that `restate` was given last, so that a sentence encodes alone as among a thousand. Those are no
    running averages of training batches: the raw means may be nearly equal, and then one step of an optimizer moves
    them all by several of their deviations, so that averages over the last steps are another model's.

    `scale` as for the Gaussian posterior; all in full precision. With N processes each must read every batch.

    References: Zhu et al. 2020, "A batch normalized inference network keeps the KL vanishing away", section 4 and
    algorithm 1: gamma is fixed, the shift is learned, and scales are not normalised.
    """

    centre: Tensor
    variance: Tensor

    def __init__(self, size: int, latent: int, gamma: float = 0.5, scale: Scale = "log-variance") -> None:
        super().__init__()
        self.gamma = gamma
        self.scale: Scale = scale
        self.mean_of = nn.Linear(size, latent, bias=False)  # normalising would take a bias away
        self.scale_of = nn.Linear(size, latent)
        self.shift = nn.Parameter(torch.zeros(latent))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("variance", torch.ones(latent))

    def begin(self) -> None:
        """No shift, and statistics of means that need no normalising."""
        with torch.no_grad():
            self.shift.zero_()
            self.centre.zero_()
            self.variance.fill_(1.0)

    @torch.no_grad()
    def restate(self, hidden: Float[Tensor, "n size"]) -> None:
        """Evaluate with the statistics of these sentences' means from now on."""
        mean = self.mean_of(hidden.to(self.mean_of.weight.dtype))
        self.centre.copy_(mean.mean(0))
        self.variance.copy_(mean.var(0, correction=0))

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> DiagonalGaussian:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.mean_of.weight.dtype)
            mean = self._normalised(self.mean_of(hidden))
            return DiagonalGaussian(mean, positive(self.scale_of(hidden), self.scale))

    def _normalised(self, mean: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Deviation gamma around the shift."""
        centre, variance = self.centre, self.variance
        if self.training:
            everyone = gathered(mean)
            centre, variance = everyone.mean(0), everyone.var(0, correction=0)
        return self.gamma * (mean - centre) * (variance + EPSILON).rsqrt() + self.shift


class BatchNormSettings(PosteriorSettings):
    """A Gaussian whose means are batch-normalised with a fixed scale `gamma` and a learned shift (BN-VAE)."""

    name: Literal["batch-norm"]
    gamma: PositiveFloat = 0.5
    scale: Scale = "log-variance"
    rate_by_dimension: ClassVar[bool] = True
    only_standard: ClassVar[bool] = True
    batch_statistics: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> BatchNormPosterior:
        """Build its network."""
        return BatchNormPosterior(size, latent, self.gamma, self.scale)

    def least_rate(self, latent: int) -> tuple[float, str]:
        """Return latent gamma^2 / 2, the mean over a batch with no shift and unit scales."""
        return latent * self.gamma**2 / 2, "gamma"

    def most_variance(self, latent: int) -> float:
        """Return latent gamma^2, which the means of a batch have."""
        return latent * self.gamma**2

    def stronger(self) -> tuple[str, float, str]:
        """Return twice the gamma."""
        return "gamma", 2 * self.gamma, "larger-gamma"
