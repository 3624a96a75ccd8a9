"""`textvae log-prob`: the likelihood of given sentences under a run."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from textvae.cli.options import AsJson, Conditions, IwSamples, Prior, Rate, RunFolder, Seed, condition_of
from textvae.cli.output import long_document, note, number, on_one_line, plain, result
from textvae.cli.progress import Bar
from textvae.cli.texts import Column, File, Texts, streamed_texts
from textvae.errors import RequestError

# Sentences scored, and written, at once.
ROWS = 64
# What is known of a sentence, in the order of the columns of a table.
FIELDS = ("nll", "nll_standard_error", "bound", "tokens", "unknown", "text")


def log_prob(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    iw_samples: IwSamples = 500,
    prior: Prior = "usual",
    rate: Rate = None,
    condition: Conditions = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a table instead: .tsv, or .jsonl with an object a line."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate -log p(x) of sentences, and its bound.

    A line has the importance-weighted NLL, ± its standard error over the samples, the bound (reconstruction + KL by
    one code), in nats, the number of tokens, end mark included, and the sentence. The NLL of a language model is
    exact. Sentences are scored as a whole, however long; words outside the vocabulary count as the unknown word,
    and JSON and tables have their number. The last line, on stderr, has the means over sentences. A file is read
    and scored piece by piece.

    \b
    Examples:
      textvae log-prob RUN "the food was great ." "food the great was ."
      textvae log-prob RUN --file reviews.txt --iw-samples 100 --out scored.tsv
    """  # noqa: D301
    from textvae.generate.codes import in_pieces
    from textvae.generate.likelihood import likelihood
    from textvae.generate.trained import load

    if out is not None and (out.suffix not in (".tsv", ".jsonl") or as_json):
        reason = (
            "--json prints a document; leave out one of the two" if as_json else "give a name in .tsv or .jsonl"
        )
        raise RequestError(f"--out {out}: {reason}")
    given = streamed_texts(texts, file, column)
    trained = load(run, prior, rate, condition_of(condition))
    trained.require_whole_texts()  # before a file is read
    totals = _Totals()

    def rows() -> Iterator[dict[str, Any]]:
        for some in in_pieces(given, ROWS):
            found = likelihood(trained, some, iw_samples, seed, totals.sentences)
            for at, text in enumerate(some):
                row = {name: getattr(found, name)[at].item() for name in FIELDS[:-1]}
                totals.add(row)
                yield {
                    **row,
                    "nll_standard_error": None if iw_samples == 1 else row["nll_standard_error"],
                    "text": text,
                }

    if out is not None:
        with _table(out) as write, Bar(f"scoring {file or 'sentences'}", "sentence") as bar:
            for row in rows():
                write(row)
                bar.update(totals.sentences, None)
        result(f"{plain(str(out))}: {totals.sentences:,} sentences")
    elif as_json:
        about = {"run": str(run), "unit": "nats", "iw_samples": iw_samples if trained.latent else 0, "seed": seed}
        fitted = {} if trained.run.fitted is None else {"prior": trained.run.fitted.name}
        long_document(about | fitted, "sentences", rows())
    else:
        for row in rows():
            nll, error, bound = (number(row[name]) for name in FIELDS[:3])
            result(f"{nll:>9} ± {error:<6}{bound:>9}  {row['tokens']:>4}  {plain(row['text'])}")
    note(totals.line())


class _Totals:
    """Sums over sentences."""

    def __init__(self) -> None:
        self.sentences = self.tokens = self.unknown = 0
        self.nll = self.squares = self.bound = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a sentence."""
        self.sentences, self.tokens = self.sentences + 1, self.tokens + row["tokens"]
        self.nll, self.squares = self.nll + row["nll"], self.squares + row["nll"] ** 2
        self.bound, self.unknown = self.bound + row["bound"], self.unknown + row["unknown"]

    def line(self) -> str:
        """Return the means in a line."""
        from textvae.metrics.likelihood import perplexity

        mean, n = self.nll / self.sentences, self.sentences
        error = math.sqrt(max(0.0, self.squares / n - mean**2) / (n - 1)) if n > 1 else None
        spread = "" if error is None else f" ± {number(error)}"
        words = number(perplexity(self.nll, self.tokens))
        unknown = f" ({self.unknown:,} unknown)" if self.unknown else ""
        return (
            f"{n:,} sentences, {self.tokens:,} tokens{unknown}: NLL {number(mean)}{spread} nats/sentence, "
            f"bound {number(self.bound / n)}, perplexity {words}"
        )


@contextmanager
def _table(out: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes a row to a table, which appears once it is whole."""
    from textvae.files import replacing

    with replacing(out) as file:
        if out.suffix == ".tsv":
            file.write("\t".join(FIELDS).encode() + b"\n")

        def write(row: Mapping[str, Any]) -> None:
            if out.suffix == ".jsonl":
                line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            else:
                cells = ("" if row[name] is None else on_one_line(str(row[name])) for name in FIELDS)
                line = "\t".join(cell.replace("\t", " ") for cell in cells)
            file.write(line.encode() + b"\n")

        yield write
