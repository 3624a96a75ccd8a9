"""Interfaces of approximate posteriors q(z|x), their networks and settings, and functions of any of them."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.noise import Noise, sentence_noise
from textvae.parts.priors import Place, Prior
from textvae.settings.kinds import Kind
from textvae.settings.problems import Problem
from textvae.settings.schedules import Schedule

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


@runtime_checkable
class Slow(Protocol):
    """A posterior whose mixture density sends every code through the maps or steps of every sentence."""

    @property
    def slow_mixture(self) -> bool: ...  # noqa: D102


@runtime_checkable
class Standardises(Protocol):
    """A posterior that can be that of u = (z - mean) / std for the mean and scale of p(z|c)."""

    def standardised(self, place: Place) -> Posterior: ...  # noqa: D102


class PosteriorNetwork(nn.Module, ABC):
    """Turns the encoder's vectors into posteriors."""

    # Components drawn beside each code in evaluation, where the density is that of a mixture of such draws.
    components: int | None = None

    @abstractmethod
    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> Posterior:
        """Return the posterior of each sentence.

        A posterior whose parameters are random draws them from `noise`, for `samples` codes and with `components`
        beside them, by default as many as it is evaluated with. Others ignore these.
        """


class Restated(PosteriorNetwork):
    """A network that evaluates with statistics of training sentences, which `restate` gives it."""

    @abstractmethod
    def restate(self, hidden: Float[Tensor, "n size"]) -> None:
        """Evaluate with the statistics of these sentences from now on."""


class PosteriorSettings(Kind, ABC):
    """Settings of a posterior: what it is built from, and what the other parts need to know about it.

    A new kind is a file with its posterior, its network and its settings, and a line in `POSTERIORS`.
    """

    has_rate: ClassVar[bool] = True  # there is a KL to the prior; False where z is a function of x
    rate_by_dimension: ClassVar[bool] = False  # under N(0, I) the KL is a sum over dimensions in closed form
    fixed_rate: ClassVar[bool] = False  # the KL is the same for every sentence, whatever is trained
    density_anywhere: ClassVar[bool] = False  # log q(z|x) of any code, each sentence by itself, under any prior
    only_standard: ClassVar[bool] = False  # made for the prior N(0, I) alone
    on_sphere: ClassVar[bool] = False  # codes are unit vectors
    refinable: ClassVar[bool] = False  # a Gaussian that semi-amortized inference can start from
    widens: ClassVar[bool] = False  # it has `widened`, by which an exchange rate is measured
    batch_statistics: ClassVar[bool] = False  # in training a sentence's posterior depends on its batch
    surrogate: ClassVar[bool] = False  # its density stands on drawn components
    standardises: ClassVar[bool] = False  # it has `standardised`, as a conditional prior needs

    @abstractmethod
    def build(self, size: int, latent: int) -> PosteriorNetwork:
        """Build it for encoder vectors of `size` and codes of `latent` dimensions."""

    def problems(self, latent: int) -> list[Problem]:
        """Return what does not fit codes of `latent` dimensions; paths are relative to the posterior."""
        return []

    def codes(self) -> int:
        """Return how many codes a sentence gets in training."""
        return 1

    def drawn(self, step: int, total: int, per_epoch: int) -> int | None:
        """Return how many components stand beside each code at a step of training; None where there are none."""
        return None

    def schedules(self) -> Mapping[str, Schedule]:
        """Return the schedules among its settings by name."""
        return {}

    def step_numbers(self, latent: int) -> dict[str, int]:
        """Return how many numbers a sentence holds in training for it, by the setting that sets how many."""
        return {}

    def least_rate(self, latent: int) -> tuple[float, str] | None:
        """Return the least KL that it can have, in nats, and the setting that lowers it; None if that is 0."""
        return None

    def most_variance(self, latent: int) -> float | None:
        """Return an upper bound on the variance of E[z|x] over sentences, summed over dimensions; None if none."""
        return None

    def stronger(self) -> tuple[str, float, str] | None:
        """Return the setting, its value and a word for what should raise the KL; None if there is no such one."""
        return None


Any_Posterior = TypeVar("Any_Posterior", bound=Any)


def mapped(posterior: Any_Posterior, change: Callable[[Tensor], Tensor]) -> Any_Posterior:
    """Return the posterior with every tensor changed: moved to another device, or some of its sentences picked."""
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
    """Return the posteriors of several batches as those of one."""
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
