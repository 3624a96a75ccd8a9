"""KL penalties around, or above, a given capacity."""

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term, below_least, rate, without_rate
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem


class _Ramped(Term):
    """Term on the KL with a capacity C_t that rises to `target`; settings as `Capacity` describes them."""

    is_rate: ClassVar[bool] = True
    steers_kl: ClassVar[bool] = True

    target: NonNegativeFloat = 5.0
    over: Literal["batch", "sentence"] = "batch"
    ramp_epochs: NonNegativeFloat = 2.0
    _per_epoch: int = 1

    def nats(self, out: Pass) -> Float[Tensor, "*sentence"]:
        """Return the mean KL of the global batch, or the KL of each sentence."""
        nats = gathered(rate(out))
        return nats.mean() if self.over == "batch" else nats

    def capacity(self, step: int) -> float:
        """Return C_t in nats."""
        return ramp(self.target, step, self.ramp_epochs * self._per_epoch)

    def planned(self, per_epoch: int) -> "_Ramped":
        """Return the term with its ramp counted in steps."""
        copy = self.model_copy()
        copy._per_epoch = per_epoch
        return copy

    def settled(self, total: int, per_epoch: int) -> float:
        """Return the first step after which neither weight nor capacity changes."""
        return max(self.weight.settled(total, per_epoch), self.ramp_epochs * per_epoch)

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a posterior without a KL, and a target below the least KL that it can have."""
        return without_rate(settings) or below_least(settings, self.target)


class Capacity(_Ramped):
    """|KL - C_t|, nats per sentence: holds the KL at `target` nats from both sides; the weight is beta.

    KL is the mean over the global batch (`over = "batch"`, which produced the paper's tables) or that of each
    sentence, with the distances averaged (the paper's equation). C_t rises from 0 to the target over `ramp_epochs`
    epochs, as in the released program; 0 means no ramp, as in the paper's text. At KL = C_t there is no gradient.

    A target of 0 gives the KL if that is exact; if it is estimated from codes, a negative estimate counts by its
    absolute value. Until it is `planned`, an epoch is one step.

    References:
        Prokhorov et al. 2019, eq. 2; Burgess et al. 2018.
    """

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the distance of the global batch at a step."""
        return (self.nats(out) - self.capacity(step)).abs().mean()

    def holds(self) -> tuple[Literal["kl", "reconstruction"], float]:
        """Return the KL and its target."""
        return "kl", self.target


class CapacityMax(_Ramped):
    """max(C_t, KL), nats per sentence: the loss is constant for a KL below `target`; the weight is beta.

    Settings are those of `capacity`. At full capacity it is `free-bits-total` with form `clamp`: only
    reconstruction raises the KL to the target. A target of 0 gives the KL if that is exact; if it is estimated from
    codes, a negative estimate is clamped to 0.

    References:
        Pelsmaeker and Aziz 2019, as cited by Prokhorov et al. 2019, section 2.2; the ramp is that of `capacity`.
    """

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the greater of the global batch's KL and the capacity at a step."""
        return self.nats(out).clamp(min=self.capacity(step)).mean()


def ramp(target: float, step: int, steps: float) -> float:
    """Return the capacity at a step: a straight line from 0 to the target over `steps` steps, then the target.

    >>> [ramp(5.0, step, 10.0) for step in (0, 4, 10, 99)], ramp(5.0, 0, 0.0)
    ([0.0, 2.0, 5.0, 5.0], 5.0)
    """
    return target if step >= steps else target * (step / steps)
