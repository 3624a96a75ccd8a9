"""Sentences out of files: plain text, TSV, CSV and JSON lines, gzipped or not, one at a time."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, NamedTuple

from textvae.errors import RequestError

# Names that make a first row a header and its column the text, in order of preference.
TEXT_COLUMNS = ("text", "sentence", "review")
# Names that together make a first row a header, and their columns the two sentences of a pair.
PAIR_COLUMNS = (("a", "b"), ("first", "second"), ("source", "target"))

_LONGEST_LINE = 1 << 24  # bytes; a longer line is no sentence, and reading on would fill the memory
_BREAKS = re.compile(r"[\r\n]+")


class Sentence(NamedTuple):
    """One sentence of a source: its text, its label where one was asked for, and its line, counted from 1."""

    text: str
    label: str | None
    line: int


class Reading(Iterator[Sentence]):
    """The sentences of one file, in order; `blank` counts the blank ones skipped so far."""

    def __init__(self, path: Path, column: str | int | None, label: str | int | None) -> None:
        self.blank = 0
        self._sentences = self._read(path, column, label)

    def __next__(self) -> Sentence:
        return next(self._sentences)

    def _read(self, path: Path, column: str | int | None, label: str | int | None) -> Iterator[Sentence]:
        found = False
        for text, mark, line in _rows(path, column, label):
            text = one_line(text)
            if text:
                found = True
                yield Sentence(text, mark, line)
            else:
                self.blank += 1
        if not found:
            raise RequestError(f"{path}: no sentence in it, only blank lines or a header; give a file with text")


def read(path: Path | str, column: str | int | None = None, label: str | int | None = None) -> Reading:
    """The sentences of a file, streamed: no more than a line is held in memory.

    The suffix decides, a final `.gz` set aside: `.tsv`, `.csv`, `.jsonl` or `.json` (one object a line), and
    anything else is plain text with one sentence a line. Byte-order mark, CRLF and outer spaces are removed,
    line breaks inside a cell become a space, blank sentences are skipped and counted.

    Columns of a table: where `column` or `label` is a name, the first row is a header that must hold it.
    Otherwise the first row is a header only if one of its cells is `text`, `sentence` or `review`, or two of them
    are `a` and `b`, `first` and `second`, or `source` and `target`, in any case of letters. A number (0 is the
    first) names a column by place. Without `column` the text is the header's `text`, `sentence` or
    `review` column, else the last column. TSV cells are taken as they are, quotes included; CSV cells may be
    quoted. In JSON lines `column` is a key, `text` unless given.

    Raises RequestError with path, line and remedy for a path that is missing, a directory, empty or blank,
    for binary data, bytes that are not UTF-8, rows that do not fit, and columns that are not there. What can
    be seen from outside the file is raised at once, the rest when the line is reached.
    """
    path = Path(path)
    _check(path)
    return Reading(path, column, label)


def read_pairs(
    path: Path | str, a: str | int | None = None, b: str | int | None = None
) -> Iterator[tuple[str, str, int]]:
    """The pairs of sentences of a table or of JSON lines, and their lines, from 1; blank rows are skipped.

    `a` and `b` name columns as in `read`. Without them the sentences are those of the columns `a` and `b`, `first`
    and `second`, or `source` and `target` of a header, else of the first two columns; of JSON lines `a` and `b`.

    Raises RequestError as `read`, for plain text, for a row with one sentence, and where both are of one column.
    """
    path = Path(path)
    _check(path)
    return _pairs(path, a, b)


def _pairs(path: Path, a: str | int | None, b: str | int | None) -> Iterator[tuple[str, str, int]]:
    found = False
    for first, second, line in _rows(path, a, b, pairs=True):
        pair = one_line(first), one_line(second or "")
        if not any(pair):
            continue
        if not all(pair):
            raise RequestError(f"{path}:{line}: has one sentence; two are needed, in two columns")
        found = True
        yield *pair, line
    if not found:
        raise RequestError(f"{path}: no pair in it, only blank lines or a header; give two sentences a line")


def read_table(path: Path | str, needed: Sequence[str]) -> Iterator[tuple[dict[str, str], int]]:
    """The rows of a TSV or CSV file with a header: cells by the names of their columns, and the line, from 1.

    Cells come without outer white space and are else as `read` takes them; blank rows are skipped.

    Raises RequestError as `read`, for another suffix, and for a header that lacks a column that is needed.
    """
    path = Path(path)
    _check(path)
    kind = _kind(path)
    if kind not in (".tsv", ".csv"):
        raise RequestError(f"{path}: a table with the columns {', '.join(needed)} is needed; name it .tsv or .csv")
    header: list[str] = []
    for row, line in _csv_cells(path, _lines(path)) if kind == ".csv" else _tsv_cells(_lines(path)):
        cells = [one_line(cell) for cell in row]
        if not any(cells):
            continue
        if not header:
            header = cells
            for name in needed:
                _place(path, line, "column", name, header, None)
        elif len(cells) != len(header):
            raise RequestError(_width(path, line, len(cells), len(header)))
        else:
            yield dict(zip(header, cells, strict=True)), line


def _check(path: Path) -> None:
    """Refuse what can be seen from outside the file."""
    if not path.exists():
        raise RequestError(f"{path}: no such file{_neighbour(path)}")
    if path.is_dir():
        raise RequestError(f"{path}: is a folder; give a file in it")
    if not path.is_file():
        raise RequestError(f"{path}: is not a regular file and cannot be read twice; save it to a file first")
    if path.stat().st_size == 0:
        raise RequestError(f"{path}: the file is empty; give a file with one sentence a line")


def _kind(path: Path) -> str:
    """The suffix that says what is in the file, a final `.gz` set aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def _rows(
    path: Path, column: str | int | None, label: str | int | None, pairs: bool = False
) -> Iterator[tuple[str, str | None, int]]:
    """Text, label and line of each row; of `pairs` the label is the second sentence."""
    kind, lines = _kind(path), _lines(path)
    if kind in (".jsonl", ".json"):
        if not pairs:
            return _json_rows(path, lines, column, label)
        keys = ("a" if column is None else column, "b" if label is None else label)
        return _json_rows(path, lines, *keys, second="column")
    if kind in (".tsv", ".csv"):
        cells = _tsv_cells(lines) if kind == ".tsv" else _csv_cells(path, lines)
        return _table_rows(path, cells, column, label, pairs)
    if pairs:
        raise RequestError(f"{path}: plain text has no columns, and pairs need two; name it .tsv, .csv or .jsonl")
    if column is not None or label is not None:
        asked = column if column is not None else label
        raise RequestError(f"{path}: plain text has no column {asked!r}; name it .tsv, .csv or .jsonl")
    return ((text, None, line) for text, line in lines)


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """Decoded lines with their numbers, from 1."""
    try:
        with path.open("rb") as raw:
            file: BinaryIO = raw
            if path.suffix.lower() == ".gz":
                file = io.BufferedReader(gzip.GzipFile(fileobj=raw))
            _refuse_binary(path, file.peek(8192)[:8192])  # type: ignore[attr-defined]
            offset = 0
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise RequestError(
                        f"{path}:{number}: the line is longer than {_LONGEST_LINE >> 20} MiB; "
                        "put one sentence on a line"
                    )
                yield _decoded(path, line, number, offset), number
                offset += len(line)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RequestError(f"{path}: not a sound gzip file ({error}); compress it again or drop .gz") from error
    except EOFError as error:
        raise RequestError(f"{path}: the gzip file is cut short; copy or compress it again") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error


