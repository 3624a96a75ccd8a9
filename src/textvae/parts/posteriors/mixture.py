"""A mixture of diagonal Gaussians as posterior."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.posteriors.gaussian import positive
from textvae.parts.posteriors.posterior import ENTRIES, Expectation, PosteriorNetwork, PosteriorSettings, Rate
from textvae.parts.priors import Place, Prior, chosen
from textvae.settings.fields import Scale, Size

# Standard deviation of what is added to the components' first means, so that they differ from the start.
SPREAD = 0.3


@dataclass(frozen=True)
class GaussianMixture:
    """q(z|x) = sum_k w_k N(mean_k, diag std_k^2) for each sentence; the weights sum to 1.

    References: Fu et al. 2020, eq. 6.
    """

    log_weight: Float[Tensor, "batch components"]
    means: Float[Tensor, "batch components latent"]
    stds: Float[Tensor, "batch components latent"]

    @property
    def mean(self) -> Float[Tensor, "batch latent"]:
        """The mean of the mixture, which need not be a likely code."""
        return (self.log_weight.exp()[..., None] * self.means).sum(1)

    @property
    def expectation(self) -> Expectation:
        """The mean of the mixture, exactly."""
        return Expectation(self.mean)

    def standardised(self, place: Place) -> "GaussianMixture":
        """Return the posterior of u = (z - mean) / std."""
        mean, std = place.mean[:, None], place.std[:, None]
        return GaussianMixture(self.log_weight, (self.means - mean) / std, self.stds / std)

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Draws whose gradients to weights, means and scales are exact in expectation (first derivatives only).

        A component is chosen, which has no gradient, and z drawn from it. Then the code is taken to be the solution
        of F_d(z_d | z_<d) = u_d for every d, with F_d the mixture's conditional distribution functions and u kept,
        so that dz = -(dF/dz)^-1 (dF/dparameters) dparameters, where dF/dz is a triangular matrix.

        References: Graves 2016, "Stochastic backpropagation through mixture density distributions"; Figurnov et al.
        2018, "Implicit reparameterization gradients", section 4.
        """
        latent = self.means.shape[-1]
        draws = noise(samples, 1 + latent)
        log_weight, means, stds = self.log_weight.double(), self.means.double(), self.stds.double()
        with torch.no_grad():
            component = chosen(log_weight.expand(samples, -1, -1), draws[..., 0])
            at = component[..., None, None].expand(-1, -1, 1, latent)
            mean, std = (x.expand(samples, -1, -1, -1).gather(2, at)[:, :, 0] for x in (means, stds))
            z = mean + std * draws[..., 1:]
        if torch.is_grad_enabled():
            z = z + _implicit(z, log_weight, means, stds)
        return z.to(self.means.dtype)

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats, each code under its own sentence's mixture."""
        parts = torch.distributions.Normal(self.means, self.stds, validate_args=False).log_prob(z[..., None, :])
        return (self.log_weight + parts.sum(-1)).logsumexp(-1)

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: the KL of a mixture is no sum over dimensions."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL(q || prior) in nats, averaged over the codes `z`."""
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "monte-carlo")

    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], entries: int = ENTRIES
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats."""
        weight = self.log_weight.double().flatten() - math.log(len(z))
        components = self.log_weight.shape[1]
        return aggregated_log_prob(
            z, self.means.flatten(0, 1), self.stds.flatten(0, 1), weight, components, entries
        )


def _implicit(
    z: Float64[Tensor, "sample batch latent"],
    log_weight: Float64[Tensor, "batch components"],
    means: Float64[Tensor, "batch components latent"],
    stds: Float64[Tensor, "batch components latent"],
) -> Float64[Tensor, "sample batch latent"]:
    """Zeros with the gradient of the codes z for which every conditional distribution function stays the same."""
    standard = (z[..., None, :] - means) / stds
    below = torch.special.ndtr(standard)
    log_density = -0.5 * standard.square() - stds.log() - 0.5 * math.log(2 * math.pi)
    earlier = F.pad(log_density.cumsum(-1)[..., :-1], (1, 0))  # of the dimensions before each
    log_share = (log_weight[..., None] + earlier).log_softmax(-2)  # components given the dimensions before
    share = log_share.exp()
    distribution = (share * below).sum(-2)
    with torch.no_grad():
        density = (log_share + log_density).logsumexp(-2).exp().clamp(min=torch.finfo(z.dtype).tiny)
        pull = share * (below - distribution[..., None, :])
        by_earlier = (pull.mT @ (-standard / stds)) / density[..., None]  # row d, column j < d
    change = ((distribution - distribution.detach()) / density)[..., None]
    return -torch.linalg.solve_triangular(by_earlier, change, upper=False, unitriangular=True)[..., 0]


class MixturePosterior(PosteriorNetwork):
    """Weights, means and scales of a mixture of Gaussians as linear functions of the encoder's vector.

    In full precision; `scale` as for the Gaussian posterior. The components' first means differ by normal numbers
    of standard deviation 0.3, in the biases; the paper says nothing of how they begin.

    References: Fu et al. 2020, eq. 6.
    """

    def __init__(self, size: int, latent: int, components: int = 5, scale: Scale = "log-variance") -> None:
        super().__init__()
        self.latent, self.parts = latent, components  # evaluation takes `components` to be a surrogate's
        self.scale: Scale = scale
        self.parameters_of = nn.Linear(size, components * (1 + 2 * latent))

    def begin(self) -> None:
        """Spread the components' means; a single component is left as it is."""
        with torch.no_grad():
            means = self.parameters_of.bias[self.parts :].view(2, self.parts, self.latent)[0]
            spread = SPREAD * torch.randn(means.shape).to(means)
            means += spread - spread.mean(0)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> GaussianMixture:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            found = self.parameters_of(hidden.to(self.parameters_of.weight.dtype))
            weight, rest = found[:, : self.parts], found[:, self.parts :]
            means, raw = rest.view(len(found), 2, self.parts, self.latent).unbind(1)
            return GaussianMixture(weight.log_softmax(1), means, positive(raw, self.scale))


class MixtureSettings(PosteriorSettings):
    """A mixture of diagonal Gaussians, weights and parameters from x."""

    name: Literal["gaussian-mixture"]
    components: Size = 5
    scale: Scale = "log-variance"
    density_anywhere: ClassVar[bool] = True
    standardises: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> MixturePosterior:
        """Build its network."""
        return MixturePosterior(size, latent, self.components, self.scale)
