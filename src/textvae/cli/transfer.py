"""`textvae transfer` and `transfer-curve`: texts moved along a latent direction, and scores of the result."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import decoding_options, described
from textvae.cli.options import AsJson, RunFolder, Seed
from textvae.cli.output import DASH, columns, document, long_document, note, number, plain, result, sentences
from textvae.cli.texts import Column, File, Texts, broken, read_noted, shown, streamed_texts
from textvae.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained
    from textvae.metrics.attributes import Classifier
    from textvae.text.readers import Sentence

# Labels whose codes are nearer than this, in standard deviations, are hardly told by the code.
NEAR = 0.5

From = Annotated[
    str | None, typer.Option("--from", metavar="TEXT|LABEL", help="What texts are: a sentence, or a label.")
]
To = Annotated[str | None, typer.Option("--to", metavar="TEXT|LABEL", help="What they are to become: likewise.")]
FromLabel = Annotated[
    str, typer.Option("--from", metavar="LABEL", help="The label that sentences have.", show_default=False)
]
ToLabel = Annotated[
    str, typer.Option("--to", metavar="LABEL", help="The label that they are to get.", show_default=False)
]
LabelsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labelled sentences: --from and --to are two of its labels.")
]
MovedFile = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Labelled sentences: those labelled --from are moved.", show_default=False),
]
DirectionLabels = Annotated[
    Path, typer.Option(metavar="FILE", help="Other ones, which make the direction.", show_default=False)
]
Judge = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labelled sentences, seen by no run, to train a classifier.")
]
LanguageModel = Annotated[
    Path | None, typer.Option(metavar="RUN", help="The run of a language model: is the text fluent?")
]
Reference = Annotated[
    str | None, typer.Option(metavar="NAME|NUMBER", help="FILE's column of sentences rewritten by people.")
]
GrammarAttribute = Annotated[
    str | None, typer.Option(metavar="ATTRIBUTE", help="Judge by the embedded grammar too: the attribute's name.")
]
Characters = Annotated[
    bool, typer.Option("--characters", help="Count characters, not words: for text without spaces.")
]
Label = Annotated[str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the label.")]
LabelText = Annotated[
    str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the text beside the label.")
]
DirectionFile = Annotated[
    Path | None, typer.Option("--direction", metavar="FILE", help="A direction that --save-direction wrote.")
]
SaveDirection = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the direction to a .npy file.")]
Strength = Annotated[str, typer.Option(metavar="NUMBERS", help="How far: 1, or several parted by commas, 0.5,1,2.")]


@decoding_options
def transfer(
    run: RunFolder,
    texts: Texts = None,
    file: File = None,
    column: Column = None,
    source: From = None,
    target: To = None,
    labels: LabelsFile = None,
    label: Label = None,
    label_text: LabelText = None,
    direction: DirectionFile = None,
    save_direction: SaveDirection = None,
    strength: Strength = "1",
    *,
    decoding: "Decoding",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Change an attribute of sentences.

    Their codes are moved along a direction and decoded. The direction leads from one sentence to another
    (--from, --to), or from the mean code of sentences with one label to that of another (--labels, --label and
    --from, --to), or comes from a file. At strength 1 it is added to a sentence's code as it is; 0 is the plain
    reconstruction.

    \b
    Examples:
      textvae transfer RUN "the food was awful ." --from "it was bad ." --to "it was good ."
      textvae transfer RUN --file new.txt --labels reviews.tsv --label stars --from 1 --to 5 --strength 1,1.5,2
      textvae transfer RUN "the food was awful ." --direction better.npy
    """  # noqa: D301
    strengths = _strengths(strength)

    from textvae.generate.codes import ROWS, in_pieces
    from textvae.generate.trained import load
    from textvae.generate.transfer import save_direction as save

    rows_given = streamed_texts(texts, file, column)  # read once the direction is there
    trained = load(run)
    moves = _direction(trained, direction, source, target, labels, label, label_text)
    if save_direction is not None:
        save(save_direction, moves, trained.identity)

    made = _transferred(trained, rows_given, moves, strengths, decoding, seed)
    if as_json:
        rows = (
            {"text": text, "strength": each, "transfer": shown(trained, [new])[0]}
            for text, changed in made
            for each, new in zip(strengths, changed, strict=True)
        )
        about = {"decoding": described(decoding), "seed": seed, "direction_norm": _norm(moves)}
        long_document(about, "transfers", rows)
        return
    one = len(strengths) == 1
    lines = (
        shown(trained, [new])[0] if one else f"{each:>4g}  {shown(trained, [new])[0]}"
        for _, changed in made
        for each, new in zip(strengths, changed, strict=True)
    )
    for some in in_pieces(lines, ROWS):
        sentences(some)


