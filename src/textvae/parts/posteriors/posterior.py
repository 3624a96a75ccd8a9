"""What every approximate posterior q(z|x) offers, and how those of several batches are put together."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.parts.noise import Noise
from textvae.parts.priors import Prior

RateKind = Literal["exact", "monte-carlo", "upper"]

ENTRIES = 1 << 22  # densities held at once by a mixture: 32 MiB in float64


class Rate(NamedTuple):
    """KL(q(z|x) || p(z)) of each sentence in nats, and whether it is exact, an estimate or an upper bound."""

    nats: Tensor
    kind: RateKind


@runtime_checkable
class Posterior(Protocol):
    """The posteriors of a batch of sentences: a frozen dataclass whose tensors have the sentences first.

    `mean` (batch, latent) is the code that stands for a sentence. A method that the posterior cannot offer, such as
    the density of a point, gives None.
    """

    @property
    def mean(self) -> Float[Tensor, "batch latent"]: ...  # noqa: D102

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]: ...  # noqa: D102

    def log_prob(self, z: Float[Tensor, "sample batch latent"]) -> Tensor | None: ...  # noqa: D102

    def rate_per_dimension(self, prior: Prior) -> Float[Tensor, "batch latent"] | None: ...  # noqa: D102

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate | None: ...  # noqa: D102

    def mixture_log_prob(self, z: Float[Tensor, "batch latent"]) -> Tensor | None: ...  # noqa: D102


Any_Posterior = TypeVar("Any_Posterior", bound=Any)


def mapped(posterior: Any_Posterior, change: Callable[[Tensor], Tensor]) -> Any_Posterior:
    """The posterior with every tensor changed: moved to another device, or some of its sentences picked."""
    tensors = {name: change(value) for name, value in _tensors(posterior).items()}
    return dataclasses.replace(posterior, **tensors)


def joined(parts: Sequence[Any_Posterior]) -> Any_Posterior:
    """The posteriors of several batches as those of one."""
    columns = [_tensors(part) for part in parts]
    tensors = {name: torch.cat([column[name] for column in columns]) for name in columns[0]}
    return dataclasses.replace(parts[0], **tensors)


def _tensors(posterior: Any) -> dict[str, Tensor]:
    fields = {field.name: getattr(posterior, field.name) for field in dataclasses.fields(posterior)}
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}
