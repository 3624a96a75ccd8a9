import random
from collections.abc import Iterator

import numpy as np
import pytest

from textvae.errors import RequestError, WorkError
from textvae.generate import codes as module
from textvae.generate.codes import encode_file, encoded, load_codes, read_codes, save_codes, writing_codes
from textvae.generate.transfer import load_direction, save_direction

TEXTS = ["great food", "the staff was nice .", "we", "i will never come back .", "the place was nice"]


def test_codes_are_saved_as_numpy_or_parquet_files(tmp_path):
    from pyarrow import parquet

    codes = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    save_codes(tmp_path / "codes.npy", codes)
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy", allow_pickle=False), codes)
    save_codes(tmp_path / "codes.parquet", codes)
    assert parquet.read_table(tmp_path / "codes.parquet").column_names == [f"z{i}" for i in range(12)]
    save_codes(str(tmp_path / "codes.parquet"), codes, ["a", "naïve ☕", ""])
    table = parquet.read_table(tmp_path / "codes.parquet").to_pydict()
    assert table.pop("text") == ["a", "naïve ☕", ""]
    np.testing.assert_array_equal(np.array(list(table.values()), np.float32).T, codes)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["codes.npy", "codes.parquet"]


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_file_of_codes_says_which_weights_it_is_of(vae, tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"
    assert encode_file(vae, TEXTS, path, rows=2) == 5
    assert len(load_codes(path, 4, vae.identity).codes) == len(load_codes(path, 4).codes) == 5
    with pytest.raises(RequestError, match=rf"codes\{suffix}: was written by another run"):
        load_codes(path, 4, "0" * 64)
    if suffix == ".npy":  # NumPy reads it as ever, and what it writes says nothing
        np.testing.assert_allclose(np.load(path), vae.encode(TEXTS), atol=1e-6)
        np.save(path, np.load(path))
        assert len(load_codes(path, 4, "0" * 64).codes) == 5


def test_codes_that_cannot_be_saved_leave_nothing_behind(tmp_path):
    codes = np.zeros((2, 3), np.float32)
    with pytest.raises(RequestError, match=r"codes\.csv: unknown suffix '\.csv'; codes are written as \.npy or"):
        save_codes(tmp_path / "codes.csv", codes)
    with pytest.raises(RequestError, match="texts: 1 for 2 codes; give one for each"):
        save_codes(tmp_path / "codes.parquet", codes, ["a"])
    for name in ("codes.npy", "codes.parquet"):
        with pytest.raises(WorkError, match=f"{name}: cannot be written: No such file or directory"):
            save_codes(tmp_path / "missing" / name, codes)
    assert not list(tmp_path.iterdir())


def test_long_texts_are_encoded_some_at_a_time(vae, monkeypatch):
    monkeypatch.setattr("textvae.generate.codes.CHARACTERS", 1000)
    texts = ["we " * 200] * 5 + ["we"] * 400 + ["we " * 400]
    with pytest.warns(UserWarning, match="6 of 406 texts cut"):
        pieces = list(encoded(vae, iter(texts)))
    assert [len(piece.codes) for piece in pieces] == [2, 2, 1 + 200, 200 + 1]
    assert [text for piece in pieces for text in piece.texts] == texts


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_a_file_is_encoded_piece_by_piece_into_the_codes_of_one_piece(vae, tmp_path, suffix, rows):
    told = []
    path = tmp_path / f"codes{suffix}"
    assert encode_file(vae, iter(TEXTS), path, told.append, rows) == 5
    assert told == [min(done, 5) for done in range(rows, 5 + rows, rows)]
    found = load_codes(path, 4)
    np.testing.assert_allclose(found.codes, vae.encode(TEXTS), atol=1e-6)
    assert found.texts == (TEXTS if suffix == ".parquet" else None)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_no_more_text_is_read_than_is_encoded_and_written_next(vae, tmp_path, monkeypatch, suffix):
    """Bounded memory by construction: when a piece is written, its own texts are all that have been read since."""
    read, written, ahead = [], [], []
    real = module.writing_codes

    def watched(path, latent, texted, run):
        class Watch:
            def __enter__(self):
                self.inner = real(path, latent, texted, run)
                append = self.inner.__enter__()

                def write(codes, texts):
                    written.extend(texts)
                    ahead.append(len(read) - len(written))
                    append(codes, texts)

                return write

            def __exit__(self, *error):
                return self.inner.__exit__(*error)

        return Watch()

    def source():
        for number in range(1000):
            read.append(number)
            yield TEXTS[number % 5]

    monkeypatch.setattr(module, "writing_codes", watched)
    assert encode_file(vae, source(), tmp_path / f"codes{suffix}", rows=30) == 1000
    assert len(ahead) == 34 and set(ahead) == {0}
    sizes = [len(piece.codes) for piece in read_codes(tmp_path / f"codes{suffix}", 4, rows=70)]
    assert sum(sizes) == 1000 and max(sizes) <= 70


def test_texts_that_are_cut_are_counted_over_the_whole_file(vae, tmp_path):
    long = " ".join(["great"] * 9)
    with pytest.warns(UserWarning) as warned:
        encode_file(vae, [long, "we", long, "we", long], tmp_path / "codes.npy", rows=2)
    assert [str(one.message) for one in warned] == ["3 of 5 texts cut to their first 7 tokens (data.max_length)"]


def test_texts_without_a_known_word_are_counted_over_the_whole_file(vae, tmp_path):
    with pytest.warns(UserWarning) as warned:
        encode_file(vae, ["xx", "we", "yy xx", "we", "zz we"], tmp_path / "codes.npy", rows=2)
    assert [str(one.message) for one in warned] == [
        "2 of 5 texts have no word that the model knows; their codes encode only the lengths"
    ]


def test_what_fails_midway_leaves_what_was_there(vae, lm, tmp_path):
    path = tmp_path / "codes.npy"
    save_codes(path, np.ones((2, 4), np.float32))

    def source():
        yield from TEXTS
        raise RequestError("line 6: no text")

    with pytest.raises(RequestError, match="line 6"):
        encode_file(vae, source(), path, rows=2)
    with pytest.raises(RequestError, match="is a language model"):
        encode_file(lm, TEXTS, path)
    np.testing.assert_array_equal(np.load(path), np.ones((2, 4)))
    assert [file.name for file in tmp_path.iterdir()] == ["codes.npy"]


def test_an_empty_list_of_texts_makes_a_file_without_rows(vae, tmp_path):
    assert encode_file(vae, [], tmp_path / "codes.npy") == 0 == len(list(encoded(vae, [])))
    assert np.load(tmp_path / "codes.npy").shape == (0, 4)


def test_codes_of_other_programs_are_read(tmp_path):
    import pyarrow
    from pyarrow import parquet

    np.save(tmp_path / "whole.npy", np.arange(8).reshape(2, 4))
    np.testing.assert_array_equal(load_codes(tmp_path / "whole.npy", 4).codes, np.arange(8.0).reshape(2, 4))
    columns = {f"z{number}": [float(number), 2.0] for number in (1, 0, 10, 2, 3, 4, 5, 6, 7, 8, 9)}
    parquet.write_table(pyarrow.table(columns | {"text": ["a", "b"]}), tmp_path / "shuffled.parquet")
    found = load_codes(tmp_path / "shuffled.parquet", 11)
    np.testing.assert_array_equal(found.codes, [np.arange(11.0), np.full(11, 2.0)])
    assert found.texts == ["a", "b"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, r"codes\.npy: no such file; `textvae encode` writes codes"),
        (lambda path: path.write_bytes(b"no array"), "is not a NumPy file of numbers, or cut short"),
        (lambda path: path.write_bytes(b""), "is not a NumPy file of numbers, or cut short"),
        (lambda path: np.save(path, np.array([{"a": 1}])), "holds no numbers"),
        (lambda path: np.save(path, np.array([["a"] * 4])), "holds no numbers"),
        (lambda path: np.save(path, np.zeros((0, 4))), "holds no code"),
        (lambda path: np.save(path, np.zeros((5, 3))), r"has shape \(5, 3\); codes of shape \(n, 4\) are expected"),
        (lambda path: np.save(path, np.zeros(4)), r"has shape \(4,\); codes of shape \(n, 4\) are expected"),
        (
            lambda path: np.save(path, [[0.0] * 4, [0, 0, np.nan, 0]]),
            r"codes\.npy\[1\]: holds a number that is not",
        ),
        (lambda path: np.save(path, [[1e300] * 4]), r"codes\.npy\[0\]: holds a number that is not finite"),
    ],
)
def test_files_that_hold_no_codes_of_the_model(tmp_path, write, message):
    write(tmp_path / "codes.npy")
    with pytest.raises(RequestError, match=message):
        load_codes(tmp_path / "codes.npy", 4)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["a", None], **{f"z{number}": [1.0, 2.0] for number in range(4)}},
            r"codes\.parquet\[1\]: has no text",
        ),
        ({"text": ["a"]}, "has no columns z0, z1, ...; `textvae encode` writes them"),
        ({"z0": [1.0], "z2": [1.0]}, "has no columns z0, z1, ..."),
        ({"z0": [1.0], "z1": [1.0]}, "holds codes of 2 numbers; the model's have 4"),
        (
            {f"z{number}": [1.0, None] for number in range(4)},
            r"codes\.parquet\[1\]: holds a number that is not finite",
        ),
        ({f"z{number}": ["one"] for number in range(4)}, "is not a Parquet file of numbers, or damaged"),
        ({f"z{number}": [] for number in range(4)}, "holds no code"),
    ],
)
def test_tables_that_hold_no_codes_of_the_model(tmp_path, columns, message):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), tmp_path / "codes.parquet")
    with pytest.raises(RequestError, match=message):
        load_codes(tmp_path / "codes.parquet", 4)


