"""Commands write as they go: what comes out in pieces is what would come out at once."""

import json

import pytest

from textvae.cli.output import document, long_document, note
from textvae.errors import WorkError

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
    command, *rest = arguments
    whole = call(command, run, *rest, *as_json)
    monkeypatch.setattr("textvae.generate.codes.ROWS", 3)
    monkeypatch.setattr("textvae.generate.codes.read_codes.__defaults__", (3, None))
    monkeypatch.setattr("textvae.cli.paths.PAIRS", 2)
    monkeypatch.setattr("textvae.generate.codec.DRAWN", 2)
    pieces = call(command, run, *rest, *as_json)
    assert whole.exit_code == pieces.exit_code == 0
    assert pieces.stdout == whole.stdout and len(whole.stdout.splitlines()) >= 6
    if as_json:
        json.loads(pieces.stdout)


@pytest.mark.parametrize("rows", [[], ["a"], [{"x": [1, {"y": "ü\n"}], "z": None}, 2.5, "]\n}"]])
def test_a_long_document_is_the_document(capsys, rows):
    about = {"decoding": {"name": "greedy"}, "seed": 0}
    long_document(about, "rows", iter(rows))
    streamed = capsys.readouterr().out
    document({**about, "rows": rows})
    assert streamed == capsys.readouterr().out


def test_a_note_spells_out_what_would_steer_a_terminal(capsys):
    note("a\x1b[31m\u202eb\nc.txt: 3 blank lines left out")
    assert capsys.readouterr().err == "a\\x1b[31m\\u202eb\\nc.txt: 3 blank lines left out\n"


def test_json_names_a_number_that_is_not_finite(capsys):
    with pytest.raises(WorkError, match=r"^a\[1\] = nan: is not finite"):
        document({"a": [1, float("nan")]})
    with pytest.raises(WorkError, match=r"^b = inf: is not finite"):
        long_document({}, "rows", [{"b": float("inf")}])
    assert "NaN" not in capsys.readouterr().out
