"""The report of one or more runs: a single HTML file that needs nothing else, to read, print and teach with."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from textvae.errors import RequestError
from textvae.files import write_text
from textvae.metrics.latent import DIMENSION_OFF
from textvae.report import exchange, figures
from textvae.report.content import RunReport, agreements, drawable, language_model, per_dimension, without_codes
from textvae.report.pieces import (
    MISSING,
    STYLE,
    absent,
    columns,
    described,
    figure,
    heading,
    key,
    percent,
    run_variable,
    text,
    theme,
)
from textvae.report.suite import has_suite, suite
from textvae.report.table import table
from textvae.report.verdict import examples, verdicts
from textvae.run.records import is_number
from textvae.text.store import spaced

__all__ = ["RunReport", "document", "write_report"]

# Points that one map draws, and all maps together: the file stays below 2 MB.
MAP_POINTS, ALL_POINTS = 2000, 8000


def write_report(path: Path, title: str, runs: Sequence[RunReport]) -> None:
    """Write one HTML file that compares runs: scores, training, codes, samples. The same runs give the same bytes.

    Raises:
        RequestError: when there is no run, or a run's codes or labels are not one a sentence.
        WorkError: when the file cannot be written; the one that was there stays.
    """
    if not runs:
        raise RequestError("report: no runs given; it needs at least one")
    for run in runs:
        for name, values in (("codes", run.codes), ("labels", run.labels)):
            if run.means is not None and values is not None and len(values) != len(run.means):
                raise RequestError(
                    f"report: {run.name}: {len(values)} {name} for {len(run.means)} posterior means; "
                    "give one for each sentence"
                )
    with figures.plain_matplotlib():
        page = document(title, runs)
    write_text(path, page)


def document(title: str, runs: Sequence[RunReport]) -> str:
    """Return the report as HTML."""
    sections = (
        ("Verdict", verdicts(runs)),
        *([("Held-out sentences", examples(runs))] if any(run.diagnosis for run in runs) else []),
        ("Scores", table([run.name for run in runs], [run.evaluation for run in runs])),
        ("Training", _training(runs)),
        *exchange.sections(runs),
        ("Posterior means", _histograms(runs)),
        ("KL per dimension", _dimensions(runs)),
        ("Map of the latent space", _maps(runs)),
        ("Samples from the prior", _samples(runs)),
        ("A path through the latent space", _paths(runs)),
        *([("All evaluations", _suites(runs))] if any(has_suite(run.evaluation) for run in runs) else []),
    )
    body = "\n".join(f"<section>\n<h2>{heading}</h2>\n{content}\n</section>" for heading, content in sections)
    # The policy forbids scripts and everything from elsewhere, should an escape ever be forgotten.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{theme()}{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{text(title)}</h1>
<p class="lead">{_lead(runs)}</p>
</header>
{body}
{_footer(runs)}
</main>
</body>
</html>
"""


def _lead(runs: Sequence[RunReport]) -> str:
    """Return a sentence on what the report is; a warning where the scores cannot be compared."""
    splits = {(run.evaluation.get("split"), run.evaluation.get("sentences")) for run in runs}
    what = "One model of text" if len(runs) == 1 else f"{len(runs)} models of text compared"
    split, sentences = next(iter(splits))
    if len(splits) == 1 and split and is_number(sentences):
        what += f" on the {sentences:,} sentences of the {text(split)} split"
    lead = f"{what}: how well they are predicted, what the code says of them, and what is written from it."
    if len(splits) > 1:
        lead += " <strong>The runs were scored on different sentences: do not compare their scores.</strong>"
    return lead


def _training(runs: Sequence[RunReport]) -> str:
    """Curves of reconstruction and KL over the steps, all runs on the same axes."""
    names = ", ".join(run.name for run in runs)
    curves = []
    for score, title in (("reconstruction", "Reconstruction"), ("kl", "KL")):
        drawn = figures.training_curve([run.log for run in runs], score, f"curve-{score}")
        alt = f"Training curves: {title} in nats per sentence over the steps, of {names}."
        reason = "No run has logged it." if score != "kl" else "No run has a code, so none has a KL."
        content = described(drawn, alt) if drawn else absent(reason)
        curves.append(f"<div><h3>{title}</h3>{content}</div>")
    keys = "".join(f"<li>{key(place)}{text(run.name)}</li>" for place, run in enumerate(runs))
    without = [text(run.name) for run in runs if language_model(run)]
    note = f" No KL: {', '.join(without)} (language model, no code)." if without else ""
    return figure(
        curves,
        "Lines with markers are held-out sentences without dropout, thin lines training with it (its first steps "
        f"may lie off the axis): a KL that stays at 0 while reconstruction falls is a posterior collapse.{note}",
        f'<ul class="legend">{keys}</ul>',
    )