def test_other_files_are_refused_by_their_names(tmp_path):
    (tmp_path / "codes.txt").write_text("1 2 3 4")
    with pytest.raises(RequestError, match=r"codes\.txt: unknown suffix '\.txt'; codes are read from \.npy or"):
        read_codes(tmp_path / "codes.txt", 4)
    (tmp_path / "codes.parquet").write_text("1 2 3 4")
    with pytest.raises(RequestError, match=r"codes\.parquet: is not a Parquet file of numbers, or damaged"):
        load_codes(tmp_path / "codes.parquet", 4)
    with pytest.raises(RequestError, match=r"unknown suffix"), writing_codes(tmp_path / "codes.bin", 4):
        pass


def npy(header: str, numbers: bytes, version: int = 2) -> bytes:
    """A file of NumPy's format with any header."""
    text = header.encode() + b"\n"
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + numbers
    )


@pytest.mark.parametrize(
    "header",
    [
        '{"shape": (2, 4), "descr": "<f4", "fortran_order": False}',  # another program's order and quotes
        "{'descr':'<f4','fortran_order':False,'shape':(2,4,),}",
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_of_other_programs_are_read(tmp_path, header, version):
    numbers = np.arange(8, dtype="<f4")
    (tmp_path / "codes.npy").write_bytes(npy(header, numbers.tobytes(), version))
    np.testing.assert_array_equal(load_codes(tmp_path / "codes.npy", 4).codes, numbers.reshape(2, 4))


def test_columns_first_and_other_byte_orders_are_read(tmp_path):
    codes = np.arange(8.0).reshape(2, 4)
    for given in (np.asfortranarray(codes), codes.astype(">f8"), codes.astype("<f2"), codes.astype("u1")):
        np.save(tmp_path / "codes.npy", given)
        np.testing.assert_array_equal(load_codes(tmp_path / "codes.npy", 4).codes, codes)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**70}, 4)}}", "is not a NumPy file of numbers"),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 4)}",
            r"is cut short: its header says shape \(10000000000000, 4\), which takes 160,000,000,000,0",
        ),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4)}",
            r"is damaged: its header says shape \(1, 4\)",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 4)}", "is not a NumPy file of numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9999999999999999999)}", "is damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4" + ", 1" * 70 + ")}", "has 72 dimensions"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': 8}", "is not a NumPy file of numbers"),
        ("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 4)}", "is not a NumPy file of numbers"),
        ("{'descr': '<f4', 'shape': (2, 4)}", "is not a NumPy file of numbers"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (2, 4)}", "holds no numbers"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (8,)}", "is not a NumPy file of numbers"),
        (
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)}",
            "is not a NumPy file of numbers",
        ),
        ("{'descr': __import__('os'), 'fortran_order': False, 'shape': (2, 4)}", "is not a NumPy file of numbers"),
        ("(" * 5000, "is not a NumPy file of numbers"),
        ("{" * 20_000, "is not a NumPy file of numbers"),
    ],
)
def test_headers_that_say_what_cannot_be(tmp_path, header, message):
    (tmp_path / "codes.npy").write_bytes(npy(header, np.zeros(8, "<f4").tobytes()))
    with pytest.raises(RequestError, match=message):
        load_codes(tmp_path / "codes.npy", 4)


