"""Priors over the latent code."""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.settings import tables


@runtime_checkable
class Prior(Protocol):
    """What every prior offers; codes are (..., latent), densities in nats."""

    def sample(self, n: int, noise: Noise) -> Tensor: ...  # noqa: D102

    def log_prob(self, z: Tensor) -> Tensor: ...  # noqa: D102

    def path(self, a: Tensor, b: Tensor, steps: int) -> Tensor: ...  # noqa: D102


class StandardNormal(nn.Module):
    """p(z) = N(0, I)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """`n` draws for one sentence's worth of noise."""
        return noise(n, self.latent)[:, 0]

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """log p(z) in nats."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def path(
        self, a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int
    ) -> Float[Tensor, "steps latent"]:
        """`steps` codes from a to b, both included, on a straight line.

        Source: Bowman et al. 2016, section 5.3 (a homotopy is linear).
        """
        t = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype)[:, None]
        return a * (1 - t) + b * t


def prior_of(settings: tables.Prior, latent: int, embedding: int) -> nn.Module:
    """The prior that settings name."""
    assert isinstance(settings, tables.StandardNormalPrior)
    return StandardNormal(latent)
