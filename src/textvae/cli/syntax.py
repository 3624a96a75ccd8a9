"""`textvae syntax`: whether a run prefers grammatical sentences, and by which code."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.options import AsJson, RunFolder
from textvae.cli.output import DASH, columns, document, number, plain, result
from textvae.cli.progress import Bar
from textvae.cli.texts import LeftOut, Strict, refuse_stdin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textvae.evaluation.syntax import Pair, Row, SyntacticTest


def syntax(
    run: RunFolder,
    pairs: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="TSV or CSV with columns good and bad, and more to group by.", show_default=False
        ),
    ],
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out pairs told apart by a word that the run does not know.")
    ] = False,
    table_4: Annotated[
        bool, typer.Option("--table-4", help="Pool Marvin and Linzen's categories as prokhorov2019, Table 4.")
    ] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Test whether a run prefers grammatical sentences.

    p1 is the share of pairs whose good sentence is likelier than the bad one by the code of the good one, p2 by
    that of the bad one; averaged: by the mean code of all good, all bad sentences of the condition. Of a language
    model it is the plain accuracy. The column `category`, or else the first one, is the category; other columns say
    the condition. Equally likely sentences count against the run.

    \b
    Examples:
      textvae syntax RUN --pairs pairs_small.tsv
      textvae syntax RUN --pairs pairs_small.tsv --table-4 --known-only --json
    """  # noqa: D301
    from textvae.evaluation.syntax import TABLE_4, each_pair, syntactic_test
    from textvae.generate.trained import load

    refuse_stdin(pairs)
    left_out = LeftOut(strict, str(pairs))

    def given() -> "Iterator[Pair]":
        empty: list[str] = []
        for pair in each_pair(pairs, TABLE_4 if table_4 else None, None if strict else empty.append):
            left_out.usable([*empty, pair], dict(enumerate(empty)))
            empty.clear()
            yield pair
        left_out.usable(empty, dict(enumerate(empty)))
        left_out.tell()

    trained = load(run)
    with Bar(f"scoring {pairs}", "sentence") as bar:
        found = syntactic_test(trained, given(), known_only, bar.update)
    if as_json:
        document({"run": str(run), "pairs": str(pairs), **found.document()})
    else:
        result("\n".join([_table(found), *_counts(found), plain(found.signature)]))


def _table(found: "SyntacticTest") -> str:
    measures = list(found.rows[0].shares)
    head = ["", *(name.replace("_", " ") for name in measures), "unknown", "pairs"]
    return columns([head, *(_row(row, measures) for row in found.rows)])


def _row(row: "Row", measures: list[str]) -> list[str]:
    name = plain(row.category) if row.condition is None else f"  {plain(row.condition) or DASH}"
    cells = [f"{number(row.shares[one], 3)} ± {number(row.standard_errors[one], 3)}" for one in measures]
    return [name, *cells, f"{row.unknown:,}", f"{row.pairs:,}"]


def _counts(found: "SyntacticTest") -> list[str]:
    """Return the counts of used and left-out pairs as text."""
    every = found.rows[0]
    ties = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in every.ties.items())
    lines = [f"pairs: {found.given:,} given, {found.unknown:,} with an unknown word", f"ties: {ties}"]
    if found.alike:
        lines[0] += f", {found.alike:,} of twice the same sentence left out"
    if found.left_out:
        lines[0] += f", {found.left_out:,} told apart by one and left out"
    if found.too_long:
        lines[0] += f", {found.too_long:,} too long for the run and left out"
    return lines