def _histograms(runs: Sequence[RunReport]) -> str:
    """Return the distribution of all posterior means of each run, on the same scale of values."""
    every = [(run.means, run.codes, *run.priors.values()) for run in runs]
    arrays = [array for own in every for array in own if array is not None and drawable(array)]
    limit = figures.histogram_limit(arrays)
    bars = _swatch([place for place, run in enumerate(runs) if not without_codes(run)])

    def draw(place: int, run: RunReport) -> tuple[str, str]:
        assert run.means is not None
        near = np.mean(np.abs(run.means) < 0.1)
        fact = f"{percent(float(near))} of the {run.means.size:,} means lie within ±0.1."
        priors = {name: array for name, array in run.priors.items() if drawable(array)}
        codes = run.codes if drawable(run.codes) else None
        drawn = figures.histogram_of_means(
            run.means, codes, limit, place, f"means-{place}", run.normal, list(priors.values())
        )
        return fact, described(drawn, f"Histogram of the posterior means of {run.name}. {fact}")

    drawn, left_out = _run_panels(runs, without_codes, draw)
    normal = '<li><i class="line dashed"></i>N(0, 1), the prior</li>' if any(run.normal for run in runs) else ""
    names = " / ".join(dict.fromkeys(text(name) for run in runs for name in run.priors))
    others = f'<li><i class="line dotted"></i>{names}</li>' if names else ""
    return figure(
        drawn,
        "Means of all sentences and dimensions, on one scale of values for all runs: they lie apart where codes "
        "carry something and crowd at 0 after a collapse. It is sampled codes, all together the aggregated "
        "posterior, that should look like the prior, not means; after a collapse codes do too, being nothing but "
        "noise. Where they do not, samples come from codes that the decoder has not been trained on.",
        f'<ul class="legend"><li>{bars}posterior means μ</li>'
        f'<li><i class="line"></i>sampled codes z</li>{normal}{others}</ul>',
        left_out,
    )


def _dimensions(runs: Sequence[RunReport]) -> str:
    """KL of each dimension of each run, on the same logarithmic scale."""
    highest = max((nats for run in runs for nats in per_dimension(run)), default=1.0)

    def missing(run: RunReport) -> str | None:
        return None if per_dimension(run) else without_codes(run) or "Not measured: see evaluate."

    def draw(place: int, run: RunReport) -> tuple[str, str]:
        nats = per_dimension(run)
        above = sum(value >= DIMENSION_OFF for value in nats)
        fact = f"{above} of {len(nats)} dimensions reach {DIMENSION_OFF} nats"
        counts = run.evaluation.get("active_units") or {}
        active = counts.get("0.01")
        fact += "." if not is_number(active) else f"; {active} active units (variance of the means above 0.01)."
        drawn = figures.kl_bars(nats, highest, place, f"kl-{place}")
        return fact, described(drawn, f"Bars: the KL of each dimension of {run.name}. {fact}")

    drawn, left_out = _run_panels(runs, missing, draw)
    return figure(
        drawn,
        f"Mean KL of each dimension, on one logarithmic scale for all runs that starts at {figures.KL_FLOOR} nats: "
        f"dimensions below the dashed line at {DIMENSION_OFF} nats, in grey, carry nothing.",
        left_out=left_out,
    )


