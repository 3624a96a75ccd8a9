"""Sentences given to commands as arguments, in a file, or on stdin; and the display of texts."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import typer

from textvae.cli.output import note
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.trained import Trained
    from textvae.text.readers import Pairs, Reading, Sentence

# Unusable rows that are named; the others are only counted.
NAMED = 5
STDIN = "-"

# Stands for a line break within a text, of which a model of windows writes several lines.
BREAK = "⏎"

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="Sentences, each one quoted.", show_default=False)
]
File = Annotated[
    str | None,
    typer.Option("--file", metavar="FILE", help="Sentences from a file, one a line, or from stdin: -"),
]
Column = Annotated[
    str | None, typer.Option(metavar="NAME|NUMBER", help="The file's column of the text; a name needs a header.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a row that cannot be used, instead of leaving it out.")
]

Item = TypeVar("Item")


class Row(NamedTuple):
    """A given text, and its place for messages, such as `reviews.txt:3`."""

    text: str
    place: str


def streamed_texts(texts: list[str] | None, file: str | None, column: str | None) -> Iterator[str]:
    """Yield the sentences given as arguments, in a file, or on stdin, reading no more of a file than requested.

    Errors that can be seen before the first sentence are raised at once.

    Raises:
        RequestError: If there are none, or they are given in two ways, or the file cannot be used.
    """
    rows = given_rows(texts, file, column)
    return (row.text for row in rows)


def given_rows(texts: list[str] | None, file: str | None, column: str | None) -> Iterator[Row]:
    """Yield the same with their places, one at a time."""
    if texts and file is not None:
        raise RequestError(f"--file {file}: give sentences as arguments or in a file, not both")
    if column is not None and file in (None, STDIN):
        raise RequestError(f"--column {column}: only a file has columns; give --file FILE")
    if texts:
        return (Row(text, f"texts[{number}]") for number, text in enumerate(texts))
    if file is None:
        raise RequestError('no text given: put sentences in quotes, or --file FILE, or "--file -" for stdin')
    sentences = read_noted(file, column)
    name = "stdin" if file == STDIN else file
    return (Row(sentence.text, f"{name}:{sentence.line}") for sentence in sentences)


def opened(file: str, column: str | None = None, label: str | None = None) -> "Reading":
    """Open the sentences of a file, or of stdin for `-`."""
    from textvae.text.readers import read, read_stream

    if file != STDIN:
        return read(file, column, label)
    if column is not None or label is not None:
        refuse_stdin(file)
    if sys.stdin is None:
        raise RequestError("stdin: is closed; give text on it, or a file")
    return read_stream(sys.stdin.buffer, "stdin")


def refuse_stdin(file: object) -> None:
    """Refuse stdin in place of a file whose columns are read.

    Raises:
        RequestError: For stdin.
    """
    if str(file) == STDIN:
        raise RequestError("-: stdin is plain text, which has no columns; save it to a .tsv, .csv or .jsonl file")


def read_noted(file: str | Path, column: str | None = None, label: str | None = None) -> "Iterator[Sentence]":
    """Yield the sentences of a file or of stdin; note the column that is read, and at the end the blank lines."""
    reading = opened(str(file), column, label)

    def sentences() -> "Iterator[Sentence]":
        for number, sentence in enumerate(reading):
            if not number:
                tell_notes(reading)
            yield sentence
        tell_blank(reading)

    return sentences()


def tell_notes(reading: "Reading | Pairs") -> None:
    """Print the notes of a reader on the columns that it reads, known from its first sentence on."""
    for line in reading.notes:
        note(line)


def tell_blank(reading: "Reading | Pairs") -> None:
    """Note the number of blank lines that a finished reader has left out."""
    if reading.blank:
        note(f"{reading.name}: {reading.blank:,} blank line{'s' if reading.blank > 1 else ''} left out")


class LeftOut:
    """Rows that cannot be used, piece by piece: a few are named, all are counted, or the first is refused."""

    def __init__(self, strict: bool, source: str) -> None:
        self.strict, self.source = strict, source
        self.rows, self.reasons, self.first = 0, 0, ""

    def usable(self, rows: Sequence[Item], reasons: Mapping[int, str]) -> list[Item]:
        """Return the rows without those, by number, that have a reason against them.

        Raises:
            RequestError: For the first row that cannot be used if `strict`.
        """
        self.rows += len(rows)
        for reason in reasons.values():
            if self.strict:
                raise RequestError(reason)
            self.first = self.first or reason
            self.reasons += 1
            if self.reasons <= NAMED:
                note(f"left out: {reason}")
        return [row for number, row in enumerate(rows) if number not in reasons]

    def tell(self) -> None:
        """Note the number of rows that were left out, once all have been seen.

        Raises:
            RequestError: If none is left.
        """
        if self.reasons and self.reasons == self.rows:
            raise RequestError(
                f"{self.first}; none of the {self.rows:,} rows can be used" if self.rows > 1 else self.first
            )
        if self.reasons:
            note(f"{self.source}: {self.reasons:,} of {self.rows:,} rows left out; --strict refuses them")


def broken(trained: "Trained", texts: list[str]) -> list[str]:
    """Return texts given to a model of windows, with ⏎ replaced by a line break."""
    return texts if trained.window is None else [text.replace(BREAK, "\n") for text in texts]


def shown(trained: "Trained", texts: list[str]) -> list[str]:
    """Return texts of a model of windows on one line each."""
    return texts if trained.window is None else [text.replace("\n", BREAK) for text in texts]
