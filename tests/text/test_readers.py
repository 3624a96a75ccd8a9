import bz2
import csv
import gzip
import io
import json
import lzma
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.text import lines, tables
from textvae.text.readers import Sentence, read, read_pairs, read_stream, read_table, require_texts


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def texts(path, **columns):
    return [sentence.text for sentence in read(path, **columns)]


def refusal(path, **columns):
    with pytest.raises(RequestError) as error:
        list(read(path, **columns))
    return str(error.value).replace(str(path), "PATH")


def test_plain_text_keeps_line_numbers_and_counts_blank_lines(tmp_path):
    path = written(tmp_path, "a.txt", b"\xef\xbb\xbf one two \r\n\r\n   \r\nthree\x0b\r\n\nfour")
    reading = read(path)
    assert list(reading) == [Sentence("one two", None, 1), Sentence("three", None, 4), Sentence("four", None, 6)]
    assert reading.blank == 3


def test_a_line_of_100000_tokens_is_one_sentence(tmp_path):
    path = written(tmp_path, "a.txt", "short\n" + "w " * 100_000 + "\nend\n")
    found = texts(path)
    assert len(found) == 3 and len(found[1].split()) == 100_000
    assert texts(written(tmp_path, "a.csv", "n,text\n1," + "w " * 100_000 + "\n"))[0].count("w") == 100_000


def test_a_row_of_many_lines_does_not_fill_the_memory(tmp_path, monkeypatch):
    """A cell may span lines, and a row may have any number of such cells."""
    monkeypatch.setattr(tables, "LONGEST_LINE", 10_000)
    rows = 'label,text\na,"two\nlines"\n'
    assert texts(written(tmp_path, "a.csv", rows + 'b,"and\nmore"\n' * 500)) == ["two lines", *["and more"] * 500]
    bomb = written(tmp_path, "b.csv.gz", gzip.compress((rows + '"\n",' * 10_000).encode()))
    assert refusal(bomb) == "PATH:4: the row is longer than 0 MiB; look for a quote that is never closed"


def test_gzip_reads_as_the_file_inside(tmp_path):
    path = written(tmp_path, "a.tsv.gz", gzip.compress(b"1\tgood food\n0\tbad food\n"))
    assert list(read(path, label=0)) == [Sentence("good food", "1", 1), Sentence("bad food", "0", 2)]


def test_without_a_header_the_last_column_is_the_text(tmp_path):
    path = written(tmp_path, "a.tsv", '1\tx\t" quoted " , and more\n0\ty\tnext " one\n')
    assert texts(path) == ['" quoted " , and more', 'next " one']
    assert [s.label for s in read(path, label="1")] == ["x", "y"]
    assert texts(path, column=1) == ["x", "y"]


def test_a_header_is_known_by_a_text_column_or_by_an_asked_name(tmp_path):
    path = written(tmp_path, "a.csv", 'Stars,Review,Shop\n5,"good, ""very""\nfood",here\n1,bad,there\n')
    assert list(read(path, label="Stars")) == [
        Sentence('good, "very" food', "5", 2),  # where its row begins
        Sentence("bad", "1", 4),
    ]
    assert texts(path, column="Shop") == ["here", "there"]
    other = written(tmp_path, "b.tsv", "kind\twords\na\tone\n")
    assert texts(other) == ["words", "one"]
    assert texts(other, column="words") == ["one"]


@pytest.mark.parametrize("names", ["a\tb", "first\tsecond", "Source\tTARGET"])
def test_two_names_of_a_pair_are_a_header_for_every_reader(tmp_path, names):
    path = written(tmp_path, "a.tsv", f"{names}\none\ttwo\nthree\tfour\n")
    assert texts(path) == ["two", "four"] and texts(path, column=0) == ["one", "three"]
    assert list(read_pairs(path)) == [("one", "two", 2), ("three", "four", 3)]
    half = written(tmp_path, "b.tsv", f"{names.split()[0]}\twords\none\ttwo\n")
    assert list(read_pairs(half)) == [(names.split()[0], "words", 1), ("one", "two", 2)]


