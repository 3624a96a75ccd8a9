"""The uniform prior on the unit sphere."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textvae.parts.noise import Noise
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings, arc


class UniformSphere(PriorNetwork, Prior):
    """p(z) uniform on the unit sphere in `latent` dimensions; densities are with respect to its surface.

    References: Davidson et al. 2018, "Hyperspherical variational auto-encoders", section 3.
    """

    on_sphere: ClassVar[bool] = True

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def now(self, read: Callable[[Tensor, Tensor], Any]) -> Prior:
        """Return itself: there is nothing to learn."""
        return self

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise: normal numbers, normalised."""
        return F.normalize(noise(n, self.latent)[:, 0], dim=1)

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats, minus the logarithm of the area: the same for every z."""
        return z.new_full(z.shape[:-1], -log_area(self.latent))

    def path(
        self, a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int
    ) -> Float[Tensor, "steps latent"]:
        """Return `steps` codes from a to b, both included, at even angles on the shorter great circle.

        The ends are normalised first. Between equal ends nothing moves; between opposite ones any half circle is
        shortest, and the path goes by way of the axis on which a is smallest.
        """
        return arc(F.normalize(a.double(), dim=0), F.normalize(b.double(), dim=0), steps).to(a.dtype)


class UniformSphereSettings(PriorSettings):
    """Settings of `UniformSphere`, the prior of the vMF posterior and of no other."""

    name: Literal["uniform-sphere"]
    on_sphere: ClassVar[bool] = True

    def build(self, latent: int, embedding: int) -> UniformSphere:
        """Build it for codes of `latent` dimensions."""
        return UniformSphere(latent)


def log_area(latent: int) -> float:
    """Return the logarithm of the surface of the unit sphere in `latent` dimensions.

    >>> round(math.exp(log_area(2)) / math.pi, 9), round(math.exp(log_area(3)) / math.pi, 9)
    (2.0, 4.0)
    """
    return math.log(2) + latent / 2 * math.log(math.pi) - math.lgamma(latent / 2)
