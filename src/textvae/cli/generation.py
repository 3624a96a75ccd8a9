"""`textvae sample`, `reconstruct` and `impute`: new and reconstructed sentences."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, zip_longest
from itertools import count as counted
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import NBest, decoding_options
from textvae.cli.options import AsJson, Conditions, Prior, Rate, RunFolder, Seed, condition_of
from textvae.cli.output import blocks, long_document, note, plain, sentences
from textvae.cli.progress import Bar
from textvae.cli.texts import Column, File, LeftOut, Strict, Texts, broken, given_rows, shown, streamed_texts
from textvae.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained


@decoding_options()
def sample(
    run: RunFolder,
    count: Annotated[int, typer.Option("-n", min=1, help="How many sentences.")] = 20,
    tail: Annotated[
        str | None,
        typer.Option(
            metavar="C|auto",
            help="Unlikely codes: draws through a random linear map with elements from U(-C, C).",
            show_default=False,
        ),
    ] = None,
    n_best: NBest = 0,
    prior: Prior = "usual",
    rate: Rate = None,
    condition: Conditions = None,
    *,
    decoding: "Decoding",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write new sentences: codes from the prior, decoded.

    With --tail the codes lie further out, all sent there by one random map of the seed: `auto` chooses the C that
    keeps volumes for codes of this size. What is written is less typical.

    \b
    Examples:
      textvae sample RUN
      textvae sample RUN -n 1000 --decode nucleus:0.9 --seed 1 > samples.txt
      textvae sample RUN --tail auto
      textvae sample RUN --prior fitted
      textvae sample RUN --condition sentiment=negative
      textvae sample RUN -n 3 --decode beam:5 --n-best 5
    """  # noqa: D301
    from textvae.generate.codes import ROWS
    from textvae.generate.sources import tail_draws, volume_preserving_bound
    from textvae.generate.trained import load

    bound = _bound(tail)
    trained = load(run, prior, rate, condition_of(condition))
    if trained.model.prior is None and decoding.certain and count > 1:
        note(
            f"note: a language model has no code, so all {count:,} samples by {decoding.name} decoding are the "
            "same sentence; --decode sample or nucleus:0.9 draws different ones"
        )
    told: dict[str, Any] = {"decoding": asdict(decoding), "seed": seed}
    if trained.run.fitted is not None:
        told["prior"] = trained.run.fitted.name
    if condition:
        told["condition"] = condition_of(condition)
    if tail is not None:
        told["tail"] = volume_preserving_bound(trained.latent) if bound is None else bound

    def drawn(begin: int, n: int) -> "np.ndarray":
        return trained.draw(n, seed, begin) if tail is None else tail_draws(trained, n, seed, bound, begin)

    parts = ((begin, min(ROWS, count - begin)) for begin in range(0, count, ROWS))
    if n_best:
        coded = trained.model.prior is not None or tail is not None
        best = (
            (None, trained.n_best(drawn(*part) if coded else None, decoding, n_best, part[1])) for part in parts
        )
        write_n_best(trained, best, told, as_json)
        return
    if tail is None:
        texts = (trained.sample(n, seed, decoding, begin) for begin, n in parts)
    else:
        texts = (trained.decode(drawn(begin, n), decoding, seed, begin) for begin, n in parts)
    write_texts(trained, texts, told, "samples", as_json)


