"""`textvae transfer`: texts moved along a latent direction."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import decoding_options
from textvae.cli.options import AsJson, Conditions, Rate, RunFolder, Seed, condition_of
from textvae.cli.output import long_document, note, sentences
from textvae.cli.texts import Column, File, Texts, broken, read_noted, shown, streamed_texts
from textvae.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained
    from textvae.text.readers import Sentence

# Labels whose codes are nearer than this, in standard deviations, are hardly told by the code.
NEAR = 0.5

From = Annotated[str | None, typer.Option("--from", metavar="TEXT", help="A sentence of the kind that texts are.")]
To = Annotated[str | None, typer.Option("--to", metavar="TEXT", help="A sentence of the kind that they are to be.")]
LabelsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Instead: labelled sentences, which make the direction.")
]
FromLabel = Annotated[str | None, typer.Option(metavar="LABEL", help="Of --labels: the label that texts have.")]
ToLabel = Annotated[str | None, typer.Option(metavar="LABEL", help="Of --labels: the label that they are to get.")]
Label = Annotated[str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the label.")]
LabelText = Annotated[
    str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the text beside the label.")
]
DirectionFile = Annotated[
    Path | None, typer.Option("--direction", metavar="FILE", help="A direction that --save-direction wrote.")
]
ToCondition = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Of a conditional model: the label that texts are to get."),
]
SaveDirection = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the direction to a .npy file.")]
Strength = Annotated[str, typer.Option(metavar="NUMBERS", help="How far: 1, or several parted by commas, 0.5,1,2.")]


@decoding_options()
def transfer(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    source: From = None,
    target: To = None,
    labels: LabelsFile = None,
    from_label: FromLabel = None,
    to_label: ToLabel = None,
    label: Label = None,
    label_text: LabelText = None,
    direction: DirectionFile = None,
    save_direction: SaveDirection = None,
    strength: Strength = "1",
    rate: Rate = None,
    condition: Conditions = None,
    to_condition: ToCondition = None,
    *,
    decoding: "Decoding",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Change an attribute of sentences.

    Their codes are moved along a direction and decoded. The direction leads from one sentence to another
    (--from, --to), or from the mean code of sentences with one label to that of another (--labels, --label,
    --from-label, --to-label), or comes from a file. At strength 1 it is added to a sentence's code as it is; 0 is
    the plain reconstruction. Of a conditional model the label can be changed while the code stays: sentences are
    encoded under --condition, or without it under the labels that the model infers, and decoded under it with the
    changes of --to-condition.

    \b
    Examples:
      textvae transfer RUN "the food was awful ." --from "it was bad ." --to "it was good ."
      textvae transfer RUN --file new.txt --labels reviews.tsv --label stars --from-label 1 --to-label 5
      textvae transfer RUN "the food was awful ." --direction better.npy
      textvae transfer RUN "it was bad ." --to-condition sentiment=positive
    """  # noqa: D301
    strengths = strengths_of(strength)

    from textvae.generate.trained import load
    from textvae.generate.transfer import save_direction as save

    rows_given = streamed_texts(texts, file, column)  # read once the direction is there
    trained = load(run, rate=rate, condition=condition_of(condition))
    ends = {"--from": source, "--to": target}
    of_labels = {"--from-label": from_label, "--to-label": to_label}
    if to_condition:
        others = {**{"--direction": direction, "--labels": labels}, **ends, **of_labels}
        _refuse_beside("--to-condition", others)
        told = {"condition": condition_of(condition), "to": condition_of(to_condition, "--to-condition")}
        _relabelled(trained, rows_given, told, decoding, seed, as_json)
        return
    if direction is not None:
        moves = _from_file(trained, direction, {**ends, "--labels": labels, **of_labels})
    elif labels is None:
        moves = trained.direction(*broken(trained, _ends(ends, labels, of_labels)))
    else:
        moves = _from_labels(trained, sides_of(labels, label, label_text, *_ends(ends, labels, of_labels)))
    if save_direction is not None:
        save(save_direction, moves, trained.identity)

    made = _transferred(trained, rows_given, moves, strengths, decoding, seed)
    about = {"decoding": asdict(decoding), "seed": seed, "direction_norm": norm(moves)}
    _write(trained, made, strengths, about, as_json)


def _write(
    trained: "Trained",
    made: "Iterator[tuple[str, list[str]]]",
    strengths: list[float],
    about: dict[str, Any],
    as_json: bool,
) -> None:
    """Print the transfers of each text, one line for each strength, or in JSON."""
    from textvae.generate.codes import ROWS, in_pieces

    if as_json:
        rows = (
            {"text": text, "strength": each, "transfer": shown(trained, [new])[0]}
            for text, changed in made
            for each, new in zip(strengths, changed, strict=True)
        )
        long_document(about, "transfers", rows)
        return
    lines = (
        shown(trained, [new])[0] if len(strengths) == 1 else f"{each:>4g}  {shown(trained, [new])[0]}"
        for _, changed in made
        for each, new in zip(strengths, changed, strict=True)
    )
    for some in in_pieces(lines, ROWS):
        sentences(some)


def _refuse_beside(option: str, others: Mapping[str, Any]) -> None:
    """Refuse options that have no use beside another."""
    also = [name for name, value in others.items() if value is not None]
    if also:
        raise RequestError(f"{option}: has no use for {', '.join(also)}; leave out one of the two")


