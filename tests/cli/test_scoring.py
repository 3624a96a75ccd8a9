import json
import re
from pathlib import Path

import pytest

import textvae
from textvae.cli.scoring import _read
from textvae.cli.texts import opened
from textvae.evaluation.reconstruction import reconstruction_scores
from textvae.metrics.scoring import METRICS, given, score, score_by_length
from textvae.metrics.signature import parse
from textvae.text.corpus import open_corpus

from .conftest import call, refused

TEXT = ["the food was good .", "the food was bad .", "a phone"]
REAL = ["the food was good today .", "this phone is bad ."]


@pytest.fixture
def files(tmp_path):
    for name, lines in (("samples.txt", TEXT), ("real.txt", REAL), ("train.txt", TEXT[1:])):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return ["samples.txt", "--references", "real.txt", "--train", "train.txt"]


def test_the_signature_is_printed_once_and_beside_each_score_what_is_its_own(files):
    result = call("score", *files)
    assert result.exit_code == 0 and result.stderr == ""
    head, *lines, common = result.stdout.splitlines()
    assert head == "samples.txt: 3 sentences"
    found = score(given(TEXT, REAL, TEXT[1:]), [line.split()[0] for line in lines])
    _, shared = parse(common)
    assert {"tokenize", "case", "sentences", "textvae"} <= shared.keys()
    for line, (name, one) in zip(lines, found.items(), strict=True):
        own = line.split()[-1] if ":" in line.split()[-1] else ""
        assert line.startswith(name) and not any(f"{part}:" in own for part in shared)
        assert parse(one.signature) == (name, {**shared, **parse("|".join(filter(None, ["x", own])))[1]})
    assert {"bleu-4", "self-bleu-4", "distinct-2", "copied", "overlap-1", "vocabulary"} <= found.keys()
    assert "copied             0.6667" in result.stdout


def test_the_help_lists_every_metric_once():
    shown = call("score", "--help").stdout.split("Metrics, ")[1]
    words = re.findall(r"[\w-]+", shown)
    assert [words.count(name) for name in METRICS] == [1] * len(METRICS)
    assert "length (tokens)" in shown and shown.index("with --train:") < shown.index("copied")


def test_the_machine_output_has_them_too(files):
    told = json.loads(call("score", *files, "--metrics", "self-bleu-2, copied,bleu-5,copied", "--json").stdout)
    expected = score(given(TEXT, REAL, TEXT[1:]), ["self-bleu-2", "copied", "bleu-5"])
    assert told == {
        "file": "samples.txt",
        "references": "real.txt",
        "train": "train.txt",
        "reasons": {},
        "scores": {name: one.document() for name, one in expected.items()},
    }


def test_what_is_undefined_is_null_and_says_why(files):
    Path("one.txt").write_text("the food was good .\n")
    told = json.loads(call("score", "one.txt", "--metrics", "self-bleu-4,distinct-1", "--json").stdout)
    assert told["references"] is told["train"] is None and list(told["reasons"]) == ["references", "train"]
    told = told["scores"]
    assert told["self-bleu-4"]["value"] is None
    assert told["self-bleu-4"]["reason"] == "one sentence has no others to be compared with"
    shown = call("score", "one.txt", "--metrics", "self-bleu-4").stdout
    assert shown.startswith(
        "one.txt: 1 sentence\nself-bleu-4  –  one sentence has no others to be compared with\nself-bleu-4|"
    )


def test_drawn_references_show_a_deviation(files):
    shown = call("score", *files, "--metrics", "bleu-2", "--at-most", 1, "--draws", 4, "--seed", 2).stdout
    assert " ± " in shown and "|draws:4|references:1|seed:2|" in shown


def test_samples_can_be_piped(run, tmp_path, reviews):
    samples = textvae.load(run).sample(20, seed=1)
    piped = call("score", "-", "--references", reviews, "--json", input="\n".join(samples) + "\n")
    (tmp_path / "samples.txt").write_text("\n".join(samples) + "\n")
    written = call("score", "samples.txt", "--references", reviews, "--json")
    first, second = json.loads(piped.stdout), json.loads(written.stdout)
    assert first["scores"] == second["scores"] and first["file"] == "-"


