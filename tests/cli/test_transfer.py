import json

import numpy as np
import pytest

import textvae
from textvae.evaluation import probing
from textvae.metrics.signature import parse
from textvae.text.grammar import reviews

from .conftest import beside_columns, call, refused
from .test_generation import lines

BAD, GOOD = "the food was bad .", "the food was good ."


@pytest.fixture
def labelled(tmp_path):
    """Sentences of the reviews' words, 12 of each label, the label in front."""
    things, how = ("food", "coffee", "phone"), ("is very", "was so", "is not", "was very")
    rows = [(mark, f"the {thing} {so} {mark} .") for mark in ("bad", "good") for thing in things for so in how]
    path = tmp_path / "labelled.tsv"
    path.write_text("mood\ttext\n" + "".join(f"{mark}\t{text}\n" for mark, text in rows))
    return path, rows


def test_one_pair_makes_a_direction(run):
    trained = textvae.load(run)
    way = trained.direction(BAD, GOOD)
    texts = ["the coffee is not bad .", "a phone"]
    ends = ["--from", BAD, "--to", GOOD]
    assert lines(call("transfer", run, *texts, *ends)) == trained.transfer(texts, way)
    found = lines(call("transfer", run, *texts, *ends, "--strength", "0,2.5"))
    moved = [trained.transfer(texts, way, strength) for strength in (0.0, 2.5)]
    assert found == [f"{s:>4}  {moved[at][row]}" for row in (0, 1) for at, s in enumerate(("0", "2.5"))]
    told = json.loads(call("transfer", run, *texts, *ends, "--strength", "0,2.5", "--seed", 3, "--json").stdout)
    assert told["transfers"][1] == {"text": texts[0], "strength": 2.5, "transfer": moved[1][0]}
    assert told["direction_norm"] == pytest.approx(np.linalg.norm(way), rel=1e-5) and told["seed"] == 3
    sampled = ["--decode", "sample", "--seed", 4]
    assert lines(call("transfer", run, *texts, *ends, *sampled)) == trained.transfer(
        texts, way, decoding=textvae.generate.decoding.Decoding("sample"), seed=4
    )


def test_labels_make_a_direction_that_is_saved_and_loaded(run, other_run, labelled):
    path, rows = labelled
    trained = textvae.load(run)
    sides = ([text for mark, text in rows if mark == wanted] for wanted in ("bad", "good"))
    expected = trained.transfer(["a phone"], trained.direction(*sides), 2.0)
    by_label = ["--labels", path, "--label", "mood", "--from-label", "bad", "--to-label", "good", "--strength", 2]
    assert lines(call("transfer", run, "a phone", *by_label, "--save-direction", "way.npy")) == expected
    assert lines(call("transfer", run, "a phone", "--direction", "way.npy", "--strength", 2)) == expected
    assert refused(
        call("transfer", other_run, "a phone", "--direction", "way.npy"), "way.npy: was written by another run"
    )