def test_pairs_are_of_the_named_columns(tmp_path):
    table = written(tmp_path, "a.csv", "id,target,source\n7,there,here\n\n8,far,near\n")
    assert list(read_pairs(table)) == [("here", "there", 2), ("near", "far", 4)]
    assert list(read_pairs(table, "id", "source")) == [("7", "here", 2), ("8", "near", 4)]
    assert list(read_pairs(table, "1", 2))[0] == ("there", "here", 2)
    other = written(tmp_path, "b.tsv", "old\tnew\none\ttwo\n")
    assert list(read_pairs(other, b="new")) == [("one", "two", 2)]
    lines = written(tmp_path, "a.jsonl", '{"a": "one", "b": "two", "c": "three"}\n')
    assert list(read_pairs(lines)) == [("one", "two", 1)] and list(read_pairs(lines, b="c")) == [
        ("one", "three", 1)
    ]


@pytest.mark.parametrize(
    ("name", "data", "columns", "message"),
    [
        ("a.tsv", "one\n", {}, ":1: no column 1; the 1 columns are numbered 0 to 0"),
        ("a.tsv", "a\tb\n", {}, ": holds no pair"),
        ("a.tsv", "a\tb\none\ttwo\n", {"b": "a"}, ":1: both sentences are in column 0; name two columns"),
        ("a.tsv", "old\tnew\none\ttwo\n", {"b": "nwe"}, "no column 'nwe'; the columns are 'old', 'new'; did you"),
        ("a.txt", "one two\n", {}, ": plain text has no columns, and pairs need two"),
        ("a.jsonl", '{"a": "one"}\n', {}, ":1: no column 'b'; the columns are 'a'"),
    ],
)
def test_pairs_that_cannot_be_read(tmp_path, name, data, columns, message):
    with pytest.raises(RequestError) as error:
        list(read_pairs(written(tmp_path, name, data), **columns))
    assert message in str(error.value)


def test_json_lines_take_a_key(tmp_path):
    lines = [{"text": "one\ntwo", "y": 1}, {"text": "drei ß", "y": True}]
    path = written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert list(read(path, label="y")) == [Sentence("one two", "1", 1), Sentence("drei ß", "true", 2)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_csv_gives_back_what_the_standard_library_wrote(tmp_path_factory, cells):
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["number", "text"])
    writer.writerows([i, cell] for i, cell in enumerate(cells))
    path = written(tmp_path_factory.mktemp("csv"), "a.csv", buffer.getvalue())
    expected = [" ".join(cell.strip().replace("\r", "\n").split("\n")) for cell in cells if cell.strip()]
    if not expected:
        assert "only blank lines" in refusal(path)
    else:  # runs of line breaks become one space, so compare without spaces
        assert [t.replace(" ", "") for t in texts(path)] == [t.replace(" ", "") for t in expected]


def test_paths_that_cannot_be_read(tmp_path):
    written(tmp_path, "reviews.txt", "a\n")
    assert refusal(tmp_path / "review.txt") == "PATH: no such file; did you mean 'reviews.txt'?"
    nowhere = tmp_path / "nowhere" / "a.txt"
    assert "the folder" in refusal(nowhere) and "does not exist either" in refusal(nowhere)
    assert refusal(tmp_path) == "PATH: is a folder; give a file in it"
    assert "the file is empty" in refusal(written(tmp_path, "e.txt", b""))
    assert "only blank lines" in refusal(written(tmp_path, "b.txt", b"\n \n\r\n"))
    assert "only blank lines" in refusal(written(tmp_path, "bom.txt", b"\xef\xbb\xbf"))


