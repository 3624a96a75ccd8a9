import gzip
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.text import vectors
from textvae.text.vectors import WordVectors, read_vectors

TABLE = {"the": [0.5, -1.0, 2.0], "café": [1e-3, 0.0, -0.25], "\u00a0": [4.0, 5.0, 6.0], "a": [7.0, 8.0, 9.0]}


def text(table, header=False, between=" ", end="\n"):
    lines = [f"{len(table)} {len(next(iter(table.values())))}"] if header else []
    lines += [between.join([word, *map(str, numbers)]) for word, numbers in table.items()]
    return "".join(line + end for line in lines).encode()


def binary(table, after=b""):
    size = len(next(iter(table.values())))
    entries = (word.encode() + b" " + struct.pack(f"<{size}f", *numbers) + after for word, numbers in table.items())
    return f"{len(table)} {size}\n".encode() + b"".join(entries)


def written(folder, name, data):
    path = folder / name
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


FORMS = {
    "plain.txt": text(TABLE),
    "no-suffix": text(TABLE),
    "header.vec": text(TABLE, header=True),
    "tabs.txt": text(TABLE, between="\t"),
    "windows.txt": text(TABLE, end=" \r\n"),
    "plain.txt.gz": text(TABLE),
    "words.bin": binary(TABLE),
    "lines.bin": binary(TABLE, b"\n"),
    "words.bin.gz": binary(TABLE),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_every_form_gives_the_same_vectors(tmp_path, monkeypatch, name, piece):
    """Only those asked for, in 32 bits, by the order of the file."""
    monkeypatch.setattr(vectors, "_PIECE", piece)
    read = read_vectors(written(tmp_path, name, FORMS[name]), ["a", "café", "unseen"])
    assert read.rows == {"café": 0, "a": 1} and read.size == 3
    assert read.table.dtype == np.float32
    np.testing.assert_array_equal(read.table, np.array([TABLE["café"], TABLE["a"]], np.float32))


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters=" \t\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=4),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
        min_size=2,
    )
)
def test_text_and_binary_agree_whatever_the_words(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("vectors")
    one = read_vectors(written(folder, "a.txt", text(table, header=True)), table)
    other = read_vectors(written(folder, "a.bin", binary(table)), table)
    assert one.rows == other.rows == {word: row for row, word in enumerate(table)}
    np.testing.assert_array_equal(one.table, other.table)
    np.testing.assert_array_equal(one.table, np.array(list(table.values()), np.float32))


def test_the_first_vector_of_a_word_counts_and_words_with_spaces_are_passed_over(tmp_path):
    path = written(tmp_path, "v.txt", b"the 1 2\n. . . 3 4\nat a@b.c 5 6\n\nthe 7 8\na 9 10\n\n")
    read = read_vectors(path, {"the", ".", "at", "a"})
    assert read.rows == {"the": 0, "a": 1}
    assert read.table.tolist() == [[1, 2], [9, 10]]


def test_other_words_are_not_kept(tmp_path):
    path = written(tmp_path, "v.txt", b"".join(b"w%d 1 2 x\n" % n if n else b"w0 1 2 3\n" for n in range(50)))
    assert read_vectors(path, ["w0"]).table.shape == (
        1,
        3,
    )  # the words of the others, as their numbers, are not read


WHOLE = binary(TABLE)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("v.txt", b"", ": has no word vectors; give a file with a word and its numbers on each line"),
        ("v.txt", b"\n\n", ": has no word vectors; give a file with a word and its numbers on each line"),
        ("v.txt", b"3 2\n", ": has no word vectors; give a file with a word and its numbers on each line"),
        ("v.txt", b"the\n", ":1: 'the' has '' in its vector, not a number; correct the line"),
        ("v.txt", b"a b c\n", ":1: 'a' has 'b' in its vector, not a number; correct the line"),
        ("v.txt", b"a 1 2\nthe 1 x\n", ":2: 'the' has 'x' in its vector, not a number; correct the line"),
        ("v.txt", b"a 1 2\nb 1\n", ":2: 1 numbers where the lines above have 2; all vectors need one size"),
        ("v.txt", b"a 1 2\nb 1 2 3\n", ":2: 3 numbers where the lines above have 2; all vectors need one size"),
        ("v.txt", b"2 3\nb 1 2\n", ":2: 2 numbers where the lines above have 3; all vectors need one size"),
        ("v.txt", b"3 2\na 1 2\nb 1 2\n", ": its header says 3 words, and it has 2; copy the file again"),
        ("v.txt", b"a 1 nan\n", ":1: 'a' has a number that is not finite in 32 bits; correct it or leave the word"),
        ("v.txt", b"b 1 1\na 1 1e39\n", ":2: 'a' has a number that is not finite in 32 bits; correct it or leave"),
        ("v.txt", b"b 1 1\n", ": has a vector for none of the 2 words asked for, such as 'a'; give vectors of the"),
        ("v.txt", b"a 1 2\n\xff 1 2\n", ":2: not UTF-8 (byte 6 is 0xff); convert it"),
        (
            "v.txt.gz",
            gzip.compress(b"a 1 2\n", mtime=0)[:-6],
            ": the gzip file is cut short; copy or compress it again",
        ),
        ("v.txt.gz", b"a 1 2\n", ": not a sound gzip file"),
        (
            "v.bin.gz",
            gzip.compress(WHOLE, mtime=0)[:-12],
            ": the gzip file is cut short; copy or compress it again",
        ),
        ("v.bin", b"", ":1: no header of word2vec's binary format, two whole numbers on a line; let the name of a"),
        ("v.bin", text(TABLE), ":1: no header of word2vec's binary format, two whole numbers on a line; let the"),
        ("v.bin", b"4 99999999\n", ":1: no header of word2vec's binary format"),
        ("v.bin", WHOLE[:-1], ": is cut short or damaged at word 4 of 4; copy it again"),
        ("v.bin", WHOLE[:-13], ": is cut short or damaged at word 4 of 4; copy it again"),
        ("v.bin", WHOLE[:4], ": is cut short or damaged at word 1 of 4; copy it again"),
        ("v.bin", b"9 3\n" + b"x" * 9999, ": is cut short or damaged at word 1 of 9; copy it again"),
        ("v.bin", b"2" + WHOLE[1:], ": goes on after the 2 words of its header; copy the file again"),
        ("v.bin", binary({"a": [np.inf]}), ": word 1, 'a', has a number that is not finite in 32 bits; correct it"),
        ("v.bin", binary({"b": [1]}), ": has a vector for none of the 2 words asked for, such as 'a'; give"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RequestError, match="^" + re.escape(f"{path}{message}")):
        read_vectors(path, ["the", "a"])


def test_what_cannot_be_read(tmp_path):
    for name in ("none.txt", "none.bin"):
        with pytest.raises(RequestError, match=f"{name}: cannot be read: No such file or directory$"):
            read_vectors(tmp_path / name, ["a"])
    with pytest.raises(RequestError, match=": cannot be read: Is a directory$"):
        read_vectors(tmp_path, ["a"])
    with pytest.raises(RequestError, match=": vectors of no words are asked for; give words$"):
        read_vectors(tmp_path / "none.txt", [])


def test_a_row_outside_the_table_is_refused():
    with pytest.raises(RequestError, match="^rows: 'b' has row 1 of a table of 1; number from 0$"):
        WordVectors({"a": 0, "b": 1}, np.zeros((1, 2), np.float32))
