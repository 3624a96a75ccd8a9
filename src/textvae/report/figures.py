"""Figures of runs as SVG that stands inside an HTML page: training curves, posterior means, KL, maps of codes.

They are drawn in placeholder colours that become CSS variables (`THEME`), so that they follow the page's light or
dark theme, and hold no text from models or corpora: names and legends belong to the page. One unit of a figure is
one pixel of the page at its natural size.
"""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from textvae.metrics.latent import DIMENSION_OFF

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Bars of KL per dimension start here, nats: zero has no place on a logarithmic scale.
KL_FLOOR = 1e-4
# An odd number, so that one bin is centred on 0, where collapsed means are.
BINS = 81
# The share of the training during which a curve may leave its axis: first losses are far above all others.
WARM_UP = 0.1
# A training curve has no more points than its axis has pixels.
CURVE_POINTS = 450

# Okabe and Ito's colours, which colour-blind readers tell apart: (light theme, dark theme). Attribute values begin
# with other colours than runs do, so that two runs and three values share none.
RUN_COLOURS = (
    ("#d55e00", "#f0812f"),
    ("#0072b2", "#4ba6e3"),
    ("#009e73", "#1fbf94"),
    ("#cc79a7", "#dd93bb"),
    ("#56b4e9", "#8fd0f7"),
    ("#e69f00", "#f0b429"),
    ("#6b6b6b", "#b5b5b5"),
)
GROUP_COLOURS = tuple(RUN_COLOURS[place] for place in (2, 3, 5, 4, 1, 0))
# With seven colours, five markers make thirty-five pairs.
MARKERS = ("o", "s", "^", "D", "v")
INK, MUTED, GRID, OTHER = "#010101", "#010102", "#010103", "#010104"
# Placeholder colours and the CSS variables that they become.
THEME: dict[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    OTHER: "other",
    **{f"#0102{place:02x}": f"run-{place}" for place in range(len(RUN_COLOURS))},
    **{f"#0103{place:02x}": f"group-{place}" for place in range(len(GROUP_COLOURS))},
}


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """Matplotlib's defaults whatever the user's are, text as text, the same ids in every file; put back after."""
    import matplotlib.style

    with matplotlib.style.context(
        ["default", {"svg.fonttype": "none", "svg.hashsalt": "textvae", "font.size": 12}]
    ):
        yield


def training_curve(logs: Sequence[Sequence[Mapping[str, Any]]], score: str, name: str) -> str | None:
    """Draw a score of every run over the steps: training thin, held-out with markers; None if none has it."""
    axes = _axes(530, 320)
    held, drawn = [0.0] if score == "kl" else [], False
    last = max((record["step"] for log in logs for record in log), default=0)
    for number, log in enumerate(logs):
        for split, width, alpha in (("train", 1.0, 0.55), ("valid", 1.8, 1.0)):
            steps, values = _series(log, split, score)
            if not steps:
                continue
            marker = MARKERS[number % len(MARKERS)] if split == "valid" else ""
            axes.plot(
                steps, values, marker=marker, markersize=6, color=run_colour(number), linewidth=width, alpha=alpha
            )
            drawn = True
            held += [value for step, value in zip(steps, values, strict=True) if step > WARM_UP * last] or values
    if not drawn:
        return None
    low, high = min(held), max(held)
    room = 0.06 * (high - low) or 0.5
    axes.set_ylim(low - room * (score != "kl"), high + room)
    axes.set_xlim(0, last * 1.02)
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.set_xlabel("step")
    axes.set_ylabel("nats per sentence")
    return svg(axes, name)


