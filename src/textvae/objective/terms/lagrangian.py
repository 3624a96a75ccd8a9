"""A KL whose weight is learned, so that the rate or the reconstruction comes to a target."""

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

# Where the multiplier stays. At -1 the KL is pushed up as hard as the plain bound pushes it down, which is what
# leaves a collapsed posterior; from 10 on no text is worth its KL.
RATE_BOUNDS = (-1.0, 10.0)
# Here it is a factor, which may not come to 0.
DISTORTION_BOUNDS = (1e-3, 10.0)


class Lagrangian(Term):
    """E_n KL(q(z|x_n) || p(z)), nats per sentence, with a learned weight w that begins at `start`.

    Constraint `rate`: the least reconstruction loss D such that KL = `target`. After each step w rises by `rate`
    times the nats that the batch's KL is above the target, at most the target: dual ascent on D + w (KL - target).
    Since it is an equality, w may fall below 0, and then pushes the KL up; it stays within [-1, 10].

    Constraint `distortion`: the least KL such that D = `target`. log w falls by `rate` times the nats that the
    batch's D is above the target, so that w falls while D is too high; it stays within [0.001, 10]. A departure:
    the paper weighs the constraint and leaves the KL alone; here the whole is divided by that multiplier, 1 / w, so
    that reconstruction has weight 1 as everywhere, and no moving average of D is kept: a small `rate` averages too.

    To the loss also comes `damping` / 2 times the squared distance from the constraint (the augmented Lagrangian):
    without it w overshoots, because a KL explodes and collapses faster than w can follow. A target that the model
    cannot reach ends at a bound. `weight` multiplies w; leave it at 1.

    Source: Rezende and Viola 2018 (distortion); Pelsmaeker and Aziz 2019 (a minimum desired rate with a learned
    multiplier; here an equality); Prokhorov et al. 2019, section 2.2, which names the constraint KL = C; Hestenes
    1969 (damping).
    """

    is_rate: ClassVar[bool] = True
    by_nat: ClassVar[bool] = True
    learned: ClassVar[bool] = True

    constraint: Literal["rate", "distortion"] = "rate"
    target: PositiveFloat = 5.0
    rate: PositiveFloat = 1e-3
    damping: NonNegativeFloat = 0.1
    start: Annotated[float, Field(gt=0, le=10)] = 1.0

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """The mean rate of the global batch."""
        return gathered(rate(out)).mean()

    def loss(self, raw: Mapping[str, Tensor], name: str, weight: float) -> Float[Tensor, ""]:
        """The weighted KL and the damping."""
        apart = raw[name if self.constraint == "rate" else "reconstruction"] - self.target
        return weight * raw[name] + self.damping / 2 * apart.square()

    def settled(self, total: int, per_epoch: int) -> float:
        """The end of the run: a learned weight goes on changing."""
        return float(total)

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of the learned weight."""
        return RATE_BOUNDS if self.constraint == "rate" else DISTORTION_BOUNDS

    def multiplier(self, before: float | None, raw: Mapping[str, float]) -> float:
        """The weight after a step whose raw parts were `raw`, of the global batch, `before` that step.

        With an empty `raw` it is `before`, and without that `start`: multiplier(None, {}) is the first step's.

        >>> Lagrangian(target=5.0, rate=0.1).multiplier(1.0, {"reconstruction": 90.0, "lagrangian": 7.0})
        1.2
        """
        weight = self.start if before is None else before
        if not raw:
            return weight
        low, high = self.bounds
        if self.constraint == "rate":
            above = min(raw["lagrangian"] - self.target, self.target)  # a KL that explodes is no measure
            return min(max(weight + self.rate * above, low), high)
        log_weight = math.log(max(weight, low)) - self.rate * (raw["reconstruction"] - self.target)
        # Bounded before exp, which overflows for a target far above any loss, and after it, for its rounding.
        return min(max(math.exp(min(log_weight, math.log(high))), low), high)

    def holds(self) -> tuple[Literal["kl", "reconstruction"], float]:
        """The constraint."""
        return ("kl" if self.constraint == "rate" else "reconstruction"), self.target

    def problems(self, settings: Settings) -> list[str]:
        """Refuses a posterior without a KL or always above the target, and a distortion that nobody gave."""
        if self.constraint == "rate":
            return without_rate(settings) or below_least(settings, self.target)
        if "target" not in self.model_fields_set:
            return [".target: is required for a distortion: the nats that reconstruction is to come to"]
        return without_rate(settings)