def test_a_missing_path_is_refused_before_the_first_sentence_is_asked_for(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        read(tmp_path / "none.txt")


def test_data_that_is_not_text(tmp_path):
    assert "PATH:2: binary data, not text (NUL at byte 8194)" in refusal(
        written(tmp_path, "a.txt", b"x" * 8191 + b"\nab\0c\n")
    )
    assert "a NUL at byte 1" in refusal(written(tmp_path, "b.txt", b"a\0b"))
    assert "PATH:2: not UTF-8 (byte 9 is 0xe9); convert it" in refusal(
        written(tmp_path, "c.txt", "good\ncaf\xe9 x\n".encode("latin-1").replace(b"good", b"good "))
    )
    assert "byte 4 is 0xff" in refusal(written(tmp_path, "d.txt", b"\xef\xbb\xbfa\xff\n"))
    assert "UTF-16" in refusal(written(tmp_path, "e.txt", "abc".encode("utf-16")))
    assert "let its name end in .gz" in refusal(written(tmp_path, "f.txt", gzip.compress(b"abc")))


def test_broken_gzip_files(tmp_path):
    assert "not a sound gzip file" in refusal(written(tmp_path, "a.txt.gz", b"plain text\n"))
    whole = gzip.compress(bytes(range(32, 127)) * 100)
    assert "cut short" in refusal(written(tmp_path, "b.txt.gz", whole[:-20]))
    assert "not a sound gzip file" in refusal(written(tmp_path, "c.txt.gz", whole[:-8] + b"\1\2\3\4" + whole[-4:]))


def test_tables_that_do_not_fit(tmp_path):
    table = written(tmp_path, "a.csv", "stars,text\n5,good\n1,bad,extra\n")
    assert refusal(table) == ("PATH:3: 3 columns, but the first row has 2; look for a missing or extra separator")
    assert refusal(table, column="txt") == (
        "PATH:1: no column 'txt'; the columns are 'stars', 'text'; did you mean 'text'?"
    )
    assert "no label 'star'; the columns are 'stars', 'text'; did you mean 'stars'?" in refusal(table, label="star")
    assert "no column 2; the 2 columns are numbered 0 to 1" in refusal(table, column=2)
    unclosed = written(tmp_path, "b.csv", 'text\nfine\n"never closed\nmore\n')
    assert refusal(unclosed).startswith("PATH:3: not CSV (unexpected end of data on line 4); look for a quote")
    assert "plain text has no column 'text'" in refusal(written(tmp_path, "c.txt", "a\n"), column="text")
    assert "or a header" in refusal(written(tmp_path, "d.tsv", "label\ttext\n"))


def test_a_name_of_two_columns_is_refused(tmp_path):
    table = written(tmp_path, "a.csv", "text,stars,text,stars\none,1,two,2\n")
    twice = "PATH:1: columns 0 and 2 are both named 'text'; rename one, or give its number"
    assert refusal(table, column="text") == twice
    assert "columns 1 and 3 are both named 'stars'" in refusal(table, column=0, label="stars")
    assert 'which column is the text, column "text" (0) and column "text" (2)? Name it' in refusal(table)
    assert texts(table, column=2) == ["two"]
    with pytest.raises(RequestError, match="both named 'a'"):
        list(read_pairs(written(tmp_path, "b.tsv", "a\tb\ta\none\ttwo\tthree\n")))
    with pytest.raises(RequestError, match="both named 'bad'"):
        list(read_table(written(tmp_path, "c.tsv", "good\tbad\tbad\none\ttwo\tthree\n"), ("good", "bad")))


def test_a_number_of_no_column_is_refused_whatever_its_size(tmp_path):
    table = written(tmp_path, "a.tsv", "a\tone\n")
    assert "no column 7; the 2 columns" in refusal(table, column="7")
    assert "no column '999" in refusal(table, column="9" * 5000)


def test_a_path_that_the_system_refuses(tmp_path, monkeypatch):
    assert refusal(tmp_path / ("a" * 300)) == "PATH: cannot be read: File name too long"
    assert "cannot be read: embedded null byte" in refusal(tmp_path / "a\0b")
    path = written(tmp_path, "a.txt", "fine .\n")
    assert "no such file" in refusal(path / "b.txt")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "stat", closed)
    assert refusal(path) == "PATH: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bz2.compress(b"a fine text .\n"), "is bzip2 data; decompress it: bzip2 -dc IN > OUT"),
        (lzma.compress(b"a fine text .\n"), "is xz data; decompress it: xz -dc IN > OUT"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "is zstd data; decompress it: zstd -dc IN > OUT"),
        (b"PK\x03\x04\x14\x00", "is a ZIP archive, as office files are; unpack it, or save its table as CSV"),
    ],
)
def test_compressed_files_of_other_kinds_are_named_as_such(tmp_path, data, message):
    assert refusal(written(tmp_path, "a.txt", data)) == f"PATH: {message}"
    assert refusal(written(tmp_path, "a.tsv.xz", data), column="text") == f"PATH: {message}"
    with pytest.raises(RequestError, match=f"^stdin: {re.escape(message)}$"):
        list(read_stream(io.BytesIO(data), "stdin"))


def test_blank_rows_of_pairs_are_counted(tmp_path):
    pairs = read_pairs(written(tmp_path, "a.tsv", "a\tb\n\none\ttwo\n\t\nthree\tfour\n"))
    assert list(pairs) == [("one", "two", 3), ("three", "four", 5)] and pairs.blank == 2


