"""`textvae compare`: runs side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.options import AsJson, BesidePrior, DataPlace, IwSamplesOrAuto, IwSentences, Seed, iw_numbers_of
from textvae.cli.output import document, note, plain, result, table
from textvae.cli.progress import Bars
from textvae.errors import RequestError, WorkError

if TYPE_CHECKING:
    from textvae.comparison import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write tables and figures there.", show_default=False)
    ] = None,
    iw_samples: IwSamplesOrAuto = "auto",
    iw_sentences: IwSentences = "auto",
    seed: Seed = 0,
    by_seed: Annotated[
        bool, typer.Option("--by-seed", help="Runs that only train.seed tells apart in one row.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="NLL relative to it; else to a language model.", show_default=False),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Show these numbers of the evaluations.", show_default=False),
    ] = None,
    data: DataPlace = None,
    prior: BesidePrior = None,
    again: Annotated[bool, typer.Option("--again", help="Evaluate runs again that have been evaluated.")] = False,
    as_json: AsJson = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write the table as CSV.", show_default=False)
    ] = None,
    latex: Annotated[
        Path | None,
        typer.Option("--latex", metavar="FILE", help="Also write it for LaTeX (booktabs).", show_default=False),
    ] = None,
) -> None:
    """Put runs of the same data side by side.

    Uses RUN/evaluation/SPLIT.json as it is; evaluates the runs that have none. FOLDER gets comparison.json, .csv,
    .md, curves.png and rate-distortion.png; sweep.png too if one number of the settings tells the runs apart. Runs
    whose names differ in numbers alone stand in the order of these. --scores shows any number of the evaluations,
    those of evaluate --all too: kl_moment_matched, generated.greedy.scores.self-bleu-4. A run with a prior of
    fit-prior has a row under its own and one under that, by RUN/fitted/evaluation/SPLIT.json.
    """
    _check_places(out, {"--csv": csv, "--latex": latex})
    samples, sentences = iw_numbers_of(iw_samples, iw_sentences)
    names = [] if scores is None else _names(scores)

    from textvae.comparison import compare as compared

    with Bars() as bars:
        found = compared(
            runs,
            split,
            baseline=baseline,
            by_seed=by_seed,
            iw_samples=samples,
            iw_sentences=sentences,
            seed=seed,
            again=again,
            scores=names,
            text=data,
            prior=prior,
            progress=bars.update,
        )
    written, failure = _write(found, out, csv, latex)
    _show(found, as_json)
    if written:
        note(f"written: {', '.join(map(str, written))}")
    if failure is not None:
        raise failure


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("report.html"),
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    iw_samples: IwSamplesOrAuto = "auto",
    iw_sentences: IwSentences = "auto",
    seed: Seed = 0,
    data: DataPlace = None,
    again: Annotated[bool, typer.Option("--again", help="Evaluate runs again that have been evaluated.")] = False,
) -> None:
    """Write a page of runs of the same data, side by side.

    One HTML file that needs nothing else: a verdict on each run with a picture, held-out sentences with their
    reconstructions, all scores, training curves, codes against the prior, a map of codes coloured by the label that
    they know best, samples, and a path through the latent space. RUN/evaluation/SPLIT.json is used as it is; runs
    that have none are evaluated.
    """
    _check_places(None, {"--out": out})
    samples, sentences = iw_numbers_of(iw_samples, iw_sentences)

    from textvae.comparison.page import report as write

    with Bars() as bars:
        write(
            runs,
            out,
            split,
            iw_samples=samples,
            iw_sentences=sentences,
            seed=seed,
            again=again,
            text=data,
            progress=bars.update,
        )
    result(f"report: {plain(str(out))}")


def _check_places(out: Path | None, files: Mapping[str, Path | None]) -> None:
    """Refuse a file for --out, and a folder for a file."""
    if out is not None and out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file; give a folder")
    for option, file in files.items():
        if file is not None and file.is_dir():
            raise RequestError(f"{option} {file}: is a folder; give a file")


def _write(
    found: "Comparison", out: Path | None, csv: Path | None, latex: Path | None
) -> tuple[list[Path], WorkError | None]:
    """Write what was asked for; return the files of `out`, and an error instead of raising it.

    What took minutes is printed all the same.
    """
    from textvae.files import write_text

    try:
        if csv is not None:
            write_text(csv, found.csv())
        if latex is not None:
            write_text(latex, found.latex())
        return [] if out is None else found.write(out), None
    except WorkError as error:
        return [], error


def _show(found: "Comparison", as_json: bool) -> None:
    """Print the table and its notes, or the document."""
    if as_json:
        document(found.document())
        return
    rows = [[plain(cell) for cell in row] for row in found.table()]
    result("\n".join([table(rows), "", *map(plain, found.notes)]))


def _names(scores: str) -> list[str]:
    names = [name.strip() for name in scores.split(",") if name.strip()]
    if not names:
        raise RequestError("--scores: names no score; leave it out for the usual table")
    return list(dict.fromkeys(names))
