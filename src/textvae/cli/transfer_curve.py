"""`textvae transfer-curve`: scores of texts moved along a latent direction, over the strength."""

from array import array
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.options import AsJson, RunFolder, Seed
from textvae.cli.output import DASH, columns, document, note, number, plain, result
from textvae.cli.transfer import Label, LabelText, Strength, labelled, norm, separation_of, sides_of, strengths_of
from textvae.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from textvae.metrics.attributes import Classifier
    from textvae.text.packed import Packed
    from textvae.text.readers import Sentence

# Most labels that a message names.
SHOWN = 100

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
    Path | None,
    typer.Option(
        metavar="FILE", help="Labelled sentences, seen by no run, to train a classifier: at most 100,000."
    ),
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
        known = chain(moved, *sides, references or ())
        classifier = _classifier(judge, label, label_text, known, tokenization, seed)
    _note_overlap(file, moved, labels, chain(*sides), tokenization)
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
        reasons["rows.strength"] = "sentences as they are, and references, are not moved"
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


def _of_label(path: Path, label: str | None, column: str | None, wanted: str) -> "tuple[Packed, array[int]]":
    """Return the sentences of a file with one label, and their lines."""
    from textvae.text.packed import Packed

    kept, lines, labels = Packed(), array("q"), dict[str | None, None]()
    for row in labelled(path, label, column):
        if len(labels) < SHOWN:
            labels[row.label] = None
        if row.label == wanted:
            kept.extend([row.text])
            lines.append(row.line)
    if not kept:
        known = ", ".join(map(repr, labels))
        raise RequestError(f"{path}: no text has the label {wanted!r}; the labels are {known[:200]}")
    return kept, lines


def _moved(
    file: Path, label: str | None, column: str | None, reference: str | None, source: str
) -> "tuple[Packed, Packed | None]":
    """Return the texts of a file labelled `source`, and the references in their rows if their column is named."""
    import numpy as np

    from textvae.text.packed import Packed

    texts, lines = _of_label(file, label, column, source)
    if reference is None:
        return texts, None
    others, others_lines = _of_label(file, label, reference, source)
    _, own, beside = np.intersect1d(lines, others_lines, assume_unique=True, return_indices=True)
    kept, references = Packed(texts[row] for row in own), Packed(others[row] for row in beside)
    if kept and kept == references:
        raise RequestError(
            f"--reference {reference}: {file} has the sentences themselves there; name another column, or that of "
            "the text with --label-text"
        )
    if not kept:
        raise RequestError(f"--reference {reference}: {file} has no text labelled {source!r} with a reference")
    if len(kept) < len(texts):
        note(f"{file}: {len(texts) - len(kept):,} sentences without a reference left out")
    return kept, references


def _note_overlap(
    file: Path, moved: "Sequence[str]", labels: Path, sides: "Iterable[str]", tokenization: str
) -> None:
    """Print a note if sentences to be moved are among those that the direction is made from."""
    import numpy as np

    again = int(np.isin(_keys(moved, tokenization), _keys(sides, tokenization)).sum())
    if again:
        note(f"{file}: {again:,} of {len(moved):,} sentences are also in {labels}, which makes the direction")


def _keys(texts: "Iterable[str]", tokenization: str) -> "np.ndarray":
    """Return a number for each text that it shares with those of the same tokens.

    Tokens are separated by white space, or all characters but white space.
    """
    from textvae.metrics.splits import numbered
    from textvae.metrics.words import tokenized

    return numbered(" ".join(own).encode(errors="surrogatepass") for own in tokenized(texts, tokenization))


def _classifier(
    path: Path, label: str | None, column: str | None, known: "Iterable[str]", tokenization: str, seed: int
) -> "Classifier":
    """Return a classifier trained on the texts of a file that are not already known, whatever their spacing.

    Of a long file a sample is learned from.
    """
    import numpy as np

    from textvae.evaluation.probing import MOST_LEARNED, drawn
    from textvae.generate.codes import in_pieces
    from textvae.metrics.attributes import train_classifier

    used, left_out = _keys(known, tokenization), 0

    def others() -> "Iterator[Sentence]":
        nonlocal left_out
        for rows in in_pieces(labelled(path, label, column)):
            again = np.isin(_keys([row.text for row in rows], tokenization), used)
            left_out += int(again.sum())
            yield from (row for row, out in zip(rows, again, strict=True) if not out)

    rows = drawn(others(), MOST_LEARNED, seed, 1)
    if not rows:
        raise RequestError(
            f"--judge {path}: all of its {left_out:,} sentences are in the other files, so none is left to learn "
            "from; give labelled text that neither the direction nor the moved sentences are from"
        )
    if left_out:
        note(f"{path}: {left_out:,} sentences left out that are in the other files")
    if len(rows) == MOST_LEARNED:
        note(f"{path}: {MOST_LEARNED:,} labelled sentences, drawn from all, make the classifier")
    try:
        return train_classifier([row.text for row in rows], [row.label or "" for row in rows], tokenization, seed)
    except RequestError as error:
        raise RequestError(f"--judge {path}: {error}") from None
