"""Figures of a comparison as PNG: training curves, and the rate-distortion plane."""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from textvae.comparison.members import Member
from textvae.comparison.rows import Row
from textvae.comparison.tables import shown
from textvae.report.figures import CURVE_POINTS, MARKERS, RUN_COLOURS, WARM_UP
from textvae.report.fonts import families, without_warnings
from textvae.run.records import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c1c1c", "#8a8a8a", "#e2e2e2"
COLOURS = tuple(light for light, _ in RUN_COLOURS)
# Below this the axis of the KL is linear: zero has a place on it.
KL_LINEAR = 0.1
# From so many points on, those far to the right of all others are named and not drawn.
MANY = 20
# Where a point's label may go, in points from it: the first place that is free is taken.
PLACES = tuple((x, y) for y in (0, 12, -12, 24, -24, 36, -36, 48, -48) for x in ((9, -9) if y == 0 else (9, -9, 0)))


@contextmanager
def plain_matplotlib(texts: Iterable[str] = ()) -> Iterator[None]:
    """Matplotlib's defaults whatever the user's are, with fonts for texts; put back after."""
    import matplotlib.style

    fonts = {"font.size": 10.5, "font.family": families(texts)}
    with without_warnings(), matplotlib.style.context(["default", fonts]):
        yield


# Names in one column of a legend.
LEGEND = 18


def curves(members: Sequence[Member], places: Mapping[str, int], names: Sequence[str]) -> "Figure | None":
    """KL and reconstruction over the steps, a line a run in its row's colour: training thin, validation marked.

    `places` says in which row a run is; a run that comes under its fitted prior too is drawn once. None where no
    log has either.
    """
    with plain_matplotlib(map(shown, names)):
        figure, axes_of = panels(("kl", "KL"), ("reconstruction", "reconstruction"))
        last = max(
            (s for m in members for score in ("kl", "reconstruction") for s in _series(m, None, score)[0]),
            default=0,
        )
        if not last:
            return None
        rows = [[member for member in members if places[member.name] == place] for place in range(len(names))]
        folders = [[member.run.folder for member in own] for own in rows]
        rows = [
            own if folders.index(runs) == place else []
            for place, (own, runs) in enumerate(zip(rows, folders, strict=True))
        ]
        for score, axes in axes_of.items():
            _curve(axes, rows, score, last)
        averaged = [
            (place, f"{names[place]} (n = {len(own)})" if len(own) > 1 else names[place])
            for place, own in enumerate(rows)
            if own
        ]
        _legend(figure, averaged)
        return figure