def rate_curves(curves: Mapping[int, Sequence[Mapping[str, float]]], name: str) -> str:
    """Draw reconstruction over rate for the points of runs of many KL weights, by the number of the run."""
    axes = _axes(530, 320)
    for number, points in curves.items():
        rates, losses = ([point[score] for point in points] for score in ("rate", "reconstruction"))
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(rates, losses, marker=marker, markersize=6, color=run_colour(number), linewidth=1.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("KL, nats per sentence")
    axes.set_ylabel("reconstruction, nats per sentence")
    return svg(axes, name)


def exchange_rates(logs: Mapping[int, Sequence[tuple[int, float | None, float]]], name: str) -> str:
    """Draw step, exchange rate and KL weight of the looks of each run: the rate with markers, the weight dashed."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes = _axes(530, 320)
    for number, looks in logs.items():
        steps, rates, weights = zip(*looks, strict=True)
        marker = MARKERS[number % len(MARKERS)]
        drawn = [rate if (rate or 0) > 0 else math.nan for rate in rates]
        axes.plot(steps, drawn, marker=marker, markersize=5, color=run_colour(number), linewidth=1.0, alpha=0.8)
        axes.step(steps, weights, where="post", color=run_colour(number), linewidth=1.8, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.set_xlabel("step")
    axes.set_ylabel("nats for a nat of KL")
    return svg(axes, name)


def histogram(values: Float[np.ndarray, "..."], limit: float) -> Int[np.ndarray, " bins"]:
    """Count the values in each of `BINS` equal bins of [-limit, limit], which must contain them all."""
    return np.histogram(values, BINS, (-limit, limit))[0].astype(np.int64)


def histogram_limit(arrays: Sequence[Float[np.ndarray, "..."]]) -> float:
    """Return the half-width of an axis that holds all values and three standard deviations of the prior."""
    return max([3.0, *(float(np.abs(array).max(initial=0.0)) for array in arrays)]) * 1.001


def histogram_of_means(
    means: Float[np.ndarray, "n latent"],
    codes: Float[np.ndarray, "n latent"] | None,
    limit: float,
    number: int,
    name: str,
    normal: bool = True,
    priors: Sequence[Float[np.ndarray, "draws latent"]] = (),
) -> str:
    """All posterior means as bars, sampled codes as a line, priors dashed; percent of the values in each bin.

    With `normal` a dashed line is N(0, 1); dotted ones are draws of the other `priors`.

    References: Liu et al. 2019, Figure 2 (c, d, g, h): the distribution of the values of mu.
    """
    axes = _axes(530, 290)
    edges = np.linspace(-limit, limit, BINS + 1)
    axes.stairs(100 * histogram(means, limit) / means.size, edges, fill=True, color=run_colour(number), alpha=0.75)
    if codes is not None:
        axes.stairs(100 * histogram(codes, limit) / codes.size, edges, color=MUTED, linewidth=1.6, baseline=None)
    if normal:
        x = np.linspace(-limit, limit, 301)
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        axes.plot(x, 100 * density * (edges[1] - edges[0]), color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    centres = (edges[1:] + edges[:-1]) / 2
    for draws in priors:
        shares = 100 * histogram(draws, limit) / draws.size
        axes.plot(centres, shares, color=INK, linewidth=2, linestyle=(0, (1, 1.6)))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("value of one dimension")
    axes.set_ylabel("share of the values, %")
    return svg(axes, name)


def kl_bars(nats: Sequence[float], highest: float, number: int, name: str) -> str:
    """Draw the mean KL of each dimension, largest first, logarithmic up to `highest`; below 0.01 in grey."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    axes = _axes(530, 290)
    heights = np.maximum(np.sort(np.asarray(nats, dtype=np.float64))[::-1], KL_FLOOR)
    colours = [run_colour(number) if height >= DIMENSION_OFF else OTHER for height in heights]
    axes.bar(np.arange(1, len(heights) + 1), heights - KL_FLOOR, width=0.78, bottom=KL_FLOOR, color=colours)
    axes.axhline(DIMENSION_OFF, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    axes.set_ylim(KL_FLOOR, max(highest, 10 * DIMENSION_OFF) * 1.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.3, len(heights) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(False, axis="x")
    axes.set_xlabel("dimensions of the code, largest KL first")
    axes.set_ylabel("KL, nats per sentence")
    return svg(axes, name)


def principal_map(means: Float[np.ndarray, "n latent"]) -> tuple[Float[np.ndarray, "n 2"], list[float]]:
    """Return the means on their first two principal directions, and each one's share of the variance.

    They are turned, not moved: the prior's mean stays at (0, 0) and its standard deviation 1. Signs are fixed: the
    largest entry of a direction is positive. Shares are 0 where nothing varies; the second coordinate of a code of
    one dimension is 0.
    """
    exact = means.astype(np.float64)
    _, singular, directions = np.linalg.svd(exact - exact.mean(0), full_matrices=False)
    directions = directions[:2]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    places = np.zeros((len(means), 2))
    places[:, : len(directions)] = exact @ (directions * np.where(largest < 0, -1.0, 1.0)).T
    variance = singular**2
    total = variance.sum()
    shares = (variance[:2] / total).tolist() if total > 0 else []
    return places, [*shares, 0.0, 0.0][:2]


def latent_map(
    places: Float[np.ndarray, "n 2"],
    colours: Sequence[str],
    shares: Sequence[float],
    limit: float,
    name: str,
    normal: bool = True,
) -> str:
    """Points in their colours on a square of half-width `limit`, with mean and deviation of a `normal` prior."""
    from matplotlib.patches import Circle

    # The plot itself, inside the margins, is square: the circle is round.
    axes = _axes(480, 462)
    axes.scatter(places[:, 0], places[:, 1], s=16, c=list(colours), alpha=0.6, linewidths=0, clip_on=False)
    if normal:
        axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=3))
        axes.plot([0], [0], marker="+", markersize=11, markeredgewidth=1.5, color=INK, zorder=3)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_xlabel(f"first principal direction ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({shares[1]:.0%})")
    return svg(axes, name)


def run_colour(number: int) -> str:
    """Return the placeholder colour of a run."""
    return f"#0102{number % len(RUN_COLOURS):02x}"


def group_colour(number: int) -> str:
    """Return the placeholder colour of a value of an attribute; all from the sixth on share one."""
    return f"#0103{number:02x}" if number < len(GROUP_COLOURS) else OTHER


def svg(axes: "Axes", name: str) -> str:
    """Return the figure of `axes` as an SVG element; `name` keeps its ids apart from other figures'."""
    file = io.StringIO()
    axes.figure.savefig(  # type: ignore[union-attr]
        file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    whole = file.getvalue()
    inside = whole[whole.index(">", whole.index("<svg")) + 1 :]
    inside = re.sub(r"<style.*?</style>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<[^>]+>", lambda tag: _themed(tag[0], name), inside)
    width, height = axes.figure.get_size_inches() * 72  # type: ignore[union-attr]
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width: {width:.0f}px"'
    return f'<svg class="plot" aria-hidden="true" {size}>{inside.strip()}'


def _themed(tag: str, name: str) -> str:
    """Return a tag with CSS variables for colours, ids of its own figure, and hundredths of a pixel."""
    tag = re.sub(
        r"#010[123][0-9a-f]{2}", lambda found: f"var(--{THEME[found[0]]})" if found[0] in THEME else found[0], tag
    )
    tag = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", tag)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag)


def _series(log: Sequence[Mapping[str, Any]], split: str, score: str) -> tuple[list[float], list[float]]:
    """Return steps and values of a split's records that have the score; long logs as means of stretches."""
    pairs = [
        (float(record["step"]), float(record[score]))
        for record in log
        if record.get("split") == split and record.get(score) is not None and math.isfinite(record[score])
    ]
    if split == "train" and len(pairs) > CURVE_POINTS:
        stretches = np.array_split(np.array(pairs), CURVE_POINTS)
        pairs = [(float(step), float(value)) for step, value in (stretch.mean(0) for stretch in stretches)]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _axes(width: int, height: int) -> "Axes":
    """Empty axes of that many pixels: a light grid behind, lines on the left and below only."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure((width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    left, right, top, bottom = 66, 10, 10, 48
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.set_axisbelow(True)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(which="both", color=MUTED, labelcolor=INK, length=4, labelsize=12)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, size=12.5)
    axes.yaxis.set_label_coords(-50 / (width - left - right), 0.5)
    return axes
