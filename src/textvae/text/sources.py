"""Sources of text: files or lists of sentences, read as units of sentences that share a split."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.text import readers
from textvae.text.dialogues import DialogueColumns, Unit, columns_in, dialogues, pairs
from textvae.text.readers import Reading, Sentence, one_line, read

Source = Path | str | Sequence[str] | Sequence[Sentence] | None


class Columns(NamedTuple):
    """Columns of a table: of text and label, and of what conditions the text."""

    column: str | int | None = None
    label: str | int | None = None
    condition_on: Mapping[str, str | int] | None = None
    source: str | int | None = None
    dialogue: DialogueColumns | None = None


def reading(path: Path | str, columns: Columns) -> Reading:
    """Open a file and return its sentences, whose marks are the cells of what conditions them.

    Raises:
        RequestError: As `read` and `columns_in`.
    """
    marks: tuple[str | int, ...] = tuple((columns.condition_on or {}).values())
    role = "condition"
    if columns.dialogue is not None:
        marks, role = columns_in(path, columns.dialogue), "dialogue"
    elif columns.source is not None:
        marks, role = (columns.source,), "source"
    return read(path, columns.column, columns.label, marks, role)


def units_of(source: Source, columns: Columns) -> Iterator[Unit]:
    """Yield the units of one source; blank sentences, of which only the number matters, come last."""
    if isinstance(source, str | Path):
        sentences = reading(source, columns)
        yield from _units(sentences, columns, str(source))
        yield from repeat(Unit("", (Sentence("", None, 0),)), sentences.blank)
        return
    given = (_marked(_given(item, number), columns) for number, item in enumerate(source or (), 1))
    yield from _units((one._replace(text=one_line(one.text)) for one in given), columns, "sentences")


def _units(sentences: Iterator[Sentence], columns: Columns, name: str) -> Iterator[Unit]:
    if columns.dialogue is not None:
        return dialogues((sentence for sentence in sentences if sentence.text), name)
    if columns.source is not None:
        return pairs(sentence for sentence in sentences if sentence.text)
    return (Unit(sentence.text, (sentence,)) for sentence in sentences)


def texts_of(source: Source, columns: Columns) -> Iterator[str]:
    """Yield the texts of one source, those of contexts included; blank ones are left out."""
    units = (unit for unit in units_of(source, columns) if not unit.alone)
    return (sentence.text for unit in units for sentence in unit.sentences if sentence.text)


def _marked(sentence: Sentence, columns: Columns) -> Sentence:
    """Return a sentence in memory; refuse one without the marks of a dialogue or source that it needs."""
    needed = ("dialogue", "speaker") if columns.dialogue is not None else ("source",) * (columns.source is not None)
    if len(sentence.marks) < len(needed):
        raise RequestError(f"sentence {sentence.line}: has no marks; they are to be its {' and '.join(needed)}")
    return sentence


def _given(item: object, number: int) -> Sentence:
    """Return an item of a list as a sentence."""
    text = item.text if isinstance(item, Sentence) else item
    if not isinstance(text, str):
        raise RequestError(f"sentence {number}: is a {type(text).__name__}, not a string")
    return item if isinstance(item, Sentence) else Sentence(text, None, number)


def key_of(given: Mapping[str, Source], arguments: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything a store is made from: source bytes, reader version and arguments."""
    unused = ("valid", "test", "seed") if len(given) > 1 else ()
    parts: dict[str, Any] = {name: value for name, value in arguments.items() if name not in unused}
    for name in ("condition_on", "source", "dialogue"):
        if parts[name] in (None, {}):
            del parts[name]  # keys of stores without conditions stay as they were
    parts["reader"] = readers.VERSION
    if (vocabulary := parts.pop("vocabulary_of")) is not None:
        parts["vocabulary_of"] = file_digest(vocabulary)
    for split, source in given.items():
        if isinstance(source, str | Path):
            read(source)  # raises for unusable paths
            parts[f"source {split}"] = [file_digest(Path(source)), Path(source).suffixes]
        else:
            hashed = hashlib.sha256()
            for number, item in enumerate(source or (), 1):
                sentence = _given(item, number)
                hashed.update(json.dumps([sentence.text, sentence.label, *sentence.marks]).encode() + b"\n")
            parts[f"source {split}"] = [hashed.hexdigest(), []]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
