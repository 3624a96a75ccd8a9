"""Sentences out of files and streams: plain text, TSV, CSV and JSON lines, gzipped or not, one at a time."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from textvae.errors import RequestError

# Names of columns that hold text, in order of preference; compared in lower case, without `_`, `-` and spaces.
TEXT_COLUMNS = (
    *("text", "sentence", "review", "comment", "content", "body", "tweet", "message", "utterance", "post"),
    *(
        "reviewtext",
        "commenttext",
        "tweettext",
        "fulltext",
        "sentences",
        "reviews",
        "comments",
        "tweets",
        "messages",
    ),
    *("caption", "question", "answer", "response", "description", "headline", "title", "smiles"),
)
# Names of columns that hold labels: they make a first row a header too, and are not the text.
LABEL_COLUMNS = (
    *("label", "labels", "class", "category", "sentiment", "stars", "rating", "score", "polarity"),
    *("topic", "genre", "emotion"),
)
# Names that together make a first row a header, and their columns the two sentences of a pair.
PAIR_COLUMNS = (("a", "b"), ("first", "second"), ("source", "target"))

_LONGEST_LINE = 1 << 24  # bytes; a longer line is no sentence, and reading on would fill the memory
_BREAKS = re.compile(r"[\r\n]+")
# Rows, and characters of them, that are looked at to tell a header, numbers and separators.
_SAMPLE, _SAMPLE_CHARACTERS = 100, 1 << 20
_NUMBER = re.compile(r"[-+]?(\d[\d.,]*|\.\d+)([eE][-+]?\d+)?\s*%?")
_MISSING = ("na", "n/a", "nan", "null", "none", "-", "?")
_SEPARATORS = {";": "semicolons", "\t": "tabs"}
_LOOKED_AT = 8192  # bytes behind text that is not UTF-8
_SHOWN = 60  # characters of a first sentence that is shown

Item = TypeVar("Item")


class Sentence(NamedTuple):
    """One sentence of a source: its text, its label where one was asked for, and its line, counted from 1."""

    text: str
    label: str | None
    line: int


class Reading(Iterator[Sentence]):
    """The sentences of one source, in order.

    `blank` counts the blank sentences skipped so far, `unlabelled` those whose label is blank. From the first
    sentence on `notes` holds lines for the user: which columns are read, with that sentence, and what looks wrong.
    """

    def __init__(self, name: str, rows: "Callable[[list[str]], Iterator[_Row]]") -> None:
        self.name = name
        self.blank = 0
        self.unlabelled = 0
        self.notes: list[str] = []
        self._sentences = self._read(name, rows)

    def __next__(self) -> Sentence:
        return next(self._sentences)

    def _read(self, name: str, rows: "Callable[[list[str]], Iterator[_Row]]") -> Iterator[Sentence]:
        found = False
        columns: list[str] = []
        for text, mark, line in rows(columns):
            text = one_line(text)
            if not text:
                self.blank += 1
                continue
            if not found:
                found = True
                self.notes += _told(name, columns, f"first sentence: {_short(text)}")
            if mark == "":
                self.unlabelled += 1
            yield Sentence(text, mark, line)
        if not found:
            raise RequestError(f"{name}: no sentence in it, only blank lines or a header; give text")


def read(path: Path | str, column: str | int | None = None, label: str | int | None = None) -> Reading:
    """The sentences of a file, streamed: no more than some rows are held in memory.

    The suffix decides, a final `.gz` set aside: `.tsv`, `.csv`, `.jsonl` or `.json` (one object a line), and
    anything else is plain text with one sentence a line. Lines end in LF or CRLF and nowhere else. Byte-order mark
    and outer white space are removed, line breaks inside a cell become a space, blank sentences are skipped and
    counted.

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
    that do not fit, columns that are not there, and where it cannot be told which column is the text. What can be
    seen from outside the file is raised at once, the rest when the line is reached.
    """
    path = Path(path)
    _check(path)
    return Reading(str(path), lambda told: _rows(path, column, label, told))


def read_stream(stream: BinaryIO, name: str) -> Reading:
    """The sentences of a stream of plain text, one a line, read as those of a file; errors call it by its `name`.

    Raises RequestError as `read`.
    """
    return Reading(name, lambda told: _plain_rows(name, _lines(name, stream), told))


class Pairs(Iterator[tuple[str, str, int]]):
    """The pairs of sentences of one file, with their lines; `notes` as those of `Reading`.

    A row with one sentence has an empty one in place of the other.
    """

    def __init__(self, path: Path, a: str | int | None, b: str | int | None) -> None:
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
                continue
            if not found:
                found = True
                self.notes += _told(str(path), columns, f"first pair: {_short(pair[0])}, {_short(pair[1])}")
            yield *pair, line
        if not found:
            raise RequestError(f"{path}: no pair in it, only blank lines or a header; give two sentences a line")


def read_pairs(path: Path | str, a: str | int | None = None, b: str | int | None = None) -> Pairs:
    """The pairs of sentences of a table or of JSON lines, and their lines, from 1; blank rows are skipped.

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

    Raises RequestError as `read`, for another suffix, and for a header that lacks a column that is needed.
    """
    path = Path(path)
    _check(path)
    kind = _kind(path)
    if kind not in (".tsv", ".csv"):
        raise RequestError(f"{path}: a table with the columns {', '.join(needed)} is needed; name it .tsv or .csv")
    header: list[str] = []
    rows, _ = _cells(path, kind)
    for row, line in rows:
        cells = [one_line(cell) for cell in row]
        if not any(cells):
            continue
        if not header:
            header = cells
            for name in needed:
                if name not in header:
                    raise RequestError(f"{path}:{line}: {_no_column('column', name, header)}")
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
    path: Path, column: str | int | None, label: str | int | None, told: list[str], *, pairs: bool = False
) -> "Iterator[_Row]":
    """Text, label and line of each row; of `pairs` the label is the second sentence.

    What is read of a table is added to `told` before the first row.
    """
    kind = _kind(path)
    if kind in (".jsonl", ".json"):
        return _json_rows(path, column, label, told, pairs)
    if kind in (".tsv", ".csv"):
        return _table_rows(path, kind, column, label, told, pairs)
    if pairs:
        raise RequestError(f"{path}: plain text has no columns, and pairs need two; name it .tsv, .csv or .jsonl")
    if column is not None or label is not None:
        asked = column if column is not None else label
        raise RequestError(f"{path}: plain text has no column {asked!r}; name it .tsv, .csv or .jsonl")
    return _plain_rows(str(path), _file_lines(path), told)


# Text, label if one was asked for, and line of a row.
_Row = tuple[str, str | None, int]


def _plain_rows(name: str, lines: Iterator[tuple[str, int]], told: list[str]) -> Iterator[_Row]:
    """Every line of plain text; what looks like a table is told."""
    sample, lines = _ahead(lines, lambda item: len(item[0]))
    given = [text for line, _ in sample if (text := line.strip())]
    tabs = sum("\t" in text for text in given)
    if 2 * tabs > len(given):
        told += ["", "lines hold tabs, and plain text has no columns; if tabs part columns, name it .tsv"]
    elif given and _is_header(given[0]):
        told += ["", f"the first line, {_short(given[0])}, looks like a table's header; if it is one, name it .csv"]
    for text, line in lines:
        _refuse_returns(name, line, text)
        yield text, None, line


def _is_header(text: str) -> bool:
    """Whether a line of plain text is the header of a table with a column of text."""
    cells = [_known_as(cell) for cell in re.split(r"[,;\t]", text)]
    return len(cells) > 1 and any(cell in TEXT_COLUMNS for cell in cells) and " " not in text.strip()


def _file_lines(path: Path) -> Iterator[tuple[str, int]]:
    """Decoded lines of a file with their numbers, from 1."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error
    with raw:
        gzipped = path.suffix.lower() == ".gz"
        yield from _lines(str(path), io.BufferedReader(gzip.GzipFile(fileobj=raw)) if gzipped else raw)


