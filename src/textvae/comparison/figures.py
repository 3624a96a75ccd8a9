"""Figures of a comparison as PNG: training curves, and the rate-distortion plane."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from textvae.comparison.members import Member, is_number
from textvae.comparison.rows import Row
from textvae.comparison.tables import shown
from textvae.report.figures import CURVE_POINTS, MARKERS, RUN_COLOURS, WARM_UP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK, MUTED, GRID = "#1c1c1c", "#8a8a8a", "#e2e2e2"
COLOURS = tuple(light for light, _ in RUN_COLOURS)
# Below this the axis of the KL is linear: zero has a place on it.
KL_LINEAR = 0.1
# Where a point's label may go, in points from it: the first place that is free is taken.
PLACES = tuple((x, y) for y in (0, 12, -12, 24, -24, 36, -36, 48, -48) for x in ((9, -9) if y == 0 else (9, -9, 0)))


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """Matplotlib's defaults whatever the user's are; put back after."""
    import matplotlib.style

    with matplotlib.style.context(["default", {"font.size": 10.5}]):
        yield


def curves(members: Sequence[Member], places: Mapping[str, int], names: Sequence[str]) -> bytes | None:
    """KL and reconstruction over the steps, a line a run in its row's colour: training thin, validation marked.

    `places` says in which row a run is. None where no log has either.
    """
    with plain_matplotlib():
        figure, panels = _panels(("kl", "KL"), ("reconstruction", "reconstruction"))
        last = max(
            (s for m in members for score in ("kl", "reconstruction") for s in _series(m, None, score)[0]),
            default=0,
        )
        if not last:
            return None
        for score, axes in panels.items():
            _curve(axes, members, places, score, last)
        _legend(figure, names)
        return _png(figure)


def _curve(axes: "Axes", members: Sequence[Member], places: Mapping[str, int], score: str, last: float) -> None:
    """One panel of the curves."""
    held: list[float] = []
    for member in members:
        look = style(places[member.name])
        for split, width, alpha in (("train", 1.0, 0.45), ("valid", 1.8, 1.0)):
            steps, values = _series(member, split, score)
            if not steps:
                continue
            marked = {"marker": look["marker"], "markersize": 5} if split == "valid" else {}
            axes.plot(steps, values, color=look["color"], linewidth=width, alpha=alpha, **marked)
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


def _series(member: Member, split: str | None, score: str) -> tuple[list[float], list[float]]:
    """Steps and values of a split's records that have the score (None: any); long logs as means of stretches."""
    pairs = [
        (float(record["step"]), float(record[score]))
        for record in member.log
        if split in (None, record.get("split")) and is_number(record.get(score)) and is_number(record.get("step"))
    ]
    if split == "train" and len(pairs) > CURVE_POINTS:
        stretches = np.array_split(np.array(pairs), CURVE_POINTS)
        pairs = [(float(step), float(value)) for step, value in (stretch.mean(0) for stretch in stretches)]
    return [step for step, _ in pairs], [value for _, value in pairs]


def rate_distortion(rows: Sequence[Row]) -> bytes | None:
    """Rate on x, distortion on y, a point a run, its row's name beside it; lines of equal bound behind.

    The bold line goes through the first language model, which has rate 0: below it the bound is better. A run
    without a rate is no point of the plane. None where no run has a rate.

    Source: Alemi et al. 2018, Figure 1: the plane, and lines of slope -1 for the same evidence lower bound.
    """
    groups = [(place, row, list(_points(row))) for place, row in enumerate(rows)]
    groups = [(place, row, points) for place, row, points in groups if points]
    points = [point for *_, own in groups for point in own]
    if not any(rate for rate, _ in points):
        return None
    with plain_matplotlib():
        figure, panels = _panels(("plane", ""))
        axes = panels["plane"]
        rates, distortions = zip(*points, strict=True)
        wide = max(rates)
        low, high = min(distortions), max(distortions)
        room = 0.12 * (high - low) or 1.0
        axes.set_xlim(-0.04 * wide, 1.22 * wide)
        axes.set_ylim(low - room, high + room)
        exact = next((row for row in rows if not row.members[0].run.settings.model.latent), None)
        _bounds(axes, None if exact is None else exact.values["reconstruction"])
        for place, _, own in groups:
            look = style(place)
            x, y = zip(*own, strict=True)
            axes.scatter(x, y, 62, look["color"], look["marker"], zorder=3, clip_on=False)
        _labels(axes, [(row.name, *np.mean(own, 0)) for _, row, own in groups], points)
        axes.set_xlabel("rate: KL, nats per sentence")
        axes.set_ylabel("distortion: reconstruction, nats per sentence")
        return _png(figure)


