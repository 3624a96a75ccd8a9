"""What every approximate posterior q(z|x) offers, and how those of several batches are put together."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textvae.parts.noise import Noise, sentence_noise
from textvae.parts.priors import Prior

RateKind = Literal["exact", "monte-carlo", "upper"]

ENTRIES = 1 << 22  # densities held at once by a mixture: 32 MiB in float64
DRAWS = 50  # codes of a sentence whose mean is taken for E[z|x] where that has no closed form


class Rate(NamedTuple):
    """KL(q(z|x) || p(z)) of each sentence in nats, and whether it is exact, an estimate or an upper bound."""

    nats: Tensor
    kind: RateKind


class Expectation(NamedTuple):
    """E[z|x] of each sentence, and where it is an estimate its variance given x; None where it is exact."""

    value: Tensor
    noise: Tensor | None = None


@runtime_checkable
class Posterior(Protocol):
    """The posteriors of a batch of sentences: a frozen dataclass whose tensors have the sentences first.

    `mean` (batch, latent) is the code that stands for a sentence; `expectation` is the mean of the distribution,
    which may be another point, and not a code at all. A method that the posterior cannot offer, such as the density
    of a point, gives None.
    """

    @property
    def mean(self) -> Float[Tensor, "batch latent"]: ...  # noqa: D102

    @property
    def expectation(self) -> Expectation | None: ...  # noqa: D102

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]: ...  # noqa: D102

    def log_prob(self, z: Float[Tensor, "sample batch latent"]) -> Tensor | None: ...  # noqa: D102

    def rate_per_dimension(self, prior: Prior) -> Float[Tensor, "batch latent"] | None: ...  # noqa: D102

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate | None: ...  # noqa: D102

    def mixture_log_prob(self, z: Float[Tensor, "batch latent"]) -> Tensor | None: ...  # noqa: D102


@runtime_checkable
class Drawn(Protocol):
    """A posterior whose parameters are drawn themselves, so that a density by them is one of more than the text.

    `apart` is the same posterior by parameters that its first code was not drawn from.
    """

    @property
    def apart(self) -> Posterior: ...  # noqa: D102


Any_Posterior = TypeVar("Any_Posterior", bound=Any)


def mapped(posterior: Any_Posterior, change: Callable[[Tensor], Tensor]) -> Any_Posterior:
    """The posterior with every tensor changed: moved to another device, or some of its sentences picked."""
    tensors = {name: change(value) for name, value in _tensors(posterior).items()}
    return dataclasses.replace(posterior, **tensors)


@torch.no_grad()
def expected(
    posterior: Posterior, seed: int, index: Int[Tensor, " batch"], draws: int = DRAWS, entries: int = ENTRIES
) -> Expectation:
    """E[z|x] as the posterior knows it, or else the mean of `draws` codes of each sentence.

    The codes depend on the seed and a sentence's `index` alone. About `entries` numbers are drawn at once.
    """
    known = posterior.expectation
    if known is not None:
        return known
    values, noises, like = [], [], posterior.mean
    for part in torch.arange(len(index)).split(max(1, entries // (draws * like.shape[1]))):
        some = mapped(posterior, partial(torch.index_select, dim=0, index=part.to(like.device)))
        codes = some.rsample(sentence_noise(seed, index[part], like.device), draws).double()
        values.append(codes.mean(0))
        noises.append(codes.var(0, correction=1) / draws)
    return Expectation(torch.cat(values), torch.cat(noises))


def joined(parts: Sequence[Any_Posterior]) -> Any_Posterior:
    """The posteriors of several batches as those of one."""
    columns = [_tensors(part) for part in parts]
    tensors = {name: torch.cat([column[name] for column in columns]) for name in columns[0]}
    return dataclasses.replace(parts[0], **tensors)


def gradients_with(*tensors: Tensor) -> torch.set_grad_enabled:
    """No gradients, within, unless one of the tensors has them.

    For posteriors that hold modules beside tensors: one that was made without gradients gives none later, when
    the context without gradients has ended.
    """
    return torch.set_grad_enabled(torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def _tensors(posterior: Any) -> dict[str, Tensor]:
    fields = {field.name: getattr(posterior, field.name) for field in dataclasses.fields(posterior)}
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}