def test_a_code_that_hardly_says_the_label_is_told(run, labelled, monkeypatch):
    path, _ = labelled
    arguments = [
        "transfer",
        run,
        "a phone",
        "--labels",
        path,
        "--label",
        "mood",
        "--from-label",
        "bad",
        "--to-label",
        "good",
    ]
    for apart, told in ((0.4, True), (0.6, False)):
        monkeypatch.setattr("textvae.generate.transfer.separation", lambda *_, apart=apart: apart)
        assert ("only 0.40 standard deviations apart" in call(*arguments).stderr) is told


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["no direction", "--from-label", "--labels", "--direction"]),
        (["--from", "bad"], ["--from alone is no direction; give --to too"]),
        (["--to", "bad"], ["--to alone is no direction; give --from too"]),
        (["--labels", "labelled.tsv", "--label", "mood"], ["transfer: no direction"]),
        (
            ["--from", "bad", "--to", "good", "--labels", "labelled.tsv", "--label", "mood"],
            ["--from bad: is for a sentence; with --labels give --from-label and --to-label"],
        ),
        (
            ["--from-label", "bad", "--to-label", "good", "--label", "mood"],
            ["--from-label bad: is for a label of a file; give --labels FILE, or --from and --to"],
        ),
        (
            ["--to-label", "good", "--labels", "labelled.tsv", "--label", "mood"],
            ["--to-label alone is no direction; give --from-label too"],
        ),
        (["--direction", "way.npy", "--to-label", "a"], ["--direction way.npy: has no use for --to-label"]),
        (["--from", BAD, "--to", BAD], ["are the same"]),
        (["--from-label", "bad", "--to-label", "good", "--labels", "labelled.tsv"], ["which column", "--label"]),
        (
            ["--from-label", "bad", "--to-label", "good", "--labels", "labelled.tsv", "--label", "modo"],
            ["no label 'modo'", "did you mean 'mood'?"],
        ),
        (
            ["--from-label", "bad", "--to-label", "fine", "--labels", "labelled.tsv", "--label", "mood"],
            ["labelled.tsv", "'fine'", "'bad' (12), 'good' (12)"],
        ),
        (
            ["--from-label", "a", "--to-label", "b", "--labels", "one.tsv", "--label", "0"],
            ["one.tsv: has one label only, 'x' (2)"],
        ),
        (
            ["--from-label", "a", "--to-label", "b", "--labels", "empty.tsv", "--label", "0"],
            ["empty.tsv: the file is empty"],
        ),
        (["--direction", "way.npy", "--from", "a"], ["--direction way.npy: has no use for --from"]),
        (["--direction", "none.npy"], ["none.npy: no such file"]),
        (["--direction", "wide.npy"], ["wide.npy: has shape (9,); the run's codes have 3 numbers"]),
        (["--direction", "nan.npy"], ["nan.npy: holds a number that is not finite"]),
        (["--from", BAD, "--to", GOOD, "--strength", "1;2"], ["--strength 1;2", "0.5,1,2"]),
        (["--from", BAD, "--to", GOOD, "--strength", "inf"], ["strength = inf"]),
        (["--from", BAD, "--to", GOOD, "--save-direction", "way.txt"], ["way.txt", ".npy"]),
    ],
)
def test_requests_that_cannot_be(run, labelled, tmp_path, arguments, fragments):
    (tmp_path / "one.tsv").write_text("x\ta\nx\tb\n")
    (tmp_path / "empty.tsv").touch()
    np.save("wide.npy", np.zeros(9, np.float32))
    np.save("nan.npy", np.array([1, np.nan, 2], np.float32))
    assert refused(call("transfer", run, "a phone", *arguments), *fragments)


def test_a_language_model_has_no_code(language_model):
    np.save("way.npy", np.zeros(3, np.float32))
    for arguments in (["--from", BAD, "--to", GOOD], ["--direction", "way.npy"]):
        assert refused(call("transfer", language_model, "a phone", *arguments), "language model", "no latent code")


@pytest.fixture
def curve(run, labelled, tmp_path):
    """Arguments of `transfer-curve`, with sentences that people would have written beside those to move."""
    path, rows = labelled
    moved = "".join(f"{mark}\tthat {text}\t{text.replace('bad', 'good')}\n" for mark, text in rows if mark == "bad")
    (tmp_path / "moved.tsv").write_text("mood\ttext\trewritten\n" + moved)
    judge = "".join(f"{mark}\t{text} w{n}\n" for n in range(4) for mark, text in rows)
    (tmp_path / "judge.tsv").write_text("mood\ttext\n" + judge + "bad\tthat the food is very bad .\n")
    files = ["--file", "moved.tsv", "--labels", path, "--judge", "judge.tsv", "--label", "mood"]
    return ["transfer-curve", run, *files, "--from-label", "bad", "--to-label", "good", "--strength", "0,1"]


