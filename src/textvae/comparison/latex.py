"""A comparison as a LaTeX table."""

from collections.abc import Sequence
from typing import NamedTuple

from textvae.comparison.rows import Row, column, value_of
from textvae.comparison.tables import Column, estimator, shown, table_columns
from textvae.evaluation.entry import Score

ARROWS = {"lower": r"\downarrow", "higher": r"\uparrow"}
# Characters that LaTeX reads as commands, and signs that its fonts lack, as LaTeX writes them.
SPELLED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\to$",
    "–": "--",
    "…": r"\dots{}",
    "\ufffd": "?",
}


class Estimate(NamedTuple):
    """A score and what stands behind ±, None where nothing does."""

    value: float
    error: float | None


def table(rows: Sequence[Row], by_seed: bool, split: str, notes: Sequence[str]) -> str:
    """Return the table of a comparison, with an arrow beside each score that has a better direction.

    The best number of a column is bold if it is better than every other by more than both errors together, as they
    stand behind ±, and all were estimated alike.
    """
    columns = table_columns(rows, by_seed)
    number = len(columns) - 2
    best = [_best(one.score, rows) if one.score is not None else None for one in columns]
    lines = [
        f"% {shown(split)} split; needs the package booktabs.",
        "% Bold: better than every other by more than both errors together.",
        *(f"% {shown(note)}" for note in notes),
        f"\\begin{{tabular}}{{l{'r' * number}l}}",
        "\\toprule",
        _line([escaped(one.head) + _arrow(one) for one in columns]),
        "\\midrule",
        *(_line([_cell(*one, at, row) for one in zip(columns, best, strict=True)]) for at, row in enumerate(rows)),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    r"""Return text that LaTeX sets as it is.

    >>> print(escaped("50 % of a_b"))
    50 \% of a\_b
    """
    return "".join(SPELLED.get(character, character) for character in shown(text))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, best: int | None, place: int, row: Row) -> str:
    """Return the cell of a column in a row; bold if this row is the best."""
    text = escaped(column.cell(row))
    return rf"\textbf{{{text}}}" if place == best else text


def _arrow(column: Column) -> str:
    better = None if column.score is None else column.score.better
    return f" ${ARROWS[better]}$" if better else ""


def _best(score: Score, rows: Sequence[Row]) -> int | None:
    """Return the row whose score is the best beyond errors; None without one."""
    found = {place: own for place, row in enumerate(rows) if (own := _estimate(score, row)) is not None}
    if score.better is None or len(found) < 2:
        return None
    sign = 1 if score.better == "higher" else -1
    best = max(found, key=lambda place: sign * found[place].value)
    value, error = found[best]
    for place, other in found.items():
        if error is None or other.error is None:
            return None
        if place != best and not sign * (value - other.value) > error + other.error:
            return None
    return best if _alike(score, [rows[place] for place in found], rows[best]) else None


def _estimate(score: Score, row: Row) -> Estimate | None:
    """Return a row's score and its error: the deviation over seeds, or that of the evaluation of one run."""
    if len(row.members) > 1:
        own = column(score.name)
        value, error = row.chosen.get(score.name) or (row.values.get(own), row.deviations.get(own))
    else:
        (member,) = row.members
        value, error = value_of(member, score.name), value_of(member, score.error) if score.error else None
    return Estimate(float(value), error) if isinstance(value, int | float) else None


def _alike(score: Score, rows: Sequence[Row], best: Row) -> bool:
    """Return True if the rows' NLLs, or bounds beside them, are of as many sentences and by the same estimate.

    Exact ones may stand beside estimates, which are upper bounds, unless an exact one is the best.
    """
    if score.name not in ("nll_iw", "bound_iw_sentences"):
        return True
    estimates = {estimator(row) for row in rows if row.values["nll_kind"] != "exact"}
    inexact = best.values["nll_kind"] != "exact" or not estimates
    alike = score.name == "bound_iw_sentences" or (len(estimates) <= 1 and inexact)
    return alike and len({row.values["iw_sentences"] for row in rows}) == 1
