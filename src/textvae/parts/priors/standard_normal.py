"""The standard normal prior."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from textvae.parts.noise import Noise
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings


class StandardNormal(PriorNetwork, Prior):
    """p(z) = N(0, I)."""

    standard: ClassVar[bool] = True

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def now(self, read: Callable[[Tensor, Tensor], Any]) -> Prior:
        """Return itself: there is nothing to learn."""
        return self

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise."""
        return noise(n, self.latent)[:, 0]

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


class StandardNormalSettings(PriorSettings):
    """Settings of `StandardNormal`."""

    name: Literal["standard-normal"] = "standard-normal"
    standard: ClassVar[bool] = True

    def build(self, latent: int, embedding: int) -> StandardNormal:
        """Build it for codes of `latent` dimensions."""
        return StandardNormal(latent)
