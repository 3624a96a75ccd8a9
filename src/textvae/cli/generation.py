"""`textvae sample`, `reconstruct` and `impute`: new sentences, and sentences anew."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import NBest, decoding_options, described
from textvae.cli.inspection import AsJson, RunFolder, Seed
from textvae.cli.output import document, note, plain, result, sentences
from textvae.cli.progress import Bar
from textvae.cli.texts import Column, File, Strict, Texts, broken, given_rows, given_texts, shown, usable
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained


@decoding_options
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
      textvae sample RUN -n 1000 --decode nucleus --top-p 0.9 --seed 1 > samples.txt
      textvae sample RUN --tail auto
      textvae sample RUN -n 3 --decode beam --beam 5 --n-best 5
    """  # noqa: D301
    from textvae.generate.trained import load

    bound = _bound(tail)
    trained = load(run)
    if trained.model.prior is None and decoding.certain and count > 1:
        note(
            f"note: a language model has no code, so all {count:,} samples by {decoding.name} decoding are the "
            "same sentence; --decode sample or nucleus draws different ones"
        )
    told: dict[str, Any] = {"decoding": described(decoding), "seed": seed}
    if tail is not None:
        from textvae.generate.sources import tail_draws, volume_preserving_bound

        codes = tail_draws(trained, count, seed, bound)
        told["tail"] = volume_preserving_bound(trained.latent) if bound is None else bound
    elif n_best and trained.model.prior is not None:
        codes = trained.draw(count, seed)
    else:
        codes = None
    if n_best:
        write_n_best(trained, trained.n_best(codes, decoding, n_best, count), told, as_json)
        return
    texts = trained.sample(count, seed, decoding) if codes is None else trained.decode(codes, decoding, seed)
    if as_json:
        document({**told, "samples": texts})
    else:
        sentences(shown(trained, texts))


@decoding_options
def reconstruct(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Also decode so many draws from each sentence's posterior.")
    ] = 0,
    n_best: NBest = 0,
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
    from textvae.generate.trained import load

    if samples and n_best:
        raise RequestError(f"--samples {samples}: texts of samples or the n best of the mean, not both")
    given = given_texts(texts, file, column)
    trained = load(run)
    given = broken(trained, given)
    told: dict[str, Any] = {"decoding": described(decoding), "seed": seed}
    if n_best:
        write_n_best(trained, trained.n_best(trained.encode(given), decoding, n_best), told, as_json, given)
        return
    found = trained.reconstruct(given, decoding=decoding, seed=seed)
    if not samples:
        drawn: list[list[str]] = []
    else:
        from textvae.generate.sources import posterior_draws

        codes = posterior_draws(trained, given, samples, seed)
        flat = trained.decode(codes.reshape(-1, trained.latent), decoding, seed)
        drawn = [flat[start : start + samples] for start in range(0, len(flat), samples)]
    if as_json:
        rows: list[dict[str, Any]] = [
            {"text": text, "reconstruction": new} for text, new in zip(given, found, strict=True)
        ]
        rows = [{**row, "samples": own} for row, own in zip(rows, drawn, strict=True)] if samples else rows
        document({**told, "reconstructions": rows})
    elif samples:
        blocks = []
        for text, new, own in zip(given, found, drawn, strict=True):
            names = ["input", "mean", *(f"sample {number}" for number in range(1, samples + 1))]
            lines = zip(names, shown(trained, [text, new, *own]), strict=True)
            blocks.append("\n".join(f"{name:<10}{plain(line)}".rstrip() for name, line in lines))
        result("\n\n".join(blocks))
    else:
        sentences(shown(trained, found))


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
    from textvae.generate.imputation import impute as imputed
    from textvae.generate.imputation import require_share, unusable
    from textvae.generate.trained import load

    require_share(last)
    rows = list(given_rows(texts, file, column))
    trained = load(run)
    if file is not None:
        rows = usable(rows, unusable(trained, rows, last), strict, file)
    given = [row.text for row in rows]
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


def write_n_best(
    trained: "Trained",
    found: list[list[tuple[str, float]]],
    told: dict[str, Any],
    as_json: bool,
    given: list[str] | None = None,
) -> None:
    """The best texts of each code, with log p(text|z) in nats before each; blocks are parted by a blank line."""
    if as_json:
        rows: list[dict[str, Any]] = [
            {"n_best": [{"text": text, "log_prob": nats} for text, nats in texts]} for texts in found
        ]
        if given is not None:
            rows = [{"text": text, **row} for text, row in zip(given, rows, strict=True)]
        document({**told, "codes": rows})
        return
    blocks = []
    for texts in found:
        lines = shown(trained, [text for text, _ in texts])
        blocks.append(
            "\n".join(f"{nats:8.2f}  {plain(line)}" for line, (_, nats) in zip(lines, texts, strict=True))
        )
    result("\n\n".join(blocks))


def _bound(tail: str | None) -> float | None:
    """The number that --tail gives; None where it is to be chosen."""
    if tail in (None, "auto"):
        return None
    try:
        bound = float(tail or "")
    except ValueError:
        bound = math.nan
    if not 0.0 < bound < math.inf:
        raise RequestError(f"--tail {tail}: give a number above 0, or `auto`")
    return bound
