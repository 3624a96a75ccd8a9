"""The VampPrior: a mixture of the posteriors of learned pseudo-sentences."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings, chosen
from textvae.settings.fields import Size


@runtime_checkable
class Component(Protocol):
    """Interface of the posteriors that the VampPrior is made of."""

    @property
    def mean(self) -> Tensor: ...  # noqa: D102

    def rsample(self, noise: Noise, samples: int = 1) -> Tensor: ...  # noqa: D102

    def log_prob(self, z: Tensor) -> Tensor | None: ...  # noqa: D102


class MeanOfPosteriors(Prior):
    """p(z) = (1/K) sum_k q(z|u_k): a prior made of the posteriors of K sentences."""

    def __init__(self, posterior: Component) -> None:
        self.posterior = posterior

    def sample(self, n: int, noise: Noise) -> Float[Tensor, "n latent"]:
        """Draw `n` codes from one sentence's worth of noise: a code of every component, and one of them chosen."""
        components = len(self.posterior.mean)

        def of_all(samples: int, size: int) -> Tensor:
            return noise(samples, components * size)[:, 0].view(samples, components, size)

        choice = noise(n, 1)[:, 0, 0]
        codes = self.posterior.rsample(of_all, n)
        component = chosen(codes.new_zeros(n, components).log_softmax(1), choice)
        return codes[torch.arange(n, device=codes.device), component]

    def log_prob(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any"]:
        """Return log p(z) in nats."""
        components = len(self.posterior.mean)
        parts = self.posterior.log_prob(z[..., None, :].expand(*z.shape[:-1], components, z.shape[-1]))
        assert parts is not None  # settings refuse posteriors without a density
        return parts.logsumexp(-1) - math.log(components)


class VampPrior(PriorNetwork):
    """K learned pseudo-sentences u_k of `length` embeddings each; the prior is (1/K) sum_k q(z|u_k).

    The posterior must have a density for any code and treat each sentence by itself.

    References: Tomczak and Welling 2018, "VAE with a VampPrior", eq. 9; pseudo-inputs are embeddings here, because
    words have no gradient.
    """

    def __init__(self, components: int, length: int, embedding: int) -> None:
        super().__init__()
        self.pseudo = nn.Parameter(torch.randn(components, length, embedding))

    def now(self, read: Callable[[Tensor, Tensor], Component]) -> MeanOfPosteriors:
        """Return the prior by the encoder's present weights, which `read(embedded, lengths)` uses."""
        components, length, _ = self.pseudo.shape
        return MeanOfPosteriors(read(self.pseudo, torch.full((components,), length, device=self.pseudo.device)))


class VampSettings(PriorSettings):
    """Settings of `VampPrior`."""

    name: Literal["vamp"]
    components: Size = 50
    length: Size = 10
    of_posteriors: ClassVar[bool] = True

    def build(self, latent: int, embedding: int) -> VampPrior:
        """Build it for an encoder whose embeddings have size `embedding`."""
        return VampPrior(self.components, self.length, embedding)

    def step_numbers(self, encoder_hidden: int) -> dict[str, int]:
        """Return the encoder's states while it reads the pseudo-sentences."""
        return {f"components = {self.components}": self.components * self.length * encoder_hidden}