def test_whatever_a_cell_holds_is_read_again_from_a_file_of_lines(tmp_path):
    odd = ["a\0b", "\0a\0\0 b\r\n", "\0\n", *(f"a{chr(code)}b" for code in (*range(1, 32), 127, 0x85, 0x2028))]
    path = written(tmp_path, "a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in odd))
    found = texts(path)
    assert found[:2] == ["a b", "a  b"] and len(found) == len(odd) - 1  # the third is blank
    assert texts(written(tmp_path, "a.txt", "".join(text + "\n" for text in found))) == found
    rows = "".join(json.dumps({"a": text, "b": "c"}) + "\n" for text in odd)
    assert [a for a, _, _ in read_pairs(written(tmp_path, "b.jsonl", rows)) if a] == found


def test_json_lines_that_do_not_fit(tmp_path):
    def refused(line, **columns):
        return refusal(written(tmp_path, "a.jsonl", '{"text": "fine"}\n' + line + "\n"), **columns)

    assert "PATH:2: not valid JSON" in refused('{"text": ')
    assert "PATH:2: not valid JSON" in refused("[" * 100_000)
    assert "PATH:2: not a JSON object" in refused('["a"]')
    assert "PATH:2: column 'text' holds 3, not text" in refused('{"text": 3}')
    assert "PATH:1: no column 'test'; the columns are 'text', 'b'; did you mean 'text'?" in refused(
        '{"text": "a", "b": 1}', column="test"
    )
    assert "PATH:2: a lone surrogate (\\ud800)" in refused('{"text": "a\\ud800"}')
    assert "PATH:1: no label 'y'" in refused('{"text": "b"}', label="y")


def test_a_line_without_end_is_refused_and_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("textvae.text.lines.LONGEST_LINE", 1000)
    path = written(tmp_path, "a.txt", b"fine\n" + b"x" * 5000)
    assert "PATH:2: the line is longer than" in refusal(path)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.tsv", "\t" * 500 + "\n"),
        ("a.csv", "," * 500 + "\n"),
        ("a.jsonl", json.dumps({"text": "b", "numbers": [0] * 200}) + "\n"),
    ],
)
def test_the_rows_examined_first_are_few_where_they_are_large_without_text(tmp_path, monkeypatch, name, row):
    """A small file of a compressed table may have rows that fill the memory, a hundred of them at once."""
    head = "" if name == "a.jsonl" else row.replace(row[0], f"text{row[0]}", 1)
    monkeypatch.setattr("textvae.text.lines._SAMPLE_CHARACTERS", 1000)
    path, seen = written(tmp_path, name, head + row * 90 + row.replace("b", "c")), []

    def counted(path):
        for line in lines.file_lines(path):
            seen.append(line)
            yield line

    monkeypatch.setattr(tables, "file_lines", counted)
    rows = tables.json_rows if name == "a.jsonl" else partial(tables.table_rows, kind=path.suffix)
    next(rows(path, wanted=tables.Wanted(), notes=[]))
    assert 1 < len(seen) < 6


LINES = {
    "line separator": "the food\u2028was great .\nwe left .\n",
    "paragraph separator": "the food\u2029was great .\nwe left .\n",
    "next line": "the food\x85was great .\nwe left .\n",
    "form feed": "my aunt\x0cliked it .\nwe left .\n",
    "vertical tab": "my aunt\x0bliked it .\nwe left .\n",
    "file separator": "my aunt\x1cliked it .\nwe left .\n",
    "CRLF": "the food was great .\r\nwe left .\r\n",
    "mark": "\ufeffthe food was great .\nwe left .\n",
    "no end": "the food was great .\nwe left .",
    "blank": "\nthe food was great .\n\u2028 \n\nwe left .\n\n",
}


@pytest.mark.parametrize("name", LINES)
def test_only_lf_and_crlf_end_a_line_of_a_file_or_a_stream(tmp_path, name):
    data = LINES[name].encode()
    expected = [line.strip("\r\ufeff") for line in LINES[name].split("\n") if line.strip()]
    found = read(written(tmp_path, "a.txt", data))
    stream = read_stream(io.BytesIO(data), "stdin")
    zipped = read(written(tmp_path, "a.txt.gz", gzip.compress(data)))
    sentences = list(found)
    assert [sentence.text for sentence in sentences] == expected and len(expected) == 2
    assert sentences == list(stream) == list(zipped)
    assert found.blank == stream.blank == zipped.blank == (4 if name == "blank" else 0)


