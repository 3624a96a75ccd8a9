"""Approximate posteriors q(z|x): a module that turns the encoder's vector into a distribution over codes.

A distribution offers `mean`, `rsample`, `log_prob`, `rate` (nats per sentence, with the kind of estimate) and
`mixture_log_prob`, the log density of the aggregated posterior over its own sentences.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.priors import Prior, StandardNormal

RateKind = Literal["exact", "monte-carlo", "upper"]
Scale = Literal["log-variance", "softplus"]

ENTRIES = 1 << 22  # densities held at once by a mixture: 32 MiB in float64


class Rate(NamedTuple):
    """KL(q(z|x) || p(z)) of each sentence in nats, and whether it is exact, an estimate or an upper bound."""

    nats: Tensor
    kind: RateKind


def gaussian_kl(mean: Float[Tensor, "*any"], std: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """KL(N(mean, std^2) || N(0, 1)) of each dimension: (mean^2 + std^2 - 1) / 2 - log std, in nats.

    Source: Kingma and Welling 2014, appendix B. Liu et al. 2019 print + log det in section 4; it is minus.
    """
    return 0.5 * (mean.square() + std.square() - 1) - std.log()


class DiagonalGaussian:
    """q(z|x) = N(mean, diag std^2) for each sentence of a batch."""

    def __init__(self, mean: Float[Tensor, "batch latent"], std: Float[Tensor, "batch latent"]) -> None:
        self.mean = mean
        self.std = std

    def __getitem__(self, sentences: slice) -> "DiagonalGaussian":
        """The posteriors of some of the sentences."""
        return DiagonalGaussian(self.mean[sentences], self.std[sentences])

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws: mean + std * noise."""
        return self.mean + self.std * noise(samples, self.mean.shape[1])

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats, each code under its own sentence's posterior."""
        # Not validated: of a diverged model the density is nan, which training reports, not an exception.
        return torch.distributions.Normal(self.mean, self.std, validate_args=False).log_prob(z).sum(-1)

    def rate_per_dimension(self) -> Float[Tensor, "batch latent"]:
        """The closed-form KL to N(0, I) of each dimension, in nats."""
        return gaussian_kl(self.mean, self.std)

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL(q || prior): in closed form for the standard normal prior, else averaged over the codes `z`."""
        if isinstance(prior, StandardNormal):
            return Rate(self.rate_per_dimension().sum(-1), "exact")
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "monte-carlo")

    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], entries: int = ENTRIES
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats.

        The squares are multiplied out, so that the N x N densities are two matrix products, `entries` of them at a
        time. In float64 that loses about 1e-15 (range of codes / std)^2 nats: below what float32 codes have lost
        already. A sentence's own density is computed without that loss.
        """
        batch = len(z)
        centre = self.mean.double().mean(dim=0)  # densities do not see it, the rounding of the products does
        codes, mean, std = z.double() - centre, self.mean.double() - centre, self.std.double()
        peak = -std.log().sum(dim=1) - z.shape[1] / 2 * math.log(2 * math.pi)  # each log density at its mean
        own = peak - ((codes - mean) / std).square().sum(dim=1) / 2
        precision = std.pow(-2)
        constant = peak - (mean.square() * precision).sum(dim=1) / 2
        rows = max(1, entries // batch)
        mixture = torch.empty_like(own)
        for start in range(0, batch, rows):
            part = slice(start, min(start + rows, batch))
            densities = torch.addmm(constant, codes[part], (mean * precision).mT)
            densities = densities.addmm_(codes[part].square(), precision.mT, alpha=-0.5)
            densities = torch.minimum(densities, peak, out=densities)  # rounding puts none above its own peak
            densities.diagonal(start).copy_(own[part])
            mixture[part] = densities.logsumexp(dim=1) - math.log(batch)
        return mixture


class GaussianPosterior(nn.Module):
    """Mean and scale of a diagonal Gaussian as linear functions of the encoder's vector, in full precision.

    `scale` says whether sigma is exp(v / 2) of a log variance v or a softplus. Source: Bowman et al. 2016,
    section 3, which tried both.
    """

    def __init__(self, size: int, latent: int, scale: Scale = "log-variance") -> None:
        super().__init__()
        self.scale = scale
        self.parameters_of = nn.Linear(size, 2 * latent)

    def forward(self, hidden: Float[Tensor, "batch size"]) -> DiagonalGaussian:
        """The posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            mean, raw = self.parameters_of(hidden.to(self.parameters_of.weight.dtype)).chunk(2, dim=1)
        std = (0.5 * raw).exp() if self.scale == "log-variance" else F.softplus(raw)
        return DiagonalGaussian(mean, std)
