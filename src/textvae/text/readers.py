"""Sentences out of files and streams: plain text, TSV, CSV and JSON lines, gzipped or not, one at a time."""

import json
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from textvae.errors import RequestError
from textvae.text.lines import Stream, ahead, decoded_lines, file_lines, refuse_returns
from textvae.text.tables import (
    Row,
    cells_of,
    is_header,
    json_rows,
    no_column,
    other_width,
    refuse_twice,
    short,
    table_rows,
)

# Rises when a file is read otherwise than before, so that nothing that was made from the old reading is used on.
VERSION = 2
_BREAKS = re.compile(r"[\r\n]+")


class Sentence(NamedTuple):
    """One sentence of a source: its text, its label where one was asked for, and its line, counted from 1."""

    text: str
    label: str | None
    line: int


class Reading(Iterator[Sentence]):
    """The sentences of one source, in order.

    `blank` counts the blank sentences skipped so far, `unlabelled` those whose label is blank. From the first
    sentence on `notes` holds lines for the user: which columns are read, with that sentence, and what looks wrong.
    A sentence's `line` is the one that its row begins on.
    """

    def __init__(self, name: str, rows: "Callable[[list[str]], Iterator[Row]]") -> None:
        self.name = name
        self.blank = 0
        self.unlabelled = 0
        self.notes: list[str] = []
        self._sentences = self._read(name, rows)

    def __next__(self) -> Sentence:
        return next(self._sentences)

    def _read(self, name: str, rows: "Callable[[list[str]], Iterator[Row]]") -> Iterator[Sentence]:
        found = False
        columns: list[str] = []
        for text, mark, line in rows(columns):
            text = one_line(text)
            if not text:
                self.blank += 1
                continue
            if not found:
                found = True
                self.notes += _told(name, columns, f"first sentence: {short(text)}")
            if mark == "":
                self.unlabelled += 1
            yield Sentence(text, mark, line)
        if not found:
            raise RequestError(f"{name}: no sentence in it, only blank lines or a header; give text")


def read(path: Path | str, column: str | int | None = None, label: str | int | None = None) -> Reading:
    """The sentences of a file, streamed: no more than some rows are held in memory.

    The suffix decides, a final `.gz` set aside: `.tsv`, `.csv`, `.jsonl`, `.ndjson` or `.json` (one object a line),
    and anything else is plain text with one sentence a line. Lines end in LF or CRLF and nowhere else. Byte-order
    mark and outer white space are removed, line breaks inside a cell become a space, blank sentences are skipped
    and counted.

    Columns of a table: where `column` or `label` is a name, the first row is a header that must hold it.
    Otherwise the first row is a header if one of its cells is a known name of a column of text or labels
    (`TEXT_COLUMNS`, `LABEL_COLUMNS`) that does not recur below it, if two are the names of a pair
    (`PAIR_COLUMNS`), or if it has a word on top of a column of numbers; the first hundred rows are looked at. A
    number (0 is the first) names a column by place.

    Without `column` the text is the column of the most preferred text name, else the last column, that of the label
    set aside; if that one holds numbers or has the name of a label, the only other that does not. TSV cells are
    taken as they are, quotes included; CSV cells may be quoted, and are parted by semicolons or tabs if there is no
    comma. In JSON lines `column` is a key, the most preferred text name unless given. Null and missing values of
    JSON lines are blank, and `true` and `false` are labels of that spelling.

    Raises RequestError with path, line and remedy for a path that is missing, a directory, empty or blank,
    for binary data, bytes that are not UTF-8, a line of more than 16 MiB, a carriage return within a line, rows
    that do not fit, columns that are not there or have one name, and where it cannot be told which column is the
    text. What can be seen from outside the file is raised at once, the rest when the line is reached.
    """
    path = Path(path)
    _check(path)
    return Reading(str(path), lambda told: _rows(path, column, label, told))