def test_a_curve_is_scored_by_classifier_references_and_language_model(curve, run, labelled, language_model):
    found = call(*curve, "--language-model", language_model, "--reference", "rewritten", "--json")
    told = json.loads(found.stdout)
    assert beside_columns(found) == "judge.tsv: 1 sentences left out that are in the other files\n"
    assert (told["from"], told["to"], told["sentences"]) == ("bad", "good", 12)
    assert told["classifier"]["accuracy"] > 0.5
    assert told["classifier"]["trained_on"] + told["classifier"]["held_out"] == 96
    assert [row["strength"] for row in told["rows"]] == [None, None, 0.0, 1.0]
    texts = [f"that {text}" for mark, text in labelled[1] if mark == "bad"]
    plain = textvae.load(run).reconstruct(texts)
    assert told["rows"][2]["nll"] == pytest.approx(textvae.load(language_model).nll(plain).mean())
    shown = lines(call(*curve, "--language-model", language_model, "--reference", "rewritten"))
    assert "12 sentences from bad to good" in shown[0] and "standard deviations apart" in shown[1]
    assert shown[3].split() == ["accuracy", "BLEU", "input", "BLEU", "reference", "NLL", "words", "different"]
    assert [line.split("  ")[0] for line in shown[4:-1]] == ["input", "reference", "strength 0", "strength 1"]
    name, parts = parse(told["signature"])
    assert shown[-1] == told["signature"] and name == "transfer"
    assert (parts["sentences"], parts["bleu"].split(",")[1]) == ("12", "exp")
    assert parts["decode"] == "greedy,allow_unknown=False"
    assert parts["nll"] == textvae.load(language_model).identity[:6]
    other = parse(json.loads(call(*curve, "--json").stdout)["signature"])[
        1
    ]  # without references and language model
    assert "classifier" not in json.loads(call(*curve, "--json").stdout)["reasons"]
    without = json.loads(call(*curve[:6], *curve[8:], "--json").stdout)
    assert without["classifier"] is None and without["reasons"]["classifier"] == "--judge was not given"
    assert {part for part in parts if parts[part] != other[part]} == {"against", "nll"} and other["nll"] == "none"


def test_sentences_that_are_known_are_told_whatever_their_spaces(curve, run, labelled, tmp_path):
    """The judge learns from no sentence that is moved or rewritten; moved ones that make the direction are told."""
    texts = [text for mark, text in labelled[1] if mark == "bad"]
    with (tmp_path / "judge.tsv").open("a") as judge:
        judge.write(f"bad\tthat  {texts[0]}\nbad\t{texts[1].replace('bad', 'good').replace(' ', '   ')}\n")
    found = call(*curve, "--reference", "rewritten")
    assert beside_columns(found) == "judge.tsv: 3 sentences left out that are in the other files\n"
    path, _ = labelled
    sides = ("--file", path, "--labels", path, "--label", "mood", "--from-label", "bad", "--to-label", "good")
    note = f"{path}: 12 of 12 sentences are also in {path}, which makes the direction\n"
    assert beside_columns(call("transfer-curve", run, *sides, "--strength", "0")) == note


def test_curves_that_cannot_be(curve, run, tmp_path):
    judge = tmp_path / "judge.tsv"
    judge.write_text("".join(judge.read_text().splitlines(keepends=True)[:-1]))  # nothing to be left out
    assert refused(call(*curve, "--grammar", "mood"), "no attribute 'mood'")
    for left, told in (
        (
            ["bad\tthat the food is very bad .\n"],
            "--judge judge.tsv: all of its 1 sentences are in the other",
        ),
        (["bad\tw1\n", "bad\tw2\n"], "--judge judge.tsv: classifier: one label only, 'bad'; it needs two"),
    ):
        other = tmp_path / "other.tsv"
        other.write_text("mood\ttext\n" + "".join(left))
        arguments = ["other.tsv" if part == "judge.tsv" else part for part in curve]
        assert refused(call(*arguments), told.replace("judge.tsv", "other.tsv"))
    assert refused(call(*curve, "--language-model", run), "has latent codes")
    assert refused(call(*curve, "--reference", "people"), "no column 'people'")
    assert refused(call(*["good" if part == "bad" else part for part in curve]), "moved.tsv", "'good'", "are 'bad'")


