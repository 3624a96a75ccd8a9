import json

import numpy as np
import pytest

import textvae
from textvae.generate.codes import load_codes, save_codes
from textvae.generate.neighbours import neighbours

from .conftest import call, refused


def lines(result):
    assert result.exit_code == 0, result.stderr
    return result.stdout.removesuffix("\n").split("\n")


def test_codes_are_written(run, tmp_path):
    texts = ["the food was very good .", "a phone", "this coffee is not bad ."]
    codes = textvae.load(run).encode(texts)
    result = call("encode", run, *texts, "--out", "codes.npy")
    assert lines(result) == ["codes.npy: 3 sentences x 3 numbers"]
    np.testing.assert_array_equal(np.load("codes.npy"), codes)
    found = json.loads(call("encode", run, *texts, "--out", "codes.parquet", "--json").stdout)
    assert found == {"out": "codes.parquet", "sentences": 3, "latent": 3}
    from pyarrow import parquet

    columns = parquet.read_table("codes.parquet").to_pydict()
    assert columns["text"] == texts
    np.testing.assert_array_equal(np.array([columns[f"z{i}"] for i in range(3)], dtype=np.float32).T, codes)


def test_codes_that_cannot_be_written(run, tmp_path):
    assert refused(call("encode", run, "a phone", "--out", "codes.txt"), "codes.txt", ".npy", ".parquet")
    assert refused(call("encode", run, "a phone", "--out", "no/codes.npy"), "no", "cannot be written", code=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_any_length_is_encoded_piece_by_piece(run, reviews, monkeypatch, tmp_path):
    monkeypatch.setattr("textvae.generate.codes.ROWS", 64)
    texts = reviews.read_text().splitlines()
    for file, given in ((reviews, {}), ("-", {"input": reviews.read_text()})):
        result = call("encode", run, "--file", file, "--out", "codes.parquet", **given)
        assert lines(result) == [f"codes.parquet: {len(texts)} sentences x 3 numbers"]
        found = load_codes("codes.parquet", 3)
        assert found.texts == texts
        np.testing.assert_allclose(found.codes, textvae.load(run).encode(texts), atol=1e-5)


def test_codes_are_decoded_again(run, tmp_path):
    trained = textvae.load(run)
    z = trained.draw(6, seed=1)
    for name in ("codes.npy", "codes.parquet"):
        save_codes(name, z)
        assert lines(call("decode", run, "--codes", name)) == trained.decode(z)
    found = json.loads(
        call("decode", run, "--codes", "codes.npy", "--decode", "sample", "--seed", 3, "--json").stdout
    )
    assert (
        found["texts"] == trained.decode(z, textvae.generate.decoding.Decoding("sample"), 3) and found["seed"] == 3
    )
    assert (
        len(lines(call("decode", run, "--codes", "codes.npy", "--decode", "beam", "--beam", 3, "--n-best", 3)))
        == 23
    )


@pytest.mark.parametrize("name", ["codes.npy", "codes.parquet"])
def test_codes_of_another_run_of_the_same_width_are_refused(run, other_run, name):
    call("encode", other_run, "a phone", "the food", "--out", name)
    for command in (["decode"], ["interpolate"], ["neighbours", "a phone"]):
        assert call(command[0], other_run, *command[1:], "--codes", name).exit_code == 0
        result = call(command[0], run, *command[1:], "--codes", name)
        assert refused(result, f"{name}: was written by another run", "write it again")
        assert len(result.stderr.splitlines()) == 1
    save_codes(name, textvae.load(other_run).encode(["a phone", "the food"]))  # says nothing of a run
    assert call("decode", run, "--codes", name).exit_code == 0


@pytest.mark.parametrize(
    ("codes", "fragment"),
    [
        (np.zeros((2, 5)), "codes.npy: has shape (2, 5); codes of shape (n, 3) are expected"),
        (np.full((2, 3), np.nan), "codes.npy[0]: holds a number that is not finite"),
        (np.zeros((0, 3)), "codes.npy: holds no code"),
    ],
)
def test_codes_that_cannot_be_decoded(run, language_model, codes, fragment):
    np.save("codes.npy", codes)
    for command in (["decode", run], ["interpolate", run], ["neighbours", run, "a phone"]):
        assert refused(call(*command, "--codes", "codes.npy"), fragment)
    assert refused(call("decode", language_model, "--codes", "codes.npy"), "language model")
    assert refused(call("decode", run, "--codes", "none.npy"), "none.npy: no such file")


def test_the_nearest_sentences_of_a_corpus_are_found_by_text_or_by_codes(run, reviews):
    trained, texts = textvae.load(run), reviews.read_text().splitlines()
    asked = ["the food was very good .", texts[7]]
    call("encode", run, "--file", reviews, "--out", "codes.parquet")
    expected = neighbours(trained.encode(asked), [load_codes("codes.parquet", 3)], 4, "euclidean")
    assert expected[1][0].row == 7 and expected[1][0].distance == pytest.approx(0, abs=1e-5)
    way = ["-n", 4, "--metric", "euclidean"]
    for corpus in (["--file", reviews], ["--codes", "codes.parquet"]):
        found = json.loads(call("neighbours", run, *asked, *corpus, *way, "--json").stdout)
        textless = any(one["text"] is None for row in found["results"] for one in row["neighbours"])
        assert ("results.neighbours.text" in found["reasons"]) is textless
        assert found["metric"] == "euclidean" and [row["text"] for row in found["results"]] == asked
        for row, near in zip(found["results"], expected, strict=True):
            assert [one["text"] for one in row["neighbours"]] == [texts[one.row] for one in near]
            assert [one["row"] for one in row["neighbours"]] == [one.row + 1 for one in near]  # from 1, as the text
            np.testing.assert_allclose(
                [one["distance"] for one in row["neighbours"]], [one.distance for one in near], atol=1e-4
            )
    shown = lines(call("neighbours", run, asked[1], "--codes", "codes.parquet", *way))
    assert len(shown) == 4 and shown[0].split() == ["0.0000", "8", *texts[7].split()]
    assert lines(call("neighbours", run, *asked, "--file", reviews))[0] == asked[0]


def test_neighbours_need_one_corpus(run, reviews):
    assert refused(call("neighbours", run, "a phone"), "neighbours: give the corpus", "--file", "--codes")
    both = call("neighbours", run, "a phone", "--file", reviews, "--codes", "codes.npy")
    assert refused(both, "neighbours: --file and --codes are given", "leave out the other")
    asked = call("neighbours", run, "a phone", "--file", reviews, "--metric", "cosin")
    assert refused(asked, "metric = 'cosin': unknown; known: cosine, euclidean")
