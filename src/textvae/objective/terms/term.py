"""Base class of the terms of the objective."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.settings.problems import Problem
from textvae.settings.schedules import Constant, Schedule
from textvae.settings.strict import Strict


class Term(Strict):
    """A scalar of the whole global batch, weighted by a schedule in the sum.

    The unit is nats per sentence where it is one; otherwise the docstring says so.
    A term has no parameters and logs nothing; its fields are its settings. `is_rate` marks rate terms, the ways of
    penalising the KL; a run has exactly one.
    """

    is_rate: ClassVar[bool] = False
    needs_posterior: ClassVar[bool] = True
    # Of a rate term: True if it penalises the KL; if it is linear in it, so that its weight is the KL weight; if it
    # leads the KL to a value of its own.
    penalises_kl: ClassVar[bool] = True
    linear_in_kl: ClassVar[bool] = False
    steers_kl: ClassVar[bool] = False
    learned: ClassVar[bool] = False  # True if its weight has a learned factor

    weight: Schedule = Constant()

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the unweighted value for a batch at a step."""
        raise TypeError(f"{type(self).__name__} does not define __call__")

    def loss(self, raw: Mapping[str, Tensor], name: str, weight: float) -> Float[Tensor, ""]:
        """Return the contribution to the loss: `raw[name]` times the weight; `raw` also has the earlier parts."""
        return weight * raw[name]

    def planned(self, per_epoch: int) -> "Term":
        """Return the term for a run of `per_epoch` steps an epoch; for terms that count in epochs."""
        return self

    def settled(self, total: int, per_epoch: int) -> float:
        """Return the first step after which the term no longer changes."""
        return self.weight.settled(total, per_epoch)

    def head(self, sizes: Mapping[str, int], vocabulary: int) -> nn.Module | None:
        """Return the module of (z, ids, lengths) that the model must train for the term, found in `Pass.heads`.

        Its `sees` selects its input: z, or the decoder's features of z, the `code`; `sizes` has the sizes of both.
        """
        return None

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of the learned factor of the weight."""
        return 1.0, 1.0

    def multiplier(self, before: float | None, raw: Mapping[str, float]) -> float:
        """Return the learned factor of the weight after a step with raw parts `raw`; `before` is None at first."""
        return 1.0

    def looks_every(self, planned: int) -> int | None:
        """Return the number of steps between looks at validation sentences; None if the term needs none."""
        return None

    def after_look(self, before: float, exchange_rate: float | None, share: float) -> float:
        """Return the learned factor of the weight after a look (`inference.look`) at `share` of the steps."""
        return before

    def holds(self) -> tuple[Literal["kl", "reconstruction"], float] | None:
        """Return the quantity that the term holds at a target from both sides and the target in nats, or None."""
        return None

    def problems(self, settings: Settings) -> list[Problem]:
        """Return the settings that the term cannot work with; paths are relative to its own table."""
        return []


def rate(out: Pass) -> Float[Tensor, " batch"]:
    """Return KL(q(z|x) || p(z)) of each of this process's sentences in nats, exact or estimated."""
    assert out.posterior is not None and out.prior is not None and out.z is not None
    kl = out.posterior.rate(out.z, out.prior)
    assert kl is not None  # settings refuse a rate term for a posterior without one
    return kl.nats


def without_rate(settings: Settings) -> list[Problem]:
    """Return the problem of a rate term with a posterior that has no rate, if so."""
    posterior = settings.model.posterior
    if posterior.has_rate:
        return []
    remedy = "use objective.autoencoder, or another model.posterior.name"
    return [Problem("", f"the {posterior.name} posterior has no KL", remedy)]


def below_least(settings: Settings, target: float, dimensions: int = 1) -> list[Problem]:
    """Return the problem of a target above 0 that is below the least KL of the posterior, if so.

    For a target of each of `dimensions`, the least KL is that of one dimension.
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
    return [Problem("target", has, f"give that or more, or lower model.posterior.{lower}", value=target)]
