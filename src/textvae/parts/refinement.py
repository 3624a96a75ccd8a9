"""Semi-amortized inference: the encoder's Gaussian is where a few gradient steps on a sentence's own bound begin.

The parameters of a sentence's Gaussian are one row, its means and then the logarithms of its standard deviations.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from textvae.parts.posteriors import DiagonalGaussian, Expectation, Posterior, Rate
from textvae.parts.priors import Prior
from textvae.settings.fields import DepthOrNone, Fraction
from textvae.settings.kinds import Kind, named

# The negative bound of each sentence in nats for parameters of shape (sample, batch, 2 latent).
Nats = Callable[[Tensor], Tensor]

# How far from a sentence's parameters a difference of gradients is taken, as a Euclidean distance.
RADIUS = 3e-3


class InferenceSettings(Kind):
    """Settings of how a sentence's posterior comes about."""

    @property
    def refinement(self) -> "Refined | None":
        """Settings of the refinement; None if the posterior's parameters are the encoder's."""
        return None


class Amortized(InferenceSettings):
    """The posterior's parameters are the encoder's."""

    name: Literal["amortized"] = "amortized"


class Refined(InferenceSettings):
    """Semi-amortized: the encoder's Gaussian is refined for each sentence by gradient steps on its bound."""

    name: Literal["refined"]
    steps: DepthOrNone = 5
    lr: PositiveFloat = 0.1
    momentum: Fraction = 0.5
    clip_norm: NonNegativeFloat = 5.0

    @property
    def refinement(self) -> "Refined":
        """Itself: the posterior is refined."""
        return self


if TYPE_CHECKING:
    AnyInference: TypeAlias = InferenceSettings
else:
    AnyInference = Annotated[Amortized | Refined, Field(discriminator="name"), named("amortized")]


@dataclass(frozen=True)
class RefinedGaussian(DiagonalGaussian):
    """q(z|x) = E over e of N(z; refined by e), where e is the noise of the code that the bound is estimated by.

    Known by two of these, each with an e of its own, so that they differ by what e adds. Codes are of the first.
    Its density is that given sentence and e: the rate by it is an upper bound on KL(q(z|x) || p), and an
    information by it is one from above; `apart` gives one from below.
    """

    beside_mean: Float[Tensor, "batch latent"]
    beside_std: Float[Tensor, "batch latent"]

    @property
    def expectation(self) -> Expectation:
        """The average of both means, and its variance given x, without bias."""
        return Expectation((self.mean + self.beside_mean) / 2, (self.mean - self.beside_mean).square() / 4)

    @property
    def apart(self) -> DiagonalGaussian:
        """The Gaussians that no code was drawn from."""
        return DiagonalGaussian(self.beside_mean, self.beside_std)

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL of the first Gaussian to the prior in nats: on average over e at least that of q(z|x)."""
        return Rate(super().rate(z, prior).nats, "upper")


def parameters_of(posterior: Posterior | None) -> Float[Tensor, "batch parameters"]:
    """Return the rows of parameters of Gaussians."""
    assert isinstance(posterior, DiagonalGaussian)  # settings refuse to refine another posterior
    return torch.cat([posterior.mean, posterior.std.log()], dim=1)


def gaussian_of(parameters: Float[Tensor, "batch parameters"]) -> DiagonalGaussian:
    """Return the Gaussians of rows of parameters."""
    mean, log_std = parameters.chunk(2, dim=1)
    return DiagonalGaussian(mean, log_std.exp())


def refined_path(
    nats: Nats, start: Float[Tensor, "batch parameters"], settings: Refined
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters before every step and after the last, and the clipping factor of each step.

    Gradient descent with momentum, each sentence on its own: u <- momentum u + g, parameters <- parameters - lr u.

    References: Kim et al. 2018, "Semi-amortized variational autoencoders", algorithm 1.
    """
    path, factors = [start.detach()], list[Tensor]()
    velocity = torch.zeros_like(path[0])
    for _ in range(settings.steps):
        here = path[-1].clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(nats(here[None]).sum(), here)
        norm = gradient.norm(dim=1, keepdim=True)
        limit = settings.clip_norm or torch.inf
        factors.append((limit / norm.clamp(min=1e-12)).clamp(max=1.0))
        velocity = settings.momentum * velocity + factors[-1] * gradient
        path.append(path[-1] - settings.lr * velocity)
    return path, factors


def through_refinement(
    nats: Nats,
    path: list[Tensor],
    factors: list[Tensor],
    settings: Refined,
    gradient: Float[Tensor, "batch parameters"],
) -> Float[Tensor, "batch parameters"]:
    """Return the gradient at the first parameters from that at the last; weights get theirs added.

    Each step back needs the Hessian of a sentence's bound times a direction, and the same mixed with the weights.
    Both come from one backward pass over the difference of the bounds at `RADIUS` to either side, because the
    network's kernels can be differentiated once only. Clipping factors are taken as constants.

    References: Kim et al. 2018, algorithm 2 and section 3.2 (finite differences).
    """
    pull = torch.zeros_like(gradient)  # of the velocity
    for here, factor in zip(reversed(path[:-1]), reversed(factors), strict=True):
        pull = settings.momentum * pull - settings.lr * gradient  # what the velocity after this step is asked for
        direction = factor * pull
        length = direction.norm(dim=1, keepdim=True)
        step = RADIUS * direction / length.clamp(min=1e-30)
        both = torch.stack([here + step, here - step]).requires_grad_()
        with torch.enable_grad():
            found = nats(both)
            slope = ((found[0] - found[1]) * (length[:, 0] / (2 * RADIUS))).sum()
        slope.backward()
        assert both.grad is not None
        gradient = gradient + both.grad.sum(0)
    return gradient


@contextmanager
def still(modules: Iterable[nn.Module | None], parameters: Iterable[nn.Parameter] = ()) -> Iterator[None]:
    """Set modules to evaluation mode and parameters to no gradients; gradients still pass through them.

    torch's own recurrent networks stay in the mode they are in: cuDNN's go backward in training mode only.
    """
    parts = [part for module in modules if module is not None for part in module.modules()]
    active = [part for part in parts if part.training and not isinstance(part, nn.RNNBase)]
    through = all(part.training for part in parts if isinstance(part, nn.RNNBase))
    for part in active:
        part.training = False
    try:
        with frozen(parameters), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and through):
            yield
    finally:
        for part in active:
            part.training = True


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters, so that an update leaves them as they are."""
    changed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)
