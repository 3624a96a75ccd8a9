"""A Gaussian, or a mixture of Gaussians, fitted to codes after training."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.parts.noise import Noise
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings, chosen
from textvae.settings.fields import Size


class Gaussians(NamedTuple):
    """Weighted Gaussians N(mean_k, L_k L_k'); `factors` are the lower triangular L_k."""

    log_weights: Float[Tensor, " components"]
    means: Float[Tensor, "components latent"]
    factors: Float[Tensor, "components latent latent"]

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any components"]:
        """Return log w_k + log N(z | mean_k, L_k L_k') of each component in nats, in float64."""
        identity = torch.eye(z.shape[-1], dtype=torch.float64, device=z.device)
        inverses = torch.linalg.solve_triangular(self.factors.double(), identity, upper=False)
        peaks = self.log_weights.double() + inverses.diagonal(dim1=1, dim2=2).log().sum(1)
        z, constant = z.double(), z.shape[-1] / 2 * math.log(2 * math.pi)
        parts = [
            peak - 0.5 * ((z - mean) @ inverse.mT).square().sum(-1) - constant
            for peak, mean, inverse in zip(peaks, self.means.double(), inverses, strict=True)
        ]
        return torch.stack(parts, dim=-1)


class FittedMixture(PriorNetwork, Prior):
    """p(z) = sum_k w_k N(mean_k, L_k L_k'), fitted to codes after training, so nothing in it is a parameter.

    Numbers are float64; codes come out, and densities are returned, in the type of the noise and of z.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.latent = latent
        values = {
            "log_weights": torch.full((components,), -math.log(components), dtype=torch.float64),
            "means": torch.zeros(components, latent, dtype=torch.float64),
            "factors": torch.eye(latent, dtype=torch.float64).repeat(components, 1, 1),
        }
        for name, value in values.items():
            self.register_buffer(name, value)

    def now(self, read: Callable[[Tensor, Tensor], Any]) -> Prior:
        """Return itself."""
        return self

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise."""
        draws = noise(n, 1 + self.latent)[:, 0]
        component = chosen(self.log_weights.expand(n, -1), draws[:, 0])
        spread = torch.einsum("nij,nj->ni", self.factors[component], draws[:, 1:].to(self.means))
        return (self.means[component] + spread).to(draws)

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats."""
        return Gaussians(self.log_weights, self.means, self.factors).log_prob(z).logsumexp(-1).to(z)

    def kl_of_gaussian(
        self, mean: Float[Tensor, "batch latent"], std: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, " batch"] | None:
        """Return KL(N(mean, diag std^2) || p) if there is one component, else None.

        With L the factor and m the mean of p: (|L^-1 diag std|^2 + |L^-1 (mean - m)|^2 - latent) / 2 + log |L|
        - sum log std, |.| of a matrix its Frobenius norm.
        """
        if len(self.means) > 1:
            return None
        identity = torch.eye(self.latent, dtype=torch.float64, device=mean.device)
        inverse = torch.linalg.solve_triangular(self.factors[0], identity, upper=False)
        trace = std.double().square() @ inverse.square().sum(0)
        distance = ((mean.double() - self.means[0]) @ inverse.mT).square().sum(-1)
        volume = -inverse.diagonal().log().sum() - std.double().log().sum(-1)
        return (0.5 * (trace + distance - self.latent) + volume).to(mean)


class FittedSettings(PriorSettings):
    """Settings of `FittedMixture`, which replaces the prior of a trained model and is none to train with."""

    name: Literal["fitted-gaussian", "fitted-mixture"]
    components: Size = 1
    covariance: Literal["full", "diagonal"] = "full"
    fitted: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """Name with the number of components of a mixture."""
        return self.name if self.name == "fitted-gaussian" else f"{self.name}-{self.components}"

    @property
    def details(self) -> dict[str, str | int]:
        """Parts of a fit's signature beside the label, by name."""
        return {"covariance": self.covariance}

    def build(self, latent: int, embedding: int) -> FittedMixture:
        """Build it for codes of `latent` dimensions, as N(0, I) until its tensors are loaded."""
        return FittedMixture(latent, self.components)