@decoding_options()
def reconstruct(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Also decode so many draws from each sentence's posterior.")
    ] = 0,
    n_best: NBest = 0,
    rate: Rate = None,
    condition: Conditions = None,
    *,
    decoding: "Decoding",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Encode sentences and decode their codes again.

    A sentence's code is the mean of its posterior; --samples shows what else its posterior holds.

    \b
    Examples:
      textvae reconstruct RUN "the food was great ."
      textvae reconstruct RUN "the food was great ." --samples 3
      textvae reconstruct RUN --file reviews.txt > reconstructed.txt
    """  # noqa: D301
    from textvae.generate.codes import ROWS, encoded, in_pieces
    from textvae.generate.sources import posterior_draws
    from textvae.generate.trained import load
    from textvae.parts.noise import mixed

    if samples and n_best:
        raise RequestError(f"--samples {samples}: texts of samples or the n best of the mean, not both")
    given = streamed_texts(texts, file, column)
    trained = load(run, rate=rate, condition=condition_of(condition))
    told: dict[str, Any] = {"decoding": asdict(decoding), "seed": seed}
    read = encoded(trained, (broken(trained, [text])[0] for text in given), ROWS)
    if n_best:
        best = ((piece.texts, trained.n_best(piece.codes, decoding, n_best)) for piece in read)
        write_n_best(trained, best, told, as_json)
        return

    def rows() -> Iterator[dict[str, Any]]:
        begin = 0
        for codes, given in read:
            found = trained.decode(codes, decoding, seed, begin)
            drawn = posterior_draws(trained, given or (), samples, seed, begin) if samples else codes[:, None]
            # Each draw by a seed of its own: not by the random numbers that the means are decoded with.
            of_draws = [
                trained.decode(drawn[:, draw], decoding, mixed(seed, draw), begin) for draw in range(samples)
            ]
            for text, new, *own in zip(given or (), found, *of_draws, strict=True):
                yield {"text": text, "reconstruction": new, **({"samples": own} if samples else {})}
            begin += len(codes)

    if as_json:
        long_document(told, "reconstructions", rows())
    elif samples:
        blocks(_block(shown(trained, [row["text"], row["reconstruction"], *row["samples"]])) for row in rows())
    else:
        for some in in_pieces((row["reconstruction"] for row in rows()), ROWS):
            sentences(shown(trained, some))


def _block(lines: Iterable[str]) -> str:
    """Return a sentence, its reconstruction and samples as lines with their names."""
    names = chain(("input", "mean"), (f"sample {number}" for number in counted(1)))
    return "\n".join(f"{name:<10}{plain(line)}".rstrip() for name, line in zip(names, lines, strict=False))


def impute(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    beam: Annotated[
        int | None, typer.Option(min=1, help="How many texts are kept side by side; 5, of a language model 15.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which code and words are updated.")] = 3,
    last: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Instead of gaps: so much of each sentence's end is missing."),
    ] = None,
    rate: Rate = None,
    condition: Conditions = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Fill the gaps of sentences.

    ___ stands for one missing word (or character), ___*3 for three. Words on both sides of a gap count. The code is
    the mean of the posterior, the words are the likeliest that a beam finds, and so on in turn. Rows of FILE that
    cannot be imputed (without a gap, too long, of unknown words) are named, left out and counted.

    \b
    Examples:
      textvae impute RUN "i went to the ___ ."
      textvae impute RUN "the ___*2 was great ." --beam 10
      textvae impute RUN --last 0.2 --file sentences.txt > completed.txt
    """  # noqa: D301
    from textvae.generate.codes import ROWS, in_pieces
    from textvae.generate.imputation import Imputation, require_share, unusable, usual_beam
    from textvae.generate.imputation import impute as imputed
    from textvae.generate.trained import load

    require_share(last)
    read = given_rows(texts, file, column)
    trained = load(run, rate=rate, condition=condition_of(condition))
    left_out = LeftOut(strict, file or "")

    def made() -> Iterator[tuple[str, Imputation]]:
        done = 0
        with Bar("imputing", "sentence") as bar:
            for rows in in_pieces(read, ROWS):
                if file is not None:
                    rows = left_out.usable(rows, unusable(trained, rows, last))
                given = [row.text for row in rows]
                so_far, done = done, done + len(given)
                told = lambda now, _, so_far=so_far: bar.update(so_far + now, None)  # noqa: E731
                yield from zip(given, imputed(trained, given, beam, rounds, last, told), strict=True)
        left_out.tell()

    if as_json:
        pairs = ({"text": text, "imputation": new.text, "log_prob": new.log_prob} for text, new in made())
        reasons = {} if beam is not None else {"beam": f"--beam was not given: it is {usual_beam(trained)}"}
        if last is None:
            reasons["last"] = "--last was not given: gaps are marked"
        long_document({"beam": beam, "rounds": rounds, "last": last, "reasons": reasons}, "imputations", pairs)
    else:
        for some in in_pieces((new.text for _, new in made()), ROWS):
            sentences(some)


def write_texts(
    trained: "Trained", pieces: Iterable[list[str]], told: dict[str, Any], name: str, as_json: bool
) -> None:
    """Print texts as they are made, some at a time: one a line, or in JSON under a name."""
    if as_json:
        long_document(told, name, (text for texts in pieces for text in texts))
        return
    for texts in pieces:
        sentences(shown(trained, texts))


def write_n_best(
    trained: "Trained",
    pieces: Iterable[tuple[list[str] | None, list[list[tuple[str, float]]]]],
    told: dict[str, Any],
    as_json: bool,
) -> None:
    """Print the best texts of each code as they are found, with log p(text|z) in nats before each.

    Some codes at a time, with the texts that they are of, if they are. Blocks are parted by a blank line.
    """
    if as_json:
        rows = (
            ({} if text is None else {"text": text})
            | {"n_best": [{"text": new, "log_prob": nats} for new, nats in texts]}
            for given, found in pieces
            for text, texts in zip_longest(given or (), found)
        )
        long_document(told, "codes", rows)
        return
    blocks(
        "\n".join(
            f"{nats:8.2f}  {plain(line)}"
            for line, (_, nats) in zip(shown(trained, [text for text, _ in texts]), texts, strict=True)
        )
        for _, found in pieces
        for texts in found
    )


def _bound(tail: str | None) -> float | None:
    """Return the number given by --tail; None if it is to be chosen."""
    if tail in (None, "auto"):
        return None
    try:
        bound = float(tail or "")
    except ValueError:
        bound = math.nan
    if not 0.0 < bound < math.inf:
        raise RequestError(f"--tail {tail}: give a number above 0, or `auto`")
    return bound
