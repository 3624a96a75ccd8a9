"""KL with a learned weight that brings the rate or the reconstruction to a target."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term, below_least, rate, without_rate
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem

# Bounds of the multiplier. At -1 the KL is pushed up as hard as the plain bound pushes it down, enough to leave a
# collapsed posterior; from 10 on no reconstruction outweighs the KL.
RATE_BOUNDS = (-1.0, 10.0)
# Bounds where the multiplier is a factor, which must not reach 0.
DISTORTION_BOUNDS = (1e-3, 10.0)


class Lagrangian(Term):
    """E_n KL(q(z|x_n) || p(z)), nats per sentence, with a learned weight w that begins at `start`.

    Constraint `rate`: the least reconstruction loss D such that KL = `target`. After each step w rises by `rate`
    times the nats by which the batch's KL exceeds the target, at most the target: dual ascent on D + w (KL -
    target). Since it is an equality, w may fall below 0, and then pushes the KL up; it stays within [-1, 10].

    Constraint `distortion`: the least KL such that D = `target`. log w falls by `rate` times the nats by which the
    batch's D exceeds the target, so that w falls while D is too high; it stays within [0.001, 10]. A departure: the
    paper weights the constraint and leaves the KL unweighted; here the whole is divided by that multiplier, 1 / w,
    so that reconstruction has weight 1 as elsewhere. No moving average of D is kept, since a small `rate` averages
    too.

    `damping` / 2 times the squared distance from the constraint is added to the loss (the augmented Lagrangian).
    Without it w overshoots, because a KL explodes and collapses faster than w can follow. A target that the model
    cannot reach ends at a bound. `weight` multiplies w; leave it at 1.

    References:
        Rezende and Viola 2018 (distortion); Pelsmaeker and Aziz 2019 (a minimum desired rate with a learned
        multiplier; here an equality); Prokhorov et al. 2019, section 2.2, which names the constraint KL = C;
        Hestenes 1969 (damping).
    """

    is_rate: ClassVar[bool] = True
    steers_kl: ClassVar[bool] = True
    linear_in_kl: ClassVar[bool] = True
    learned: ClassVar[bool] = True

    constraint: Literal["rate", "distortion"] = "rate"
    target: PositiveFloat = 5.0
    rate: PositiveFloat = 1e-3
    damping: NonNegativeFloat = 0.1
    start: Annotated[float, Field(gt=0, le=10)] = 1.0

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the mean rate of the global batch."""
        return gathered(rate(out)).mean()

    def loss(self, raw: Mapping[str, Tensor], name: str, weight: float) -> Float[Tensor, ""]:
        """Return the weighted KL and the damping."""
        apart = raw[name if self.constraint == "rate" else "reconstruction"] - self.target
        return weight * raw[name] + self.damping / 2 * apart.square()

    def settled(self, total: int, per_epoch: int) -> float:
        """Return the end of the run, because a learned weight keeps changing."""
        return float(total)

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of the learned weight."""
        return RATE_BOUNDS if self.constraint == "rate" else DISTORTION_BOUNDS

    def multiplier(self, before: float | None, raw: Mapping[str, float]) -> float:
        """Return the weight after a step with the global batch's raw parts `raw`, from the weight `before` it.

        With an empty `raw` it is `before`, and without that `start`: multiplier(None, {}) is the first step's.

        >>> Lagrangian(target=5.0, rate=0.1).multiplier(1.0, {"reconstruction": 90.0, "lagrangian": 7.0})
        1.2
        """
        weight = self.start if before is None else before
        if not raw:
            return weight
        low, high = self.bounds
        if self.constraint == "rate":
            above = min(raw["lagrangian"] - self.target, self.target)  # limits the effect of an exploding KL
            return min(max(weight + self.rate * above, low), high)
        log_weight = math.log(max(weight, low)) - self.rate * (raw["reconstruction"] - self.target)
        # Bounded before exp, which overflows for a target far above any loss, and after it, for its rounding.
        return min(max(math.exp(min(log_weight, math.log(high))), low), high)

    def holds(self) -> tuple[Literal["kl", "reconstruction"], float]:
        """Return the constrained quantity and its target."""
        return ("kl" if self.constraint == "rate" else "reconstruction"), self.target

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a posterior without a KL or always above the target, and a distortion without a target."""
        if self.constraint == "rate":
            return without_rate(settings) or below_least(settings, self.target)
        if "target" not in self.model_fields_set:
            return [Problem("target", "is required for a distortion: the target of reconstruction in nats")]
        return without_rate(settings)