def test_a_judge_learns_from_a_sample_of_a_long_file(curve, monkeypatch):
    monkeypatch.setattr(probing, "MOST_LEARNED", 60)
    found = call(*curve, "--json")
    assert "judge.tsv: 60 labelled sentences, drawn from all, make the classifier\n" in found.stderr
    assert "judge.tsv: 1 sentences left out that are in the other files\n" in found.stderr
    judge = json.loads(found.stdout)["classifier"]
    assert judge["trained_on"] + judge["held_out"] == 60


def test_made_up_reviews_have_their_attributes(tmp_path):
    assert lines(call("data", "make", "made.tsv", "-n", 5, "--seed", 2)) == ["made.tsv: 5 reviews"]
    head, *rows = (tmp_path / "made.tsv").read_text().splitlines()
    assert head.split("\t") == ["product", "sentiment", "tense", "person", "intensity", "length", "text"]
    drawn = reviews().sample_with_attributes(5, 2)
    assert rows == ["\t".join([*found.values(), text]) for text, found in drawn]
    assert refused(call("data", "make", "made.tsv", "-n", 4), "made.tsv: exists already", "--force")
    assert len((tmp_path / "made.tsv").read_text().splitlines()) == 6  # as it was
    assert lines(call("data", "make", "made.tsv", "-n", 4, "--force")) == ["made.tsv: 4 reviews"]
    assert refused(call("data", "make", "made.csv"), "made.csv", ".tsv")
    assert refused(call("data", "make", "no/made.tsv"), "cannot be written", code=1)


def test_reviews_are_judged_by_their_grammar(run, tmp_path):
    call("data", "make", "made.tsv", "-n", 40)
    files = ["--file", "made.tsv", "--labels", "made.tsv", "--label", "sentiment"]
    ends = ["--from-label", "positive", "--to-label", "negative", "--grammar", "sentiment"]
    told = json.loads(call("transfer-curve", run, *files, *ends, "--strength", "1", "--json").stdout)
    assert told["classifier"] is None and told["rows"][0]["grammar"]["in_language"] == 1.0
    assert told["rows"][0]["grammar"]["wanted"] == 0.0 and told["rows"][1].keys() >= {"grammar", "bleu_input"}


def test_labels_of_json_lines_may_be_null_missing_or_true(run, tmp_path):
    rows = [
        {"text": f"the {thing} is {word} .", "good": word == "good"}
        for thing in ("food", "phone")
        for word in ("good", "bad")
    ]
    rows += [{"text": "this coffee .", "good": None}, {"text": "this ."}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ["--labels", "a.jsonl", "--label", "good", "--from-label", "false", "--to-label", "true"]
    result = call("transfer", run, "the food is bad .", *options)
    assert result.exit_code == 0, result.stderr
    assert "a.jsonl: 2 sentences without a label left out" in result.stderr
    assert "a.jsonl: the text is 'text', the label 'good'; first sentence" in result.stderr


def test_references_belong_to_the_sentences_of_their_rows(run, tmp_path):
    rows = ["text\tlabel\tother"]
    rows += ["a food was bad .\t0\tthis food was good .", "\t0\ta phone is good .", "the coffee is bad .\t0\t"]
    (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "b.tsv").write_text("text\tlabel\nthe phone is bad .\t0\nthe phone is good .\t1\n")
    options = [
        "--label",
        "label",
        "--from-label",
        0,
        "--to-label",
        1,
        "--reference",
        "other",
        "--strength",
        "0",
        "--json",
    ]
    found = call("transfer-curve", run, "--file", "a.tsv", "--labels", "b.tsv", *options)
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["sentences"] == 1
    assert "a.tsv: 1 sentences without a reference left out" in found.stderr
    options[options.index("other")] = "text"
    itself = call("transfer-curve", run, "--file", "a.tsv", "--labels", "b.tsv", *options)
    assert itself.exit_code == 2 and "--reference text: a.tsv has the sentences themselves there" in itself.stderr
