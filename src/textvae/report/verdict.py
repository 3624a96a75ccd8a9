"""The first sections of a report: a verdict on each run with a picture, and sentences through its codes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from textvae.report.content import RunReport, agreements
from textvae.report.pieces import MISSING, absent, columns, heading, number, percent, run_variable, text
from textvae.run.records import is_number

# Least ends of the scales of bars: a bar that is short on them is of little.
SCALES = {"nats": 1.0, "content": 0.2, "labels": 1.0}


class Meter(NamedTuple):
    """A bar of a verdict's picture, on one of the `SCALES`: `part` of it is dark, `mark` is what chance gives."""

    name: str
    scale: str
    value: float
    told: str
    part: float | None = None
    mark: float | None = None


def verdicts(runs: Sequence[RunReport]) -> str:
    """Return a card for each run: the first sentence of its verdict large, a picture, and the other sentences."""
    meters = [_meters(run) for run in runs]
    ends = dict(SCALES)
    for meter in (one for own in meters for one in own):
        ends[meter.scale] = max(ends[meter.scale], meter.value)
    cards = []
    for place, (run, own) in enumerate(zip(runs, meters, strict=True)):
        first, stop, rest = run.verdict.partition(". ")
        more = f"<p>{text(rest)}</p>" if rest else ""
        cards.append(
            f'<article class="card" style="border-color: var(--{run_variable(place)})">{heading(place, run.name)}'
            f'<p class="first">{text(first + stop.strip())}</p>{_picture(place, own, ends)}{more}</article>'
        )
    return columns(cards) + (_note(runs) if any(meters) else "")


def _note(runs: Sequence[RunReport]) -> str:
    scale = " Bars of one kind are on one scale for all runs." if len(runs) > 1 else ""
    return (
        '<p class="note">Bars: the dark part of the KL is mutual information (MI) of sentence and code; a line '
        f"marks what chance gives.{scale}</p>"
    )


def _meters(run: RunReport) -> list[Meter]:
    """Return the bars of a run: KL and information, the shuffle gap, content kept, and the label known best."""
    found = run.diagnosis
    if found is None:
        return []
    meters = []
    if found.kl is not None:
        mutual = found.mutual_information
        told = f"{_nats(found.kl)} nats" + ("" if mutual is None else f", MI {_nats(max(0.0, mutual))}")
        meters.append(Meter("KL", "nats", max(0.0, found.kl), told, mutual))
    if found.shuffle_gap is not None:
        told = f"{_nats(found.shuffle_gap)} nats"
        meters.append(Meter("lost with another code", "nats", max(0.0, found.shuffle_gap), told))
    if found.content_words_kept is not None:
        kept, chance = found.content_words_kept, found.content_words_kept_by_chance
        meters.append(Meter("content words kept", "content", kept, _beside(kept, chance), mark=chance))
    own = agreements(run)
    name = run.label_name if run.label_name in own else next(iter(own), None)
    if name is not None:
        share, chance = own[name].agreement, own[name].by_chance
        meters.append(Meter(f"nearest codes, same {name}", "labels", share, _beside(share, chance), mark=chance))
    return meters


def _picture(place: int, meters: Sequence[Meter], ends: Mapping[str, float]) -> str:
    """Draw bars on scales that end there."""
    rows = []
    for meter in meters:
        colour, end = f"background: var(--{run_variable(place)})", ends[meter.scale]
        pale = ' class="pale"' if is_number(meter.part) else ""
        bar = f'<i{pale} style="width: {_width(meter.value / end)}; {colour}"></i>'
        if meter.part is not None:
            bar += f'<i style="width: {_width(min(meter.part, meter.value) / end)}; {colour}"></i>'
        if meter.mark is not None:
            bar += f'<i class="mark" style="left: {_width(meter.mark / end)}"></i>'
        rows.append(f'<span>{text(meter.name)}</span><span class="meter">{bar}</span><b>{meter.told}</b>')
    return f'<div class="meters">{"".join(rows)}</div>' if rows else ""


def examples(runs: Sequence[RunReport]) -> str:
    """Return held-out sentences of every run, their reconstructions and the sentences with the nearest codes."""
    lists = []
    for place, run in enumerate(runs):
        found = run.diagnosis.examples if run.diagnosis else []
        items = [
            f"<li><bdi>{text(one.text)}</bdi>"
            f"<small>reconstructed: <bdi>{text(one.reconstruction) or MISSING}</bdi></small>"
            f"<small>nearest code: <bdi>{text(one.neighbour)}</bdi></small></li>"
            for one in found
        ]
        listed = f'<ol class="examples">{"".join(items)}</ol>'
        content = listed if items else absent("It has no codes of sentences.")
        lists.append(f"<div>{heading(place, run.name)}{content}</div>")
    return columns(lists) + (
        '<p class="note">Sentences that the run was not trained on, decoded greedily from their posterior means, '
        "and the other held-out sentence with the nearest code. A code that keeps something brings back words of "
        "its sentence and is near to codes of sentences like it.</p>"
    )


def _nats(value: float) -> str:
    return number(value, 2) or MISSING


def _beside(share: float, chance: float | None) -> str:
    return percent(share) + ("" if chance is None else f" ({percent(chance)} by chance)")


def _width(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"