def test_blank_lines_are_empty_sentences_in_their_places(tmp_path):
    (tmp_path / "gaps.txt").write_text("\na b\n\n  \nc d\n\n")
    assert list(_read(opened("gaps.txt"))) == ["", "a b", "", "", "c d", ""]
    (tmp_path / "gaps.tsv").write_text("n\ttext\n1\ta b\n2\t \n3\tc d\n")
    assert list(_read(opened("gaps.tsv"))) == ["a b", "", "c d"]
    for file, options in (("gaps.txt", {}), ("-", {"input": "\na b\n\n  \nc d\n\n"})):
        result = call("score", file, "--metrics", "length", **options)
        assert result.stderr == f"{'stdin' if file == '-' else file}: 4 blank lines, each an empty sentence\n"
        assert result.stdout.startswith(f"{'stdin' if file == '-' else file}: 6 sentences\nlength  0.6667\n")


def test_reconstructions_of_a_run_by_length(run):
    found = json.loads(call("score", "--run", run, "--split", "valid", "--json").stdout)
    expected = reconstruction_scores(run, "valid")
    assert found["run"] == str(run) and found["split"] == "valid"
    assert found["buckets"] == {
        bucket: {name: one.document() for name, one in scores.items()} for bucket, scores in expected.items()
    }
    shown = call("score", "--run", run, "--split", "valid", "--metrics", "length,rouge-1").stdout.splitlines()
    assert shown[0].split() == ["tokens", "length", "rouge-1", "sentences"]
    assert [line.split()[0] for line in shown[1:5]] == ["1-10", "11-20", "21-30", "all"]
    assert shown[5] == "21-30: no length, rouge-1: no sentence is of this length"
    assert shown[6].startswith("length: unit:tokens") and shown[7].startswith("rouge-1: unit:share|against:")
    assert shown[8].startswith("scores|unk:counted|") and len(shown) == 9
    store = open_corpus(textvae.load(run).run.settings.data).split("valid")
    assert len(store) == found["buckets"]["all"]["rouge-set-2"]["sentences"]


def test_any_two_texts_by_length(files, tmp_path):
    (tmp_path / "other.txt").write_text("\n".join(reversed(TEXT)))
    found = json.loads(call("score", "samples.txt", "--references", "other.txt", "--by-length", "--json").stdout)
    expected = score_by_length(given(TEXT, TEXT[::-1]))
    assert found["buckets"]["all"] == {name: one.document() for name, one in expected["all"].items()}


def test_requests_that_cannot_be(run, files, language_model, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n \n")
    assert refused(call("score"), "no text given", "--run RUN")
    assert refused(call("score", "none.txt"), "none.txt", "no such file")
    assert refused(call("score", "empty.txt"), "empty.txt", "the file is empty")
    assert refused(call("score", "blank.txt"), "blank.txt", "holds no sentence")
    assert refused(call("score", "-", input="\n\n"), "stdin", "no sentence")
    assert refused(call("score", "-", input=b"caf\xe9"), "stdin", "not UTF-8", "byte 3")
    assert refused(call("score", *files, "--metrics", "self-blue-4"), "did you mean 'self-bleu-4'?")
    (tmp_path / "binary.txt").write_bytes(b"a\0b\n")  # is not come to
    assert refused(call("score", "binary.txt", "--metrics", "self-blue-4"), "did you mean 'self-bleu-4'?")
    assert refused(call("score", "binary.txt", "--metrics", "bleu-4"), "bleu-4: needs references")
    assert refused(call("score", "binary.txt", "--tokenize", "chars"), "did you mean 'characters'?")
    assert refused(call("score", "binary.txt", "--references", "none.txt"), "none.txt: no such file")
    assert refused(call("score", *files, "--metrics", ","), "--metrics", "names no metric")
    assert refused(call("score", "samples.txt", "--metrics", "bleu-4"), "bleu-4: needs references")
    assert refused(call("score", "samples.txt", "--metrics", "copied"), "copied: needs the training text")
    assert refused(call("score", "samples.txt", "--by-length"), "needs a reference for each sentence")
    assert refused(call("score", *files, "--metrics", "rouge-2"), "3 sentences for 2 references")
    assert refused(call("score", *files, "--tokenize", "chars"), "'chars'", "did you mean 'characters'?")
    assert refused(call("score", *files, "--smoothing", "method2"), "'method2'", "none, method1")
    assert refused(call("score", *files, "--at-most", 0), "--at-most", "1")
    assert refused(call("score", "samples.txt", "--run", run), "--run", "leave out FILE")
    assert refused(call("score", "--run", run, "--split", "tset"), "--split tset")
    assert refused(call("score", "--run", run, "--metrics", "copied"), "--train FILE")
    assert refused(call("score", "--run", language_model), "language model", "no latent code")


@pytest.mark.parametrize("option", ["--references", "--train"])
def test_stdin_is_read_once(option):
    assert refused(call("score", "-", option, "-", input="a b c\n"), "-: stdin can be read once")
