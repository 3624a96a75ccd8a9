"""A learned mixture of Gaussians as prior."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings, chosen
from textvae.settings.fields import Size


class MixtureOfGaussians(PriorNetwork, Prior):
    """p(z) = sum_k w_k N(mean_k, diag std_k^2), all of it learned with the model.

    It starts with equal weights, unit scales and means drawn from N(0, 1): a little wider than a standard normal.
    """

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.latent = latent
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent))
        self.log_stds = nn.Parameter(torch.zeros(components, latent))

    def begin(self) -> None:
        """Draw the means anew, make weights equal and scales 1."""
        nn.init.normal_(self.means)
        nn.init.zeros_(self.logits)
        nn.init.zeros_(self.log_stds)

    def now(self, read: Callable[[Tensor, Tensor], Any]) -> Prior:
        """Return itself."""
        return self

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise."""
        draws = noise(n, 1 + self.latent)[:, 0]
        component = chosen(self.logits.log_softmax(0).expand(n, -1), draws[:, 0])
        return self.means[component] + self.log_stds.exp()[component] * draws[:, 1:].to(self.means)

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats."""
        standard = (z[..., None, :] - self.means) * (-self.log_stds).exp()
        peak = self.logits.log_softmax(0) - self.log_stds.sum(1) - self.latent / 2 * math.log(2 * math.pi)
        return (peak - 0.5 * standard.square().sum(-1)).logsumexp(-1)


class MixtureOfGaussiansSettings(PriorSettings):
    """Settings of `MixtureOfGaussians`."""

    name: Literal["gaussian-mixture"]
    components: Size = 50

    def build(self, latent: int, embedding: int) -> MixtureOfGaussians:
        """Build it for codes of `latent` dimensions."""
        return MixtureOfGaussians(latent, self.components)
