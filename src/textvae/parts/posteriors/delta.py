"""A Gaussian posterior whose scales are kept from the prior's, so that its KL is at least a given rate."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.gaussian import DiagonalGaussian
from textvae.parts.posteriors.posterior import PosteriorNetwork, PosteriorSettings

LOWEST = 0.01  # the smallest scale, as a part of the largest


class DeltaPosterior(PosteriorNetwork):
    """A diagonal Gaussian whose KL to a standard normal prior is at least `rate` nats for every sentence.

    Of all means 0 costs least, and the scales stay at or below the one below 1 that costs rate / latent nats in
    each dimension; a sigmoid keeps them between it and a hundredth of it. All in full precision.

    References: Razavi et al. 2019, "Preventing posterior collapse with delta-VAEs", section 2: its committed rate
    for independent Gaussians. The autoregressive prior that the paper commits a rate against is not here, and
    scales above the prior's, which cost the rate as well, are not used.
    """

    def __init__(self, size: int, latent: int, rate: float = 3.0) -> None:
        super().__init__()
        self.largest = scale_at(rate / latent)
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
            return DiagonalGaussian(mean, self.largest * (LOWEST + (1 - LOWEST) * raw.sigmoid()))


def scale_at(nats: float) -> float:
    """Return the standard deviation s < 1 at which KL(N(0, s^2) || N(0, 1)) = (s^2 - 1) / 2 - log s is `nats`.

    >>> s = scale_at(0.5)
    >>> round((s * s - 1) / 2 - math.log(s), 12)
    0.5
    """
    log = -nats - 0.5  # left of the root of a convex falling function: Newton's steps go up to it and not past it
    for _ in range(200):
        step = (math.expm1(2 * log) / 2 - log - nats) / -math.expm1(2 * log)
        if step <= 1e-16 * -log:
            break
        log += step
    return math.exp(log)


class DeltaSettings(PosteriorSettings):
    """A Gaussian whose scales are bounded away from the prior's, so that its KL is at least `rate` nats."""

    name: Literal["delta"]
    rate: PositiveFloat = 3.0
    rate_by_dimension: ClassVar[bool] = True
    only_standard: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> DeltaPosterior:
        """Build its network."""
        return DeltaPosterior(size, latent, self.rate)

    def least_rate(self, latent: int) -> tuple[float, str]:
        """Return the committed rate."""
        return self.rate, "rate"