def read_stream(stream: Stream, name: str) -> Reading:
    """The sentences of a stream of plain text, one a line, read as those of a file; errors call it by its `name`.

    Raises RequestError as `read`.
    """
    return Reading(name, lambda told: _plain_rows(name, decoded_lines(name, stream), told))


class Pairs(Iterator[tuple[str, str, int]]):
    """The pairs of sentences of one file, with their lines; `blank` and `notes` as those of `Reading`.

    A row with one sentence has an empty one in place of the other.
    """

    def __init__(self, path: Path, a: str | int | None, b: str | int | None) -> None:
        self.name = str(path)
        self.blank = 0
        self.notes: list[str] = []
        self._pairs = self._read(path, a, b)

    def __next__(self) -> tuple[str, str, int]:
        return next(self._pairs)

    def _read(self, path: Path, a: str | int | None, b: str | int | None) -> Iterator[tuple[str, str, int]]:
        found = False
        columns: list[str] = []
        for first, second, line in _rows(path, a, b, columns, pairs=True):
            pair = one_line(first), one_line(second or "")
            if not any(pair):
                self.blank += 1
                continue
            if not found:
                found = True
                self.notes += _told(str(path), columns, f"first pair: {short(pair[0])}, {short(pair[1])}")
            yield *pair, line
        if not found:
            raise RequestError(f"{path}: no pair in it, only blank lines or a header; give two sentences a line")


def read_pairs(path: Path | str, a: str | int | None = None, b: str | int | None = None) -> Pairs:
    """The pairs of sentences of a table or of JSON lines, and their lines, from 1; blank rows are counted.

    `a` and `b` name columns as in `read`. Without them the sentences are those of the columns `a` and `b`, `first`
    and `second`, or `source` and `target` of a header, else of the first two columns; of JSON lines `a` and `b`.

    Raises RequestError as `read`, for plain text, and where both are of one column.
    """
    path = Path(path)
    _check(path)
    return Pairs(path, a, b)


def read_table(path: Path | str, needed: Sequence[str]) -> Iterator[tuple[dict[str, str], int]]:
    """The rows of a TSV or CSV file with a header: cells by the names of their columns, and the line, from 1.

    Cells come without outer white space and are else as `read` takes them; blank rows are skipped.

    Raises RequestError as `read`, for another suffix, and for a header that lacks a column that is needed or has
    two columns of one name.
    """
    path = Path(path)
    _check(path)
    kind = _kind(path)
    if kind not in (".tsv", ".csv"):
        raise RequestError(f"{path}: a table with the columns {', '.join(needed)} is needed; name it .tsv or .csv")
    header: list[str] = []
    rows, _ = cells_of(path, kind)
    for row, line in rows:
        cells = [one_line(cell) for cell in row]
        if not any(cells):
            continue
        if not header:
            header = cells
            for name in needed:
                if name not in header:
                    raise RequestError(f"{path}:{line}: {no_column('column', name, header)}")
            for name in header:
                refuse_twice(path, line, name, header)
        elif len(cells) != len(header):
            raise RequestError(other_width(path, line, len(cells), len(header)))
        else:
            yield dict(zip(header, cells, strict=True)), line


def _check(path: Path) -> None:
    """Refuse what can be seen from outside the file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"{path}: no such file{_neighbour(path)}") from None
    except (OSError, ValueError) as error:  # a folder that is closed; a name that is too long, or has a NUL
        raise RequestError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise RequestError(f"{path}: is a folder; give a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise RequestError(f"{path}: is not a regular file and cannot be read twice; save it to a file first")
    if status.st_size == 0:
        raise RequestError(f"{path}: the file is empty; give a file with one sentence a line")


def _kind(path: Path) -> str:
    """The suffix that says what is in the file, a final `.gz` set aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def _rows(
    path: Path, column: str | int | None, label: str | int | None, told: list[str], *, pairs: bool = False
) -> "Iterator[Row]":
    """Text, label and line of each row; of `pairs` the label is the second sentence.

    What is read of a table is added to `told` before the first row.
    """
    kind = _kind(path)
    if kind in (".jsonl", ".json", ".ndjson"):
        return json_rows(path, column, label, told, pairs)
    if kind in (".tsv", ".csv"):
        return table_rows(path, kind, column, label, told, pairs)
    if pairs:
        raise RequestError(f"{path}: plain text has no columns, and pairs need two; name it .tsv, .csv or .jsonl")
    if column is not None or label is not None:
        next(file_lines(path), None)  # refuses what is no text
        asked = column if column is not None else label
        raise RequestError(f"{path}: plain text has no column {asked!r}; name it .tsv, .csv or .jsonl")
    return _plain_rows(str(path), file_lines(path), told)


