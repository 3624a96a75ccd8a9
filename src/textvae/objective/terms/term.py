"""What every term of the objective is."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.settings.schedules import Constant, Schedule
from textvae.settings.strict import Strict


class Term(Strict):
    """A scalar of the whole global batch in nats per sentence, weighted by a schedule when it is summed up.

    A term owns no parameters and logs nothing; its fields are its settings. `is_rate` marks the terms that say
    how the rate is paid, of which a run has exactly one.
    """

    is_rate: ClassVar[bool] = False
    needs_posterior: ClassVar[bool] = True
    pays: ClassVar[bool] = True  # of a rate term: whether it pays for the KL at all
    by_nat: ClassVar[bool] = False  # of a rate term: whether its weight is what every nat of KL costs
    learned: ClassVar[bool] = False  # whether its weight has a learned factor

    weight: Schedule = Constant()

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """The unweighted value for a batch at a step."""
        raise TypeError(f"{type(self).__name__} does not say what it computes")

    def loss(self, raw: Mapping[str, Tensor], name: str, weight: float) -> Float[Tensor, ""]:
        """What it adds to the loss: its value, `raw[name]`, times its weight; `raw` has the parts before it too."""
        return weight * raw[name]

    def planned(self, per_epoch: int) -> "Term":
        """The term for a run of so many steps an epoch: for terms that count in epochs."""
        return self

    def settled(self, total: int, per_epoch: int) -> float:
        """The step from which on the term no longer changes."""
        return self.weight.settled(total, per_epoch)

    def head(self, sizes: Mapping[str, int], vocabulary: int) -> nn.Module | None:
        """What the model must learn for the term, found in `Pass.heads`: a module of (z, ids, lengths).

        Its `sees` says whether it is given z or the decoder's features of it, the `code`; `sizes` has their sizes.
        """
        return None

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of the learned factor of the weight."""
        return 1.0, 1.0

    def multiplier(self, before: float | None, raw: Mapping[str, float]) -> float:
        """The learned factor of the weight after a step whose raw parts were `raw`; `before` is None at first."""
        return 1.0

    def holds(self) -> tuple[Literal["kl", "reconstruction"], float] | None:
        """What it brings to how many nats, from both sides; None where it does not."""
        return None

    def problems(self, settings: Settings) -> list[str]:
        """What in the settings it cannot work with, each with what to change."""
        return []


def rate(out: Pass) -> Float[Tensor, " batch"]:
    """KL(q(z|x) || p(z)) of each of this process's sentences in nats, exact or estimated as the posterior can."""
    assert out.posterior is not None and out.prior is not None and out.z is not None
    found = out.posterior.rate(out.z, out.prior)
    assert found is not None  # settings refuse a rate term for a posterior without one
    return found.nats


def without_rate(settings: Settings) -> list[str]:
    """The problem of a term that pays for a rate with a posterior that has none."""
    posterior = settings.model.posterior
    if posterior.has_rate:
        return []
    return [
        f": the {posterior.name} posterior has no KL; use objective.autoencoder, or another model.posterior.name"
    ]


def below_least(settings: Settings, target: float, dimensions: int = 1) -> list[str]:
    """The problem of a target above 0 that is less than the least KL that the posterior can have.

    Of a target for each of so many `dimensions` the least is that of one.
    """
    model = settings.model
    posterior = model.posterior
    known = posterior.least_rate(model.latent)
    if known is None:
        return []
    least, lower = known[0] / dimensions, known[1]
    if not 0 < target < least:
        return []
    each = "" if dimensions == 1 else "by dimension "
    has = f"the KL of the {posterior.name} posterior is {each}at least {least:.3g}"
    return [f".target = {target}: {has}; give that or more, or lower model.posterior.{lower}"]
