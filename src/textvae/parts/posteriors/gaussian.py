"""The diagonal Gaussian posterior."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.posteriors.posterior import ENTRIES, Expectation, PosteriorNetwork, PosteriorSettings, Rate
from textvae.parts.priors import Place, Prior
from textvae.settings.fields import Scale


def gaussian_kl(mean: Float[Tensor, "*any"], std: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """KL(N(mean, std^2) || N(0, 1)) of each dimension: (mean^2 + std^2 - 1) / 2 - log std, in nats.

    References: Kingma and Welling 2014, appendix B. Liu et al. 2019 print + log det in section 4; it is minus.
    """
    return 0.5 * (mean.square() + std.square() - 1) - std.log()


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z|x) = N(mean, diag std^2) for each sentence of a batch."""

    mean: Float[Tensor, "batch latent"]
    std: Float[Tensor, "batch latent"]

    @property
    def expectation(self) -> Expectation:
        """The mean, exactly."""
        return Expectation(self.mean)

    def widened(self, factor: float) -> "DiagonalGaussian":
        """Return the posterior with its standard deviations multiplied by a factor."""
        return DiagonalGaussian(self.mean, self.std * factor)

    def standardised(self, place: Place) -> "DiagonalGaussian":
        """Return the posterior of u = (z - mean) / std."""
        return DiagonalGaussian((self.mean - place.mean) / place.std, self.std / place.std)

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws: mean + std * noise."""
        return self.mean + self.std * noise(samples, self.mean.shape[1])

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats, each code under its own sentence's posterior."""
        # Not validated: of a diverged model the density is nan, which training reports, not an exception.
        return torch.distributions.Normal(self.mean, self.std, validate_args=False).log_prob(z).sum(-1)

    def rate_per_dimension(self, prior: Prior) -> Float[Tensor, "batch latent"] | None:
        """Return the KL of each dimension to a standard normal prior, in nats; None for any other prior."""
        return gaussian_kl(self.mean, self.std) if prior.standard else None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL(q || prior): in closed form if the prior has one, else averaged over the codes `z`."""
        if prior.standard:
            return Rate(gaussian_kl(self.mean, self.std).sum(-1), "exact")
        if (kl := prior.kl_of_gaussian(self.mean, self.std)) is not None:
            return Rate(kl, "exact")
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "monte-carlo")

    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], entries: int = ENTRIES
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats."""
        weight = self.mean.new_full((len(z),), -math.log(len(z)), dtype=torch.float64)
        return aggregated_log_prob(z, self.mean, self.std, weight, 1, entries)


class GaussianPosterior(PosteriorNetwork):
    """Mean and scale of a diagonal Gaussian as linear functions of the encoder's vector, in full precision.

    `scale` is the parametrisation of sigma, see `positive`.

    References: Bowman et al. 2016, section 3, which tried a softplus of the variance too.
    """

    def __init__(self, size: int, latent: int, scale: Scale = "log-variance") -> None:
        super().__init__()
        self.scale: Scale = scale
        self.parameters_of = nn.Linear(size, 2 * latent)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> DiagonalGaussian:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            mean, raw = self.parameters_of(hidden.to(self.parameters_of.weight.dtype)).chunk(2, dim=1)
            return DiagonalGaussian(mean, positive(raw, self.scale))


def positive(raw: Float[Tensor, "*any"], scale: Scale) -> Float[Tensor, "*any"]:
    """Return sigma of an unbounded v: exp(v / 2), softplus(v), or sqrt(softplus(v)) for "softplus-variance"."""
    if scale == "log-variance":
        return (0.5 * raw).exp()
    found = F.softplus(raw)
    # A variance that underflows to 0 would have an infinite gradient.
    return found if scale == "softplus" else found.clamp(min=torch.finfo(found.dtype).tiny).sqrt()


class GaussianSettings(PosteriorSettings):
    """q(z|x) = N(mu, diag sigma^2); `scale` is the parametrisation of sigma."""

    name: Literal["gaussian"] = "gaussian"
    scale: Scale = "log-variance"
    rate_by_dimension: ClassVar[bool] = True
    density_anywhere: ClassVar[bool] = True
    refinable: ClassVar[bool] = True
    widens: ClassVar[bool] = True
    standardises: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> GaussianPosterior:
        """Build its network."""
        return GaussianPosterior(size, latent, self.scale)