def _curve(axes: "Axes", rows: Sequence[Sequence[Member]], score: str, last: float) -> None:
    """One panel of the curves; of several runs in a row the mean, and a band of a standard deviation."""
    from matplotlib.ticker import MaxNLocator

    held: list[float] = []
    thin = 0.4 if len(rows) <= 4 else 0.2
    for place, members in enumerate(rows):
        look = style(place)
        for split, width, alpha in (("train", 0.9, thin), ("valid", 1.8, 1.0)):
            steps, values, deviations = _averaged([_series(member, split, score) for member in members])
            if not steps:
                continue
            if len(members) > 1 and split == "valid":
                low, high = values - deviations, values + deviations
                axes.fill_between(steps, low, high, color=look["color"], alpha=0.18, linewidth=0)
            marked = {"marker": look["marker"], "markersize": 5} if split == "valid" else {}
            axes.plot(steps, values, color=look["color"], linewidth=width, alpha=alpha, zorder=2 + width, **marked)
            held += [value for step, value in zip(steps, values, strict=True) if step > WARM_UP * last] or values
    if score == "kl":
        axes.set_yscale("symlog", linthresh=KL_LINEAR, linscale=0.4)
        axes.set_ylim(0, 1.25 * max([*held, KL_LINEAR]))
        ticks = [0, *(m * 10.0**p for p in range(-1, 4) for m in (1, 3))]
        axes.set_yticks([tick for tick in ticks if tick <= axes.get_ylim()[1]])
        axes.set_yticks([], minor=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif held:  # first losses are far above all others and may leave the axis
        room = 0.06 * (max(held) - min(held)) or 0.5
        axes.set_ylim(min(held) - room, max(held) + room)
    axes.set_xlim(0, 1.02 * last)
    axes.set_xlabel("step")
    axes.set_ylabel("nats per sentence")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")


def _averaged(series: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Return the steps that all runs have, the mean of their values there, and the standard deviation."""
    by_step = [dict(zip(*one, strict=True)) for one in series]
    steps = [step for step in by_step[0] if all(step in own for own in by_step)] if by_step else []
    values = np.array([[own[step] for step in steps] for own in by_step])
    several = len(by_step) > 1 and steps
    return steps, values.mean(0) if steps else values, values.std(0, ddof=1) if several else np.zeros(len(steps))


def _series(member: Member, split: str | None, score: str) -> tuple[list[float], list[float]]:
    """Return steps and values of a split's records that have the score; long logs as means of stretches."""
    pairs = [
        (float(record["step"]), float(record[score]))
        for record in member.log
        if split in (None, record.get("split")) and is_number(record.get(score)) and is_number(record.get("step"))
    ]
    if split == "train" and len(pairs) > CURVE_POINTS:
        stretches = np.array_split(np.array(pairs), CURVE_POINTS)
        pairs = [(float(step), float(value)) for step, value in (stretch.mean(0) for stretch in stretches)]
    return [step for step, _ in pairs], [value for _, value in pairs]


def rate_distortion(rows: Sequence[Row], curve: Sequence[tuple[float, float]] = ()) -> "Figure | None":
    """Rate on x, distortion on y, a point a run with its row's name; lines of equal bound behind.

    `curve` are points that a line connects. The dashed line goes through the first language model, which has rate
    0: below it the bound is better. A run without a rate is no point of the plane. None where no run has a rate.

    References: Alemi et al. 2018, Figure 1: the plane, and lines of slope -1 for the same evidence lower bound.
    """
    exact = next((row for row in rows if not row.members[0].run.settings.model.latent), None)
    return plane(
        [(row.name, list(_points(row))) for row in rows],
        None if exact is None else exact.values["reconstruction"],
        curve,
    )


def plane(
    named: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    exact: Any,
    curve: Sequence[tuple[float, float]] = (),
) -> "Figure | None":
    """Return the same from names with their points, and a language model's NLL if there is one.

    Of many points those far to the right of all others are named below the axis and not drawn: they would press the
    others into one line.
    """
    widest = _widest([rate for _, points in named for rate, _ in points])
    near = [(name, [point for point in points if point[0] <= widest]) for name, points in named]
    groups = [(place, name, points) for place, (name, points) in enumerate(near) if points]
    points = [point for *_, own in groups for point in own]
    if not any(rate for rate, _ in points):
        return None
    beyond = [f"{name} at {rate:.0f}" for name, points in named for rate, _ in points if rate > widest]
    with plain_matplotlib(shown(name) for name, _ in named):
        figure, axes_of = panels(("plane", ""))
        axes = axes_of["plane"]
        rates, distortions = zip(*points, strict=True)
        wide = max(rates)
        low, high = min(distortions), max(distortions)
        room = 0.12 * (high - low) or 1.0
        axes.set_xlim(-0.04 * wide, 1.15 * wide)
        axes.set_ylim(low - room, high + room)
        _bounds(axes, exact)
        if len(curve) > 1:
            axes.plot(*zip(*curve, strict=True), color=MUTED, linewidth=1.3, zorder=2)
        for place, _, own in groups:
            look = style(place)
            x, y = zip(*own, strict=True)
            axes.scatter(
                x,
                y,
                s=80,
                c=look["color"],
                marker=look["marker"],
                edgecolors="white",
                linewidths=0.7,
                zorder=3,
                clip_on=False,
            )
        _labels(axes, [(name, own) for _, name, own in groups])
        _legend(figure, [(place, name) for place, name, _ in groups], line="none")
        right = f"\nfurther right: {', '.join(beyond)}" if beyond else ""
        axes.set_xlabel(f"rate: KL, nats per sentence{right}")
        axes.set_ylabel("distortion: reconstruction, nats per sentence")
        return figure


def _widest(rates: Sequence[float]) -> float:
    """Return the largest rate that is drawn: of few points any, of many three times what 95 in 100 have at most."""
    if len(rates) < MANY:
        return math.inf
    return 3 * sorted(rates)[math.ceil(0.95 * len(rates)) - 1] or math.inf


def _points(row: Row) -> Iterator[tuple[float, float]]:
    """Rate and distortion of each run that has them; a language model's rate is 0."""
    for member in row.members:
        rate = member.scores.get("kl") if member.run.settings.model.latent else 0.0
        if rate is not None:
            yield float(rate), float(member.scores["reconstruction"])


def _bounds(axes: "Axes", exact: Any) -> None:
    """Lines of equal rate + distortion, with their sum where they leave; the language model's dashed."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    sums = [total for total in MaxNLocator(9).tick_values(low + left, high + right)]
    if exact is not None:
        gap = (sums[1] - sums[0]) / 2 if len(sums) > 1 else 0.0
        sums = [total for total in sums if abs(total - exact) > gap]
    for total in sums:
        axes.plot([left, right], [total - left, total - right], color=GRID, linewidth=1.0, zorder=1)
        if left < total - high < right:
            place, move, across, up = (total - high, high), (0, 4), "center", "bottom"
        elif low < total - right < high:
            place, move, across, up = (right, total - right), (5, 0), "left", "center"
        else:
            continue  # it leaves through the axes, among their own numbers
        look: dict[str, Any] = {"fontsize": 9, "color": MUTED, "ha": across, "va": up}
        axes.annotate(f"{total:g}", place, move, textcoords="offset points", **look)
    told = "grey: the same rate + distortion"
    if exact is not None:
        ends = [exact - left, exact - right]
        axes.plot([left, right], ends, color=INK, linewidth=1.3, linestyle=(0, (5, 3)), zorder=2)
        told += f"; dashed: the language model's NLL, {exact:.2f}"
    axes.grid(False)
    axes.set_title(told, loc="left", fontsize=9.5, color=INK, pad=20)


def _labels(axes: "Axes", groups: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> None:
    """Names beside their points, each in the first place that is free; none where it would seem another's.

    A place is free on no other name and no point, inside the axes, and nearer to a point of its own than to others.
    """
    from matplotlib.transforms import Bbox

    canvas: Any = axes.figure.canvas
    renderer = canvas.get_renderer()
    pixels = [axes.transData.transform(own) for _, own in groups]
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for own in pixels for x, y in own]
    page = axes.get_window_extent(renderer)
    for number, (name, own) in enumerate(groups):
        others = [point for place, points in enumerate(pixels) if place != number for point in points]
        for move in PLACES:
            side = "left" if move[0] > 0 else "right" if move[0] < 0 else "center"
            look: dict[str, Any] = {"ha": side, "va": "center", "fontsize": 10, "color": INK, "zorder": 4}
            at = tuple(np.mean(own, 0))
            text = axes.annotate(shown(name), at, move, textcoords="offset points", parse_math=False, **look)
            box = text.get_window_extent(renderer)
            inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
            nearest = min(_distance(box, point) for point in pixels[number])
            alone = all(_distance(box, point) > 1.5 * nearest for point in others)
            if inside and alone and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _distance(box: Any, point: Any) -> float:
    """Return the distance of a point from a box, in pixels."""
    x, y = point
    return math.hypot(max(box.x0 - x, x - box.x1, 0.0), max(box.y0 - y, y - box.y1, 0.0))


def style(place: int) -> dict[str, Any]:
    """Return the colour and the marker of a row: 35 pairs, neighbours apart in both."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def panels(*wanted: tuple[str, str], across: int = 2) -> tuple["Figure", dict[str, "Axes"]]:
    """Return a figure of panels, so many side by side, by name, with titles and a light grid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, high = min(across, len(wanted)), -(-len(wanted) // across)
    figure = Figure((5.6 * wide + (1.0 if wide == 1 else 0.0), 4.4 * high), dpi=150)
    FigureCanvasAgg(figure)
    edges = {"left": 0.075 if wide > 1 else 0.12, "right": 0.98, "top": 1 - 0.1 / high, "bottom": 0.13 / high}
    figure.subplots_adjust(**edges, wspace=0.2, hspace=0.4)
    found = {}
    for place, (name, title) in enumerate(wanted, 1):
        axes = figure.add_subplot(high, wide, place)
        axes.set_axisbelow(True)
        axes.grid(True, color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(which="both", color=MUTED, labelcolor=INK)
        if title:
            axes.set_title(title, loc="left", fontsize=12, color=INK)
        found[name] = axes
    return figure, found


def _legend(figure: "Figure", rows: Sequence[tuple[int, str]], line: str = "-") -> None:
    """Return the rows' names beside the panels, by their places; without a line for points."""
    from matplotlib.lines import Line2D

    looks: list[dict[str, Any]] = [style(place) for place, _ in rows]
    handles = [Line2D([], [], linewidth=1.8, markersize=6, linestyle=line, **look) for look in looks]
    names = [shown(name) for _, name in rows]
    if line != "none":
        handles.append(Line2D([], [], linewidth=1.0, alpha=0.6, color=MUTED))
        names.append("thin: training")
    numbers = [str(place) for place in range(len(names))]
    columns = -(-len(names) // LEGEND)
    place = {"loc": "upper left", "bbox_to_anchor": (0.99, 0.91), "ncols": columns}
    legend = figure.legend(handles, numbers, frameon=False, **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)  # a name may hold a dollar sign, or begin with an underscore
        text.set_text(name)


def png(figure: "Figure") -> bytes:
    """Return the figure as PNG, everything outside the axes included; the same bytes every time."""
    file = io.BytesIO()
    with plain_matplotlib():
        figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return file.getvalue()