@pytest.mark.parametrize(
    "data", [b"", b"\n \n", b"a\0b\n", b"fine\na\0b\n", b"\xff\xfea\0", b"a\xe9\n", b"x" * 2000, b"a\rb\n"]
)
def test_a_stream_is_refused_as_a_file_is(tmp_path, monkeypatch, data):
    monkeypatch.setattr("textvae.text.lines.LONGEST_LINE", 1000)
    with pytest.raises(RequestError) as error:
        list(read_stream(io.BytesIO(data), "stdin"))
    if data:
        assert str(error.value).replace("stdin", "PATH") == refusal(written(tmp_path, "a.txt", data))


def test_the_encoding_that_is_proposed_has_the_bytes(tmp_path):
    windows = "he said \u201chi\u201d".encode("cp1252")
    assert "byte 8 is 0x93" in refusal(written(tmp_path, "a.txt", windows))
    assert "iconv -f CP1252" in refusal(written(tmp_path, "a.txt", windows))
    assert "iconv -f LATIN1" in refusal(written(tmp_path, "a.txt", "caf\xe9".encode("latin-1")))
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    assert refusal(written(tmp_path, "a.txt", picture)) == "PATH: binary data, not text; give a text file"


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.csv", "a.jsonl"])
def test_lines_that_end_in_cr_alone_are_named_as_such(tmp_path, name):
    data = '{"text": "a"}\r{"text": "b"}\r' if name == "a.jsonl" else "text\rone\rtwo\r"
    assert "PATH:1: carriage returns (CR) within the line; lines end in LF or CRLF" in refusal(
        written(tmp_path, name, data)
    )


@pytest.mark.parametrize(
    ("name", "data", "columns", "expected", "note"),
    [
        ("a.csv", "mol,logP\nCCO,1.2\nCCN,-0.3\n", {}, ["CCO", "CCN"], 'the text is column "mol" (0); first'),
        ("a.csv", "SMILES,logP\nCCO,1.2\nCCN,-0.3\n", {}, ["CCO", "CCN"], 'the text is column "SMILES" (0)'),
        ("a.csv", "comment,stars\ngood,5\nbad,1\n", {}, ["good", "bad"], '"comment" (0); first sentence: "good"'),
        ("a.csv", "id,Comment\n1,good\n2,bad\n", {}, ["good", "bad"], 'the text is column "Comment" (1)'),
        ("a.csv", "words,kind\ngood,5\n", {}, ["kind", "5"], "the text is column 1, there is no header"),
        ("a.csv", "Review Text,x\ngood,a\n", {}, ["good"], 'the text is column "Review Text" (0)'),
        ("a.csv", "text;label\ngood, but;1\nbad;0\n", {}, ["good, but", "bad"], "semicolons separate the columns"),
        ("a.csv", "text\tlabel\ngood, but\t1\nbad\t0\n", {}, ["good, but", "bad"], "tabs separate the columns"),
        ("a.csv", "good; or not\nbad\n", {}, ["good; or not", "bad"], "the text is column 0, there is no header"),
        ("a.tsv", "words\tlabel\ngood\tx\nbad\ty\n", {}, ["good", "bad"], 'the text is column "words" (0)'),
        ("a.tsv", "good\tx\nbad\ty\n", {"label": 1}, ["good", "bad"], "the text is column 0, the label column 1"),
        ("a.tsv", "title\tone\nbody\ttwo\ntitle\tthree\n", {}, ["one", "two", "three"], "the text is column 1"),
        ("a.tsv", "n/a\tone\n4\ttwo\n5\tthree\n", {}, ["one", "two", "three"], "there is no header"),
        ("a.tsv", "n\tm\n4\t1\n5\t2\n", {"column": "n"}, ["4", "5"], 'the text is column "n" (0)'),
        ("a.csv", "12\n13\n", {}, ["12", "13"], "the text is column 0"),
        (
            "a.jsonl",
            '{"id": 1, "Review": "good"}\n',
            {},
            ["good"],
            "the text is 'Review'; first sentence: \"good\"",
        ),
    ],
)
def test_which_column_is_the_text_and_that_it_is_told(tmp_path, name, data, columns, expected, note):
    reading = read(written(tmp_path, name, data), **columns)
    assert [sentence.text for sentence in reading] == expected
    assert note in reading.notes[0]
    numbers = any("holds numbers; if it is not the text, name another column" in line for line in reading.notes)
    assert numbers == (expected[0] in ("4", "12")) and len(reading.notes) == 1 + numbers


