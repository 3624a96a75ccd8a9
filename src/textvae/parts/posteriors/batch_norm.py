"""A Gaussian posterior whose means are batch-normalised, so that its KL cannot vanish."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.gather import gathered
from textvae.parts.noise import Noise
from textvae.parts.posteriors.gaussian import DiagonalGaussian, positive
from textvae.settings.tables import Scale

# Added to variances. The usual 1e-5 of batch normalisation would take the bound on the KL away: an encoder of small
# first weights gives means of a variance of 1e-8, which then stay collapsed below it.
EPSILON = 1e-14


class BatchNormPosterior(nn.Module):
    """A diagonal Gaussian whose means are normalised to deviation `gamma` over the batch, around a learned shift.

    In training over the global batch (biased variance v, plus 1e-14), which makes its mean KL to a standard normal
    prior at least sum_d (gamma^2 v / (v + 1e-14) + shift_d^2) / 2 nats. In evaluation with running statistics, so
    that a sentence encodes alone as among a thousand. Those are the mean of the first training batches' statistics
    and then take a part `momentum` of each; their variance is the biased one too.

    `scale` as for the Gaussian posterior; all in full precision. With N processes each must read every batch.

    Source: Zhu et al. 2020, "A batch normalized inference network keeps the KL vanishing away", section 4 and
    algorithm 1: gamma is fixed, the shift is learned, and scales are not normalised.
    """

    running_mean: Tensor
    running_variance: Tensor
    batches: Tensor

    def __init__(
        self, size: int, latent: int, gamma: float = 0.5, momentum: float = 0.1, scale: Scale = "log-variance"
    ) -> None:
        super().__init__()
        self.gamma, self.momentum = gamma, momentum
        self.scale: Scale = scale
        self.mean_of = nn.Linear(size, latent, bias=False)  # normalising would take a bias away
        self.scale_of = nn.Linear(size, latent)
        self.shift = nn.Parameter(torch.zeros(latent))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))
        self.register_buffer("batches", torch.zeros(()))

    def begin(self) -> None:
        """No shift, and running statistics of means that need no normalising."""
        with torch.no_grad():
            self.shift.zero_()
            self.running_mean.zero_()
            self.running_variance.fill_(1.0)
            self.batches.zero_()

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> DiagonalGaussian:
        """The posterior of each sentence; in training mode the running statistics move."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.mean_of.weight.dtype)
            mean = self._normalised(self.mean_of(hidden))
            return DiagonalGaussian(mean, positive(self.scale_of(hidden), self.scale))

    def _normalised(self, mean: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Deviation gamma around the shift."""
        centre, variance = self.running_mean, self.running_variance
        if self.training:
            everyone = gathered(mean)
            centre, variance = everyone.mean(0), everyone.var(0, correction=0)
            with torch.no_grad():
                self.batches += 1
                share = self.batches.reciprocal().clamp(min=self.momentum)
                self.running_mean.lerp_(centre, share)
                self.running_variance.lerp_(variance, share)
        return self.gamma * (mean - centre) * (variance + EPSILON).rsqrt() + self.shift