def _refuse_binary(path: Path, start: bytes) -> None:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise RequestError(f"{path}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 IN > OUT")
    if start[:2] == b"\x1f\x8b":
        raise RequestError(f"{path}: is gzip data; let its name end in .gz")
    if b"\0" in start:
        raise RequestError(f"{path}: is binary data, not text (a NUL at byte {start.index(0)}); give a text file")


def _decoded(path: Path, line: bytes, number: int, offset: int) -> str:
    if b"\0" in line:
        raise RequestError(
            f"{path}:{number}: binary data, not text (NUL at byte {offset + line.index(0)}); give a text file"
        )
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start + (3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0)
        raise RequestError(
            f"{path}:{number}: not UTF-8 (byte {at} is 0x{error.object[error.start]:02x}); "
            "convert it, for example: iconv -f LATIN1 -t UTF-8 IN > OUT"
        ) from error


def _tsv_cells(lines: Iterator[tuple[str, int]]) -> Iterator[tuple[list[str], int]]:
    return ((text.rstrip("\r\n").split("\t"), line) for text, line in lines)


def _csv_cells(path: Path, lines: Iterator[tuple[str, int]]) -> Iterator[tuple[list[str], int]]:
    # The limit is one number for the whole process: raised here and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_LINE))
    reader = csv.reader((text for text, _ in lines), strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise RequestError(
                f"{path}:{reader.line_num}: not CSV ({error}); look for a quote that is never closed"
            ) from error
        if cells is None:
            return
        yield cells, reader.line_num


def _table_rows(
    path: Path,
    rows: Iterator[tuple[list[str], int]],
    column: str | int | None,
    label: str | int | None,
    pairs: bool,
) -> Iterator[tuple[str, str | None, int]]:
    column, label = _number(column), _number(label)
    named = isinstance(column, str) or isinstance(label, str)
    width = text_at = label_at = -1
    for cells, line in rows:
        if not any(cell.strip() for cell in cells):
            yield "", None, line
        elif width < 0:
            width = len(cells)
            header = [cell.strip() for cell in cells]
            default, pair = _known(header)
            if pairs:
                first, second = pair or (0, 1)
                column, label = first if column is None else column, second if label is None else label
            text_at = _place(path, line, "column", column, header, default)
            role = "column" if pairs else "label"
            label_at = -1 if label is None else _place(path, line, role, label, header, None)
            if pairs and text_at == label_at:
                raise RequestError(f"{path}:{line}: both sentences are of column {text_at}; name two columns")
            if default is None and pair is None and not named:
                yield cells[text_at], cells[label_at].strip() if label_at >= 0 else None, line
        elif len(cells) != width:
            raise RequestError(_width(path, line, len(cells), width))
        else:
            yield cells[text_at], cells[label_at].strip() if label_at >= 0 else None, line


def _known(header: list[str]) -> tuple[str | None, tuple[int, int] | None]:
    """Of a first row the name that says where the text is, and the places of a pair; two None are no header."""
    names = [name.lower() for name in header]
    text = next((name for name in TEXT_COLUMNS if name in names), None)
    pair = next((pair for pair in PAIR_COLUMNS if set(pair) <= set(names)), None)
    return text, None if pair is None else (names.index(pair[0]), names.index(pair[1]))


def _width(path: Path, line: int, found: int, width: int) -> str:
    return f"{path}:{line}: {found} columns where the first row has {width}; look for a missing or extra separator"


def _number(column: str | int | None) -> str | int | None:
    return int(column) if isinstance(column, str) and column.isdecimal() else column


def _place(
    path: Path, line: int, role: str, asked: str | int | None, header: list[str], default: str | None
) -> int:
    """Where in a row the asked column stands."""
    if asked is None:
        return len(header) - 1 if default is None else [name.lower() for name in header].index(default)
    if isinstance(asked, str):
        if asked in header:
            return header.index(asked)
        raise RequestError(f"{path}:{line}: {_no_column(role, asked, header)}")
    if not 0 <= asked < len(header):
        raise RequestError(
            f"{path}:{line}: no {role} {asked}; the {len(header)} columns are numbered 0 to {len(header) - 1}"
        )
    return asked


def _json_rows(
    path: Path,
    lines: Iterator[tuple[str, int]],
    column: str | int | None,
    label: str | int | None,
    second: str = "label",
) -> Iterator[tuple[str, str | None, int]]:
    key = "text" if column is None else str(column)
    for line, number in lines:
        if not line.strip():
            yield "", None, number
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{path}:{number}: not valid JSON ({error}); give one object a line") from error
        if not isinstance(record, dict):
            raise RequestError(f"{path}:{number}: not a JSON object; give one object a line")
        text = _value(path, number, "column", key, record)
        if not isinstance(text, str):
            raise RequestError(f"{path}:{number}: column {key!r} holds {json.dumps(text)[:40]}, not text")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{path}:{number}: a lone surrogate (\\u{ord(text[error.start]):04x}) is no character; "
                "write the file again with whole characters"
            ) from error
        mark = None if label is None else _value(path, number, second, str(label), record)
        if label is not None and not isinstance(mark, str | int | float):
            raise RequestError(f"{path}:{number}: {second} {label!r} holds {json.dumps(mark)[:40]}, not a value")
        yield text, None if label is None else str(mark).strip(), number


def _value(path: Path, line: int, role: str, key: str, record: dict) -> object:
    if key not in record:
        raise RequestError(f"{path}:{line}: {_no_column(role, key, list(record))}")
    return record[key]


def _no_column(role: str, asked: str, names: list[str]) -> str:
    close = get_close_matches(asked, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(repr(name[:40]) for name in names[:20])
    return f"no {role} {asked!r}; the columns are {listed or 'none'}{hint}"


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    try:
        close = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    except OSError:
        return ""
    return f"; did you mean {close[0]!r}?" if close else ""


def one_line(text: str) -> str:
    """The text without outer white space, its line breaks turned to spaces."""
    text = text.strip()
    return _BREAKS.sub(" ", text) if "\n" in text or "\r" in text else text
