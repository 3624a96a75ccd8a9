"""Tables of likelihood and samples under own and fitted priors, from what `fitted_priors.py` has measured."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

PRIORS = ("own", "fitted")
# Mismatch below which no share of it is shown, nats per sentence.
LEAST_MISMATCH = 0.1
DASH = "–"
SIGNS = {"monte-carlo": "≈ ", "upper": "≤ "}


def likelihood_table(own: Mapping[str, Any]) -> str:
    """Return the table of likelihoods of a set, in nats per sentence: a line for each run, by falling KL."""
    head = ("run", "KL", "MI", "mismatch", "regained", "bound", "change", "NLL", "change", "prior")
    return table(head, [likelihood_row(name, run) for name, run in by_kl(own["runs"])])


def by_kl(runs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return runs in the order of their KL, the highest first; those without one at the end."""
    return sorted(runs.items(), key=lambda run: (-((run[1].get("own") or {}).get("kl") or 0.0), run[0]))


def likelihood_row(name: str, run: Mapping[str, Any]) -> list[str]:
    """Return the cells of a run; an MI near its ceiling is a lower bound."""
    from textvae.metrics.information import ROOM

    before, after = (run.get(prior) or {} for prior in PRIORS)
    mutual, mismatch, gain = (run.get(name) for name in ("mutual_information", "mismatch", "bound_change"))
    some = mismatch is not None and gain is not None and mismatch >= LEAST_MISMATCH
    low = mutual is not None and mutual > run["mutual_information_ceiling"] - ROOM
    least, most = ("≥ ", "≤ ") if low else ("", "")
    fit = run["fit"]
    kept = f"{fit['kind']}, {fit['components']}" if run["reason"] is None else f"none: {run['reason']}"
    return [
        name,
        SIGNS.get(before.get("rate_kind"), "") + number(before.get("kl")),
        least + number(mutual),
        most + number(mismatch),
        least + percent(-gain / mismatch) if some else DASH,
        pair(before.get("bound"), after.get("bound")),
        changed(run, "bound"),
        pair(before.get("nll"), after.get("nll")),
        changed(run, "nll"),
        kept,
    ]


def samples_table(own: Mapping[str, Any]) -> str:
    """Return the table of samples of a set: a line for each run with a fitted prior."""
    runs = [(name, run) for name, run in by_kl(own["runs"]) if run.get("fitted")]
    of_grammar = any("inside" in run["own"]["samples"]["greedy"] for _, run in runs)
    columns: list[tuple[str, str, Callable[[Any], str]]] = [
        ("distinct", "distinct", percent),
        ("Self-BLEU-4", "self_bleu_4", partial(number, digits=3)),
    ]
    if of_grammar:
        columns += [("grammatical", "inside", percent), ("KL(grammar)", "kl_grammar_to_samples", number)]
    head, lines = ["run"], [[name] for name, _ in runs]
    for way, named in (("greedy", "greedy"), ("sample", "ancestral")):
        for title, key, shown in columns:
            head.append(f"{named}: {title}")
            for line, (_, run) in zip(lines, runs, strict=True):
                own_way, fitted_way = (run[prior]["samples"][way] for prior in PRIORS)
                same = own_way.get("joint_of") == fitted_way.get("joint_of") or key != "kl_grammar_to_samples"
                line.append(pair(own_way[key], fitted_way[key], shown) if same else DASH)
    if cross := own["fce"].get("runs"):
        head.append("FCE")
        for line in lines:
            line.append(pair(*(cross.get(line[0], {}).get(prior) for prior in PRIORS)))
    return table(head, lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text."""
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number in the digits given, a dash for None."""
    return DASH if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share as per cent, a dash for None."""
    return DASH if value is None else f"{round(100 * value)} %"


def pair(before: float | None, after: float | None, shown: Callable[[float | None], str] = number) -> str:
    """Return a number before and after; the one before alone if there is none after."""
    return shown(before) if after is None else f"{shown(before)} → {shown(after)}"


def changed(run: Mapping[str, Any], name: str) -> str:
    """Return a change with its standard error, a dash if nothing has changed."""
    value = run.get(f"{name}_change")
    return DASH if value is None else f"{round(value, 2) + 0.0:+.2f} ± {run[f'{name}_change_standard_error']:.2f}"