def test_a_text_that_cannot_be_told_from_numbers_and_labels_is_asked_for(tmp_path):
    path = written(tmp_path, "a.csv", "x,y,z\na,b,1\nc,d,2\n")
    assert refusal(path) == (
        'PATH:1: which column is the text? The last one, column "z" (2), looks like numbers or labels; name one of '
        'column "x" (0), column "y" (1), column "z" (2) (--column or data.column)'
    )
    assert texts(path, column="y") == ["b", "d"]
    assert "is one cell; give the file the suffix of its separator" in refusal(
        written(tmp_path, "a.tsv", "text,label\ngood,1\n")
    )


def test_plain_text_that_looks_like_a_table_is_told(tmp_path):
    tabs = read(written(tmp_path, "a.txt", "neg\tbad food\npos\tgood food\nplain\n"))
    assert len(list(tabs)) == 3 and "lines hold tabs, but plain text has no columns" in tabs.notes[0]
    header = read(written(tmp_path, "b.txt", "id,comment\n1,good\n"))
    assert len(list(header)) == 2 and 'the first line, "id,comment", looks like a table' in header.notes[0]
    keys = read(written(tmp_path, "d.txt", '{"text": "good"}\n{"text": "bad"}\n'))
    assert len(list(keys)) == 2 and "the first line is a JSON object" in keys.notes[0]
    plain = read(written(tmp_path, "c.txt", "a review, text\nwith one\ttab\nnone\n"))
    assert len(list(plain)) == 3 and not plain.notes


def test_null_and_missing_values_of_json_are_blank_cells(tmp_path):
    rows = [{"text": "a", "y": True}, {"text": "b", "y": None}, {"text": "c"}, {"text": None, "y": 1}]
    reading = read(written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))), label="y")
    assert list(reading) == [Sentence("a", "true", 1), Sentence("b", "", 2), Sentence("c", "", 3)]
    assert (reading.blank, reading.unlabelled) == (1, 2)
    table = read(written(tmp_path, "a.csv", "text,y\na,true\nb,\nc,\n,1\n"), label="y")
    assert [sentence[:2] for sentence in table] == [("a", "true"), ("b", ""), ("c", "")]
    assert (table.blank, table.unlabelled) == (1, 2)


class Table:
    """As pandas has it: iterating gives the names of the columns."""

    ndim = 2
    columns = ("text", "label")

    def __iter__(self):
        return iter(self.columns)


class Column(list):
    """As pandas has it: one dimension, and the values when it is iterated over."""

    ndim = 1


@pytest.mark.parametrize(
    "given",
    [["a", "b c"], ("a", "b c"), np.array(["a", "b c"]), np.array(["a", "b c"], object), Column(["a", "b c"])],
)
def test_texts_are_any_sequence_of_strings(given):
    found = require_texts(given)
    assert found == ["a", "b c"] and {type(text) for text in found} == {str}
    assert require_texts(iter(given)) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a b", "texts = 'a b': a list of texts is expected; wrap a single one: [text]"),
        ([("i hate it .", "i love")], "texts[0]: is a tuple, not a string: ('i hate it .', 'i love')"),
        (["a", None], "texts[1]: is a NoneType, not a string: None"),
        (["a", b"b"], "texts[1]: is a bytes, not a string: b'b'"),
        (b"ab", "texts: is a bytes, not a list of texts"),
        ({"text": "a"}, "texts: is a dict, not a list of texts; give one column, table[NAME], of 'text'"),
        ({"a", "b"}, "texts: is a set, not a list of texts"),
        (Table(), "texts: is a Table, not a list of texts; give one column, table[NAME], of 'text', 'label'"),
        (np.array([["a", "b"]]), "texts: is a ndarray, not a list of texts; give one column"),
        (Column(["a", float("nan")]), "texts[1]: is a float, not a string: nan"),
        (3, "texts: is a int, not a list of texts"),
    ],
)
def test_what_is_no_list_of_strings_is_refused_by_place_and_type(given, message):
    with pytest.raises(RequestError) as error:
        require_texts(given)
    assert str(error.value).startswith(message)
