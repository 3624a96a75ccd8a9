"""Reading of tables and JSON lines: their rows, and the choice of the columns of text and label.

The one writer of CSV, which escapes cells that a spreadsheet would take for formulas, is in `comparison.tables`.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from textvae.errors import RequestError, did_you_mean
from textvae.text.lines import LONGEST_LINE, SAMPLE, ahead, file_lines, refuse_returns, returns

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
# Names of columns that hold labels: they also make a first row a header, and are never the text.
LABEL_COLUMNS = (
    *("label", "labels", "class", "category", "sentiment", "stars", "rating", "score", "polarity"),
    *("topic", "genre", "emotion"),
)
# Names that together make a first row a header, and name the two sentences of a pair.
PAIR_COLUMNS = (("a", "b"), ("first", "second"), ("source", "target"))


_NUMBER = re.compile(r"[-+]?(\d[\d.,]*|\.\d+)([eE][-+]?\d+)?\s*%?")
_MISSING = ("na", "n/a", "nan", "null", "none", "-", "?")
_SEPARATORS = {";": "semicolons", "\t": "tabs"}
_SHOWN = 60  # most characters of a sentence in a message


class Row(NamedTuple):
    """Text, label (None if not requested) and line of a row, and its cells in further columns."""

    text: str
    label: str | None
    line: int
    marks: tuple[str, ...] = ()


class Turn(NamedTuple):
    """Place of an utterance in its dialogue, from 0, and the number of its speaker there."""

    place: int
    speaker: int


class Wanted(NamedTuple):
    """Columns of a table to read: text, label, further `marks`; with `pairs` the label is the second sentence.

    Notes call the marks the `role`.
    """

    column: str | int | None = None
    label: str | int | None = None
    marks: tuple[str | int, ...] = ()
    pairs: bool = False
    role: str = "condition"


def cells_of(path: Path, kind: str) -> tuple[Iterator[tuple[list[str], int]], str]:
    """Return the cells of each row of a table, and the name of an unexpected separator, else an empty string."""
    lines = file_lines(path)
    if kind == ".tsv":
        return _tsv_cells(path, lines), ""
    sample, lines = ahead(lines, lambda item: len(item[0]))
    separator = _separator([text for text, _ in sample])
    return _csv_cells(path, lines, separator), _SEPARATORS.get(separator, "")


def _separator(sample: list[str]) -> str:
    """Return the separator of CSV: a comma, or, if the first row has none, one that all rows have equally often."""

    def widths(separator: str) -> list[int]:
        try:
            rows = [row for row in csv.reader(sample, delimiter=separator) if any(map(str.strip, row))]
        except csv.Error:  # reported when the row is reached
            return []
        return [len(row) for row in (rows[:-1] if len(sample) == SAMPLE else rows)]  # the last one may be cut

    if widths(",")[:1] == [1]:
        for separator in _SEPARATORS:
            columns = widths(separator)
            if len(columns) > 1 and len(set(columns)) == 1 and columns[0] > 1:
                return separator
    return ","


def _tsv_cells(path: Path, lines: Iterator[tuple[str, int]]) -> Iterator[tuple[list[str], int]]:
    for text, line in lines:
        refuse_returns(str(path), line, text)
        yield text.rstrip("\r\n").split("\t"), line


def _csv_cells(path: Path, lines: Iterator[tuple[str, int]], separator: str) -> Iterator[tuple[list[str], int]]:
    # The limit is global to the process: raised here and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    begin = characters = 0

    def counted() -> Iterator[str]:
        nonlocal characters
        for text, _ in lines:
            characters += len(text)
            if characters > LONGEST_LINE:
                raise RequestError(
                    f"{path}:{begin}: the row is longer than {LONGEST_LINE >> 20} MiB; "
                    "look for a quote that is never closed"
                )
            yield text

    reader = csv.reader(counted(), strict=True, delimiter=separator)
    while True:
        begin, characters = reader.line_num + 1, 0  # a quoted cell may span several lines
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "new-line character" in str(error):
                raise RequestError(returns(f"{path}:{reader.line_num}")) from error
            end = f" on line {reader.line_num}" if reader.line_num > begin else ""
            raise RequestError(
                f"{path}:{begin}: not CSV ({error}{end}); look for a quote that is never closed"
            ) from error
        if cells is None:
            return
        yield cells, begin


class _Columns(NamedTuple):
    """Positions of text, label (-1 for none) and marks in a row; `header` is the first row if it is one."""

    text: int
    label: int
    marks: tuple[int, ...]
    header: list[str] | None


def table_rows(path: Path, kind: str, wanted: Wanted, notes: list[str]) -> Iterator[Row]:
    """Yield what is wanted of each row of a table."""
    rows, separator = cells_of(path, kind)
    sample, rows = ahead(rows, lambda row: len(row[0]) + sum(map(len, row[0])))  # empty cells take memory too
    filled = [row for row in sample if any(cell.strip() for cell in row[0])]
    columns = width = None
    for cells, line in rows:
        if not any(cell.strip() for cell in cells):
            yield Row("", None, line)
            continue
        if columns is None:
            columns, width = _columns(path, line, [row for row, _ in filled], wanted, notes), len(cells)
            if separator:
                notes[0] += f"; {separator} separate the columns"
            if columns.header is not None:
                continue
        if len(cells) != width:
            raise RequestError(other_width(path, line, len(cells), width))
        label = cells[columns.label].strip() if columns.label >= 0 else None
        yield Row(cells[columns.text], label, line, tuple(cells[at].strip() for at in columns.marks))


def _columns(path: Path, line: int, sample: list[list[str]], wanted: Wanted, notes: list[str]) -> _Columns:
    """Choose the columns to read by the first rows of a table, and append the choice to `notes`."""
    column, label, pairs = wanted.column, wanted.label, wanted.pairs
    first = [cell.strip() for cell in sample[0]]
    rows = [[cell.strip() for cell in row] for row in sample if len(row) == len(first)]
    if len(first) == 1 and is_header(first[0]):
        raise RequestError(
            f"{path}:{line}: {short(first[0])} is one cell; give the file the suffix of its separator"
        )
    pair = next((pair for pair in PAIR_COLUMNS if set(pair) <= {name.lower() for name in first}), None)
    named = any(one is not None and isinstance(_number(one), str) for one in (column, label, *wanted.marks))
    header = first if named or pair or _on_top(first, rows[1:]) else None
    numeric = [_numeric(cells) for cells in zip(*(rows if header is None else rows[1:]), strict=True)]
    numeric = numeric or [False] * len(first)

    def title(at: int) -> str:
        return f"column {at}" if header is None else f"column {short(first[at])} ({at})"

    label_at = -1 if label is None else _place(path, line, "column" if pairs else "label", label, first)
    if pairs:
        lower = [name.lower() for name in first]
        for name, given in zip(pair or (), (column, label), strict=False):
            if given is None:
                refuse_twice(path, line, name, lower)
        places = (0, 1) if pair is None else (lower.index(pair[0]), lower.index(pair[1]))
        text_at = _place(path, line, "column", places[0] if column is None else column, first)
        label_at = _place(path, line, "column", places[1], first) if label is None else label_at
        if text_at == label_at:
            raise RequestError(f"{path}:{line}: both sentences are in column {text_at}; name two columns")
        notes.append(f"sentences are {title(text_at)} and {title(label_at)}")
        return _Columns(text_at, label_at, (), header)
    marks = tuple(_place(path, line, "column", mark, first) for mark in wanted.marks)
    if column is not None:
        text_at = _place(path, line, "column", column, first)
    else:
        names = [known_as(cell) if header else "" for cell in first]
        text_at = _text_column(f"{path}:{line}", names, numeric, {label_at, *marks}, title)
    others = f", the label {title(label_at)}" if label_at >= 0 else ""
    others += f", the {wanted.role} {' and '.join(map(title, marks))}" if marks else ""
    notes.append(f"the text is {title(text_at)}{others}")
    if header is None:
        notes[0] += ", there is no header"
    if numeric[text_at]:
        notes.append(f"{title(text_at)} holds numbers; if it is not the text, name another column")
    return _Columns(text_at, label_at, marks, header)


def _on_top(first: list[str], rows: list[list[str]]) -> bool:
    """Return True if a first row is a header, judged by the rows below it (see `read`)."""
    known = (*TEXT_COLUMNS, *LABEL_COLUMNS) if len(first) > 1 else TEXT_COLUMNS
    for at, cell in enumerate(first):
        below = [row[at] for row in rows]
        if known_as(cell) in known and cell not in below:
            return True
        if _numeric(below) and cell and not _NUMBER.fullmatch(cell) and cell.lower() not in _MISSING:
            return True
    return False


def _text_column(
    place: str, names: list[str], numeric: list[bool], taken: Set[int], title: Callable[[int], str]
) -> int:
    """Return the column of the text if none is named (see `read`)."""
    for name in TEXT_COLUMNS:
        places = [at for at, own in enumerate(names) if own == name and at not in taken]
        if len(places) > 1:
            known = " and ".join(map(title, places[:2]))
            raise RequestError(f"{place}: which column is the text, {known}? Name it (--column or data.column)")
        if places:
            return places[0]
    others = [at for at in range(len(names)) if at not in taken] or [0]
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
    """Return True if at least two cells are filled and all filled ones are numbers."""
    filled = [cell for cell in cells if cell]
    return len(filled) > 1 and all(_NUMBER.fullmatch(cell) for cell in filled)


def known_as(cell: str) -> str:
    """Return a column name in the form that is compared with the known names."""
    return re.sub(r"[\s_-]", "", cell).lower()


def other_width(path: Path, line: int, columns: int, width: int | None) -> str:
    """Return the message for a row that differs in width from the first."""
    return f"{path}:{line}: {columns} columns, but the first row has {width}; look for a missing or extra separator"


def refuse_twice(path: Path, line: int, name: str, header: list[str]) -> None:
    """Refuse a name that two columns share, since it is ambiguous."""
    if header.count(name) > 1:
        one, other = [str(at) for at, cell in enumerate(header) if cell == name][:2]
        raise RequestError(
            f"{path}:{line}: columns {one} and {other} are both named {name!r}; rename one, or give its number"
        )


def _number(column: str | int) -> str | int:
    """Return a column given by a decimal string as an integer; no table has columns of ten digits."""
    return int(column) if isinstance(column, str) and column.isdecimal() and len(column) < 10 else column


def _place(path: Path, line: int, role: str, asked: str | int, header: list[str]) -> int:
    """Return the position of the requested column in a row."""
    place = _number(asked)
    if isinstance(place, str):
        if place in header:
            refuse_twice(path, line, place, header)
            return header.index(place)
        raise RequestError(f"{path}:{line}: {no_column(role, place, header)}")
    if not 0 <= place < len(header):
        raise RequestError(
            f"{path}:{line}: no {role} {place}; the {len(header)} columns are numbered 0 to {len(header) - 1}"
        )
    return place


def json_rows(path: Path, wanted: Wanted, notes: list[str]) -> Iterator[Row]:
    """Yield what is wanted of each object of JSON lines."""
    column, label, pairs = wanted.column, wanted.label, wanted.pairs
    sample, lines = ahead(file_lines(path), lambda item: len(item[0]))
    first = [record for record, _ in _json_records(path, iter(sample)) if record]
    names = list(dict.fromkeys(name for record in first for name in record))
    role = "column" if pairs else "label"
    mark = ("b" if pairs else None) if label is None else str(label)
    taken = {str(one) for one in (label, *wanted.marks) if one is not None}
    key = ("a" if pairs else _json_text(first, taken)) if column is None else str(column)
    marks = [str(mark) for mark in wanted.marks]
    for kind, name in (("column", key), (role, mark), *(("column", one) for one in marks)):
        if first and name is not None and name not in names:
            raise RequestError(f"{path}:1: {no_column(kind, name, names)}")
    notes.append(f"sentences are {key!r} and {mark!r}" if pairs else f"the text is {key!r}")
    if mark is not None and not pairs:
        notes[0] += f", the label {mark!r}"
    if marks:
        notes[0] += f", the {wanted.role} {' and '.join(map(repr, marks))}"
    kinds = (str,) if pairs else (str, int, float)
    for record, line in _json_records(path, lines):
        text = _json_cell(path, line, "column", key, record, str)
        cell = None if mark is None else _json_cell(path, line, role, mark, record, *kinds).strip()
        cells = (_json_cell(path, line, "column", one, record, str, int, float).strip() for one in marks)
        yield Row(text, cell, line, tuple(cells))


def first_names(path: Path, kind: str) -> list[str]:
    """Return the cells of the first row of a table, or the keys of the first objects of JSON lines."""
    if kind in (".tsv", ".csv"):
        rows, _ = cells_of(path, kind)
        filled = ([cell.strip() for cell in cells] for cells, _ in rows)
        return next((cells for cells in filled if any(cells)), [])
    sample, _ = ahead(file_lines(path), lambda item: len(item[0]))
    return list(dict.fromkeys(name for record, _ in _json_records(path, iter(sample)) for name in record))


def _json_records(path: Path, lines: Iterator[tuple[str, int]]) -> Iterator[tuple[dict[str, object], int]]:
    """Yield the objects of JSON lines with their lines, an empty object for a blank line."""
    for text, line in lines:
        if not text.strip():
            yield {}, line
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            if "\r" in text.strip():
                raise RequestError(returns(f"{path}:{line}")) from error
            raise RequestError(f"{path}:{line}: not valid JSON ({error}); give one object a line") from error
        if not isinstance(record, dict):
            raise RequestError(f"{path}:{line}: not a JSON object; give one object a line")
        yield record, line


def _json_text(records: list[dict[str, object]], taken: Set[str]) -> str:
    """Return the key of the text if none is named: the most preferred known name of those that are not taken."""
    cells = ((key, value) for record in records for key, value in record.items() if key not in taken)
    known = {known_as(key): key for key, value in cells if isinstance(value, str)}
    return next((known[name] for name in TEXT_COLUMNS if name in known), "text")


def _json_cell(path: Path, line: int, role: str, key: str, record: dict[str, object], *kinds: type) -> str:
    """Return a value of a record as a cell: blank if null or missing; true and false in the spelling of JSON."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, kinds):
        expected = "text" if kinds == (str,) else "a value"
        raise RequestError(f"{path}:{line}: {role} {key!r} holds {json.dumps(value)[:40]}, not {expected}")
    cell = json.dumps(value) if isinstance(value, bool) else str(value)
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{path}:{line}: a lone surrogate (\\u{ord(cell[error.start]):04x}) is not a character; "
            "write the file again with whole characters"
        ) from error
    return cell


def no_column(role: str, asked: str, names: list[str]) -> str:
    """Return the message for a missing column, with the nearest name."""
    listed = ", ".join(repr(name[:40]) for name in names[:20])
    return f"no {role} {asked!r}; the columns are {listed or 'none'}{did_you_mean(asked, names, '')}"


def is_header(text: str) -> bool:
    """Return True if a line of plain text is the header of a table with a column of text."""
    cells = [known_as(cell) for cell in re.split(r"[,;\t]", text)]
    return len(cells) > 1 and any(cell in TEXT_COLUMNS for cell in cells) and " " not in text.strip()


def short(text: str) -> str:
    """Return a text in quotes, cut if it is long."""
    return f'"{text}"' if len(text) <= _SHOWN else f'"{text[: _SHOWN - 3]}..."'
