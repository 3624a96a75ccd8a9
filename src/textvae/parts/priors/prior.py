"""Interfaces of priors p(z) and of their settings, and paths between codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.settings.kinds import Kind


class Prior(ABC):
    """A distribution over codes (..., latent); densities in nats."""

    standard: ClassVar[bool] = False  # N(0, I), which moments and MMD are measured against
    on_sphere: ClassVar[bool] = False  # codes are unit vectors, so paths and moves follow great circles

    @abstractmethod
    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats."""

    def kl_of_gaussian(
        self, mean: Float[Tensor, "batch latent"], std: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, " batch"] | None:
        """Return KL(N(mean, diag std^2) || p) of each row in nats; None if it has no closed form."""
        return None

    def path(
        self, a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int
    ) -> Float[Tensor, "steps latent"]:
        """Return `steps` codes from a to b, both included, on a straight line.

        References: Bowman et al. 2016, section 6.3 (a homotopy is linear).
        """
        return line(a, b, steps)


class PriorNetwork(nn.Module, ABC):
    """The learned part of a prior, if it has any; `now` gives the distribution that its weights stand for."""

    @abstractmethod
    def now(self, read: Callable[[Tensor, Tensor], Any]) -> Prior:
        """Return the prior; `read(embedded, lengths)` gives the posteriors of sentences given as embeddings."""


class PriorSettings(Kind, ABC):
    """Settings of a prior: what it is built from, and what the other parts need to know about it."""

    standard: ClassVar[bool] = Prior.standard
    on_sphere: ClassVar[bool] = Prior.on_sphere
    of_posteriors: ClassVar[bool] = False  # a mixture of posteriors, which must have a density for any code
    fitted: ClassVar[bool] = False  # to codes, after training: the objective did not know it
    conditional: ClassVar[bool] = False  # p(z|c): it has a `placement`, by which codes are standardised

    @property
    def label(self) -> str:
        """Name in signatures and tables."""
        return self.name

    @property
    def missing(self) -> str | None:
        """Library that it needs and that is not installed, with the remedy; None if it can be built."""
        return None

    @abstractmethod
    def build(self, latent: int, embedding: int) -> PriorNetwork:
        """Build it for codes of `latent` dimensions and an encoder whose embeddings have size `embedding`."""

    def placement(self, latent: int, context: int) -> nn.Module | None:
        """Build what gives mean and scale of p(z|c) for vectors of conditions of size `context`; None for p(z)."""
        return None

    def step_numbers(self, encoder_hidden: int) -> dict[str, int]:
        """Return how many numbers a step of training holds for it, by the setting that sets how many."""
        return {}


def line(a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """Return `steps` codes from a to b, both included, on a straight line."""
    t = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype)[:, None]
    return a * (1 - t) + b * t


def arc(a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """Return `steps` codes from a to b, both included, at even angles and with evenly changing lengths.

    The shorter way round. Between equal directions only the length changes; between opposite ones any half circle
    is shortest, and the path goes by way of the axis on which a is smallest. Neither end may be zero.
    """
    start, end = F.normalize(a.double(), dim=0), F.normalize(b.double(), dim=0)
    away = end - (end @ start) * start
    angle = torch.atan2(away.norm(), end @ start)
    if away.norm() < 1e-9:  # equal or opposite
        axis = F.one_hot(start.abs().argmin(), len(start)).to(start)
        away = axis - (axis @ start) * start
    t = torch.linspace(0, 1, steps, device=a.device, dtype=torch.float64)[:, None]
    turn, length = t * angle, a.double().norm() * (1 - t) + b.double().norm() * t
    return (length * (turn.cos() * start + turn.sin() * F.normalize(away, dim=0))).to(a.dtype)


def chosen(log_weight: Float[Tensor, "*any components"], normal: Float[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Return the component that a standard normal number picks with probabilities exp(log_weight); no gradients."""
    cumulative = log_weight.detach().double().exp().cumsum(-1)[..., :-1]  # the last takes what rounding leaves
    return (torch.special.ndtr(normal.double())[..., None] > cumulative).sum(-1)
