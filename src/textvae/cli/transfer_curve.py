"""`textvae transfer-curve`: scores of texts moved along a latent direction, over the strength."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.options import AsJson, RunFolder, Seed
from textvae.cli.output import DASH, columns, document, note, number, plain, result
from textvae.cli.transfer import Label, LabelText, Strength, labelled, norm, separation_of, sides_of, strengths_of
from textvae.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textvae.metrics.attributes import Classifier
    from textvae.text.readers import Sentence

FromLabel = Annotated[
    str, typer.Option("--from-label", metavar="LABEL", help="The label that sentences have.", show_default=False)
]
ToLabel = Annotated[
    str, typer.Option("--to-label", metavar="LABEL", help="The label that they are to get.", show_default=False)
]
MovedFile = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Labelled sentences: those of --from-label are moved.", show_default=False),
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
      textvae transfer-curve RUN --file test.tsv --labels train.tsv --label stars \\
        --from-label 1 --to-label 5 --judge other.tsv --language-model LM
    """  # noqa: D301
    strengths = strengths_of(strength)

    from textvae.evaluation.transfer_curve import Judges, curve_signature
    from textvae.evaluation.transfer_curve import transfer_curve as curve
    from textvae.generate.trained import load

    trained = load(run)
    of_pieces = trained.tokenizer.name == "words"
    tokenization = "characters" if characters else "pieces" if of_pieces else "words"
    moved, references = _moved(file, label, label_text, reference, source)
    sides = sides_of(labels, label, label_text, source, target)
    classifier = None
    if judge is not None:
        known = [*moved, *sides[0], *sides[1], *(references or ())]
        classifier = _classifier(judge, label, label_text, known, tokenization, seed)
    _note_overlap(file, moved, labels, [*sides[0], *sides[1]], tokenization)
    judges = Judges(classifier, None if language_model is None else load(language_model), grammar, tokenization)
    moves = trained.direction(*sides)
    rows = curve(trained, moved, moves, target, judges, strengths, references, seed=seed)
    about = {
        "from": source,
        "to": target,
        "sentences": len(moved),
        "direction_norm": norm(moves),
        "separation": separation_of(trained, sides, moves),
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


def _of_label(path: Path, label: str | None, column: str | None, wanted: str) -> "list[Sentence]":
    """Return the sentences of a file with one label."""
    kept, labels = list["Sentence"](), dict[str | None, None]()
    for row in labelled(path, label, column):
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


def _keys(texts: list[str], tokenization: str) -> "Iterator[tuple[str, ...]]":
    """Yield the tokens of each text: separated by white space, or all characters but white space."""
    from textvae.metrics.words import tokenized

    return map(tuple, tokenized(texts, tokenization))


def _classifier(
    path: Path, label: str | None, column: str | None, known: list[str], tokenization: str, seed: int
) -> "Classifier":
    """Return a classifier trained on the texts of a file that are not already known, whatever their spacing."""
    from textvae.metrics.attributes import train_classifier

    rows = list(labelled(path, label, column))
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
