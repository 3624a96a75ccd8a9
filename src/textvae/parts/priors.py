"""Priors over the latent code."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.settings import posteriors as tables


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

        Source: Bowman et al. 2016, section 6.3 (a homotopy is linear).
        """
        return line(a, b, steps)


class MixtureOfGaussians(nn.Module):
    """p(z) = sum_k w_k N(mean_k, diag std_k^2), all of it learned with the model.

    It begins with equal weights, unit scales and means drawn from N(0, 1): a little wider than a standard normal.
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

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """`n` draws for one sentence's worth of noise."""
        draws = noise(n, 1 + self.latent)[:, 0]
        component = chosen(self.logits.log_softmax(0).expand(n, -1), draws[:, 0])
        return self.means[component] + self.log_stds.exp()[component] * draws[:, 1:].to(self.means)

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """log p(z) in nats."""
        standard = (z[..., None, :] - self.means) * (-self.log_stds).exp()
        peak = self.logits.log_softmax(0) - self.log_stds.sum(1) - self.latent / 2 * math.log(2 * math.pi)
        return (peak - 0.5 * standard.square().sum(-1)).logsumexp(-1)

    def path(
        self, a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int
    ) -> Float[Tensor, "steps latent"]:
        """`steps` codes from a to b, both included, on a straight line."""
        return line(a, b, steps)


@runtime_checkable
class Component(Protocol):
    """What a prior made of posteriors asks of them."""

    @property
    def mean(self) -> Tensor: ...  # noqa: D102

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor: ...  # noqa: D102

    def log_prob(self, z: Tensor) -> Tensor | None: ...  # noqa: D102


class MeanOfPosteriors:
    """p(z) = (1/K) sum_k q(z|u_k): a prior made of the posteriors of K sentences."""

    def __init__(self, posterior: Component) -> None:
        self.posterior = posterior

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """`n` draws for one sentence's worth of noise: a code of every component, and one of them chosen."""
        components = len(self.posterior.mean)

        def of_all(samples: int, size: int) -> Tensor:
            return noise(samples, components * size)[:, 0].view(samples, components, size)

        choice = noise(n, 1)[:, 0, 0]
        codes = self.posterior.rsample(of_all, n)
        component = chosen(codes.new_zeros(n, components).log_softmax(1), choice)
        return codes[torch.arange(n, device=codes.device), component]

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """log p(z) in nats."""
        components = len(self.posterior.mean)
        parts = self.posterior.log_prob(z[..., None, :].expand(*z.shape[:-1], components, z.shape[-1]))
        assert parts is not None  # settings refuse posteriors without a density
        return parts.logsumexp(-1) - math.log(components)

    def path(
        self, a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int
    ) -> Float[Tensor, "steps latent"]:
        """`steps` codes from a to b, both included, on a straight line."""
        return line(a, b, steps)


class VampPrior(nn.Module):
    """p(z) = (1/K) sum_k q(z|u_k), with K learned pseudo-sentences u_k: `length` embeddings each, without words.

    Not a prior itself: called with what gives the posteriors of sentences that are embeddings already, it returns
    the prior as it is with the encoder's weights of now. The posterior must have a density for any code and treat
    each sentence by itself.

    Source: Tomczak and Welling 2018, "VAE with a VampPrior", eq. 9; pseudo-inputs are embeddings here, because
    words have no gradient.
    """

    def __init__(self, components: int, length: int, embedding: int) -> None:
        super().__init__()
        self.pseudo = nn.Parameter(torch.randn(components, length, embedding))

    def forward(self, read: Callable[[Tensor, Tensor], Component]) -> MeanOfPosteriors:
        """The prior, by `read(embedded, lengths)`."""
        components, length, _ = self.pseudo.shape
        return MeanOfPosteriors(read(self.pseudo, torch.full((components,), length, device=self.pseudo.device)))


class UniformSphere(nn.Module):
    """p(z) uniform on the unit sphere in `latent` dimensions; densities are with respect to its surface.

    Source: Davidson et al. 2018, "Hyperspherical variational auto-encoders", section 3.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """`n` draws for one sentence's worth of noise: normal numbers, normalised."""
        return F.normalize(noise(n, self.latent)[:, 0], dim=1)

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """log p(z) in nats, minus the logarithm of the area: the same for every z."""
        return z.new_full(z.shape[:-1], -log_area(self.latent))

    def path(
        self, a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int
    ) -> Float[Tensor, "steps latent"]:
        """`steps` codes from a to b, both included, at even angles on the shorter great circle.

        The ends are normalised first. Between equal ends nothing moves; between opposite ones any half circle is
        shortest, and it goes by way of the axis on which a is smallest.
        """
        return arc(F.normalize(a.double(), dim=0), F.normalize(b.double(), dim=0), steps).to(a.dtype)


def log_area(latent: int) -> float:
    """The logarithm of the surface of the unit sphere in `latent` dimensions.

    >>> round(math.exp(log_area(2)) / math.pi, 9), round(math.exp(log_area(3)) / math.pi, 9)
    (2.0, 4.0)
    """
    return math.log(2) + latent / 2 * math.log(math.pi) - math.lgamma(latent / 2)


def line(a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """`steps` codes from a to b, both included, on a straight line."""
    t = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype)[:, None]
    return a * (1 - t) + b * t


def arc(a: Float[Tensor, " latent"], b: Float[Tensor, " latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """`steps` codes from a to b, both included, at even angles and with evenly changing lengths.

    The shorter way round. Between equal directions only the length changes; between opposite ones any half circle
    is shortest, and it goes by way of the axis on which a is smallest. Neither end may be zero.
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
    """The component that a standard normal number picks, with probabilities exp(log_weight), without gradients."""
    cumulative = log_weight.detach().double().exp().cumsum(-1)[..., :-1]  # the last takes what rounding leaves
    return (torch.special.ndtr(normal.double())[..., None] > cumulative).sum(-1)


def prior_of(settings: tables.Prior, latent: int, embedding: int) -> nn.Module:
    """The prior that settings name, for codes of `latent` dimensions and an encoder of such embeddings."""
    match settings:
        case tables.MixturePrior():
            return MixtureOfGaussians(latent, settings.components)
        case tables.VampPrior():
            return VampPrior(settings.components, settings.length, embedding)
        case tables.UniformSpherePrior():
            return UniformSphere(latent)
        case _:
            return StandardNormal(latent)
