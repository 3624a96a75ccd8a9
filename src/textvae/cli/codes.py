"""`textvae encode`, `decode` and `neighbours`: codes in files, and what lies near a sentence."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import NBest, decoding_options
from textvae.cli.generation import write_n_best, write_texts
from textvae.cli.options import AsJson, Conditions, Rate, RunFolder, Seed, condition_of
from textvae.cli.output import document, plain, result
from textvae.cli.progress import Bar
from textvae.cli.texts import Column, File, Texts, broken, shown, streamed_texts
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.codes import Piece
    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained


def encode(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the codes go: .npy or .parquet.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    rate: Rate = None,
    condition: Conditions = None,
    as_json: AsJson = False,
) -> None:
    """Write the codes of sentences to a file.

    A sentence's code is the mean of its posterior: one row of the file, in the order of the sentences. A file is
    read, encoded and written piece by piece, so it may have millions of lines. Parquet holds the sentences too.

    \b
    Examples:
      textvae encode RUN --file reviews.txt --out codes.npy
      cut -f2 reviews.tsv | textvae encode RUN --file - --out codes.parquet
    """  # noqa: D301
    from textvae.generate.codes import encode_file
    from textvae.generate.trained import load

    given = streamed_texts(texts, file, column)
    trained = load(run, rate=rate, condition=condition_of(condition))
    with Bar(f"encoding {file or 'sentences'}", "sentence") as bar:
        count = encode_file(trained, _broken(trained, given), out, lambda done: bar.update(done, None))
    if as_json:
        document({"out": str(out), "sentences": count, "latent": trained.latent})
    else:
        result(f"{plain(str(out))}: {count:,} sentences x {trained.latent} numbers")


@decoding_options()
def decode(
    run: RunFolder,
    codes: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The codes: .npy or .parquet, as encode writes.", show_default=False),
    ] = ...,  # type: ignore[assignment]
    n_best: NBest = 0,
    rate: Rate = None,
    condition: Conditions = None,
    *,
    decoding: "Decoding",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write the sentences of codes in a file.

    \b
    Examples:
      textvae decode RUN --codes codes.npy
      textvae decode RUN --codes codes.parquet --decode nucleus:0.9
    """  # noqa: D301
    from textvae.generate.codes import read_codes
    from textvae.generate.trained import load

    trained = load(run, rate=rate, condition=condition_of(condition))
    trained.draw(0)  # a language model is refused before its codes are
    read = read_codes(codes, trained.latent, run=trained.identity)
    told: dict[str, Any] = {"decoding": asdict(decoding), "seed": seed}
    if n_best:
        best = ((None, trained.n_best(piece.codes, decoding, n_best)) for piece in read)
        write_n_best(trained, best, told, as_json)
        return

    def texts() -> Iterator[list[str]]:
        begin = 0
        for piece in read:
            yield trained.decode(piece.codes, decoding, seed, begin)
            begin += len(piece.codes)

    write_texts(trained, texts(), told, "texts", as_json)


def neighbours(
    run: RunFolder,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Sentences, each one quoted.", show_default=False)
    ],
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="The corpus: sentences, one a line, or stdin: -")
    ] = None,
    column: Column = None,
    codes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The corpus as codes that encode wrote.", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many neighbours of each.")] = 5,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="cosine (1 - cos of the angle) or euclidean.")
    ] = "cosine",
    rate: Rate = None,
    condition: Conditions = None,
    as_json: AsJson = False,
) -> None:
    """Find the sentences of a corpus whose codes are nearest.

    Exact: the code of each sentence is compared with every one of the corpus, piece by piece. A line has the
    distance, the number of the corpus's sentence, from 1, and the sentence; so has the JSON, `row`.

    \b
    Examples:
      textvae neighbours RUN "the food was great ." --file reviews.txt -n 5
      textvae encode RUN --file reviews.txt --out codes.parquet
      textvae neighbours RUN "the food was great ." --codes codes.parquet --metric euclidean
    """  # noqa: D301
    from textvae.generate.codes import encoded, read_codes
    from textvae.generate.neighbours import neighbours as nearest
    from textvae.generate.trained import load

    if file is not None and codes is not None:
        raise RequestError("neighbours: --file and --codes are given; the corpus is one, leave out the other")
    if file is None and codes is None:
        raise RequestError("neighbours: give the corpus, as sentences with --file or as codes with --codes")
    trained = load(run, rate=rate, condition=condition_of(condition))
    given = broken(trained, texts)
    queries = trained.encode(given)
    if codes is not None:
        found = nearest(queries, read_codes(codes, trained.latent, run=trained.identity), count, metric)
    else:
        corpus = _broken(trained, streamed_texts(None, file, column))
        with Bar(f"encoding {file}", "sentence") as bar:
            found = nearest(queries, _counted(encoded(trained, corpus), bar), count, metric)
    if as_json:
        rows = [
            {"text": text, "neighbours": [{**one._asdict(), "row": one.row + 1} for one in near]}
            for text, near in zip(given, found, strict=True)
        ]
        textless = any(one.text is None for near in found for one in near)
        reasons = {"results.neighbours.text": f"{codes} holds codes without texts"} if textless else {}
        document({"metric": metric, "results": rows, "reasons": reasons})
        return
    blocks = []
    for text, near in zip(given, found, strict=True):
        lines = [plain(shown(trained, [text])[0])] if len(given) > 1 else []
        for one in near:
            written = "" if one.text is None else plain(shown(trained, [one.text])[0])
            lines.append(f"{one.distance:8.4f}  {one.row + 1:>8,}  {written}".rstrip())
        blocks.append("\n".join(lines))
    result("\n\n".join(blocks))


def _broken(trained: "Trained", texts: Iterator[str]) -> Iterator[str]:
    """Yield the texts of `broken`, one at a time."""
    return (broken(trained, [text])[0] for text in texts)


def _counted(pieces: "Iterator[Piece]", bar: Bar) -> "Iterator[Piece]":
    done = 0
    for piece in pieces:
        done += len(piece.codes)
        bar.update(done, None)
        yield piece
