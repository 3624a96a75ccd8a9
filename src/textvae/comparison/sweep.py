"""Runs that one number of the settings tells apart: their scores over that number."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from textvae.comparison.figures import INK, panels, plain_matplotlib, style
from textvae.comparison.members import Member
from textvae.comparison.methods import differences
from textvae.comparison.rows import Row, value_of
from textvae.comparison.tables import shown
from textvae.evaluation import schema
from textvae.run.records import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Scores of a panel each, by the names of the schema, unless others were asked for.
PANELS = (("bound_iw_sentences", "nll_iw"), ("kl", "mutual_information"), ("reconstruction",), ("shuffle_gap",))
# Values that are all marked on the axis.
MOST_TICKS = 8
# Most panels of scores that were asked for by name.
MOST = 6
# The number has a logarithmic axis if its largest value is at least this many times its smallest.
WIDE = 30


@dataclass(frozen=True)
class Sweep:
    """The one number in which runs differ: its path in the settings, and its value for each run by name."""

    path: str
    values: Mapping[str, int | float]


def sweep_of(members: Sequence[Member]) -> Sweep | None:
    """Return the number in which the runs with a code differ, seeds aside; None unless it is exactly one.

    Of runs under their own prior and under a fitted one, those under their own.
    """
    own = [member for member in members if member.run.fitted is None] or members
    coded = [member for member in own if member.run.settings.model.latent]
    apart = {path: values for path, values in differences(coded).items() if path != "train.seed"}
    if len(apart) != 1:
        return None
    ((path, values),) = apart.items()
    return Sweep(path, values) if all(map(is_number, values.values())) else None


class Point(NamedTuple):
    """A score at one value of the number: its mean over runs, and their number.

    The error is the standard deviation over the runs, of one run the error of its evaluation, None without one.
    """

    value: float
    mean: float
    error: float | None
    runs: int


def points(sweep: Sweep, rows: Sequence[Row], name: str) -> list[Point]:
    """Return a score, by its path in the evaluations, at each value of the number that all runs of have it."""
    error_of = {score.name: score.error for score in schema.SCORES}.get(name)
    found = []
    for value in sorted(set(sweep.values.values())):
        members = [one for row in rows for one in row.members if sweep.values.get(one.name) == value]
        numbers = [number for one in members if (number := value_of(one, name)) is not None]
        if not numbers or len(numbers) < len(members):
            continue
        alone = value_of(members[0], error_of) if error_of else None
        error = statistics.stdev(numbers) if len(numbers) > 1 else alone
        found.append(Point(value, statistics.fmean(numbers), error, len(numbers)))
    return found


def curve(sweep: Sweep, rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Return mean rate and distortion at each value of the number, in its order."""
    rates, distortions = points(sweep, rows, "kl"), points(sweep, rows, "reconstruction")
    distortion = {point.value: point.mean for point in distortions}
    return [(rate.mean, distortion[rate.value]) for rate in rates if rate.value in distortion]


def draw(sweep: Sweep, rows: Sequence[Row]) -> "Figure | None":
    """Draw scores over the number, a panel each or two that belong together; None if none has two points.

    The dashed line is the NLL of the first language model.
    """
    chosen = [(name,) for name in list(rows[0].chosen)[:MOST]] or PANELS
    found = [[(name, points(sweep, rows, name)) for name in names] for names in chosen]
    drawn = [own for own in ([one for one in panel if len(one[1]) > 1] for panel in found) if own]
    if not drawn:
        return None
    exact = next((row.values["nll"] for row in rows if not row.members[0].run.settings.model.latent), None)
    with plain_matplotlib():
        titles = [" and ".join(label(name) for name, _ in panel) for panel in drawn]
        figure, axes_of = panels(*((str(place), title) for place, title in enumerate(titles)), across=2)
        for panel, axes in zip(drawn, axes_of.values(), strict=True):
            _panel(axes, sweep, panel, exact if any(name == "nll_iw" for name, _ in panel) else None)
        return figure


def _panel(axes: "Axes", sweep: Sweep, panel: Sequence[tuple[str, list[Point]]], exact: Any) -> None:
    """Draw the scores of one panel, with a band where runs differ by seed and bars where each has an error."""
    for place, (name, own) in enumerate(panel):
        look = style(place)
        x, y = [point.value for point in own], [point.mean for point in own]
        errors = [point.error or 0.0 for point in own]
        axes.plot(x, y, markersize=5, linewidth=1.8, label=label(name), **look)
        low, high = ([mean + sign * error for mean, error in zip(y, errors, strict=True)] for sign in (-1, 1))
        if any(point.runs > 1 for point in own):
            axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
        else:
            axes.vlines(x, low, high, color=look["color"], linewidth=1.2)
    if exact is not None:
        axes.axhline(exact, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label="language model")
    values = sorted(set(sweep.values.values()))
    if values[0] > 0 and values[-1] >= WIDE * values[0]:
        axes.set_xscale("log")
    if len(values) <= MOST_TICKS:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
    axes.set_xlabel(shown(sweep.path) + _spread({point.runs for _, own in panel for point in own}))
    axes.set_ylabel(next((score.unit for score in schema.SCORES if score.name == panel[0][0]), ""))
    if len(panel) > 1 or exact is not None:
        axes.legend(frameon=False, fontsize=9.5)


def _spread(runs: set[int]) -> str:
    """Return what bands and bars are, for so many runs at each value."""
    if runs == {1}:
        return "\none run at each value; bars: standard error"
    n = f"{min(runs)}" if len(runs) == 1 else f"{min(runs)} to {max(runs)}"
    return f"\nmean ± standard deviation over n = {n} seeds"


def label(name: str) -> str:
    """Return the label of a score, or the name of one that `evaluate` does not know."""
    score = next((one for one in schema.SCORES if one.name == name), None)
    return shown(name) if score is None else score.label or score.name
