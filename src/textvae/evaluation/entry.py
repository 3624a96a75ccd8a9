"""One score of an evaluation: what it is, how it is computed, and how it is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from textvae.evaluation.likelihood import Measured
from textvae.evaluation.values import Estimate, follow
from textvae.run.records import is_number

# An evaluation's document, or a row of a comparison.
Values = Mapping[str, Any]


@runtime_checkable
class Number(Protocol):
    """Writes a number for reading, in the digits given, or else in those that suit it or the number `like`."""

    def __call__(self, value: Any, digits: int | None = None, like: Any = None) -> str:
        """Write a number."""


class Shown(NamedTuple):
    """A score for reading, and what is to be known beside it and its unit."""

    value: str
    detail: str = ""


@runtime_checkable
class Compared(Protocol):
    """A row of a comparison."""

    @property
    def values(self) -> Values:
        """Means over the runs of the row."""

    @property
    def deviations(self) -> Values:
        """Standard deviations over the runs of the row."""


@dataclass(frozen=True, eq=False)
class Score:
    """A score of an evaluation, by its path in the JSON document.

    Attributes:
        name: Key in the document. `parts` are the keys of a score that is a table.
        compute: The value, an `Estimate` if the score has an `error`, Missing, or None for a score that does not
            belong to the run's text or model and is left out. Without a function another command gives it.
        error: Key of its standard error or standard deviation.
        kind: Type of the value, by which a document is checked on reading.
        label, unit, detail, digits, show: How it stands in the table of `evaluate` and in reports; without a label
            it is shown with another score or not at all. `show` replaces the number with its error.
        reading: How to read it, for reports.
        better: The direction that is better, if there is one.
        averaged: Whether `compare` gives its mean over seeds; `described`: whether it gives it as it is.
        column: Head of its column in the table of `compare`; `cell` replaces the number with its deviation, and
            `notes` explain the column, from the rows that have the score.
        section, formula, source, caveats: Its row in `docs/metrics.md`. A score without a formula is named in the
            row above.
    """

    name: str
    compute: Callable[[Measured], Any] | None = None
    label: str = ""
    unit: str = ""
    detail: str = ""
    digits: int | None = None
    reading: str = ""
    better: Literal["lower", "higher"] | None = None
    error: str | None = None
    parts: tuple[str, ...] = ()
    kind: Any = float
    averaged: bool = False
    described: bool = False
    column: str = ""
    section: Literal["likelihood", "code"] = "code"
    formula: str = ""
    source: str = "–"
    caveats: str = "–"
    show: Callable[[Values, Number], Shown | None] | None = None
    cell: Callable[[Compared, Sequence[Compared], bool], str] | None = None
    notes: Callable[[Sequence[Values]], list[str]] | None = None

    @property
    def names(self) -> list[str]:
        """Keys of the document that this score gives."""
        return [self.name, *([self.error] if self.error else [])]

    @property
    def paths(self) -> list[str]:
        """Paths of its numbers: those of its parts, or its name."""
        return [f"{self.name}.{part}" for part in self.parts] or [self.name]

    def measure(self, measured: Measured) -> dict[str, Any]:
        """Compute the score, and its error, by their keys; nothing if it is to be left out."""
        value = None if self.compute is None else self.compute(measured)
        if value is None:
            return {}
        if isinstance(value, Estimate):
            return dict(zip(self.names, (value.value, value.error), strict=True))
        return dict.fromkeys(self.names, value)

    def shown(self, scores: Values, number: Number) -> Shown | None:
        """Write the score of a document for reading; None if it has none."""
        if self.show is not None:
            return self.show(scores, number)
        value = with_error(scores, self.name, self.error, number, self.digits)
        return None if value is None else Shown(value, self.detail)


def with_error(
    scores: Values, name: str, error: str | None, number: Number, digits: int | None = None
) -> str | None:
    """Write a number with its error behind ±; None if it is missing."""
    value, spread = scores.get(name), scores.get(error) if error else None
    if not is_number(value):
        return None
    behind = f" ± {number(spread, digits, value)}" if is_number(spread) else ""
    return f"{number(value, digits)}{behind}"


def of(path: str) -> Callable[[Measured], Any]:
    """Return the function that follows a path of attributes, as `values.follow`."""
    return lambda measured: follow(measured, path)
