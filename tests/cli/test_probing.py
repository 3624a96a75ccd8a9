import json
import random

import numpy as np
import pytest
import torch

from textvae.evaluation import probing
from textvae.generate.trained import Trained, load
from textvae.text import readers

from .conftest import SMALL, _trained, assigned, call, refused


@pytest.fixture
def labelled(reviews, tmp_path):
    """The reviews with a column that their words tell, one that nothing tells, and one of a single value."""
    chosen = random.Random(1)
    lines = ["sentiment\tcoin\tsame\tnumber\ttext"]
    for at, text in enumerate(reviews.read_text().splitlines()):
        told = "bad" if "bad" in text.split() else "good"
        lines.append(f"{told}\t{chosen.choice('xy')}\tone\t{at}\t{text}")
    (tmp_path / "labelled.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "labelled.tsv"


def probed(*arguments):
    done = call("probe", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["probes"]


def test_codes_that_hold_a_label_tell_it_and_others_tell_nothing(run, labelled, monkeypatch):
    own = Trained.means_of

    def perfect(self, ids, _):
        """Posterior means of which the first says whether the text is bad."""
        means = own(self, ids)
        means[:, 0] = torch.tensor(["bad" in text.split() for text in self.tokenizer.decode_batch(ids)]).float()
        means[:, 1:] = 0
        return means

    monkeypatch.setattr(Trained, "means_of", perfect)
    found = probed(run, "--file", labelled, "--label", "sentiment", "--label-counts", "50,all")["sentiment"]
    assert [sizes["code"]["accuracy"] for sizes in found["sizes"]] == [1.0, 1.0]
    assert [sizes["code"]["labels"] for sizes in found["sizes"]] == [50, found["labelled"]]
    assert found["sizes"][1]["bag_of_words"]["accuracy"] == 1.0 > found["majority"]["accuracy"]
    total = len(labelled.read_text().splitlines()) - 1
    assert found["tested"] == total // 5 and found["labelled"] == total - total // 5
    coin = probed(run, "--file", labelled, "--label", "coin")["coin"]
    assert [sizes["code"]["labels"] for sizes in coin["sizes"]] == [100, coin["labelled"]]  # no 1,000
    for sizes in coin["sizes"]:
        assert 0.25 < sizes["code"]["accuracy"] < 0.75


def test_copies_of_a_sentence_are_not_tested_on_once_they_were_learned_from(run, reviews, tmp_path):
    """Labels that nothing tells, each sentence eight times, in other orders and with other spaces: chance."""
    chosen, words = random.Random(3), sorted(set(reviews.read_text().split()))
    lines = []
    for _ in range(150):
        text, label = chosen.choices(words, k=8), chosen.choice("xy")
        for _ in range(8):
            chosen.shuffle(text)
            lines.append(f"{label}\t{chosen.choice(['  ', ' ']).join(text)}")
    (tmp_path / "copies.tsv").write_text("\n".join(lines) + "\n")
    found = probed(run, "--file", "copies.tsv", "--label", "0", "--label-counts", "all")["0"]
    assert (found["tested"], found["labelled"], found["tested_in_training"]) == (240, 960, 0)
    for by in ("code", "bag_of_words"):
        one = found["sizes"][0][by]
        assert one["accuracy"] == pytest.approx(0.5, abs=3 * one["standard_error"])
        # Thirty different sentences, each right or wrong eight times: about sqrt(1/4 / 30), not sqrt(1/4 / 240).
        assert 0.05 < one["standard_error"] < 0.1
    again = call("probe", run, "--file", "copies.tsv", "--label", "0", "--label-counts", "all")
    assert again.stderr.count("same words") == 0 and "learned from" not in again.stdout


def test_a_test_file_with_sentences_that_were_learned_from_is_told(run, labelled, tmp_path):
    lines = labelled.read_text().splitlines()
    known = lines[5].split("\t")
    moved = "\t".join([*known[:-1], "  ".join(reversed(known[-1].split()))])
    (tmp_path / "test.tsv").write_text("\n".join([lines[0], *lines[1:4], moved, "bad\tx\tone\t0\tfood"]) + "\n")
    asked = (run, "--file", labelled, "--label", "sentiment", "--test-file", "test.tsv", "--label-counts", "all")
    assert probed(*asked)["sentiment"]["tested_in_training"] == 4
    shown = call("probe", *asked)
    assert "test.tsv: 4 of 5 sentences have the same words as one that was learned from" in shown.stderr
    assert "accuracy on 5 sentences (4 with the same words as one learned from); " in shown.stdout


def test_a_file_to_test_on(run, labelled, tmp_path):
    lines = labelled.read_text().splitlines()
    (tmp_path / "test.tsv").write_text("\n".join([*lines[:31], "\t\t\t\tthe food ."]) + "\n")
    found = probed(run, "--file", labelled, "--label", "0", "--test-file", "test.tsv", "--label-counts", "all")["0"]
    assert (found["labelled"], found["tested"], found["unlabelled"]) == (len(lines) - 1, 30, 1)
    assert "|label:0|labelled:" in found["signature"] and "|sentences:30|" in found["signature"]
    (tmp_path / "one.tsv").write_text("\n".join(lines[:2]) + "\n")
    asked = (run, "--file", labelled, "--label", "0", "--test-file", "one.tsv", "--label-counts", "all")
    assert probed(*asked)["0"]["majority"]["standard_error"] is None  # and not nan, which JSON lacks
    assert "nan" not in call("probe", *asked).stdout


def test_the_runs_own_labels(labelled, tmp_path):
    own = _trained(labelled, tmp_path / "own", "vanilla", [*SMALL, "data.column=text"])
    found = probed(own, "--label", "sentiment", "--label-counts", "30,all", "--draws", 2)
    assert found["sentiment"]["values"] == 2 and found["sentiment"]["sizes"][0]["code"]["draws"] == 2
    again = _trained(labelled, tmp_path / "with", "vanilla", [*SMALL, "data.column=text", "data.label=sentiment"])
    assert probed(again, "--label-counts", "all")["sentiment"]["majority"] == found["sentiment"]["majority"]
    shown = call("probe", again, "--label-counts", "30,all").stdout.splitlines()
    assert shown[0].startswith("sentiment: 2 values, accuracy on ") and "the commonest label: 0." in shown[0]
    assert shown[1].split() == ["labels", "code", "bag", "of", "words"]
    assert shown[2].startswith("30 ") and "± deviation of 5 draws; standard error 0." in shown[2]
    assert shown[3].endswith("± standard error") and shown[4].startswith("probe-accuracy|unit:share|")
    assert refused(call("probe", own, "--label", "mood"), "no label 'mood'", "'sentiment'")


def test_of_a_long_file_some_sentences_are_drawn_each_as_likely_as_another(run, labelled, monkeypatch):
    monkeypatch.setattr(probing, "MOST_LEARNED", 40)
    found = probed(run, "--file", labelled, "--label", "coin", "--label-counts", "all")["coin"]
    assert found["labelled"] + found["tested"] == 40
    sentences = [readers.Sentence(str(number), None, number) for number in range(10)]
    assert probing.drawn(sentences, 10, 0) == sentences
    times = np.zeros(10)
    for seed in range(2000):
        chosen = [int(one.text) for one in probing.drawn(iter(sentences), 4, seed)]
        assert chosen == sorted(set(chosen)) and len(chosen) == 4
        times[chosen] += 1
    assert abs(times / 2000 - 0.4).max() < 4 * (0.4 * 0.6 / 2000) ** 0.5


def test_what_is_tested_on_is_drawn_apart_from_what_is_learned_from(run, labelled, monkeypatch):
    """Of a file and itself both draws have as many lines in common as chance makes."""
    monkeypatch.setattr(probing, "MOST_LEARNED", 40)
    total = len(labelled.read_text().splitlines()) - 1
    given = probing.file_labels(load(run), "number", labelled, labelled)
    train, test = map(set, given.labels["number"])
    assert len(train) == len(test) == 40 and len(train & test) < 2 * 40 * 40 / total


def test_the_attributes_of_the_grammar(tmp_path, monkeypatch):
    """At a size of seconds: 300 sentences of the grammar in place of its corpus."""
    from textvae.text import corpus as data
    from textvae.text import grammar

    texts = grammar.reviews().sample(300, seed=0)
    monkeypatch.setattr(
        data.grammar, "splits", lambda: {"train": texts[:200], "valid": texts[200:250], "test": texts[250:]}
    )
    run = tmp_path / "run"
    settings = [*SMALL[:-2], "train.device=cpu"]
    done = call("train", "--data", "grammar", "--out", run, *assigned(settings))
    assert done.exit_code == 0, done.stderr
    found = probed(run, "--label-counts", "all")
    assert list(found) == ["product", "sentiment", "tense", "person", "intensity", "length"]
    truth = [grammar.reviews().attributes(text)["tense"] for text in texts]
    commonest = max(sorted(set(truth[:200])), key=truth[:200].count)
    assert found["tense"]["majority"]["accuracy"] == np.mean([value == commonest for value in truth[250:]])
    assert found["tense"]["sizes"][0]["bag_of_words"]["accuracy"] > found["tense"]["majority"]["accuracy"]
    assert refused(call("probe", run, "--label", "mood"), "--label mood: the grammar has product, sentiment, tense")


def test_requests_that_cannot_be(run, language_model, labelled, tmp_path):
    def asked(*arguments):
        return call("probe", run, *arguments)

    assert refused(
        call("probe", language_model, "--label", "x"), "is a language model: it has no latent code to probe"
    )
    assert refused(asked(), "its text has no label; `textvae probe` takes one of its columns with --label NAME")
    assert refused(asked("--label", "mood"), "plain text has no column 'mood'")
    assert refused(asked("--file", labelled), "name the column of the label with --label")
    assert refused(asked("--file", labelled, "--label", "sentimant"), "did you mean 'sentiment'?", "'coin'")
    assert refused(asked("--file", labelled, "--label", "same"), "--label same: has one value only, 'one'")
    (tmp_path / "numbers.tsv").write_text("".join(f"{n}\tgood food .\n" for n in range(300)))
    many = call("probe", run, "--file", "numbers.tsv", "--label", "0")
    assert refused(many, "--label 0: has 300 values, more than 200; is it the right column?")
    (tmp_path / "copies.tsv").write_text("x\tgood food .\ny\tfood  good .\n" * 5)
    copies = call("probe", run, "--file", "copies.tsv", "--label", "0")
    assert refused(copies, "copies.tsv: all 10 sentences have the same words, so none is left to test on")
    coin = ("--file", labelled, "--label", "coin", "--label-counts")
    few = "there are only", "labelled sentences to learn from; ask for fewer, or `all`"
    assert refused(asked(*coin, "5000"), "--label-counts 5000", *few)
    assert refused(asked(*coin, "0"), "--label-counts 0: give numbers")
    assert refused(asked("--label", "x", "--split", "train"), "--split train: is what the probe learns from")
    assert refused(asked("--label", "x", "--test-file", labelled), "say more about --file FILE; give it too")
    (tmp_path / "blank.tsv").write_text("label\ttext\n\tgood food .\n\tbad food .\n")
    assert refused(
        asked("--file", "blank.tsv", "--label", "label"), "--label label: no labelled sentence to learn from"
    )


def test_the_old_name_of_the_counts_is_accepted_with_a_note(run, labelled):
    asked = ("probe", run, "--file", labelled, "--label", "coin", "--json")
    done = call(*asked, "--labels", "30")
    assert "--labels of probe is now called --label-counts" in done.stderr
    assert done.stdout == call(*asked, "--label-counts", "30").stdout
    both = call(*asked, "--labels", "30", "--label-counts", "30")
    assert refused(both, "--labels 30: is an old name of --label-counts, which is given")
    assert "--labels" not in call("probe", "--help").stdout
