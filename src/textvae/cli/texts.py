"""Sentences that commands are given: as arguments, in a file, or on stdin; and how texts are shown."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.output import note, plain
from textvae.errors import RequestError

if TYPE_CHECKING:
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
Column = Annotated[
    str | None, typer.Option(metavar="NAME|NUMBER", help="The file's column of the text; a name needs a header.")
]


def given_texts(texts: list[str] | None, file: str | None, column: str | None) -> list[str]:
    """The sentences given as arguments, in a file, or on stdin.

    Raises:
        RequestError: when there are none, or they are given in two ways, or the file cannot be used.
    """
    return list(streamed_texts(texts, file, column))


def streamed_texts(texts: list[str] | None, file: str | None, column: str | None) -> Iterator[str]:
    """The same, one at a time: no more of a file is read than is asked for.

    What can be seen before the first sentence is refused at once.
    """
    if texts and file is not None:
        raise RequestError(f"--file {file}: give sentences as arguments or in a file, not both")
    if column is not None and file in (None, "-"):
        raise RequestError(f"--column {column}: only a file has columns; give --file FILE")
    if texts:
        return iter(texts)
    if file is None:
        raise RequestError('no text given: put sentences in quotes, or --file FILE, or "--file -" for stdin')
    return _stdin() if file == "-" else _file(file, column)


def broken(trained: "Trained", texts: list[str]) -> list[str]:
    """Texts given to a model of windows, a ⏎ in them turned to a line break."""
    return texts if trained.window is None else [text.replace(BREAK, "\n") for text in texts]


def shown(trained: "Trained", texts: list[str]) -> list[str]:
    """Texts of a model of windows on one line each."""
    return texts if trained.window is None else [text.replace("\n", BREAK) for text in texts]


def _file(file: str, column: str | None) -> Iterator[str]:
    """The sentences of a file; how many lines were blank is said at its end."""
    from textvae.corpora.readers import Reading, read

    def sentences(reading: Reading) -> Iterator[str]:
        for sentence in reading:
            yield sentence.text
        _tell_blank(file, reading.blank)

    return sentences(read(file, column))


def _stdin() -> Iterator[str]:
    """The sentences on stdin, one a line; how many lines were blank is said at its end."""
    found, blank, offset = False, 0, 0
    for line in sys.stdin.buffer:
        try:
            text = line.decode("utf-8" if offset else "utf-8-sig")
        except UnicodeDecodeError as error:
            at = offset + error.start
            raise RequestError(f"stdin: not UTF-8 text (byte {at}); convert it first, with iconv") from None
        offset += len(line)
        for part in text.splitlines():
            if part.strip():
                found = True
                yield part.strip()
            else:
                blank += 1
    if not found:
        raise RequestError("stdin: no sentence in it; give text, one sentence a line")
    _tell_blank("-", blank)


def _tell_blank(file: str, blank: int) -> None:
    if blank:
        note(f"{plain(file)}: {blank:,} blank lines left out")