def _plain_rows(name: str, lines: Iterator[tuple[str, int]], told: list[str]) -> Iterator[Row]:
    """Every line of plain text; what looks like a table is told."""
    sample, lines = ahead(lines, lambda item: len(item[0]))
    given = [text for line, _ in sample if (text := line.strip())]
    tabs = sum("\t" in text for text in given)
    if 2 * tabs > len(given):
        told += ["", "lines hold tabs, and plain text has no columns; if tabs part columns, name it .tsv"]
    elif given and _is_object(given[0]):
        told += ["", "the first line is a JSON object; if one of its keys holds the text, name the file .jsonl"]
    elif given and is_header(given[0]):
        told += ["", f"the first line, {short(given[0])}, looks like a table's header; if it is one, name it .csv"]
    for text, line in lines:
        refuse_returns(name, line, text)
        yield text, None, line


def _is_object(text: str) -> bool:
    """Return True for a line of plain text that is an object of JSON lines."""
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _told(name: str, columns: list[str], sentence: str) -> list[str]:
    """Return the notes on the columns that are read, with the first sentence; none for plain text."""
    return [
        f"{name}: {line}" if number else f"{name}: {line}; {sentence}"
        for number, line in enumerate(columns)
        if line
    ]


def _neighbour(path: Path) -> str:
    try:
        if not path.parent.is_dir():
            return f"; the folder {path.parent} does not exist either"
        close = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    except OSError:
        return ""
    return f"; did you mean {close[0]!r}?" if close else ""


def require_texts(texts: object, name: str = "texts") -> list[str]:
    """Return texts, of a list, an array, a column of a table or the like, once they are found to be strings.

    Raises:
        RequestError: as `each_text`.
    """
    return list(each_text(texts, name))


def each_text(texts: object, name: str = "texts") -> Iterator[str]:
    """Return an iterator over texts that refuses what is no string when it is reached.

    Raises:
        RequestError: for a single string, for what has no order or several columns, and for an element that is no
            string, by its place.
    """
    if isinstance(texts, str):
        raise RequestError(f"{name} = {_cut(texts)!r}: a list of texts is expected; wrap a single one: [text]")
    # A table of pandas gives the names of its columns when it is iterated over.
    tabular = isinstance(texts, Mapping) or getattr(texts, "ndim", 1) != 1
    if tabular or isinstance(texts, bytes | bytearray | Set) or not isinstance(texts, Iterable):
        remedy = '; give one column, such as table["text"]' if tabular else ""
        raise RequestError(f"{name}: is a {type(texts).__name__}, not a list of texts{remedy}")
    return (_string(text, f"{name}[{number}]") for number, text in enumerate(texts))


def _string(text: object, place: str) -> str:
    if not isinstance(text, str):
        raise RequestError(f"{place}: is a {type(text).__name__}, not a string: {_cut(repr(text))}")
    return str(text)  # NumPy has strings of its own


def _cut(text: str) -> str:
    return text[:40]


def one_line(text: str) -> str:
    """The text without outer white space, its line breaks turned to spaces."""
    text = text.strip()
    return _BREAKS.sub(" ", text) if "\n" in text or "\r" in text else text