def _maps(runs: Sequence[RunReport]) -> str:
    """Posterior means on their two principal directions, coloured by the attribute, one scale for all runs."""
    mapped = {
        place: figures.principal_map(run.means)
        for place, run in enumerate(runs)
        if run.means is not None and drawable(run.means)
    }
    limit = max([1.1, *(float(np.abs(places).max()) for places, _ in mapped.values())]) * 1.04
    most = min(MAP_POINTS, ALL_POINTS // max(1, len(mapped)))
    colours = _groups([run for place, run in enumerate(runs) if place in mapped])

    def draw(place: int, run: RunReport) -> tuple[str, str]:
        assert run.means is not None
        places, shares = mapped[place]
        shown = spaced(len(places), most)
        points = [figures.run_colour(place) if run.labels is None else colours[run.labels[row]] for row in shown]
        variance = float(run.means.astype(np.float64).var(0).sum())
        fact = (
            f"The two directions hold {sum(shares):.0%} of the variance of the means, which is {variance:.2g} over "
            f"{run.means.shape[1]} dimensions."
        )
        if len(shown) < len(places):
            fact += f" Drawn: {len(shown):,} of {len(places):,} sentences."
        agreement = agreements(run).get(run.label_name or "")
        if agreement is not None:
            fact += (
                f" {percent(agreement.agreement)} of the nearest codes have the same {text(run.label_name)} "
                f"({percent(agreement.by_chance)} by chance)."
            )
        drawn = figures.latent_map(places[shown], points, shares, limit, f"map-{place}", run.normal)
        return fact, described(
            drawn, f"Map of the posterior means of {run.name}, {run.label_name or 'unlabelled'}. {fact}"
        )

    drawn, left_out = _run_panels(runs, without_codes, draw)
    return figure(
        drawn,
        "A point is a sentence, at its posterior mean along the two directions in which the run's means vary most "
        "(PCA), on the same scale for all runs: colours that keep apart show that the code knows the attribute, a "
        "single small cloud shows a collapse. Of several labels it is the one that the nearest codes share most. "
        "Cross and circle are mean and standard deviation of a standard normal prior.",
        _group_legend(runs, colours),
        left_out,
    )


def _groups(runs: Sequence[RunReport]) -> dict[str, str]:
    """Return a colour for each value of the attribute, commonest first; the rarer ones share one."""
    counts = Counter(label for run in runs for label in run.labels or ())
    order = sorted(counts, key=lambda label: (-counts[label], label))
    return {label: figures.group_colour(place) for place, label in enumerate(order)}


def _group_legend(runs: Sequence[RunReport], colours: Mapping[str, str]) -> str:
    """Return the attribute and the colours of its values."""
    if not colours:
        return ""
    named = [(label, figures.THEME[colour]) for label, colour in colours.items()]
    shown = [(text(label), variable) for label, variable in named if variable != "other"]
    others = len(named) - len(shown)
    shown += [(f"{others} other values", "other")] if others else []
    title = " / ".join(sorted({run.label_name for run in runs if run.label_name})) or "label"
    items = "".join(f'<li><i class="dot" style="background: var(--{v})"></i>{label}</li>' for label, v in shown)
    return f'<ul class="legend"><li><strong>{text(title)}</strong></li>{items}</ul>'


def _samples(runs: Sequence[RunReport]) -> str:
    """Sentences from the prior, of every run."""
    lists = [_sentences(place, run, run.samples, "No samples were drawn.") for place, run in enumerate(runs)]
    return columns(lists) + '<p class="note">Sentences of the model\'s own; grey ones stand higher up already.</p>'


def _paths(runs: Sequence[RunReport]) -> str:
    """Sentences along a path between two codes, of every run."""
    lists = [
        _sentences(place, run, run.interpolation, without_codes(run) or "No path was decoded.")
        for place, run in enumerate(runs)
    ]
    return columns(lists) + (
        '<p class="note">Sentences at equal steps from one code to another; grey ones stand higher up already. '
        "Along a good path every one is a sentence, and the meaning changes little by little.</p>"
    )


def _suites(runs: Sequence[RunReport]) -> str:
    """Return the tables of `evaluate --all`, of every run that has them."""
    found = [(place, run) for place, run in enumerate(runs) if has_suite(run.evaluation)]
    return "\n".join(
        (heading(place, run.name) if len(runs) > 1 else "") + suite(run.evaluation) for place, run in found
    )


def _sentences(place: int, run: RunReport, sentences: Sequence[str], reason: str) -> str:
    """Return a numbered list of sentences, repeated ones in grey."""
    items = [
        f"<li{' class=again' if sentence in sentences[:row] else ''}><bdi>{text(sentence) or MISSING}</bdi></li>"
        for row, sentence in enumerate(sentences)
    ]
    content = f"<ol>{''.join(items)}</ol>" if items else absent(reason)
    return f"<div>{heading(place, run.name)}{content}</div>"


def _footer(runs: Sequence[RunReport]) -> str:
    """Return what the scores depend on."""
    lines = []
    for run in runs:
        known = [run.evaluation[key] for key in ("signature", "hardware") if run.evaluation.get(key)]
        shown = "<br>".join(f"<code>{text(value)}</code>" for value in known)
        lines.append(f"<dt>{text(run.name)}</dt><dd>{shown or MISSING}</dd>")
    return f"<footer><p>What the scores depend on</p><dl>{''.join(lines)}</dl></footer>"


def _run_panels(
    runs: Sequence[RunReport],
    missing: Callable[[RunReport], str | None],
    draw: Callable[[int, RunReport], tuple[str, str]],
) -> tuple[list[str], list[str]]:
    """Return a fact and its figure for each run that has one; and for the others the reason why they have none."""
    drawn, left_out = [], []
    for place, run in enumerate(runs):
        reason = missing(run)
        if reason:
            left_out.append(absent(f"<strong>{text(run.name)}</strong>: {reason}"))
        else:
            fact, content = draw(place, run)
            drawn.append(f'<div>{heading(place, run.name)}<p class="fact">{fact}</p>{content}</div>')
    return drawn, left_out


def _swatch(places: Sequence[int]) -> str:
    """Return a legend's box in the colours of several runs."""
    part = 100 / max(1, len(places))
    stops = [f"var(--{run_variable(place)}) {n * part:g}% {(n + 1) * part:g}%" for n, place in enumerate(places)]
    return f'<i class="bar" style="background: linear-gradient(90deg, {", ".join(stops)})"></i>' if stops else ""
