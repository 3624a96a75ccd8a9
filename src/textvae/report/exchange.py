"""The report's sections on rate against distortion: curves of many KL weights, and looks during training."""

from collections.abc import Sequence

from textvae.objective.terms import TERMS
from textvae.report import figures
from textvae.report.content import RunReport
from textvae.report.pieces import described, figure, key, text


def sections(runs: Sequence[RunReport]) -> list[tuple[str, str]]:
    """Return heading and content of each section that a run has something for."""
    found = (("Rate and distortion", _curves(runs)), ("What a nat of KL was worth", _looks(runs)))
    return [(heading, content) for heading, content in found if content]


def _curves(runs: Sequence[RunReport]) -> str:
    """Return the rate-distortion curves of runs of many KL weights."""
    curves = {place: run.rates for place, run in enumerate(runs) if run.rates}
    if not curves:
        return ""
    ends = [
        f"{runs[place].name}: KL {points[-1]['rate']:.2f} at β = {points[-1]['beta']:g} to "
        f"{points[0]['rate']:.2f} at β = {points[0]['beta']:g}"
        for place, points in curves.items()
    ]
    alt = f"Reconstruction over KL on validation sentences. {'; '.join(ends)}."
    return figure(
        [described(figures.rate_curves(curves, "rate-distortion"), alt)],
        "Each point is the model at another KL weight β, on validation sentences: the further to the right, the "
        f"more of a sentence the code keeps. {text('; '.join(ends))}. --rate of sample and other commands takes "
        "the KL that is wanted.",
        _legend(runs, list(curves)),
    )


def _looks(runs: Sequence[RunReport]) -> str:
    """Return what looks during training found, and the weight that followed them."""
    looks = {place: own for place, run in enumerate(runs) if (own := _looks_of(run))}
    if not looks:
        return ""
    ends = [f"{runs[place].name}: weight {own[-1][2]:.2g}" for place, own in looks.items()]
    alt = f"Exchange rate and KL weight over the steps. At the end {'; '.join(ends)}."
    return figure(
        [described(figures.exchange_rates(looks, "exchange-rate"), alt)],
        "Lines with markers are the nats by which reconstruction and the other losses fell for one more nat of KL, "
        "on validation sentences; dashed lines are the weight of the KL, raised while the code is worth it. "
        f"At the end {text('; '.join(ends))}.",
        _legend(runs, list(looks)),
    )


def _looks_of(run: RunReport) -> list[tuple[int, float | None, float]]:
    """Return step, exchange rate and weight of the rate term at each look of a run."""
    return [
        (one["step"], one.get("exchange_rate"), weight)
        for one in run.log
        if one.get("split") == "look"
        for name, weight in (one.get("weights") or {}).items()
        if name in TERMS and TERMS[name].is_rate
    ]


def _legend(runs: Sequence[RunReport], places: Sequence[int]) -> str:
    """Return the legend of some runs."""
    keys = "".join(f"<li>{key(place)}{text(runs[place].name)}</li>" for place in places)
    return f'<ul class="legend">{keys}</ul>'
