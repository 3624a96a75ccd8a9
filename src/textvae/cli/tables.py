"""The scores of an evaluation as tables that are printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from textvae.cli import output
from textvae.cli.output import DASH, number, plain


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the scores of runs, by name, side by side: a row a score, a column a run, then the unit."""
    found = [measures(scores) for scores in runs.values()]
    rows = [["", *map(plain, runs), ""]] if len(runs) > 1 else []
    for same in zip(*found, strict=True):
        units = [unit for _, value, unit in same if value != DASH]
        if units:
            rows.append([same[0][0], *(value for _, value, _ in same), _units(units)])
    return output.table(rows)


def _units(units: Sequence[str]) -> str:
    """Return the units of several columns as one: what they begin with once, and then what is of each.

    >>> _units(["nats, exact", "nats, exact"]), _units(["nats, exact", "nats, upper"])
    ('nats, exact', 'nats, exact / upper')
    """
    different = list(dict.fromkeys(units))
    if len(different) == 1:
        return different[0]
    parts = [unit.split(", ") for unit in different]
    same = next((place for place, own in enumerate(zip(*parts, strict=False)) if len(set(own)) > 1), 0)
    return ", ".join([*parts[0][:same], " / ".join(", ".join(own[same:]) or "the same" for own in parts)])


def signatures(scores: Mapping[str, Any]) -> list[str]:
    """Return what the scores of an evaluation depend on: the latent scores, MMD, and last the likelihood."""
    found = (scores.get(name) for name in ("latent_signature", "mmd_signature", "signature"))
    return [one for one in found if one]


def numbers_chosen(scores: Mapping[str, Any]) -> list[str]:
    """Return why the importance samples and sentences of an evaluation are those, if they were not asked for."""
    reason = scores.get("iw_chosen")
    return [f"importance samples and sentences: {reason} (else --iw-samples, --iw-sentences)"] if reason else []


def caveats(scores: Mapping[str, Any]) -> list[str]:
    """Return the caveats of the scores of an evaluation."""
    from textvae.metrics.weights import caveat

    found = caveat(scores)
    return [] if found is None else [f"careful: {found}"]


def measures(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Write the scores of an evaluation as rows of a label, a number and its unit; a dash for no number."""
    from textvae.evaluation import schema

    rows = []
    for score in schema.SCORES:
        if score.label:
            shown = score.shown(scores, _number)
            value, detail = (DASH, "") if shown is None else shown
            rows.append((score.label, value, ", ".join(filter(None, (score.unit, detail)))))
    return rows


def _number(value: Any, digits: int | None = None, like: Any = None) -> str:
    """Write a number in two digits after the point, or none for a count, unless they are given."""
    usual = 0 if isinstance(like if like is not None else value, int) else 2
    return number(value, usual if digits is None else digits)
