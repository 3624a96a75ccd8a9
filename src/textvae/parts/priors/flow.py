"""A normalizing flow fitted to codes after training."""

import math
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.distributions import Distribution

from textvae.parts.noise import Noise
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings
from textvae.settings.fields import Depth, Size

# Codes that are transformed at once: every number of a code takes a spline of its own.
CODES = 2048


class FittedFlow(PriorNetwork, Prior):
    """p(z) = N(f(u); 0, I) |det df/du| / |det L| with u = L^-1 (z - mean), fitted to codes after training.

    mean and L L' are the moments of the codes. f consists of `transforms` autoregressive transformations, in which
    number i of a code goes through a rational-quadratic spline of `bins` pieces on [-5, 5], whose shape is a
    function of the numbers before it. Outside, f is the identity, as it is everywhere before it has learned
    something: p(z) is then the Gaussian with the moments of the codes. Numbers are float64; codes come out, and
    densities are returned, in the type of the noise and of z.

    References: Durkan et al. 2019, "Neural spline flows", section 3, arXiv:1906.04032; Papamakarios et al. 2017,
    "Masked autoregressive flow for density estimation", section 3.1, arXiv:1705.07057 (autoregressive layers).
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, latent: int, transforms: int, hidden: int, bins: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("mean", torch.zeros(latent, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(latent, dtype=torch.float64))
        layers = (hidden, hidden)
        self.splines = _spline_flows()(latent, transforms=transforms, bins=bins, hidden_features=layers).transform
        for module in self.splines.modules():  # orders and masks follow from the sizes
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)
        self.begin()
        self.requires_grad_(False).double()

    def begin(self) -> None:
        """Make f the identity: all splines are straight where their networks return 0."""
        for transform in self.splines.transforms:
            last = transform.hyper[-1] if hasattr(transform, "hyper") else transform  # one dimension has no network
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def now(self, read: Callable[[Tensor, Tensor], Any]) -> Prior:
        """Return itself."""
        return self

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise, by the inverse of f."""
        draws = noise(n, self.latent)[:, 0]
        inverse = self.splines(None).inv
        scaled = torch.cat([inverse(some) for some in draws.double().split(CODES)])
        return (scaled @ self.factor.mT + self.mean).to(draws)

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats."""
        parts = z.reshape(-1, self.latent).double().split(CODES)
        densities = torch.cat([self.log_prob_of_scaled(self.scaled(some)) for some in parts])
        return (densities - self.factor.diagonal().log().sum()).view(z.shape[:-1]).to(z)

    def scaled(self, z: Float64[Tensor, "n latent"]) -> Float64[Tensor, "n latent"]:
        """Return L^-1 (z - mean): the codes that the flow was fitted to have mean 0 and covariance I by it."""
        return torch.linalg.solve_triangular(self.factor, (z - self.mean).mT, upper=False).mT

    def log_prob_of_scaled(self, u: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """Return log N(f(u); 0, I) + log |det df/du| in nats."""
        base, volume = self.splines(None).call_and_ladj(u)
        return volume - 0.5 * (base.square() + math.log(2 * math.pi)).sum(-1)


class FittedFlowSettings(PriorSettings):
    """Settings of `FittedFlow`, which replaces the prior of a trained model and is none to train with."""

    name: Literal["fitted-flow"] = "fitted-flow"
    transforms: Depth = 1
    hidden: Size = 64
    bins: Size = 8
    fitted: ClassVar[bool] = True

    @property
    def missing(self) -> str | None:
        """The library that it needs, if it is not installed."""
        if find_spec("zuko") is not None:
            return None
        return "a flow needs zuko, which is not installed; install it with pip install 'textvae[flow]'"

    @property
    def details(self) -> dict[str, str | int]:
        """Sizes, and the library with its version."""
        sizes = {"transforms": self.transforms, "hidden": self.hidden, "bins": self.bins}
        return {**sizes, "by": f"zuko-{version('zuko')}"}

    def build(self, latent: int, embedding: int) -> FittedFlow:
        """Build it for codes of `latent` dimensions, as N(0, I) until its tensors are loaded."""
        return FittedFlow(latent, self.transforms, self.hidden, self.bins)


def _spline_flows() -> Any:
    """Return zuko's class of neural spline flows; torch goes on checking distributions as it did before."""
    checked = Distribution._validate_args
    from zuko.flows import NSF  # which turns the checks off for the whole process

    Distribution.set_default_validate_args(checked)
    return NSF