def transfer_curve(
    run: RunFolder,
    file: MovedFile,
    labels: DirectionLabels,
    source: FromLabel,
    target: ToLabel,
    label: Label = None,
    label_text: LabelText = None,
    judge: Judge = None,
    language_model: LanguageModel = None,
    reference: Reference = None,
    grammar: GrammarAttribute = None,
    characters: Characters = False,
    strength: Strength = "0,0.5,1,1.5,2,3",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score attribute transfer over its strength.

    The attribute by a classifier of words and pairs of words that is trained on the sentences of --judge, content
    by BLEU with the sentence itself and with --reference, fluency by the NLL under a language model. Codes are
    decoded greedily; strength 0 is the reconstruction. --label and --label-text hold for all files.

    \b
    Examples:
      textvae transfer-curve RUN --file test.tsv --labels train.tsv --label stars --from 1 --to 5 \\
        --judge other.tsv --language-model LM
    """  # noqa: D301
    strengths = _strengths(strength)

    from textvae.evaluation.transfer_curve import Judges, curve_signature
    from textvae.evaluation.transfer_curve import transfer_curve as curve
    from textvae.generate.trained import load

    tokenization = "characters" if characters else "words"
    moved, references = _moved(file, label, label_text, reference, source)
    sides = _sides(labels, label, label_text, source, target)
    classifier = None
    if judge is not None:
        known = [*moved, *sides[0], *sides[1], *(references or ())]
        classifier = _classifier(judge, label, label_text, known, tokenization, seed)
    _note_overlap(file, moved, labels, [*sides[0], *sides[1]], tokenization)
    trained = load(run)
    judges = Judges(classifier, None if language_model is None else load(language_model), grammar, tokenization)
    moves = trained.direction(*sides)
    rows = curve(trained, moved, moves, target, judges, strengths, references, seed=seed)
    about = {
        "from": source,
        "to": target,
        "sentences": len(moved),
        "direction_norm": _norm(moves),
        "separation": _apart(trained, sides, moves),
        "classifier": None if classifier is None else classifier.about(),
    }
    signed = curve_signature(moved, moves, judges, references, seed=seed)
    if as_json:
        why = "codes do not vary within the labels, as with one sentence of each"
        reasons = {"separation": why} if about["separation"] is None else {}
        if classifier is None:
            reasons["classifier"] = "--judge was not given"
        document({**about, "seed": seed, "rows": rows, "signature": signed, "reasons": reasons})
    else:
        result("\n".join([*(plain(line) for line in _head(run, about)), table(rows), signed]))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of a transfer curve for reading."""
    names = {
        "accuracy": ("accuracy", 3),
        "bleu_input": ("BLEU input", 1),
        "bleu_reference": ("BLEU reference", 1),
        "nll": ("NLL", 2),
        "words": ("words", 1),
        "different": ("different", 3),
    }
    scored = [name for name in names if any(name in row for row in rows)]
    exact = [name for name in ("in_language", "wanted", "exact") if any("grammar" in row for row in rows)]
    lines = [["", *(names[name][0] for name in scored), *(name.replace("_", " ") for name in exact), ""]]
    for row in rows:
        line = row["line"] if row["strength"] is None else f"strength {row['strength']:g}"
        cells = [number(row[name], names[name][1]) if name in row else DASH for name in scored]
        lines.append([line, *cells, *(number(row["grammar"][name], 3) for name in exact), ""])
    return columns(lines)


def _head(run: Path, about: dict[str, Any]) -> list[str]:
    """Return the lines above the table."""
    apart = number(about["separation"])
    lines = [f"{run}: {about['sentences']:,} sentences from {about['from']} to {about['to']}"]
    if about["separation"] is not None:
        lines.append(f"the labels' codes are {apart} standard deviations apart along the direction")
    judge = about["classifier"]
    if judge is not None:
        held = f"{judge['held_out']:,} sentences held out; the commonest label alone: {judge['majority']:.3f}"
        lines.append(f"the classifier is right on {judge['accuracy']:.3f} of {held}")
    return lines


def _strengths(given: str) -> list[float]:
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


def _direction(
    trained: "Trained",
    direction: Path | None,
    source: str | None,
    target: str | None,
    labels: Path | None,
    label: str | None,
    label_text: str | None,
) -> "np.ndarray":
    """Return the direction of transfer, from a file, two sentences or labelled ones."""
    if direction is not None:
        return _from_file(trained, direction, {"--from": source, "--to": target, "--labels": labels})
    if (source is None) != (target is None):
        given_one, missing = ("--from", "--to") if target is None else ("--to", "--from")
        raise RequestError(f"transfer: {given_one} alone is no direction; give {missing} too")
    if source is None or target is None:
        raise RequestError("transfer: no direction; give --from and --to, with or without --labels, or --direction")
    if labels is None:
        return trained.direction(*broken(trained, [source, target]))
    return _from_labels(trained, _sides(labels, label, label_text, source, target))


def _from_file(trained: "Trained", path: Path, beside: dict[str, Any]) -> "np.ndarray":
    """Return a direction from a file; refuse other options that give a direction."""
    from textvae.generate.transfer import load_direction

    trained.draw(0)  # refuses a language model, whose width means nothing
    also = [name for name, value in beside.items() if value is not None]
    if also:
        raise RequestError(f"--direction {path}: has no use for {', '.join(also)}; leave out one of the two")
    return load_direction(path, trained.latent, trained.identity)


def _from_labels(trained: "Trained", sides: tuple[list[str], list[str]]) -> "np.ndarray":
    """Return a direction from labelled texts; note if it will have little effect."""
    moves = trained.direction(*sides)
    apart = _apart(trained, sides, moves)
    if apart is not None and apart < NEAR:
        note(
            f"the labels' codes are only {apart:.2f} standard deviations apart along the direction: "
            "this run's code hardly says the label"
        )
    return moves


def _apart(trained: "Trained", sides: tuple[list[str], list[str]], moves: "np.ndarray") -> float | None:
    from textvae.generate.transfer import separation

    return separation(trained.encode(sides[0]), trained.encode(sides[1]), moves)


def _labelled(path: Path, label: str | None, column: str | None) -> "Iterator[Sentence]":
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


def _sides(
    path: Path, label: str | None, column: str | None, source: str, target: str
) -> tuple[list[str], list[str]]:
    """Return the texts of a file labelled `source` and those labelled `target`; a sample of a long file."""
    from textvae.evaluation.probing import MOST_LEARNED, drawn
    from textvae.generate.transfer import by_label

    rows = drawn(_labelled(path, label, column), MOST_LEARNED, 0)
    if len(rows) == MOST_LEARNED:
        note(f"{path}: {MOST_LEARNED:,} labelled sentences, drawn from all, make the direction")
    return by_label([row.text for row in rows], [row.label or "" for row in rows], source, target, str(path))


def _of_label(path: Path, label: str | None, column: str | None, wanted: str) -> "list[Sentence]":
    """Return the sentences of a file with one label."""
    kept, labels = list["Sentence"](), dict[str | None, None]()
    for row in _labelled(path, label, column):
        labels[row.label] = None
        if row.label == wanted:
            kept.append(row)
    if not kept:
        known = ", ".join(map(repr, labels))
        raise RequestError(f"{path}: no text has the label {wanted!r}; the labels are {known[:200]}")
    return kept


def _moved(
    file: Path, label: str | None, column: str | None, reference: str | None, source: str
) -> tuple[list[str], list[str] | None]:
    """Return the texts of a file labelled `source`, and the references in their rows if their column is named."""
    rows = _of_label(file, label, column, source)
    if reference is None:
        return [row.text for row in rows], None
    by_line = {row.line: row.text for row in _of_label(file, label, reference, source)}
    both = [row for row in rows if row.line in by_line]
    if both and all(row.text == by_line[row.line] for row in both):
        raise RequestError(
            f"--reference {reference}: {file} has the sentences themselves there; name another column, or that of "
            "the text with --label-text"
        )
    if not both:
        raise RequestError(f"--reference {reference}: {file} has no text labelled {source!r} with a reference")
    if len(both) < len(rows):
        note(f"{file}: {len(rows) - len(both):,} sentences without a reference left out")
    return [row.text for row in both], [by_line[row.line] for row in both]


def _note_overlap(file: Path, moved: list[str], labels: Path, sides: list[str], tokenization: str) -> None:
    """Print a note if sentences to be moved are among those that the direction is made from."""
    known = set(_keys(sides, tokenization))
    again = sum(key in known for key in _keys(moved, tokenization))
    if again:
        note(f"{file}: {again:,} of {len(moved):,} sentences are also in {labels}, which makes the direction")


def _keys(texts: list[str], tokenization: str) -> list[tuple[str, ...]]:
    """Return the tokens of each text: separated by white space, or all characters but white space."""
    from textvae.metrics.words import tokenized

    return list(map(tuple, tokenized(texts, tokenization)))


def _classifier(
    path: Path, label: str | None, column: str | None, known: list[str], tokenization: str, seed: int
) -> "Classifier":
    """Return a classifier trained on the texts of a file that are not already known, whatever their spacing."""
    from textvae.metrics.attributes import train_classifier

    rows = list(_labelled(path, label, column))
    used = set(_keys(known, tokenization))
    pairs = [(row.text, row.label or "") for row in rows]
    keys = _keys([row.text for row in rows], tokenization)
    others = [pair for pair, key in zip(pairs, keys, strict=True) if key not in used]
    if not others:
        raise RequestError(
            f"--judge {path}: all of its {len(pairs):,} sentences are in the other files, so none is left to learn "
            "from; give labelled text that neither the direction nor the moved sentences are from"
        )
    if len(others) < len(pairs):
        note(f"{path}: {len(pairs) - len(others):,} sentences left out that are in the other files")
    try:
        return train_classifier([text for text, _ in others], [mark for _, mark in others], tokenization, seed)
    except RequestError as error:
        raise RequestError(f"--judge {path}: {error}") from None


def _norm(direction: "np.ndarray") -> float:
    return float((direction.astype(float) ** 2).sum() ** 0.5)