def _points(row: Row) -> Iterator[tuple[float, float]]:
    """Rate and distortion of each run that has them; a language model's rate is 0."""
    for member in row.members:
        rate = member.scores.get("kl") if member.run.settings.model.latent else 0.0
        if rate is not None:
            yield float(rate), float(member.scores["reconstruction"])


def _bounds(axes: "Axes", exact: Any) -> None:
    """Lines of equal rate + distortion, with their sum at the right; the language model's bold."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    sums = [total for total in MaxNLocator(9).tick_values(low + left, high + right)]
    if exact is not None:
        gap = (sums[1] - sums[0]) / 2 if len(sums) > 1 else 0.0
        sums = [total for total in sums if abs(total - exact) > gap]
    for total in sums:
        axes.plot([left, right], [total - left, total - right], color=GRID, linewidth=1.0, zorder=1)
        _at_edge(axes, total, f"{total:g}", MUTED)
    if exact is not None:
        axes.plot(
            [left, right], [exact - left, exact - right], color=INK, linewidth=1.3, linestyle=(0, (5, 3)), zorder=2
        )
        _at_edge(axes, exact, f"{exact:.1f}, language model", INK)
    axes.grid(False)
    axes.set_title("rate + distortion =", loc="right", fontsize=9, color=MUTED, pad=6)


def _at_edge(axes: "Axes", total: float, text: str, colour: str) -> None:
    """A line's label outside the axes, where it leaves them on the right; none where it leaves elsewhere."""
    right, (low, high) = axes.get_xlim()[1], axes.get_ylim()
    if low <= total - right <= high:
        axes.annotate(
            text, (right, total - right), (5, 0), textcoords="offset points", va="center", fontsize=9, color=colour
        )


def _labels(
    axes: "Axes", labels: Sequence[tuple[str, float, float]], points: Sequence[tuple[float, float]]
) -> None:
    """Names beside their points, each in the first place where it lies on no other name and no point."""
    from matplotlib.transforms import Bbox

    canvas: Any = axes.figure.canvas
    renderer = canvas.get_renderer()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(points)]
    page = axes.get_window_extent(renderer)
    for name, x, y in sorted(labels, key=lambda label: -label[2]):
        best: tuple[float, Annotation, Bbox] | None = None
        for move in PLACES:
            side = "left" if move[0] > 0 else "right" if move[0] < 0 else "center"
            text = axes.annotate(
                shown(name), (x, y), move, textcoords="offset points", ha=side, va="center", fontsize=10, color=INK,
                parse_math=False, zorder=4,
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            out = not (page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1)
            cost = sum(_overlap(box, other) for other in taken) + 1e4 * out
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box)
            else:
                text.remove()
            if best[0] == 0:
                break
        assert best is not None
        taken.append(best[2])


def _overlap(one: Any, other: Any) -> float:
    """The area that two boxes share, in pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def style(place: int) -> dict[str, Any]:
    """The colour and the marker of a row: 35 pairs, neighbours apart in both."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def _panels(*wanted: tuple[str, str]) -> tuple["Figure", dict[str, "Axes"]]:
    """A figure of panels side by side, by name, with titles: a light grid, lines on the left and below only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((5.6 * len(wanted) + (1.0 if len(wanted) == 1 else 0.0), 4.4), dpi=150)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.075 if len(wanted) > 1 else 0.12, right=0.98, top=0.9, bottom=0.13, wspace=0.2)
    found = {}
    for place, (name, title) in enumerate(wanted, 1):
        axes = figure.add_subplot(1, len(wanted), place)
        axes.set_axisbelow(True)
        axes.grid(True, color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(which="both", color=MUTED, labelcolor=INK)
        if title:
            axes.set_title(title, loc="left", fontsize=12, color=INK)
            axes.set_xlabel("step")
            axes.set_ylabel("nats per sentence")
            axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        found[name] = axes
    return figure, found


def _legend(figure: "Figure", names: Sequence[str]) -> None:
    """Names beside the panels."""
    from matplotlib.lines import Line2D

    looks = [style(place) for place in range(len(names))]
    handles = [Line2D([], [], linewidth=1.8, markersize=5, **look) for look in looks]
    handles.append(Line2D([], [], linewidth=1.0, alpha=0.6, color=MUTED))
    legend = figure.legend(
        handles,
        [f"{place}" for place in range(len(handles))],
        loc="upper left",
        bbox_to_anchor=(0.99, 0.91),
        frameon=False,
    )
    for text, name in zip(legend.get_texts(), [*map(shown, names), "thin: training"], strict=True):
        text.set_parse_math(False)  # a name may hold a dollar sign, or begin with an underscore
        text.set_text(name)


def _png(figure: "Figure") -> bytes:
    """The figure as PNG, everything outside the axes included; the same bytes every time."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return file.getvalue()
