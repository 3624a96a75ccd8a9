"""Commands write as they go: what comes out in pieces is what would come out at once."""

import json

import pytest

from textvae.cli.output import document, long_document, note
from textvae.errors import WorkError
from textvae.evaluation.adversarial import usable
from textvae.evaluation.syntax import Pair, syntactic_test
from textvae.generate.trained import load
from textvae.text.tokenizers import Tokenizer

from .conftest import call

SAMPLED = ["--decode", "sample", "--seed", "4"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "-n", "7", *SAMPLED],
        ["sample", "-n", "7", "--tail", "auto", *SAMPLED],
        ["sample", "-n", "7", "--decode", "beam", "--beam", "3", "--n-best", "2"],
        ["reconstruct", "--file", "texts.txt", *SAMPLED],
        ["reconstruct", "--file", "texts.txt", "--samples", "2", *SAMPLED],
        ["reconstruct", "--file", "texts.txt", "--decode", "beam", "--beam", "3", "--n-best", "2"],
        ["decode", "--codes", "codes.npy", *SAMPLED],
        ["decode", "--codes", "codes.parquet", "--decode", "beam", "--beam", "3", "--n-best", "2"],
        ["impute", "--file", "texts.txt", "--last", "0.3"],
        ["transfer", "--file", "texts.txt", "--from", "a bad phone", "--to", "a good phone", *SAMPLED],
        ["transfer", "--file", "texts.txt", "--from", "a bad phone", "--to", "a good phone", "--strength", "1,2"],
        ["interpolate", "--pairs", "pairs.tsv", "--steps", "3", *SAMPLED],
        ["interpolate", "--prior", "-n", "5", "--steps", "3", *SAMPLED],
        ["interpolate", "--codes", "six.npy", "--steps", "3", *SAMPLED],
        ["homotopy", "-n", "5", "--steps", "3", "--decode", "sample", "--seed", "4"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + [part for part in arguments if part.startswith("--")]),
)
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_pieces_are_the_whole(run, reviews, tmp_path, monkeypatch, arguments, as_json):
    texts = reviews.read_text().splitlines()[:7]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    pairs = [f"{a}\t{b}" for a, b in zip(texts, texts[1:], strict=False)]
    (tmp_path / "pairs.tsv").write_text("\n".join([*pairs, "alone\t"]) + "\n")
    for suffix in ("npy", "parquet"):
        assert call("encode", run, "--file", "texts.txt", "--out", f"codes.{suffix}").exit_code == 0
    (tmp_path / "six.txt").write_text("\n".join(texts[:6]) + "\n")
    assert call("encode", run, "--file", "six.txt", "--out", "six.npy").exit_code == 0
    command, *rest = arguments
    whole = call(command, run, *rest, *as_json)
    monkeypatch.setattr("textvae.generate.codes.ROWS", 3)
    monkeypatch.setattr("textvae.generate.codes.read_codes.__defaults__", (3, None))
    monkeypatch.setattr("textvae.generate.paths.PAIRS", 2)
    monkeypatch.setattr("textvae.inference.DRAWN", 2)
    pieces = call(command, run, *rest, *as_json)
    assert whole.exit_code == pieces.exit_code == 0
    assert pieces.stdout == whole.stdout and len(whole.stdout.splitlines()) >= 6
    if as_json:
        json.loads(pieces.stdout)


def test_pairs_of_codes_are_counted_to_the_last(run, reviews, tmp_path, monkeypatch):
    (tmp_path / "five.txt").write_text("\n".join(reviews.read_text().splitlines()[:5]) + "\n")
    assert call("encode", run, "--file", "five.txt", "--out", "five.npy").exit_code == 0
    monkeypatch.setattr("textvae.generate.paths.PAIRS", 2)
    result = call("interpolate", run, "--codes", "five.npy")
    assert result.exit_code == 2 and "5 codes: their number is odd" in result.stderr


def test_syntax_and_adversarial_read_a_piece_at_a_time(run, monkeypatch):
    """A long file is consumed as it is encoded: never more than a piece ahead."""
    for name in ("adversarial", "syntax"):
        monkeypatch.setattr(f"textvae.evaluation.{name}.ROWS", 3)
    trained, taken = load(run), []
    given = (taken.append(number) or f"a good phone {number}" for number in range(10))
    encode = Tokenizer.encode
    ahead = []
    monkeypatch.setattr(Tokenizer, "encode", lambda self, texts: ahead.append(len(taken)) or encode(self, texts))
    assert usable(trained.tokenizer, given, 20, 0.3)[3] == 10
    assert ahead == [3, 6, 9, 10]
    taken.clear(), ahead.clear()
    pairs = (taken.append(number) or Pair("a good phone", "good a phone") for number in range(10))
    assert syntactic_test(trained, pairs).given == 10
    assert ahead == [3, 3, 6, 6, 9, 9, 10, 10]


@pytest.mark.parametrize("rows", [[], ["a"], [{"x": [1, {"y": "ü\n"}], "z": None}, 2.5, "]\n}"]])
def test_a_long_document_is_the_document(capsys, rows):
    about = {"decoding": {"name": "greedy"}, "seed": 0}
    long_document(about, "rows", iter(rows))
    streamed = capsys.readouterr().out
    document({**about, "rows": rows})
    assert streamed == capsys.readouterr().out


def test_a_long_document_streams_rows_of_rows(capsys):
    one = {"names": ["a\nb"], "none": [], "table": {}}
    whole = [{"run": "x", "paths": [one] * number} for number in (2, 0, 1)]
    written = []

    def rows(cell):
        for row in cell["paths"]:
            written.append(capsys.readouterr().out)
            yield row

    long_document({"seed": 0}, "cells", ({**cell, "paths": rows(cell)} for cell in whole))
    written.append(capsys.readouterr().out)
    assert all(part.strip() for part in written[1:])  # each row before the next one is made
    document({"seed": 0, "cells": whole})
    assert "".join(written) == capsys.readouterr().out


def test_a_note_spells_out_what_would_steer_a_terminal(capsys):
    note("a\x1b[31m\u202eb\nc.txt: 3 blank lines left out")
    assert capsys.readouterr().err == "a\\x1b[31m\\u202eb\\nc.txt: 3 blank lines left out\n"


def test_json_names_a_number_that_is_not_finite(capsys):
    with pytest.raises(WorkError, match=r"^a\[1\] = nan: is not finite"):
        document({"a": [1, float("nan")]})
    with pytest.raises(WorkError, match=r"^b = inf: is not finite"):
        long_document({}, "rows", [{"b": float("inf")}])
    assert "NaN" not in capsys.readouterr().out
