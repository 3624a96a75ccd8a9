"""`textvae interpolate`, `homotopy` and `sensitivity`: ways through the space of codes."""

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import decoding_options, decodings_options
from textvae.cli.options import AsJson, Conditions, Rate, RunFolder, Seed, condition_of
from textvae.cli.output import (
    DASH,
    blocks,
    columns,
    document,
    long_document,
    note,
    number,
    on_one_line,
    plain,
    result,
)
from textvae.cli.texts import LeftOut, Strict, broken, refuse_stdin, shown, tell_blank, tell_notes
from textvae.errors import RequestError
from textvae.generate.ways import spelled

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding
    from textvae.generate.paths import Ends, Homotopy
    from textvae.generate.trained import Trained

# Stands in a terminal before a text that came before on its path.
REPEATED = "="

Kind = Annotated[
    str | None,
    typer.Option(
        "--path", metavar="NAME", help="linear or spherical; the prior's own if not given.", show_default=False
    ),
]
LanguageModel = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="A language model that scores what is written.", show_default=False),
]


@decoding_options()
def interpolate(
    run: RunFolder,
    a: Annotated[str | None, typer.Argument(metavar="A", help="The first sentence.", show_default=False)] = None,
    b: Annotated[str | None, typer.Argument(metavar="B", help="The last sentence.", show_default=False)] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Between draws from the prior instead.")] = False,
    fitted_prior: Annotated[bool, typer.Option("--fitted-prior", help="Or from the one of fit-prior.")] = False,
    count: Annotated[int, typer.Option("-n", min=1, help="Between draws: how many paths.")] = 1,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", metavar="FILE", help="Between two sentences of each row: TSV, CSV or JSONL."),
    ] = None,
    column_a: Annotated[
        str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the first sentence of --pairs.")
    ] = None,
    column_b: Annotated[str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the last one.")] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Between codes of a file, two by two: .npy or .parquet.", show_default=False
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="How many sentences, both ends among them.")] = 9,
    kind: Kind = None,
    strict: Strict = False,
    language_model: LanguageModel = None,
    rate: Rate = None,
    condition: Conditions = None,
    *,
    decoding: "Decoding",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write the sentences on a path between two codes.

    The columns of --pairs are a and b, first and second, or source and target of a header, else the first two. Rows
    between which there is no path (one sentence, equal ones or codes) are named, left out and counted.
    On a terminal = stands before a sentence that came before on the path. How smooth each path is goes to stderr:
    how many sentences differ, how many words change at a step, with a language model the NLL of ends and others.

    \b
    Examples:
      textvae interpolate RUN "the food was great ." "i will never come back ."
      textvae interpolate RUN --prior -n 3 --steps 12 --seed 3 --path spherical
      textvae interpolate RUN --pairs pairs.tsv --language-model runs/lm --json
    """  # noqa: D301
    draws = {"--prior": prior, "--fitted-prior": fitted_prior}
    _check_ends(a, b, draws, count, pairs, {"--column-a": column_a, "--column-b": column_b}, codes)

    from textvae.generate.paths import homotopies
    from textvae.generate.trained import load

    trained = load(run, "fitted" if fitted_prior else "own", rate, condition_of(condition))
    scorer = None if language_model is None else load(language_model)
    if pairs is not None:
        pieces = _ends_of_rows(trained, pairs, column_a, column_b, strict)
    else:
        pieces = _ends(trained, (a, b), count * any(draws.values()), codes, seed)
    found = (
        pair
        for begin, ends, given in pieces
        for pair in zip(given, homotopies(trained, ends, steps, kind, decoding, seed, scorer, begin), strict=True)
    )
    if as_json:
        rows = ({**dict(zip("ab", texts or (), strict=False)), **one.document()} for texts, one in found)
        long_document({"decoding": asdict(decoding), "seed": seed, **_path(kind)}, "paths", rows)
        return
    several = pairs is not None or codes is not None or count > 1
    for place, (_, one) in enumerate(found, 1):
        result(("\n" if place > 1 else "") + _block(trained, one))
        note(f"{f'path {place}: ' if several else ''}{smooth(one)}")


@decodings_options("greedy")
def homotopy(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    count: Annotated[int, typer.Option("-n", min=1, help="How many paths.")] = 1,
    steps: Annotated[int, typer.Option(min=2, help="How many sentences of a path.")] = 7,
    kind: Kind = None,
    language_model: LanguageModel = None,
    *,
    decodings: "list[Decoding]",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Decode the same path by several models and decodings.

    The codes are between two draws from N(0, I), the same for all, so the models must have codes of one size.
    At the end a table says how each changes along its paths.

    \b
    Examples:
      textvae homotopy runs/c3 runs/c15 runs/c100
      textvae homotopy runs/* --decode greedy --decode top-k:15 --decode nucleus:0.9 --language-model runs/lm
    """  # noqa: D301
    from textvae.generate.paths import each_cell
    from textvae.generate.trained import load

    scorer = None if language_model is None else load(language_model)
    cells = each_cell([load(run) for run in runs], decodings, count, steps, kind, seed, scorer)
    labels = [(str(run), spelled(decoding)) for run in runs for decoding in decodings]
    if as_json:
        rows = (
            {
                "run": run,
                "decoding": asdict(cell.decoding),
                "paths": (one.document() for one in cell.homotopies),
            }
            for (run, _), cell in zip(labels, cells, strict=True)
        )
        long_document({"seed": seed, **_path(kind)}, "cells", rows)
        return

    def shown_paths() -> Iterator[str]:
        table = [["", "", "different", "words a step", "most", "NLL ends", "between", ""]]
        for (run, name), cell in zip(labels, cells, strict=True):
            scores = [array("d") for _ in range(5)]
            for place, one in enumerate(cell.homotopies, 1):
                which = f", path {place}" if count > 1 else ""
                yield f"{plain(run)}, {plain(name)}{which}\n{_block(cell.model, one, numbered=True)}"
                for kept, value in zip(scores, _scores(one), strict=True):
                    if value is not None:
                        kept.append(value)
            table.append([plain(run), plain(name), *_means(scores, steps), ""])
        yield columns(table)

    blocks(shown_paths())


