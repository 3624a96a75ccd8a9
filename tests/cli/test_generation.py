import json

import numpy as np
import pytest

import textvae
from textvae.generate.decoding import Decoding

from .conftest import call, refused


def lines(result):
    assert result.exit_code == 0, result.stderr
    return result.stdout.removesuffix("\n").split("\n")


def test_samples_are_those_of_the_library(run):
    trained = textvae.load(run)
    assert lines(call("sample", run, "-n", 4, "--seed", 3)) == trained.sample(4, seed=3)
    nucleus = ["--decode", "nucleus", "--top-p", "0.8", "--temperature", "0.7", "--seed", 5]
    found = json.loads(call("sample", run, "-n", 3, *nucleus, "--json").stdout)
    assert found["decoding"] == {
        "name": "nucleus",
        "temperature": 0.7,
        "top_k": 0,
        "top_p": 0.8,
        "allow_unknown": True,
        "beam": 0,
        "normalisation": 0.0,
        "min_length": 0,
        "max_length": 0,
    }
    assert found["samples"] == lines(call("sample", run, "-n", 3, *nucleus)) and found["seed"] == 5
    assert len(lines(call("sample", run))) == 20


def test_no_unknown_words_when_asked(run):
    arguments = ["sample", run, "-n", 100, "--decode", "sample"]
    assert any("<unk>" in line.split() for line in lines(call(*arguments)))
    assert not any("<unk>" in line.split() for line in lines(call(*arguments, "--no-unknown")))


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--decode", "nucelus"], ["'nucelus'", "did you mean 'nucleus'?"]),
        (["--decode", "nucleus", "--top-p", "1.5"], ["top_p = 1.5", "(0, 1]"]),
        (["--top-p", "0.9"], ["top_p = 0.9", "nucleus"]),
        (["--decode", "top-k"], ["top_k = 0", "1 or more"]),
        (["--decode", "sample", "--temperature", "0"], ["temperature = 0"]),
        (["--decode", "sample", "--temperature", "nan"], ["temperature"]),
        (["-n", "0"], ["-n", "1"]),
        (["--seed", "-1"], ["--seed", "0"]),
    ],
)
def test_decoding_that_cannot_be(run, arguments, fragments):
    assert refused(call("sample", run, *arguments), *fragments)


def test_reconstructions_come_in_order_however_the_text_is_given(run, tmp_path):
    texts = ["the food was very good .", "a phone", "this coffee is not bad ."]
    expected = textvae.load(run).reconstruct(texts)
    assert lines(call("reconstruct", run, *texts)) == expected
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    assert lines(call("reconstruct", run, "--file", "texts.txt")) == expected
    assert lines(call("reconstruct", run, "--file", "-", input="\n".join(texts))) == expected
    rows = "".join(f"{i}\t{text}\n" for i, text in enumerate(texts))
    (tmp_path / "texts.tsv").write_text("n\tbody\n" + rows)
    assert lines(call("reconstruct", run, "--file", "texts.tsv", "--column", "body")) == expected
    found = json.loads(call("reconstruct", run, *texts, "--json").stdout)["reconstructions"]
    assert [(row["text"], row["reconstruction"]) for row in found] == list(zip(texts, expected, strict=True))


def test_blank_lines_are_left_out_and_said(run, tmp_path):
    (tmp_path / "gaps.txt").write_text("the food\n\n  \na phone\n")
    for arguments in ({"file": "gaps.txt"}, {"file": "-", "input": "the food\n\n  \na phone\n"}):
        file = arguments.pop("file")
        result = call("reconstruct", run, "--file", file, **arguments)
        assert len(lines(result)) == 2 and result.stderr == f"{file}: 2 blank lines left out\n"


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


def test_interpolation_has_both_ends(run):
    trained = textvae.load(run)
    a, b = "the food was very good .", "a phone"
    assert lines(call("interpolate", run, a, b, "--steps", 5)) == trained.interpolate(a, b, steps=5)
    found = json.loads(call("interpolate", run, "--prior", "--seed", 2, "--json").stdout)
    assert found["paths"][0]["steps"] == trained.interpolate_prior(seed=2, steps=9)


def test_a_path_is_decoded_as_asked(run):
    ends = ["the food is good .", "a phone was bad ."]
    trained = textvae.load(run)
    way = Decoding("sample", temperature=0.5)
    found = lines(call("interpolate", run, *ends, "--decode", "sample", "--temperature", 0.5, "--seed", 4))
    assert found == trained.interpolate(*ends, decoding=way, seed=4)
    told = json.loads(call("interpolate", run, "--prior", "--decode", "beam", "--beam", 2, "--json").stdout)
    assert told["decoding"]["beam"] == 2
    assert told["paths"][0]["steps"] == trained.interpolate_prior(decoding=Decoding("beam", beam=2))


def test_interpolation_needs_two_ends(run):
    for arguments in ([], ["a"], ["a", "b", "--prior"], ["a", "--prior"]):
        assert refused(call("interpolate", run, *arguments), "two sentences", "--prior")
    assert refused(call("interpolate", run, "a", "b", "--steps", "1"), "--steps", "2")


def test_text_that_cannot_be_used(run, tmp_path):
    assert refused(call("reconstruct", run), "no text given", "--file")
    assert refused(call("reconstruct", run, "a", "--file", "b"), "--file b", "not both")
    assert refused(call("reconstruct", run, "a", ""), "empty")
    assert refused(call("reconstruct", run, "a", "--column", "x"), "--column x")
    assert refused(call("reconstruct", run, "--file", "none.txt"), "none.txt", "no such file")
    assert refused(call("reconstruct", run, "--file", "-", input="\n\n"), "stdin", "no sentence")
    assert refused(call("reconstruct", run, "--file", "-", input=b"caf\xe9"), "stdin", "not UTF-8", "byte 3")


def test_a_language_model_samples_and_refuses_the_rest(language_model):
    assert len(lines(call("sample", language_model, "-n", 5, "--decode", "sample"))) == 5
    for arguments in (["reconstruct"], ["encode", "--out", "codes.npy"], ["interpolate", "b"]):
        name, *rest = arguments
        assert refused(call(name, language_model, "a", *rest), "language model", "no latent code")


def test_text_written_to_a_file_is_a_sentence_a_line_as_it_is(run, monkeypatch):
    odd = ["one\ntwo", "an escape \x1b[31m", "你好\r\n"]
    monkeypatch.setattr("textvae.generate.trained.Trained.sample", lambda *_, **__: odd)
    assert call("sample", run).stdout_bytes.decode() == "one two\nan escape \x1b[31m\n你好\n"
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
    assert call("sample", run).stdout_bytes.decode() == "one\\ntwo\nan escape \\x1b[31m\n你好\\r\\n\n"


def test_gaps_are_filled_one_text_a_line(run):
    found = lines(call("impute", run, "the ___ is good .", "___ coffee was ___*2 ."))
    assert len(found) == 2 and found[0].split()[0] == "the" and found[0].split()[2:] == ["is", "good", "."]
    assert len(found[1].split()) == 6 and found[1].split()[1:3] == ["coffee", "was"]
    told = json.loads(call("impute", run, "the ___ is good .", "--beam", 3, "--json").stdout)
    assert (told["beam"], told["rounds"]) == (3, 3)
    assert told["imputations"][0]["text"] == "the ___ is good ." and told["imputations"][0]["log_prob"] < 0
    assert refused(call("impute", run, "the food is good ."), "texts[0]: has no gap; write ___ for a missing word")
