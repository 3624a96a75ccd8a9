"""`textvae compare`: runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.options import AsJson, DataPlace, IwSamples, IwSentences, Prior, Seed, sentences_of
from textvae.cli.output import columns, document, note, plain, result
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
    iw_samples: IwSamples = 500,
    iw_sentences: IwSentences = "500",
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
    prior: Prior = "usual",
    again: Annotated[bool, typer.Option("--again", help="Evaluate runs again that have been evaluated.")] = False,
    as_json: AsJson = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write the table as CSV.", show_default=False)
    ] = None,
) -> None:
    """Put runs of the same data side by side.

    Uses RUN/evaluation/SPLIT.json as it is; evaluates the runs that have none. FOLDER gets comparison.json, .csv,
    .md, curves.png and rate-distortion.png. --scores shows any number of the evaluations, those of evaluate --all
    too: kl_moment_matched, generated.greedy.scores.self-bleu-4. --prior fitted: RUN/fitted/evaluation/SPLIT.json.
    """
    _check_places(out, csv)
    subset = sentences_of(iw_sentences)
    names = [] if scores is None else _names(scores)

    from textvae.comparison import compare as compared
    from textvae.files import write_text

    with Bars() as bars:
        found = compared(
            runs,
            split,
            baseline=baseline,
            by_seed=by_seed,
            iw_samples=iw_samples,
            iw_sentences=subset,
            seed=seed,
            again=again,
            scores=names,
            text=data,
            prior=prior,
            progress=bars.update,
        )
    written, failure = list[Path](), None
    try:
        if csv is not None:
            write_text(csv, found.csv())
        if out is not None:
            written = found.write(out)
    except WorkError as error:  # what took minutes is printed all the same
        failure = error
    _show(found, as_json)
    if written:
        note(f"written: {', '.join(map(str, written))}")
    if failure is not None:
        raise failure


def _check_places(out: Path | None, csv: Path | None) -> None:
    """Refuse a file for --out, and a folder for --csv."""
    if out is not None and out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file; give a folder")
    if csv is not None and csv.is_dir():
        raise RequestError(f"--csv {csv}: is a folder; give a file")


def _show(found: "Comparison", as_json: bool) -> None:
    """Print the table and its notes, or the document."""
    if as_json:
        document(found.document())
        return
    table = [[plain(cell) for cell in row] for row in found.table()]
    result("\n".join([columns(table), "", *map(plain, found.notes)]))


def _names(scores: str) -> list[str]:
    names = [name.strip() for name in scores.split(",") if name.strip()]
    if not names:
        raise RequestError("--scores: names no score; leave it out for the usual table")
    return list(dict.fromkeys(names))
