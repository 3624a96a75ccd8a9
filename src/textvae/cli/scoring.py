"""`textvae score`: quality and diversity of any text."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.options import AsJson, Seed
from textvae.cli.output import DASH, Command, columns, document, note, number, plain, result
from textvae.cli.texts import STDIN, opened, tell_notes
from textvae.errors import RequestError
from textvae.metrics.signature import shared

if TYPE_CHECKING:
    from textvae.metrics.scoring import How, TextScore
    from textvae.text.readers import Reading

Metrics = Annotated[str | None, typer.Option(metavar="NAME,...", help="Which scores; default: all that can be.")]


class ScoreCommand(Command):
    """`score`, whose help ends with all metrics, those of installed packages included."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the metrics, which are not imported before."""
        self.epilog = metrics_help()
        super().format_epilog(ctx, formatter)


def metrics_help() -> str:
    """Return every metric, by what it needs beside the text, for the end of `textvae score --help`."""
    from textvae.metrics.scoring import METRICS

    needs = {
        "nothing": "of the text alone",
        "references": "with --references",
        "pairs": "with --references, line by line",
        "training": "with --train",
    }
    lines = ["\b", "Metrics, from 0 to 1 unless a unit follows (formulas: docs/metrics.md):"]
    for need, heading in needs.items():
        units = {name: metric.unit for name, metric in METRICS.items() if metric.needs == need}
        names = [name if unit == "share" else f"{name} ({unit})" for name, unit in units.items()]
        lines += [f"  {heading}:", *(f"    {line}" for line in wrap(", ".join(names), 72, break_on_hyphens=False))]
    return "\n".join(lines)


def score(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="The text, a sentence a line; - is stdin.", show_default=False),
    ] = None,
    references: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Real text to compare with.", show_default=False)
    ] = None,
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Training text, to find copies.", show_default=False)
    ] = None,
    metrics: Metrics = None,
    tokenize: Annotated[
        str, typer.Option(metavar="NAME", help="words, pieces (punctuation apart), characters or jieba.")
    ] = "words",
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Compare in lower case.")] = False,
    smoothing: Annotated[str, typer.Option(metavar="NAME", help="Of sentence BLEU: none or method1.")] = "none",
    at_most: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="BLEU and Self-BLEU by N drawn references.", show_default=False),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often N references are drawn.")] = 5,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Line by line, by the reference's length: 1-10, 11-20, 21-30, all.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Score a run's reconstructions, by length.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the run: train, valid or test.")] = "test",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score any text: BLEU, Self-BLEU, ROUGE, diversity, copies.

    bleu-N is the mean over sentences, each against all references, self-bleu-N against all others. Metrics that
    compare line by line are computed if they are named, or with --by-length. A blank line is an empty sentence.

    \b
    Examples:
      textvae sample RUN -n 3000 | textvae score - --references test.txt
      textvae score samples.txt --train train.txt --metrics self-bleu-4,copied,overlap-4
      textvae score --run RUN --split test --json
    """  # noqa: D301
    from textvae.metrics import scoring

    how = scoring.How(tokenize, lowercase, smoothing, at_most, draws, seed)
    names = None if metrics is None else _names(metrics)
    wanted = names or (scoring.RECONSTRUCTION if by_length else ())
    # Before files are read.
    scoring.require_metrics(wanted, references is not None or run is not None, train is not None)
    if run is not None:
        if file is not None or references is not None:
            raise RequestError(f"--run {run}: its own split is what is scored; leave out FILE and --references")
        _score_run(run, split, names or scoring.RECONSTRUCTION, how, train, as_json)
        return
    if file is None:
        raise RequestError("no text given: FILE, - for stdin, or --run RUN")
    text = scoring.given(*_texts(file, references, train), how)
    others = {"references": _name(references), "train": _name(train)}
    reasons = {name: f"--{name} was not given" for name, path in others.items() if path is None}
    about: dict[str, Any] = {"file": file, **others, "reasons": reasons}
    if by_length:
        _print_buckets(about, scoring.score_by_length(text, names or scoring.RECONSTRUCTION), as_json)
        return
    scores = scoring.score(text, names or scoring.available(text))
    if as_json:
        document({**about, "scores": {name: found.document() for name, found in scores.items()}})
    else:
        result(_table(str(file), scores))


def _score_run(
    run: Path, split: str, names: "Sequence[str]", how: "How", train: Path | None, as_json: bool
) -> None:
    """Score the reconstructions of a run's split."""
    from textvae.evaluation.reconstruction import reconstruction_scores

    learned = None if train is None else _read(opened(str(train)))
    _print_buckets(
        {"run": str(run), "split": split}, reconstruction_scores(run, split, names, how, learned), as_json
    )


