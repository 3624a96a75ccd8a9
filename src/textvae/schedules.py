"""Weights that change over training: functions of the step, counted in decoder updates, and the planned total.

In settings a plain number is a constant weight, a table names its schedule.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from textvae.settings import Strict


class Constant(Strict):
    """The same weight at every step."""

    schedule: Literal["constant"] = "constant"
    value: NonNegativeFloat = 1.0

    def __call__(self, step: int, total: int) -> float:
        """The weight at a step of `total` planned ones."""
        return self.value


class Linear(Strict):
    """A straight line from `start` to `end` over `steps` steps, after `delay` steps at `start`.

    >>> weight = Linear(start=0.0, end=1.0, steps=10)
    >>> [weight(step, total=1000) for step in (0, 5, 10, 99)]
    [0.0, 0.5, 1.0, 1.0]

    Source: Bowman et al. 2016, section 3.1; Liu et al. 2019, section 5.4 (0 to 1 over 10,000 steps).
    """

    schedule: Literal["linear"] = "linear"
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 1.0
    steps: PositiveInt = 10_000
    delay: NonNegativeInt = 0

    def __call__(self, step: int, total: int) -> float:
        """The weight at a step of `total` planned ones."""
        share = min(max((step - self.delay) / self.steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * share


class Sigmoid(Strict):
    """A logistic rise from `start` to `end`: half way at step `middle`, 73 % of the way `width` steps later.

    Source: Bowman et al. 2016, Figure 2, which shows the shape and gives no numbers.
    """

    schedule: Literal["sigmoid"] = "sigmoid"
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 1.0
    middle: NonNegativeFloat = 5_000.0
    width: PositiveFloat = 1_000.0

    def __call__(self, step: int, total: int) -> float:
        """The weight at a step of `total` planned ones."""
        # tanh does not overflow far from the middle, exp would.
        share = 0.5 * (1.0 + math.tanh((step - self.middle) / (2.0 * self.width)))
        return self.start + (self.end - self.start) * share


class Cyclical(Strict):
    """M equal cycles over the planned steps: each rises linearly over its share `ratio`, then stays at `end`.

    >>> weight = Cyclical(cycles=2, ratio=0.5)
    >>> [weight(step, total=100) for step in (0, 25, 49, 50, 100)]
    [0.0, 1.0, 1.0, 0.0, 1.0]

    Source: Fu et al. 2020, eq. 13.
    """

    schedule: Literal["cyclical"] = "cyclical"
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 1.0
    cycles: PositiveInt = 4
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5

    def __call__(self, step: int, total: int) -> float:
        """The weight at a step of `total` planned ones."""
        if step >= total:
            return self.end
        # The share of its cycle that is over, with one rounding: step % (total / cycles) can miss a cycle's start.
        cycle = (step * self.cycles % total) / total
        share = min(cycle / self.ratio, 1.0)
        return self.start + (self.end - self.start) * share


def _number_is_constant(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"schedule": "constant", "value": value}
    if not isinstance(value, (Mapping, Strict)):
        raise ValueError("a number, or a table that names its schedule, is expected")
    return value


Schedule = Annotated[
    Constant | Linear | Sigmoid | Cyclical,
    Field(discriminator="schedule"),
    BeforeValidator(_number_is_constant),
]
