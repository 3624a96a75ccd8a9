"""Readers of sentences from files and streams: plain text, TSV, CSV and JSON lines, gzipped or not, streamed.

The rows of TSV, CSV and JSON lines, and the choice of their columns, are in `tables`.
"""

import json
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from textvae.errors import RequestError, did_you_mean, shown
from textvae.text.lines import Stream, ahead, decoded_lines, file_lines, refuse_returns
from textvae.text.tables import (
    Row,
    Turn,
    Wanted,
    cells_of,
    first_names,
    is_header,
    json_rows,
    no_column,
    other_width,
    refuse_twice,
    short,
    table_rows,
)

# Incremented when files are read differently, so that nothing made from an earlier reading is used again.
VERSION = 3
# Characters that no line of a file has, but cells may have.
_BREAKS = re.compile(r"[\r\n\0]+")


class Sentence(NamedTuple):
    """One sentence of a source: its text, its label if one was asked for, its line from 1, and further `marks`.

    `marks` are the cells of the columns on which a model is conditioned; an empty one is a missing label. `turn` is
    the place of an utterance in its dialogue.
    """

    text: str
    label: str | None
    line: int
    marks: tuple[str, ...] = ()
    turn: Turn | None = None


class Reading(Iterator[Sentence]):
    """Iterator over the sentences of one source, in order.

    A sentence's `line` is the line on which its row begins.

    Attributes:
        blank: Blank sentences skipped so far.
        unlabelled: Sentences so far whose label is blank.
        notes: Messages for the user, complete from the first sentence on: which columns are read, the first
            sentence, and what looks wrong.
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
        begun = False
        columns: list[str] = []
        for text, mark, line, marks in rows(columns):
            text = one_line(text)
            if not text:
                self.blank += 1
                continue
            if not begun:
                begun = True
                self.notes += _column_notes(name, columns, f"first sentence: {short(text)}")
            if mark == "":
                self.unlabelled += 1
            yield Sentence(text, mark, line, marks)
        if not begun:
            raise RequestError(f"{name}: holds no sentence, only blank lines or a header; give text")


def read(
    path: Path | str,
    column: str | int | None = None,
    label: str | int | None = None,
    marks: Sequence[str | int] = (),
    role: str = "condition",
) -> Reading:
    """Open a file and return its sentences as a stream; at most some rows are held in memory.

    The suffix decides the format, a final `.gz` set aside: `.tsv`, `.csv`, `.jsonl`, `.ndjson` or `.json` (one
    object a line); anything else is plain text with one sentence a line. Lines end in LF or CRLF only. The
    byte-order mark and outer white space are removed, line breaks inside a cell become a space, as do escaped NULs
    of JSON, and blank sentences are skipped and counted.

    Columns of a table: if `column` or `label` is a name, the first row is a header that must contain it. Otherwise
    the first row is a header if one of its cells is a known name of a column of text or labels (`TEXT_COLUMNS`,
    `LABEL_COLUMNS`) that does not recur below it, if two are the names of a pair (`PAIR_COLUMNS`), or if it has a
    word above a column of numbers; the first hundred rows are examined. An integer, from 0, names a column by
    position.

    Without `column` the text is the column with the most preferred text name, else the last column other than that
    of the label; if that column holds numbers or has the name of a label, it is the only other column that does
    not. TSV cells are taken as they are, quotes included; CSV cells may be quoted, and are separated by semicolons
    or tabs if there is no comma. In JSON lines `column` is a key, by default the most preferred text name. Null and
    missing values are blank, and `true` and `false` are labels of that spelling. `marks` are further columns to
    read, given as `label` is; notes call them the `role`.

    Errors that can be seen from outside the file are raised at once, the others when the line is reached.

    Raises:
        RequestError: With path, line and remedy: for a path that is missing or a directory; for an empty or blank
        file;
            for binary data, bytes that are not UTF-8, a line of more than 16 MiB, and a carriage return within a
            line; for rows that do not fit, columns that are missing or share a name, and if the text column is
            ambiguous.
    """
    path = Path(path)
    _check(path)
    return Reading(str(path), lambda notes: _rows(path, Wanted(column, label, tuple(marks), role=role), notes))


def read_stream(stream: Stream, name: str) -> Reading:
    """Return the sentences of a stream of plain text, one a line; errors call it by its `name`.

    Raises:
        RequestError: As `read`.
    """
    return Reading(name, lambda notes: _plain_rows(name, decoded_lines(name, stream), notes))


class Pairs(Iterator[tuple[str, str, int]]):
    """Iterator over the pairs of sentences of one file, with their lines.

    `blank` and `notes` are those of `Reading`. In a row with a single sentence the other one is empty.
    """

    def __init__(self, path: Path, a: str | int | None, b: str | int | None) -> None:
        self.name = str(path)
        self.blank = 0
        self.notes: list[str] = []
        self._pairs = self._read(path, a, b)

    def __next__(self) -> tuple[str, str, int]:
        return next(self._pairs)

    def _read(self, path: Path, a: str | int | None, b: str | int | None) -> Iterator[tuple[str, str, int]]:
        begun = False
        columns: list[str] = []
        for first, second, line, _ in _rows(path, Wanted(a, b, pairs=True), columns):
            pair = one_line(first), one_line(second or "")
            if not any(pair):
                self.blank += 1
                continue
            if not begun:
                begun = True
                first_pair = f"first pair: {short(pair[0])}, {short(pair[1])}"
                self.notes += _column_notes(str(path), columns, first_pair)
            yield *pair, line
        if not begun:
            raise RequestError(f"{path}: holds no pair, only blank lines or a header; give two sentences a line")


def read_pairs(path: Path | str, a: str | int | None = None, b: str | int | None = None) -> Pairs:
    """Open a table or JSON lines and return its pairs of sentences with their lines, from 1.

    Blank rows are skipped and counted.

    Args:
        path: A `.tsv`, `.csv` or JSON lines file, gzipped or not.
        a: Column of the first sentences, as in `read`. By default the columns are `a` and `b`, `first` and
        `second`, or
            `source` and `target` of a header, else the first two; in JSON lines, the keys `a` and `b`.
        b: Column of the second sentences.

    Raises:
        RequestError: As `read`, for plain text, and if both columns are the same.
    """
    path = Path(path)
    _check(path)
    return Pairs(path, a, b)


def read_table(path: Path | str, needed: Sequence[str]) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the rows of a TSV or CSV file with a header: cells by column name, and the line, from 1.

    Outer white space of cells is removed; otherwise cells are as in `read`. Blank rows are skipped.

    Raises:
        RequestError: As `read`, for another suffix, and for a header that lacks a needed column or has two columns
        of
            one name.
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


def names_in(path: Path | str) -> list[str]:
    """Return the cells of the first row of a table, or the keys of the first objects of JSON lines.

    Raises:
        RequestError: As `read`, and for plain text.
    """
    path = Path(path)
    _check(path)
    kind = _kind(path)
    if kind not in (".tsv", ".csv", ".jsonl", ".json", ".ndjson"):
        next(file_lines(path), None)  # refuses binary data
        raise RequestError(f"{path}: plain text has no columns; name it .tsv, .csv or .jsonl")
    return first_names(path, kind)


def _check(path: Path) -> None:
    """Refuse a path for reasons that can be seen from outside the file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"{path}: no such file{_neighbour(path)}") from None
    except (OSError, ValueError) as error:  # a folder without permission; a name that is too long or holds a NUL
        raise RequestError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise RequestError(f"{path}: is a folder; give a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise RequestError(f"{path}: is not a regular file, so it cannot be read twice; save it to a file first")
    if status.st_size == 0:
        raise RequestError(f"{path}: the file is empty; give a file with one sentence a line")


def _kind(path: Path) -> str:
    """Return the suffix that decides the format, a final `.gz` set aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def _rows(path: Path, wanted: Wanted, notes: list[str]) -> "Iterator[Row]":
    """Return what is wanted of each row.

    Notes on the columns of a table are appended to `notes` before the first row.
    """
    kind = _kind(path)
    if kind in (".jsonl", ".json", ".ndjson"):
        return json_rows(path, wanted, notes)
    if kind in (".tsv", ".csv"):
        return table_rows(path, kind, wanted, notes)
    if wanted.pairs:
        raise RequestError(f"{path}: plain text has no columns, and pairs need two; name it .tsv, .csv or .jsonl")
    named = [one for one in (wanted.column, wanted.label, *wanted.marks) if one is not None]
    if named:
        next(file_lines(path), None)  # refuses binary data
        asked = named[0]
        raise RequestError(f"{path}: plain text has no column {asked!r}; name it .tsv, .csv or .jsonl")
    return _plain_rows(str(path), file_lines(path), notes)


def _plain_rows(name: str, lines: Iterator[tuple[str, int]], notes: list[str]) -> Iterator[Row]:
    """Yield every line of plain text; add a note if the text looks like a table."""
    sample, lines = ahead(lines, lambda item: len(item[0]))
    given = [text for line, _ in sample if (text := line.strip())]
    tabs = sum("\t" in text for text in given)
    if 2 * tabs > len(given):
        notes += ["", "lines hold tabs, but plain text has no columns; if tabs separate columns, name it .tsv"]
    elif given and _is_object(given[0]):
        notes += ["", "the first line is a JSON object; if one of its keys holds the text, name the file .jsonl"]
    elif given and is_header(given[0]):
        notes += [
            "",
            f"the first line, {short(given[0])}, looks like a table's header; if it is one, name the file .csv",
        ]
    for text, line in lines:
        refuse_returns(name, line, text)
        yield Row(text, None, line)


def _is_object(text: str) -> bool:
    """Return True if a line of plain text is a JSON object."""
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _column_notes(name: str, columns: list[str], sentence: str) -> list[str]:
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
        return did_you_mean(path.name, [other.name for other in path.parent.iterdir()], "")
    except OSError:
        return ""


def require_texts(texts: object, name: str = "texts") -> list[str]:
    """Return the texts of a list, an array, a column of a table or the like as a list of strings.

    Raises:
        RequestError: As `each_text`.
    """
    return list(each_text(texts, name))


def each_text(texts: object, name: str = "texts") -> Iterator[str]:
    """Return an iterator over texts that raises when it reaches an element that is not a string.

    Raises:
        RequestError: For a single string, for an argument that is unordered or has several columns, and for an
            element that is not a string, by its place.
    """
    if isinstance(texts, str):
        raise RequestError(f"{name} = {_cut(texts)!r}: a list of texts is expected; wrap a single one: [text]")
    return (_string(text, f"{name}[{number}]") for number, text in enumerate(elements(texts, name, "texts")))


def elements(given: object, name: str, what: str) -> Iterator[object]:
    """Return an iterator over the elements of a list, an array, a column of a table or the like.

    Values of pyarrow are converted to those of Python.

    Raises:
        RequestError: For a table, with the names of its columns, and for an argument that is unordered, or no
            collection at all.
    """
    # Iterating over a table gives the names of its columns, or the columns, or rows.
    columns = list(given) if isinstance(given, Mapping) else _columns_of(given)
    tabular = columns is not None or getattr(given, "ndim", 1) != 1
    if tabular or isinstance(given, str | bytes | bytearray | Set) or not isinstance(given, Iterable):
        remedy = "; give one column" if tabular else ""
        if columns:
            remedy += f", table[NAME], of {', '.join(map(repr, columns[:10]))}"
        raise RequestError(f"{name}: is a {type(given).__name__}, not a list of {what}{remedy}")
    return (element.as_py() if hasattr(element, "as_py") else element for element in given)


def _columns_of(table: object) -> list[object] | None:
    """Return the names of the columns of a table of pandas, polars, pyarrow or the like; None if it is no table."""
    names = getattr(table, "column_names", getattr(table, "columns", None))
    return None if names is None or callable(names) else list(names)


def _string(text: object, place: str) -> str:
    if isinstance(text, str):
        return str(text)  # NumPy has its own string type
    remedy = ""
    if isinstance(text, bytes):
        remedy = "; decode it: text.decode()"
    elif isinstance(text, tuple | list) and len(text) == 2:
        remedy = "; of pairs give one side: [first for first, second in pairs]"
    elif text is None or type(text).__name__ in ("NAType", "NaTType") or (isinstance(text, float) and text != text):
        remedy = "; leave out what is missing"
    raise RequestError(f"{place}: is a {type(text).__name__}, not a string: {shown(text)}{remedy}")


def _cut(text: str) -> str:
    return text[:40]


def one_line(text: str) -> str:
    """Return a text without outer white space, and with line breaks and NULs replaced by spaces.

    So what is read from a cell of JSON or quoted CSV can be written to a file of lines, and read again.
    """
    text = text.strip()
    return _BREAKS.sub(" ", text).strip() if "\n" in text or "\r" in text or "\0" in text else text