def damaged(whole: bytes, draws: int) -> Iterator[bytes]:
    """A file cut short, and with a bit changed: of each of the first 128 bytes and `draws` others."""
    generator = random.Random(0)
    places = [*range(min(128, len(whole))), *(generator.randrange(len(whole)) for _ in range(draws))]
    for place in places:
        yield whole[:place]
        yield whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :]


@pytest.mark.parametrize("name", ["codes.npy", "codes.parquet", "way.npy"])
def test_damaged_files_are_refused_or_read_whole(tmp_path, name):
    codes = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    path = tmp_path / name
    if name == "way.npy":
        save_direction(path, codes[0], "ab" * 32)
    else:
        save_codes(path, codes, [f"naïve ☕ {n}" for n in range(6)] if name == "codes.parquet" else None, "ab" * 32)
    whole, refused = path.read_bytes(), 0
    for data in damaged(whole, 50):
        path.write_bytes(data)
        try:
            if name == "way.npy":
                assert load_direction(path, 4).shape == (4,)
            else:
                found = load_codes(path, 4)
                assert np.isfinite(found.codes).all() and found.codes.shape[1] == 4
                assert found.texts is None or all(isinstance(text, str) for text in found.texts)
        except RequestError as error:
            refused += 1
            assert str(error).startswith(str(path)) and len(str(error)) < 600
    assert refused > 178  # whatever is cut short, and more


def test_a_damaged_page_of_a_table_is_noticed(tmp_path):
    path = tmp_path / "codes.parquet"
    codes = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    save_codes(path, codes)
    whole = path.read_bytes()
    place = 1500  # amid the numbers
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(
        RequestError, match=r"codes\.parquet: is not a Parquet file of numbers, or damaged: .*checksum"
    ):
        load_codes(path, 4)