def _texts(
    file: str, references: Path | None, train: Path | None
) -> tuple[Iterator[str], Iterator[str] | None, Iterator[str] | None]:
    """Return the texts, references and training text; refuse unreadable paths before any file is read."""
    if [file, str(references), str(train)].count(STDIN) > 1:
        raise RequestError("-: stdin can be read once; give the other text as a file")
    known = None if references is None else opened(str(references))
    learned = None if train is None else opened(str(train))
    texts = _read(opened(file))
    return texts, None if known is None else _read(known), None if learned is None else _read(learned)


def _print_buckets(about: dict[str, Any], buckets: Mapping[str, Mapping[str, "TextScore"]], as_json: bool) -> None:
    if as_json:
        found = {name: {metric: one.document() for metric, one in row.items()} for name, row in buckets.items()}
        document({**about, "buckets": found})
        return
    rows = [["tokens", *buckets["all"], "sentences"]]
    for bucket, scores in buckets.items():
        rows.append([bucket, *map(_value, scores.values()), f"{next(iter(scores.values())).sentences:,}"])
    missing: dict[tuple[str, str], list[str]] = {}
    for bucket, scores in buckets.items():
        for metric, one in scores.items():
            if one.reason is not None:
                missing.setdefault((bucket, one.reason), []).append(metric)
    reasons = [f"{bucket}: no {', '.join(names)}: {reason}" for (bucket, reason), names in missing.items()]
    common, others = shared([one.signature for one in buckets["all"].values()])
    own = [f"{name}: {parts}" for name, parts in zip(buckets["all"], others, strict=True) if parts]
    result("\n".join([columns(rows), *reasons, *map(plain, own), plain(common)]))


def _table(file: str, scores: Mapping[str, "TextScore"]) -> str:
    """Return a row a score, each with the parts of its signature that not all have; those that all have once."""
    common, others = shared([found.signature for found in scores.values()])
    rows = [
        [name, _value(found), plain("; ".join(filter(None, (found.reason, own))))]
        for (name, found), own in zip(scores.items(), others, strict=True)
    ]
    sentences = next(iter(scores.values())).sentences
    head = f"{'stdin' if file == STDIN else file}: {sentences:,} sentence{'s' * (sentences != 1)}"
    return "\n".join([plain(head), columns(rows), plain(common)])


def _value(found: "TextScore") -> str:
    """Return the score, with the standard deviation over draws if there is one."""
    if isinstance(found.value, int):
        return f"{found.value:,}"
    shown = number(found.value, 4)
    deviation = found.standard_deviation
    return shown if deviation is None or shown == DASH else f"{shown} ± {number(deviation, 4)}"


def _names(metrics: str) -> list[str]:
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    if not names:
        raise RequestError("--metrics: names no metric; leave it out for all that can be computed")
    return list(dict.fromkeys(names))


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _read(reading: "Reading") -> Iterator[str]:
    """Yield the sentences of a file or of stdin in order; a blank line is an empty sentence.

    Raises:
        RequestError: As `readers.read`.
    """
    blank, told = 0, False
    for sentence in reading:
        if not told:
            tell_notes(reading)
            told = True
        yield from repeat("", reading.blank - blank)
        blank = reading.blank
        yield sentence.text
    yield from repeat("", reading.blank - blank)
    if reading.blank:
        lines = "line, an empty sentence" if reading.blank == 1 else "lines, each an empty sentence"
        note(f"{reading.name}: {reading.blank:,} blank {lines}")