def _relabelled(
    trained: "Trained", texts: Iterable[str], told: dict[str, Any], decoding: "Decoding", seed: int, as_json: bool
) -> None:
    """Print each text decoded under another label, from its code."""
    from textvae.generate.codes import ROWS, in_pieces

    def made() -> Iterator[tuple[str, str]]:
        begin = 0
        for some in in_pieces((broken(trained, [text])[0] for text in texts), ROWS):
            changed = trained.relabel(some, told["condition"], told["to"], decoding, seed, begin)
            yield from zip(some, changed, strict=True)
            begin += len(some)

    if as_json:
        about = {"decoding": asdict(decoding), "seed": seed, **told}
        if told["condition"] is None:
            about["reasons"] = {"condition": "--condition was not given: the labels of texts are inferred"}
        rows = ({"text": text, "transfer": shown(trained, [new])[0]} for text, new in made())
        long_document(about, "transfers", rows)
        return
    for lines in in_pieces((shown(trained, [new])[0] for _, new in made()), ROWS):
        sentences(lines)


def strengths_of(given: str) -> list[float]:
    """Return the numbers in `0.5,1,2`."""
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise RequestError(
            f"--strength {given}: give a number, or several parted by commas, like 0.5,1,2"
        ) from None


def _transferred(
    trained: "Trained",
    texts: Iterable[str],
    moves: "np.ndarray",
    strengths: list[float],
    decoding: "Decoding",
    seed: int,
) -> "Iterator[tuple[str, list[str]]]":
    """Yield each text and its transfers at each strength."""
    from textvae.generate.codes import ROWS, encoded
    from textvae.generate.transfer import moved

    begin = 0
    for codes, given in encoded(trained, (broken(trained, [text])[0] for text in texts), ROWS):
        changed = [trained.decode(moved(trained, codes, moves, each), decoding, seed, begin) for each in strengths]
        yield from zip(given or (), map(list, zip(*changed, strict=True)), strict=True)
        begin += len(codes)


def _ends(texts: Mapping[str, str | None], labels: Path | None, of_labels: Mapping[str, str | None]) -> list[str]:
    """Return both ends of a direction by option: two sentences, or two labels of a file."""
    if labels is None:
        ends, others, remedy = texts, of_labels, "is for a label of a file; give --labels FILE, or --from and --to"
    else:
        ends, others, remedy = of_labels, texts, "is for a sentence; with --labels give --from-label and --to-label"
    for name, value in others.items():
        if value is not None:
            raise RequestError(f"{name} {value}: {remedy}")
    given = [value for value in ends.values() if value is not None]
    if len(given) == 1:
        one, other = sorted(ends, key=lambda name: ends[name] is None)
        raise RequestError(f"transfer: {one} alone is no direction; give {other} too")
    if not given:
        raise RequestError(
            "transfer: no direction; give --from and --to, or --labels with --from-label and --to-label, or "
            "--direction"
        )
    return given


def _from_file(trained: "Trained", path: Path, beside: dict[str, Any]) -> "np.ndarray":
    """Return a direction from a file; refuse other options that give a direction."""
    from textvae.generate.transfer import load_direction

    trained.draw(0)  # refuses a language model, whose width means nothing
    _refuse_beside(f"--direction {path}", beside)
    return load_direction(path, trained.latent, trained.identity)


def _from_labels(trained: "Trained", sides: tuple[list[str], list[str]]) -> "np.ndarray":
    """Return a direction from labelled texts; note if it will have little effect."""
    moves = trained.direction(*sides)
    apart = separation_of(trained, sides, moves)
    if apart is not None and apart < NEAR:
        note(
            f"the labels' codes are only {apart:.2f} standard deviations apart along the direction: "
            "this run's code hardly says the label"
        )
    return moves


def separation_of(trained: "Trained", sides: tuple[list[str], list[str]], moves: "np.ndarray") -> float | None:
    """Return the distance of two sides along a direction, in standard deviations; None if codes do not vary."""
    from textvae.generate.transfer import separation

    return separation(trained.encode(sides[0]), trained.encode(sides[1]), moves)


def labelled(path: Path, label: str | None, column: str | None) -> "Iterator[Sentence]":
    """Yield the labelled sentences of a file, one at a time."""
    if label is None:
        raise RequestError(f"{path}: which column is the label? Give --label NAME or NUMBER")
    sentences = read_noted(path, column, label)

    def kept() -> "Iterator[Sentence]":
        left_out = 0
        for sentence in sentences:
            left_out += not sentence.label
            if sentence.label:
                yield sentence
        if left_out:
            note(f"{path}: {left_out:,} sentences without a label left out")

    return kept()


def sides_of(
    path: Path, label: str | None, column: str | None, source: str, target: str
) -> tuple[list[str], list[str]]:
    """Return the texts of a file labelled `source` and those labelled `target`; a sample of a long file."""
    from textvae.evaluation.probing import MOST_LEARNED, drawn
    from textvae.generate.transfer import by_label

    rows = drawn(labelled(path, label, column), MOST_LEARNED, 0)
    if len(rows) == MOST_LEARNED:
        note(f"{path}: {MOST_LEARNED:,} labelled sentences, drawn from all, make the direction")
    return by_label([row.text for row in rows], [row.label or "" for row in rows], source, target, str(path))


def norm(direction: "np.ndarray") -> float:
    """Return the Euclidean norm of a direction."""
    return float((direction.astype(float) ** 2).sum() ** 0.5)