def sensitivity(
    run: RunFolder,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Sentences, each one quoted.", show_default=False)
    ],
    distances: Annotated[str, typer.Option(metavar="D,D,...", help="How far the codes move.")] = "0.25,0.5,1,2,4,8",
    directions: Annotated[int, typer.Option(min=1, help="How many random directions.")] = 16,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say how far a code must move before its sentence changes.

    The code of a sentence moves in random directions, along the gradient of log p(sentence|code) and against it,
    and is decoded greedily. The table has the share of sentences that are other ones than without a move, how many
    of their words are, and by how many nats the given sentence becomes less likely; means over sentences.

    \b
    Examples:
      textvae sensitivity RUN "the food was great ."
      textvae sensitivity RUN "the food was great ." "we left ." --distances 0.1,1,10 --directions 64 --json
    """  # noqa: D301
    try:
        wanted = [float(part) for part in distances.split(",")]
    except ValueError:
        raise RequestError(
            f"--distances {distances}: give numbers with commas between them, such as 0.5,1,2"
        ) from None

    from textvae.evaluation.sensitivity import sensitivity as measured
    from textvae.generate.trained import load

    trained = load(run)
    found = measured(trained, broken(trained, texts), wanted, directions, seed)
    if as_json:
        document({"run": str(run), "directions": directions, "seed": seed, **found.document()})
        return
    table = [["distance", *(f"{value:g}" for value in found.distances), ""]]
    for curve in found.curves:
        of = {"random": f"{directions} random directions", "gradient": "along the gradient"}.get(curve.kind)
        of = of or "against the gradient"
        if curve.changed is None or curve.edits is None or curve.loss is None:
            table.append([f"{of}: there is none", *[DASH] * len(found.distances), "the decoder ignores the code"])
            continue
        table.append([f"{of}: changed", *(f"{100 * share:.0f} %" for share in curve.changed), ""])
        table.append(["  words that differ", *(number(value, 1) for value in curve.edits), ""])
        table.append(["  log p lost", *(number(value) for value in curve.loss), "nats/sentence"])
    half = found.half["random"]
    lines = [f"decoded without a move: {plain(text)}" for text in shown(trained, found.decoded)]
    lines += [columns(table), ""]
    lines.append(
        f"half of the sentences have changed at a distance of {half:.2f} in a random direction"
        if half is not None
        else f"half of the sentences have not changed at a distance of {wanted[-1]:g} in a random direction"
    )
    result("\n".join(lines))


def smooth(one: "Homotopy") -> str:
    """Return the smoothness of a path in one line."""
    score = one.smoothness
    text = (
        f"{score.distinct} different of {score.steps} sentences; {score.mean_edit:.1f} words change at a step, "
        f"{score.largest_edit} at most"
    )
    if score.nll_ends is not None:
        between = DASH if score.nll_between is None else f"{score.nll_between:.2f}"
        text += f"; NLL of the ends {score.nll_ends:.2f}, between them {between} nats/sentence"
    return text


def _check_ends(
    a: str | None,
    b: str | None,
    draws: dict[str, bool],
    count: int,
    pairs: str | None,
    named: dict[str, str | None],
    codes: Path | None,
) -> None:
    """Refuse ends of paths that are given in no way, or in two."""
    if draws["--prior"] and a == "fitted" and b is None:
        raise RequestError(
            "--prior fitted: it takes no value here; give --fitted-prior for draws of a fitted prior"
        )
    drawn = {way: given or None for way, given in draws.items()}
    ways = {"sentences": a, **drawn, "--pairs": pairs, "--codes": codes}
    chosen = [name for name, given in ways.items() if given is not None]
    if len(chosen) > 1:
        raise RequestError(f"interpolate: {' and '.join(chosen)} are given; ends of paths come from one of them")
    if not chosen or (a is None) != (b is None):
        others = "--prior, or --fitted-prior, or --pairs FILE, or --codes FILE"
        raise RequestError(f"interpolate: give two sentences, A and B, or {others}")
    for name, column in named.items():
        if column is not None and pairs is None:
            raise RequestError(f"{name} {column}: only a file of pairs has columns; give --pairs FILE")
    if count > 1 and not any(draws.values()):
        raise RequestError(f"-n {count}: so many paths are only between draws of the prior; give --prior")


def _ends(
    trained: "Trained", pair: tuple[str | None, str | None], draws: int, codes: Path | None, seed: int
) -> "Iterator[tuple[int, Ends, Sequence[tuple[str, str] | None]]]":
    """Yield the ends of paths as codes, and the texts that were given, if any, some at a time.

    Each piece comes with the number of paths before it.
    """
    from textvae.generate.codes import in_pieces, read_codes
    from textvae.generate.paths import PAIRS, code_ends, prior_ends, text_ends

    if draws:
        if not (trained.run.settings.model.posterior.has_rate or trained.run.fitted):
            note("note: an autoencoder was trained without a prior; draws from N(0, I) are not where its codes lie")
        for begin in range(0, draws, PAIRS):
            some = min(PAIRS, draws - begin)
            yield begin, prior_ends(trained, some, seed, begin), [None] * some
    elif codes is not None:
        import numpy as np

        trained.draw(0)  # a language model is refused before its codes are
        rows = (code for piece in read_codes(codes, trained.latent, run=trained.identity) for code in piece.codes)
        begin = 0
        for piece in in_pieces(rows, 2 * PAIRS):
            ends = code_ends(np.stack(piece), 2 * begin)
            yield begin, ends, [None] * len(ends)
            begin += len(ends)
    else:
        first, last = broken(trained, [text for text in pair if text is not None])
        yield 0, text_ends(trained, [(first, last)]), [(first, last)]


def _ends_of_rows(
    trained: "Trained", file: str, a: str | None, b: str | None, strict: bool
) -> "Iterator[tuple[int, Ends, Sequence[tuple[str, str] | None]]]":
    """Yield the ends of paths of the usable rows of a file, as codes and texts, some rows at a time.

    Each piece comes with the number of rows before it.
    """
    from textvae.generate.codes import in_pieces
    from textvae.generate.paths import PAIRS, usable_ends
    from textvae.text.readers import read_pairs

    refuse_stdin(file)
    reading, left_out = read_pairs(file, a, b), LeftOut(strict, file)
    begin = 0
    for rows in in_pieces(reading, PAIRS):
        if not left_out.rows:
            tell_notes(reading)
        given = [(first, last) for first, last in (broken(trained, [one, other]) for one, other, _ in rows)]
        ends, reasons = usable_ends(trained, given)
        places = {row: f"{file}:{rows[row][2]}: {reason}" for row, reason in reasons.items()}
        yield begin, ends, left_out.usable(given, places)
        begin += len(ends)
    tell_blank(reading)
    left_out.tell()


def _path(kind: str | None) -> dict[str, Any]:
    """Return the requested path for JSON, and why it is null if it is."""
    reasons = {} if kind is not None else {"path": "--path was not given: the path is the prior's own"}
    return {"path": kind, "reasons": reasons}


def _block(trained: "Trained", one: "Homotopy", numbered: bool = False) -> str:
    """Return the texts of a path, one a line; on a terminal repeated ones are marked."""
    lines = shown(trained, one.texts)
    if not sys.stdout.isatty() and not numbered:
        return "\n".join(on_one_line(line) for line in lines)
    marks = [REPEATED if again else " " for again in one.repeated]
    numbers = [f"{place:>2} " if numbered else "" for place in range(1, len(lines) + 1)]
    return "\n".join(
        f"{n}{mark} {plain(line)}".rstrip() for n, mark, line in zip(numbers, marks, lines, strict=True)
    )


def _scores(one: "Homotopy") -> tuple[int | float | None, ...]:
    """Return the measures of a path whose means a table has."""
    score = one.smoothness
    return score.distinct, score.mean_edit, score.largest_edit, score.nll_ends, score.nll_between


def _means(scores: "list[array[float]]", steps: int) -> list[str]:
    """Return the averaged measures of paths as cells of a table."""
    different, mean, largest, ends, between = (sum(kept) / len(kept) if kept else None for kept in scores)
    return [
        f"{number(different, 1)} of {steps}",
        number(mean, 1),
        number(largest, 1),
        number(ends),
        number(between),
    ]
