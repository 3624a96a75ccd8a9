"""Schedules: numbers that change over training, such as weights, targets, and components of a posterior.

A schedule is a function of the step, counted in decoder updates, the planned number of steps, and the steps of an
epoch. In settings a plain number is a constant, and a table names its schedule.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from textvae.settings.strict import Strict

# Units of length: steps, epochs, or shares of the planned steps.
Unit = Literal["steps", "epochs", "run"]


class Constant(Strict):
    """The same value at every step."""

    schedule: Literal["constant"] = "constant"
    value: NonNegativeFloat = 1.0

    def __call__(self, step: int, total: int, per_epoch: int = 1) -> float:
        """Return the value at a step of `total` planned ones."""
        return self.value

    @property
    def final(self) -> float:
        """Final value."""
        return self.value

    def settled(self, total: int, per_epoch: int = 1) -> float:
        """Return the first step after which the value is constant."""
        return 0.0


class Linear(Strict):
    """A straight line from `start` to `end` over `steps` steps, after a `delay` at `start`.

    Both lengths are counted in `unit`: steps, epochs, or shares of the whole run.

    >>> weight = Linear(start=0.0, end=1.0, steps=10)
    >>> [weight(step, total=1000) for step in (0, 5, 10, 99)]
    [0.0, 0.5, 1.0, 1.0]
    >>> Linear(steps=0.5, unit="run")(step=25, total=100)
    0.5

    References:
        Bowman et al. 2016, section 3.1; Liu et al. 2019, section 5.4 (0 to 1 over 10,000 steps). With a delay and a
        start above 0 it is the delayed ramp with a floor of Semeniuta et al. 2017's program.
    """

    schedule: Literal["linear"] = "linear"
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 1.0
    steps: PositiveFloat = 10_000.0
    delay: NonNegativeFloat = 0.0
    unit: Unit = "steps"

    def __call__(self, step: int, total: int, per_epoch: int = 1) -> float:
        """Return the value at a step of `total` planned ones."""
        scale = _steps_of(self.unit, total, per_epoch)
        share = min(max((step - self.delay * scale) / (self.steps * scale), 0.0), 1.0)
        return self.start + (self.end - self.start) * share

    @property
    def final(self) -> float:
        """Final value."""
        return self.end

    def settled(self, total: int, per_epoch: int = 1) -> float:
        """Return the first step after which the value is constant."""
        return (self.delay + self.steps) * _steps_of(self.unit, total, per_epoch)


class Sigmoid(Strict):
    """A logistic rise from `start` to `end`: half way at step `middle`, 73 % of the way `width` steps later.

    Both lengths are counted in `unit`: steps, epochs, or shares of the whole run.

    References:
        Bowman et al. 2016, Figure 2, which shows the shape without numbers.
    """

    schedule: Literal["sigmoid"] = "sigmoid"
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 1.0
    middle: NonNegativeFloat = 5_000.0
    width: PositiveFloat = 1_000.0
    unit: Unit = "steps"

    def __call__(self, step: int, total: int, per_epoch: int = 1) -> float:
        """Return the value at a step of `total` planned ones."""
        scale = _steps_of(self.unit, total, per_epoch)
        # Unlike exp, tanh does not overflow far from the middle.
        share = 0.5 * (1.0 + math.tanh((step - self.middle * scale) / (2.0 * self.width * scale)))
        return self.start + (self.end - self.start) * share

    @property
    def final(self) -> float:
        """Final value."""
        return self.end

    def settled(self, total: int, per_epoch: int = 1) -> float:
        """Return the first step after which less than one hundredth of the way is left."""
        return (self.middle + 5.0 * self.width) * _steps_of(self.unit, total, per_epoch)


class Cyclical(Strict):
    """M equal cycles over the planned steps: each rises linearly over its share `ratio`, then stays at `end`.

    >>> weight = Cyclical(cycles=2, ratio=0.5)
    >>> [weight(step, total=100) for step in (0, 25, 49, 50, 100)]
    [0.0, 1.0, 1.0, 0.0, 1.0]

    References:
        Fu et al. 2020, eq. 13.
    """

    schedule: Literal["cyclical"] = "cyclical"
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 1.0
    cycles: PositiveInt = 4
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5

    def __call__(self, step: int, total: int, per_epoch: int = 1) -> float:
        """Return the value at a step of `total` planned ones."""
        if step >= total:
            return self.end
        # Elapsed share of the cycle, with a single rounding: step % (total / cycles) can miss a cycle's start.
        cycle = (step * self.cycles % total) / total
        share = min(cycle / self.ratio, 1.0)
        return self.start + (self.end - self.start) * share

    @property
    def final(self) -> float:
        """Final value."""
        return self.end

    def settled(self, total: int, per_epoch: int = 1) -> float:
        """Return the first step after which the value is constant: the plateau of the last cycle."""
        return total * (self.cycles - 1 + self.ratio) / self.cycles


def _steps_of(unit: Unit, total: int, per_epoch: int) -> float:
    """Return the number of steps in one unit."""
    return {"steps": 1.0, "epochs": float(per_epoch), "run": float(total)}[unit]


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
