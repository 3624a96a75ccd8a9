import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textvae.corpora.readers import Sentence, read, read_pairs
from textvae.errors import RequestError


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
        Sentence('good, "very" food', "5", 3),
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
        ("a.tsv", "one\ttwo\n\tfour\n", {}, ":2: has one sentence; two are needed, in two columns"),
        ("a.tsv", "one\n", {}, ":1: no column 1; the 1 columns are numbered 0 to 0"),
        ("a.tsv", "a\tb\n", {}, ": no pair in it"),
        ("a.tsv", "a\tb\none\ttwo\n", {"b": "a"}, ":1: both sentences are of column 0; name two columns"),
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
    assert list(read(path, label="y")) == [Sentence("one two", "1", 1), Sentence("drei ß", "True", 2)]


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
    assert refusal(table) == ("PATH:3: 3 columns where the first row has 2; look for a missing or extra separator")
    assert refusal(table, column="txt") == (
        "PATH:1: no column 'txt'; the columns are 'stars', 'text'; did you mean 'text'?"
    )
    assert "no label 'star'; the columns are 'stars', 'text'; did you mean 'stars'?" in refusal(table, label="star")
    assert "no column 2; the 2 columns are numbered 0 to 1" in refusal(table, column=2)
    unclosed = written(tmp_path, "b.csv", 'text\nfine\n"never closed\nmore\n')
    assert "a quote that is never closed" in refusal(unclosed)
    assert "plain text has no column 'text'" in refusal(written(tmp_path, "c.txt", "a\n"), column="text")
    assert "or a header" in refusal(written(tmp_path, "d.tsv", "label\ttext\n"))


def test_json_lines_that_do_not_fit(tmp_path):
    def refused(line, **columns):
        return refusal(written(tmp_path, "a.jsonl", '{"text": "fine"}\n' + line + "\n"), **columns)

    assert "PATH:2: not valid JSON" in refused('{"text": ')
    assert "PATH:2: not valid JSON" in refused("[" * 100_000)
    assert "PATH:2: not a JSON object" in refused('["a"]')
    assert "PATH:2: column 'text' holds 3, not text" in refused('{"text": 3}')
    assert "PATH:2: no column 'text'; the columns are 'test'; did you mean 'test'?" in refused('{"test": "a"}')
    assert "PATH:2: a lone surrogate (\\ud800)" in refused('{"text": "a\\ud800"}')
    assert "PATH:1: no label 'y'" in refused('{"text": "b"}', label="y")


def test_a_line_without_end_is_refused_and_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("textvae.corpora.readers._LONGEST_LINE", 1000)
    path = written(tmp_path, "a.txt", b"fine\n" + b"x" * 5000)
    assert "PATH:2: the line is longer than" in refusal(path)