def _lines(name: str, stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """Decoded lines of a stream with their numbers, from 1; a line ends in LF or CRLF, the last one perhaps not."""
    try:
        yield from _decoded(name, stream)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RequestError(f"{name}: not a sound gzip file ({error}); compress it again or drop .gz") from error
    except EOFError as error:
        raise RequestError(f"{name}: the gzip file is cut short; copy or compress it again") from error
    except OSError as error:
        raise RequestError(f"{name}: cannot be read: {error.strerror or error}") from error


def _decoded(name: str, stream: BinaryIO) -> Iterator[tuple[str, int]]:
    offset = number = 0
    while line := stream.readline(_LONGEST_LINE + 1):
        number += 1
        if number == 1:
            _refuse_other_data(name, line)
        if len(line) > _LONGEST_LINE:
            raise RequestError(
                f"{name}:{number}: the line is longer than {_LONGEST_LINE >> 20} MiB; put one sentence on a line"
            )
        if b"\0" in line:
            at = offset + line.index(0)
            raise RequestError(f"{name}:{number}: binary data, not text (NUL at byte {at}); give a text file")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8"), number
        except UnicodeDecodeError as error:
            if b"\0" in stream.read(_LOOKED_AT):
                raise RequestError(f"{name}: binary data, not text; give a text file") from error
            mark = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
            raise RequestError(
                f"{name}:{number}: not UTF-8 (byte {offset + error.start + mark} is "
                f"0x{error.object[error.start]:02x}); convert it: {_conversion(line)}"
            ) from error
        offset += len(line)


def _conversion(line: bytes) -> str:
    """How to convert text of unknown encoding that has this line."""
    # What Latin-1 has from 0x80 to 0x9f are control characters; Windows has quotes, dashes and the euro there, and
    # else the same.
    likely = "CP1252" if any(0x80 <= byte <= 0x9F for byte in line) else "LATIN1"
    return f"if it is Western European text, iconv -f {likely} -t UTF-8 IN > OUT"


def _refuse_other_data(name: str, line: bytes) -> None:
    """Refuse what its first line shows to be no UTF-8 text."""
    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise RequestError(f"{name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 IN > OUT")
    if line[:2] == b"\x1f\x8b":
        raise RequestError(f"{name}: is gzip data; let its name end in .gz, or decompress it: gzip -dc")
    if b"\0" in line:
        raise RequestError(f"{name}: is binary data, not text (a NUL at byte {line.index(0)}); give a text file")


def _ahead(items: Iterator[Item], size: Callable[[Item], int]) -> tuple[list[Item], Iterator[Item]]:
    """The first items, as many as are looked at, and all items from the first one."""
    sample: list[Item] = []
    characters = 0
    for item in items:
        sample.append(item)
        characters += size(item)
        if len(sample) == _SAMPLE or characters > _SAMPLE_CHARACTERS:
            break
    return sample, chain(sample, items)


def _cells(path: Path, kind: str) -> tuple[Iterator[tuple[list[str], int]], str]:
    """The cells of each row of a table, and what parts them where the suffix says otherwise."""
    lines = _file_lines(path)
    if kind == ".tsv":
        return _tsv_cells(path, lines), ""
    sample, lines = _ahead(lines, lambda item: len(item[0]))
    separator = _separator([text for text, _ in sample])
    return _csv_cells(path, lines, separator), _SEPARATORS.get(separator, "")


def _separator(sample: list[str]) -> str:
    """What parts the columns of CSV: commas, or if there are none in the first row what all rows have as often."""

    def widths(separator: str) -> list[int]:
        try:
            rows = [row for row in csv.reader(sample, delimiter=separator) if any(map(str.strip, row))]
        except csv.Error:  # told when the row is reached
            return []
        return [len(row) for row in (rows[:-1] if len(sample) == _SAMPLE else rows)]  # the last one may be cut

    if widths(",")[:1] == [1]:
        for separator in _SEPARATORS:
            found = widths(separator)
            if len(found) > 1 and len(set(found)) == 1 and found[0] > 1:
                return separator
    return ","


def _tsv_cells(path: Path, lines: Iterator[tuple[str, int]]) -> Iterator[tuple[list[str], int]]:
    for text, line in lines:
        _refuse_returns(str(path), line, text)
        yield text.rstrip("\r\n").split("\t"), line


def _csv_cells(path: Path, lines: Iterator[tuple[str, int]], separator: str) -> Iterator[tuple[list[str], int]]:
    # The limit is one number for the whole process: raised here and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_LINE))
    reader = csv.reader((text for text, _ in lines), strict=True, delimiter=separator)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "new-line character" in str(error):
                raise RequestError(_returns(f"{path}:{reader.line_num}")) from error
            raise RequestError(
                f"{path}:{reader.line_num}: not CSV ({error}); look for a quote that is never closed"
            ) from error
        if cells is None:
            return
        yield cells, reader.line_num


def _refuse_returns(name: str, line: int, text: str) -> None:
    """Refuse a carriage return within a line."""
    if "\r" in text and "\r" in text.strip():
        raise RequestError(_returns(f"{name}:{line}"))


def _returns(place: str) -> str:
    return (
        f"{place}: carriage returns (CR) within the line; lines end in LF or CRLF. If CR ends the lines, convert "
        "them: tr '\\r' '\\n' < IN > OUT"
    )


class _Columns(NamedTuple):
    """Where the text and the label are in a row, -1 for no label; `header` is the first row if it is one."""

    text: int
    label: int
    header: list[str] | None


def _table_rows(
    path: Path, kind: str, column: str | int | None, label: str | int | None, told: list[str], pairs: bool
) -> Iterator[_Row]:
    rows, separator = _cells(path, kind)
    sample, rows = _ahead(rows, lambda row: sum(map(len, row[0])))
    filled = [row for row in sample if any(cell.strip() for cell in row[0])]
    columns = width = None
    for cells, line in rows:
        if not any(cell.strip() for cell in cells):
            yield "", None, line
            continue
        if columns is None:
            columns, width = (
                _columns(path, line, [row for row, _ in filled], column, label, told, pairs),
                len(cells),
            )
            if separator:
                told[0] += f"; {separator} part the columns"
            if columns.header is not None:
                continue
        if len(cells) != width:
            raise RequestError(_width(path, line, len(cells), width))
        yield cells[columns.text], cells[columns.label].strip() if columns.label >= 0 else None, line


def _columns(
    path: Path,
    line: int,
    sample: list[list[str]],
    column: str | int | None,
    label: str | int | None,
    told: list[str],
    pairs: bool,
) -> _Columns:
    """Which columns of a table are read, by its first rows; what is decided is added to `told`."""
    first = [cell.strip() for cell in sample[0]]
    rows = [[cell.strip() for cell in row] for row in sample if len(row) == len(first)]
    if len(first) == 1 and _is_header(first[0]):
        raise RequestError(
            f"{path}:{line}: {_short(first[0])} is one cell; name the file by what parts its columns"
        )
    pair = next((pair for pair in PAIR_COLUMNS if set(pair) <= {name.lower() for name in first}), None)
    named = any(one is not None and isinstance(_number(one), str) for one in (column, label))
    header = first if named or pair or _on_top(first, rows[1:]) else None
    numeric = [_numeric(cells) for cells in zip(*(rows if header is None else rows[1:]), strict=True)]
    numeric = numeric or [False] * len(first)

    def title(at: int) -> str:
        return f"column {at}" if header is None else f"column {_short(first[at])} ({at})"

    label_at = -1 if label is None else _place(path, line, "column" if pairs else "label", label, first)
    if pairs:
        lower = [name.lower() for name in first]
        places = (0, 1) if pair is None else (lower.index(pair[0]), lower.index(pair[1]))
        text_at = _place(path, line, "column", places[0] if column is None else column, first)
        label_at = _place(path, line, "column", places[1], first) if label is None else label_at
        if text_at == label_at:
            raise RequestError(f"{path}:{line}: both sentences are of column {text_at}; name two columns")
        told.append(f"sentences are {title(text_at)} and {title(label_at)}")
        return _Columns(text_at, label_at, header)
    if column is not None:
        text_at = _place(path, line, "column", column, first)
    else:
        names = [_known_as(cell) if header else "" for cell in first]
        text_at = _text_column(f"{path}:{line}", names, numeric, label_at, title)
    told.append(f"the text is {title(text_at)}" + (f", the label {title(label_at)}" if label_at >= 0 else ""))
    if header is None:
        told[0] += ", there is no header"
    if numeric[text_at]:
        told.append(f"{title(text_at)} holds numbers; if it is not the text, name another column")
    return _Columns(text_at, label_at, header)


def _on_top(first: list[str], rows: list[list[str]]) -> bool:
    """Whether a first row is a header, by the rows below it: see `read`."""
    known = (*TEXT_COLUMNS, *LABEL_COLUMNS) if len(first) > 1 else TEXT_COLUMNS
    for at, cell in enumerate(first):
        below = [row[at] for row in rows]
        if _known_as(cell) in known and cell not in below:
            return True
        if _numeric(below) and cell and not _NUMBER.fullmatch(cell) and cell.lower() not in _MISSING:
            return True
    return False


def _text_column(
    place: str, names: list[str], numeric: list[bool], label_at: int, title: Callable[[int], str]
) -> int:
    """The column of the text where none is named: see `read`."""
    for name in TEXT_COLUMNS:
        if name in names and names.index(name) != label_at:
            return names.index(name)
    others = [at for at in range(len(names)) if at != label_at] or [0]
    likely = [at for at in others if not numeric[at] and names[at] not in LABEL_COLUMNS]
    if others[-1] in likely or len(others) == 1:
        return others[-1]
    if len(likely) == 1:
        return likely[0]
    known = ", ".join(map(title, others[:20]))
    raise RequestError(
        f"{place}: which column is the text? The last one, {title(others[-1])}, looks like numbers or labels; "
        f"name one of {known} (--column or data.column)"
    )


def _numeric(cells: Sequence[str]) -> bool:
    """Whether cells are numbers, blank ones aside, and two of them at least."""
    filled = [cell for cell in cells if cell]
    return len(filled) > 1 and all(_NUMBER.fullmatch(cell) for cell in filled)


def _known_as(cell: str) -> str:
    """A name of a column as it is compared with the known ones."""
    return re.sub(r"[\s_-]", "", cell).lower()


def _width(path: Path, line: int, found: int, width: int | None) -> str:
    return f"{path}:{line}: {found} columns where the first row has {width}; look for a missing or extra separator"


def _number(column: str | int) -> str | int:
    return int(column) if isinstance(column, str) and column.isdecimal() else column


def _place(path: Path, line: int, role: str, asked: str | int, header: list[str]) -> int:
    """Where in a row the asked column stands."""
    place = _number(asked)
    if isinstance(place, str):
        if place in header:
            return header.index(place)
        raise RequestError(f"{path}:{line}: {_no_column(role, place, header)}")
    if not 0 <= place < len(header):
        raise RequestError(
            f"{path}:{line}: no {role} {place}; the {len(header)} columns are numbered 0 to {len(header) - 1}"
        )
    return place


def _json_rows(
    path: Path, column: str | int | None, label: str | int | None, told: list[str], pairs: bool
) -> Iterator[_Row]:
    records = _json_records(path, _file_lines(path))
    sample, records = _ahead(
        records, lambda item: sum(len(one) for one in item[0].values() if isinstance(one, str))
    )
    first = [record for record, _ in sample if record]
    names = list(dict.fromkeys(name for record in first for name in record))
    role = "column" if pairs else "label"
    mark = ("b" if pairs else None) if label is None else str(label)
    key = ("a" if pairs else _json_text(first)) if column is None else str(column)
    for what, name in (("column", key), (role, mark)):
        if first and name is not None and name not in names:
            raise RequestError(f"{path}:1: {_no_column(what, name, names)}")
    told.append(f"sentences are {key!r} and {mark!r}" if pairs else f"the text is {key!r}")
    if mark is not None and not pairs:
        told[0] += f", the label {mark!r}"
    kinds = (str,) if pairs else (str, int, float)
    for record, line in records:
        text = _json_cell(path, line, "column", key, record, str)
        yield text, None if mark is None else _json_cell(path, line, role, mark, record, *kinds).strip(), line


def _json_records(path: Path, lines: Iterator[tuple[str, int]]) -> Iterator[tuple[dict[str, object], int]]:
    """The objects of JSON lines, an empty one for a blank line, and their lines."""
    for text, line in lines:
        if not text.strip():
            yield {}, line
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            if "\r" in text.strip():
                raise RequestError(_returns(f"{path}:{line}")) from error
            raise RequestError(f"{path}:{line}: not valid JSON ({error}); give one object a line") from error
        if not isinstance(record, dict):
            raise RequestError(f"{path}:{line}: not a JSON object; give one object a line")
        yield record, line


def _json_text(records: list[dict[str, object]]) -> str:
    """The key of the text where none is named: the most preferred known name."""
    known = {_known_as(key): key for record in records for key, value in record.items() if isinstance(value, str)}
    return next((known[name] for name in TEXT_COLUMNS if name in known), "text")


def _json_cell(path: Path, line: int, role: str, key: str, record: dict[str, object], *kinds: type) -> str:
    """A value of a record as a cell: blank where it is null or missing, true and false spelled as JSON does."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, kinds):
        wanted = "text" if kinds == (str,) else "a value"
        raise RequestError(f"{path}:{line}: {role} {key!r} holds {json.dumps(value)[:40]}, not {wanted}")
    found = json.dumps(value) if isinstance(value, bool) else str(value)
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{path}:{line}: a lone surrogate (\\u{ord(found[error.start]):04x}) is no character; "
            "write the file again with whole characters"
        ) from error
    return found


def _no_column(role: str, asked: str, names: list[str]) -> str:
    close = get_close_matches(asked, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(repr(name[:40]) for name in names[:20])
    return f"no {role} {asked!r}; the columns are {listed or 'none'}{hint}"


def _told(name: str, columns: list[str], sentence: str) -> list[str]:
    """What is said of the columns that are read, the first sentence beside it; of plain text nothing is."""
    return [
        f"{name}: {line}" if number else f"{name}: {line}; {sentence}"
        for number, line in enumerate(columns)
        if line
    ]


def _short(text: str) -> str:
    """A text in quotes, the beginning of a long one."""
    return f'"{text}"' if len(text) <= _SHOWN else f'"{text[: _SHOWN - 3]}..."'


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    try:
        close = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    except OSError:
        return ""
    return f"; did you mean {close[0]!r}?" if close else ""


def require_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    """Return texts, of a list, an array, a column of a table or the like, once they are found to be strings.

    Raises:
        RequestError: as `each_text`.
    """
    return list(each_text(texts, name))


def each_text(texts: Iterable[str], name: str = "texts") -> Iterator[str]:
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
