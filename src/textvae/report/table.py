"""The report's one table of scores: a row a score with its unit and its reading, a column a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from textvae.evaluation import schema
from textvae.evaluation.entry import Score
from textvae.metrics.weights import caveat
from textvae.report.pieces import MISSING, digits_of, key, number, text
from textvae.run.records import is_number

Found = Mapping[str, Any]
# The first character of private use.
FIRST = 0xE000


def table(names: Sequence[str], evaluations: Sequence[Found]) -> str:
    """Draw all scores of all runs, a row a score; scores that no run has are left out."""
    rows = []
    for score in schema.SCORES:
        cells = [_cell(score, found) for found in evaluations] if score.label else []
        if any(cells):
            better = f"{score.better} is better" if score.better else ""
            unit = "; ".join(filter(None, (score.unit, better)))
            small = f"<small>{text(unit)}</small>" if unit else ""
            rows.append(
                f'<tr><th scope="row">{text(_capital(score.label))}{small}</th>'
                + "".join(f"<td>{cell or MISSING}</td>" for cell in cells)
                + f'<td class="reading">{text(score.reading)}</td></tr>'
            )
    heads = "".join(f'<th scope="col">{key(place)}{text(name)}</th>' for place, name in enumerate(names))
    uneven = [(name, caveat(found)) for name, found in zip(names, evaluations, strict=True)]
    careful = [f"Careful: {text(name)}: {text(why)}. " for name, why in uneven if why is not None]
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">Score<small>unit</small></th>{heads}'
        '<th scope="col" class="reading">How to read it</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{"".join(careful)}± is a standard error over sentences, or the deviation over draws of '
        f"the codes. {MISSING} stands for what a model does not have, or what was not measured.</p>"
    )


def _cell(score: Score, found: Found) -> str | None:
    """Draw a score of a run as HTML; None if the run does not have it."""
    numbers = _Numbers()
    shown = score.shown(found, numbers)
    if shown is None:
        return None
    return numbers.drawn(shown.value) + (f"<small>{numbers.drawn(shown.detail)}</small>" if shown.detail else "")


class _Numbers:
    """Draws the numbers of a text. Until the text has been escaped, each is a private character."""

    def __init__(self) -> None:
        self._html: list[str] = []

    def __call__(self, value: Any, digits: int | None = None, like: Any = None) -> str:
        """Draw a number in the digits given, or else in those of the number `like` or its own."""
        other = value if like is None else like
        if digits is None and is_number(other):
            digits = digits_of(other)
        self._html.append(number(value, digits) or MISSING)
        return chr(FIRST + len(self._html) - 1)

    def drawn(self, words: str) -> str:
        """Return words as HTML with the numbers in them."""
        escaped = text(words)
        for place, html in enumerate(self._html):
            escaped = escaped.replace(chr(FIRST + place), html)
        return escaped


def _capital(label: str) -> str:
    """Write a label with a capital letter."""
    return label[:1].upper() + label[1:]
