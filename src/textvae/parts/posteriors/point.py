"""A point in place of a distribution: the sequence autoencoder."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.posterior import Expectation, PosteriorNetwork, PosteriorSettings
from textvae.parts.priors import Prior


@dataclass(frozen=True)
class Point:
    """The code of each sentence, all of q(z|x) in one place: it has no density, and so no rate."""

    mean: Float[Tensor, "batch latent"]

    @property
    def expectation(self) -> Expectation:
        """The code, exactly."""
        return Expectation(self.mean)

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Return the codes, `samples` times; no noise is drawn."""
        return self.mean.expand(samples, *self.mean.shape)

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> None:
        """None: a point has no density."""
        return None

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: a point has no KL."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> None:
        """None: a point has no KL."""
        return None

    def mixture_log_prob(self, z: Float[Tensor, "batch latent"]) -> None:
        """None: a point has no density."""
        return None


class PointPosterior(PosteriorNetwork):
    """The code as a linear function of the encoder's vector, in full precision.

    References: Bowman et al. 2016, section 2.1 (sequence autoencoders).
    """

    def __init__(self, size: int, latent: int) -> None:
        super().__init__()
        self.code_of = nn.Linear(size, latent)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> Point:
        """Return the code of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            return Point(self.code_of(hidden.to(self.code_of.weight.dtype)))


class PointSettings(PosteriorSettings):
    """z is a function of x: the sequence autoencoder. It has no rate."""

    name: Literal["point"]
    has_rate: ClassVar[bool] = False

    def build(self, size: int, latent: int) -> PointPosterior:
        """Build its network."""
        return PointPosterior(size, latent)
