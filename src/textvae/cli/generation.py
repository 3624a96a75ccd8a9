"""`textvae sample`, `reconstruct`, `impute`, `encode` and `interpolate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.inspection import AsJson, RunFolder, Seed
from textvae.cli.output import document, note, plain, result, sentences
from textvae.cli.progress import Bar
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained

# Stands for a line break within a text, of which a model of windows writes several lines.
BREAK = "⏎"

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="Sentences, each one quoted.", show_default=False)
]
File = Annotated[
    str | None,
    typer.Option("--file", metavar="FILE", help="Sentences from a file, one a line, or from stdin: -"),
]
Column = Annotated[str | None, typer.Option(metavar="NAME|NUMBER", help="The file's column of the text.")]
Decode = Annotated[str, typer.Option("--decode", metavar="NAME", help="greedy, beam, sample, top-k or nucleus.")]
Temperature = Annotated[float, typer.Option(help="Divides the logits: below 1 is sharper.")]
TopK = Annotated[int, typer.Option(help="top-k: how many of the likeliest words to draw from.")]
TopP = Annotated[float, typer.Option(help="nucleus: the mass of likeliest words to draw from.")]
BeamSize = Annotated[int, typer.Option("--beam", help="beam: how many texts are kept side by side.")]
Normalisation = Annotated[
    float, typer.Option(help="beam: the power of a text's length that its log-probability is divided by.")
]
MinLength = Annotated[int, typer.Option(help="No text ends before it has so many words.")]
NoUnknown = Annotated[bool, typer.Option("--no-unknown", help="Never write the unknown word.")]


def sample(
    run: RunFolder,
    count: Annotated[int, typer.Option("-n", min=1, help="How many sentences.")] = 20,
    decode: Decode = "greedy",
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    beam: BeamSize = 0,
    normalisation: Normalisation = 0.0,
    min_length: MinLength = 0,
    no_unknown: NoUnknown = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write new sentences: codes from the prior, decoded.

    \b
    Examples:
      textvae sample RUN
      textvae sample RUN -n 1000 --decode nucleus --top-p 0.9 --seed 1 > samples.txt
    """  # noqa: D301
    from textvae.generate.trained import load

    decoding = _decoding(decode, temperature, top_k, top_p, beam, normalisation, min_length, no_unknown)
    trained = load(run)
    texts = trained.sample(count, seed=seed, decoding=decoding)
    if as_json:
        document({"decoding": _described(decoding), "seed": seed, "samples": texts})
    else:
        sentences(_shown(trained, texts))


def reconstruct(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    decode: Decode = "greedy",
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    beam: BeamSize = 0,
    normalisation: Normalisation = 0.0,
    min_length: MinLength = 0,
    no_unknown: NoUnknown = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Encode sentences and decode their codes again.

    A sentence's code is the mean of its posterior.

    \b
    Examples:
      textvae reconstruct RUN "the food was great ."
      textvae reconstruct RUN --file reviews.txt > reconstructed.txt
    """  # noqa: D301
    from textvae.generate.trained import load

    decoding = _decoding(decode, temperature, top_k, top_p, beam, normalisation, min_length, no_unknown)
    given = given_texts(texts, file, column)
    trained = load(run)
    given = _broken(trained, given)
    found = trained.reconstruct(given, decoding=decoding, seed=seed)
    if as_json:
        pairs = [{"text": text, "reconstruction": new} for text, new in zip(given, found, strict=True)]
        document({"decoding": _described(decoding), "seed": seed, "reconstructions": pairs})
    else:
        sentences(_shown(trained, found))


def impute(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    beam: Annotated[
        int | None, typer.Option(min=1, help="How many texts are kept side by side; 5, of a language model 15.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often code and words are found anew.")] = 3,
    last: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Instead of gaps: so much of each sentence's end is missing."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fill the gaps of sentences.

    ___ stands for one missing word, ___*3 for three. Words on both sides of a gap count. The code is the mean of
    the posterior, the words are the likeliest that a beam finds, and so on in turn.

    \b
    Examples:
      textvae impute RUN "i went to the ___ ."
      textvae impute RUN "the ___*2 was great ." --beam 10
      textvae impute RUN --last 0.2 --file sentences.txt > completed.txt
    """  # noqa: D301
    from textvae.generate.imputation import impute as imputed
    from textvae.generate.trained import load

    given = given_texts(texts, file, column)
    trained = load(run)
    with Bar("imputing", "sentence") as bar:
        found = imputed(trained, given, beam, rounds, last, bar.update)
    if as_json:
        pairs = [
            {"text": text, "imputation": new.text, "log_prob": new.log_prob}
            for text, new in zip(given, found, strict=True)
        ]
        document({"beam": beam, "rounds": rounds, "last": last, "imputations": pairs})
    else:
        sentences(new.text for new in found)


def encode(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the codes go: .npy or .parquet.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    as_json: AsJson = False,
) -> None:
    """Write the codes of sentences to a file.

    A sentence's code is the mean of its posterior: one row of the file, in the order of the sentences.

    \b
    Examples:
      textvae encode RUN --file reviews.txt --out codes.npy
      cut -f2 reviews.tsv | textvae encode RUN --file - --out codes.parquet
    """  # noqa: D301
    from textvae.generate.trained import load, save_codes

    given = given_texts(texts, file, column)
    trained = load(run)
    given = _broken(trained, given)
    codes = trained.encode(given)
    save_codes(out, codes, given)
    if as_json:
        document({"out": str(out), "sentences": codes.shape[0], "latent": codes.shape[1]})
    else:
        result(f"{plain(str(out))}: {codes.shape[0]:,} sentences x {codes.shape[1]} numbers")


def interpolate(
    run: RunFolder,
    a: Annotated[str | None, typer.Argument(metavar="A", help="The first sentence.", show_default=False)] = None,
    b: Annotated[str | None, typer.Argument(metavar="B", help="The last sentence.", show_default=False)] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Between two draws from the prior instead.")] = False,
    steps: Annotated[int, typer.Option(min=2, help="How many sentences, both ends among them.")] = 9,
    decode: Decode = "greedy",
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    beam: BeamSize = 0,
    normalisation: Normalisation = 0.0,
    min_length: MinLength = 0,
    no_unknown: NoUnknown = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Decode what lies between two sentences or prior draws.

    \b
    Examples:
      textvae interpolate RUN "the food was great ." "i will never come back ."
      textvae interpolate RUN --prior --steps 12 --seed 3 --decode beam --beam 5
    """  # noqa: D301
    if prior == (a is not None) or (a is None) != (b is None):
        raise RequestError("interpolate: give two sentences, A and B, or --prior")

    from textvae.generate.trained import load

    decoding = _decoding(decode, temperature, top_k, top_p, beam, normalisation, min_length, no_unknown)
    trained = load(run)
    if a is None or b is None:
        found = trained.interpolate_prior(seed, steps, decoding)
    else:
        a, b = _broken(trained, [a, b])
        found = trained.interpolate(a, b, steps, decoding, seed)
    if as_json:
        document({"decoding": _described(decoding), "seed": seed, "steps": found})
    else:
        sentences(_shown(trained, found))


def _decoding(
    name: str,
    temperature: float,
    top_k: int,
    top_p: float,
    beam: int,
    normalisation: float,
    min_length: int,
    no_unknown: bool,
) -> "Decoding":
    from textvae.generate.decoding import Decoding

    return Decoding(name, temperature, top_k, top_p, not no_unknown, beam, normalisation, min_length)


def _described(decoding: "Decoding") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(decoding)


def _broken(trained: "Trained", texts: list[str]) -> list[str]:
    """Texts given to a model of windows, a ⏎ in them turned to a line break."""
    return texts if trained.window is None else [text.replace(BREAK, "\n") for text in texts]


def _shown(trained: "Trained", texts: list[str]) -> list[str]:
    """Texts of a model of windows on one line each."""
    return texts if trained.window is None else [text.replace("\n", BREAK) for text in texts]


def given_texts(texts: list[str] | None, file: str | None, column: str | None) -> list[str]:
    """The sentences given as arguments, in a file, or on stdin.

    Raises:
        RequestError: when there are none, or they are given in two ways, or the file cannot be used.
    """
    from textvae.corpora.readers import read

    if texts and file is not None:
        raise RequestError(f"--file {file}: give sentences as arguments or in a file, not both")
    if column is not None and file in (None, "-"):
        raise RequestError(f"--column {column}: only a file has columns; give --file FILE")
    if texts:
        return texts
    if file is None:
        raise RequestError('no text given: put sentences in quotes, or --file FILE, or "--file -" for stdin')
    if file == "-":
        found, blank = _stdin()
    else:
        reading = read(file, column)
        found = [sentence.text for sentence in reading]
        blank = reading.blank
    if blank:
        note(f"{plain(file)}: {blank:,} blank lines left out")
    return found


def _stdin() -> tuple[list[str], int]:
    """The sentences on stdin, one a line, and how many lines were blank."""
    try:
        lines = sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RequestError(f"stdin: not UTF-8 text (byte {error.start}); convert it first, with iconv") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise RequestError("stdin: no sentence in it; give text, one sentence a line")
    return found, len(lines) - len(found)
