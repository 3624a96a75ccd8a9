import json
import re
import shlex
import shutil

import pytest

from textvae.cli.tables import caveats, measures, table

from .conftest import SMALL, assigned, call, refused

CONTRACT = """split sentences tokens signature reconstruction kl rate_kind bound bound_samples perplexity_bound
nll_iw nll_iw_standard_error perplexity_iw iw_samples iw_sentences tokens_without_end mutual_information
mutual_information_sentences mutual_information_ceiling active_units latent kl_per_dimension log_det_covariance
mean_squared_norm kl_moment_matched""".split()


def damaged(run, tmp_path):
    """A copy of a run that may be spoilt."""
    return shutil.copytree(run, tmp_path / "copy")


def test_evaluate_prints_what_json_has(run):
    arguments = ["evaluate", run, "--split", "valid", "--iw-samples", 5, "--iw-sentences", 10]
    scores = json.loads(call(*arguments, "--json").stdout)
    assert set(CONTRACT) <= set(scores)
    assert (scores["split"], scores["iw_samples"], scores["iw_sentences"]) == ("valid", 5, 10)
    lines = call(*arguments).stdout.splitlines()
    shown = {line[:25].strip(): line[25:] for line in lines[1:-1]}
    assert f"{scores['sentences']:,} sentences, {scores['tokens']:,} tokens" in lines[0]
    assert lines[-3:] == [scores[f"{name}signature"] for name in ("latent_", "mmd_", "")]
    n = scores["mutual_information_sentences"]
    assert shown["MI of sentence and code"].split("nats,")[1].strip().startswith(f"of {n} mixed, at most ln {n} = ")
    spread = scores["log_det_covariance_standard_deviation"]
    assert float(shown["log det covariance"].split()[2]) == pytest.approx(spread, abs=0.006)
    for row, name in (("reconstruction", "reconstruction"), ("KL", "kl"), ("bound", "bound"), ("NLL", "nll_iw")):
        assert float(shown[row].split()[0]) == pytest.approx(scores[name], abs=0.006)
        assert "nats/sentence" in shown[row]
    units = scores["active_units"]
    assert shown["active units"].strip().startswith(f"{units['0.01']} / {units['0.2']}  dimensions, of ")
    assert json.loads((run / "evaluation" / "valid.json").read_text()) == scores


def test_what_stands_in_for_a_density_and_what_the_prior_would_have_is_said():
    given = {"nll_iw": 3.0, "nll_iw_kind": "surrogate", "iw_samples": 9, "iw_sentences": 4, "latent": 8}
    given |= {"mean_squared_norm": 1.0, "log_det_covariance": -1.0}
    units = {name: unit for name, _, unit in measures({**given, "sentences": 32})}
    assert units["NLL"] == "nats/sentence, 9 importance samples by a surrogate density, 4 sentences"
    assert units["squared norm of the mean"] == "of sampled codes; the prior's own: 0.25"
    assert units["log det covariance"] == "of sampled codes; of the prior 0"
    other = {name: unit for name, _, unit in measures({**given, "sentences": 32, "kl_moment_matched": None})}
    assert other["squared norm of the mean"] == other["log det covariance"] == "of sampled codes"
    assert "exact, 4" in {name: unit for name, _, unit in measures({**given, "nll_iw_kind": "exact"})}["NLL"]


def test_the_bound_of_the_drawn_sentences_and_the_effective_samples_stand_beside_the_likelihood():
    given = {"nll_iw": 3.0, "iw_samples": 500, "iw_sentences": 4, "sentences": 9, "bound_iw_sentences": 3.5}
    given |= {"iw_effective_samples": 60.0, "iw_effective_samples_low": 4.0, "iw_heavy_tailed": 0.5, "latent": 2}
    rows = {name: (value, unit) for name, value, unit in measures(given)}
    assert rows["bound beside NLL"] == ("3.50", "nats/sentence, the NLL's 4 sentences")
    assert list(rows).index("bound beside NLL") + 1 == list(rows).index("NLL")
    assert rows["effective samples"] == (
        "60.0",
        "samples, of 500; median over sentences; 4.0 at the 5th percentile; heavy tails: 50 %",
    )
    assert caveats(given)[0].startswith(
        "careful: importance weights are uneven: one sentence in 20 has at most 4.0"
    )
    every = {name: value for name, value, _ in measures({**given, "iw_sentences": 9})}
    assert every["bound beside NLL"] == "–" and caveats({}) == []
    for sentences, said in ((4, "nats/sentence, 9 sentences"), (9, "nats/sentence")):
        whole = {name: unit for name, _, unit in measures({**given, "bound": 3.6, "iw_sentences": sentences})}
        assert whole["bound"] == said


def test_an_estimated_rate_has_its_error():
    given = {"kl": -0.01, "kl_standard_error": 0.02, "rate_kind": "monte-carlo", "latent": 2}
    assert {name: value for name, value, _ in measures(given)}["KL"] == "-0.01 ± 0.02"
    assert {name: value for name, value, _ in measures({**given, "rate_kind": "exact"})}["KL"] == "-0.01"


def test_two_estimates_of_the_information_stand_together():
    given = {"mutual_information": 2.5, "mutual_information_lower": 2.25, "lower": 1.0, "rate": 3.0, "holds": True}
    for more, information in (({}, "2.25 to 2.50"), ({"mutual_information_lower": None}, "2.50")):
        scores = given | more
        rows = {name: value for name, value, _ in measures({**scores, "information_bounds": scores})}
        assert rows["MI of sentence and code"] == information
        assert rows["H - D, I and R"] == f"1.00, {information}, 3.00: holds"
    alone = {name: value for name, value, _ in measures({"mutual_information": 2.5, "rate_kind": "upper"})}
    assert alone["MI of sentence and code"] == "at most 2.50"


def test_all_sentences_for_the_likelihood(run):
    scores = json.loads(call("evaluate", run, "--iw-samples", 2, "--iw-sentences", "all", "--json").stdout)
    assert scores["iw_sentences"] == scores["sentences"]


def test_a_language_model_is_scored_exactly(language_model):
    scores = json.loads(call("evaluate", language_model, "--json").stdout)
    assert scores["kl"] is None and scores["mutual_information"] is None
    shown = call("evaluate", language_model).stdout
    assert "exact" in shown and "MI" not in shown and "KL" not in shown and "None" not in shown


def test_runs_side_by_side():
    one = {"reconstruction": 10.0, "kl": 2.0, "rate_kind": "exact", "iw_sentences": 5, "iw_samples": 3}
    two = {"reconstruction": 1234.5, "kl": None, "iw_sentences": 5, "iw_samples": 0}
    lines = table({"first": one, "second": two}).splitlines()
    assert [line.split() for line in lines] == [
        ["first", "second"],
        ["reconstruction", "10.00", "1,234.50", "nats/sentence"],
        ["KL", "2.00", "–", "nats/sentence,", "exact"],
    ]
    assert lines[0].index("second") + len("second") == lines[1].index("1,234.50") + len("1,234.50")


def test_standard_errors_stand_beside_their_score():
    rows = {name: value for name, value, _ in measures({"nll_iw": 3.0, "nll_iw_standard_error": 0.25, "latent": 2})}
    assert rows["NLL"] == "3.00 ± 0.25" and rows["bound"] == "–"


@pytest.mark.parametrize("given", ["0", "-3", "many", "²", "1.5"])
def test_a_number_of_sentences_that_is_none(run, given):
    assert refused(call("evaluate", run, f"--iw-sentences={given}"), f"--iw-sentences {given}", "all")


def test_a_split_that_there_is_not(run):
    assert refused(call("evaluate", run, "--split", "tset"), "tset", "train, valid, test")


@pytest.mark.parametrize("command", ["evaluate", "diagnose", "sample", "train --resume"])
def test_run_folders_that_cannot_be_used(run, tmp_path, command):
    command = command.split()
    assert refused(call(*command, "no/run"), "no/run", "no such run folder")
    (tmp_path / "empty").mkdir()
    assert refused(call(*command, "empty"), "environment.json", "missing")
    copy = damaged(run, tmp_path)
    environment = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps({**environment, "format": 99, "textvae": "9.0"}))
    assert refused(call(*command, copy), copy, "format 99", "update textvae")
    (copy / "environment.json").write_text('{"format": 1,')
    assert refused(call(*command, copy), "environment.json", "damaged")
    shutil.copy(run / "environment.json", copy)
    (copy / "settings.toml").write_text("[model]\nlatnt = 3\n")
    assert refused(call(*command, copy), "settings.toml", "damaged or edited")
    shutil.copy(run / "settings.toml", copy)
    (copy / "tokenizer.json").write_bytes((run / "tokenizer.json").read_bytes()[:100])
    assert refused(call(*command, copy), "tokenizer.json", "damaged")
    shutil.copy(run / "tokenizer.json", copy)
    name = "checkpoint/last.safetensors" if command[0] == "train" else "model.safetensors"
    (copy / name).write_bytes((run / name).read_bytes()[:-100])
    assert refused(call(*command, copy), name, "damaged")
    (copy / name).write_bytes(b"\x80\x04\x95pickle")
    assert refused(call(*command, copy), name, "damaged")
    if command[0] != "train":
        (copy / name).unlink()
        assert refused(call(*command, copy), name, "not written yet")


def test_diagnose_says_it_in_sentences_and_ends_with_a_command(run):
    found = json.loads(call("diagnose", run, "--json").stdout)
    lines = call("diagnose", run).stdout.splitlines()
    assert lines[: len(found["sentences"])] == found["sentences"] and lines[-1] == f"next: {found['command']}"
    assert len(found["examples"]) == 5
    for example in found["examples"]:
        at = lines.index(f"  {example['text']}")
        assert lines[at + 1 : at + 3] == [f"  > {example['reconstruction']}", f"  ~ {example['neighbour']}"]
    assert shlex.split(found["command"])[0] == "textvae"
    assert re.search("collapsed", lines[0])


def test_diagnose_of_a_language_model(language_model):
    result = call("diagnose", language_model)
    assert result.exit_code == 0 and "language model" in result.stdout


def test_a_file_that_shrank_since_training_is_told_and_not_the_empty_split(reviews, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text(reviews.read_text())
    made = call("train", "--data", "mine.txt", "--method", "vanilla", "--out", "mine", *assigned(SMALL))
    assert made.exit_code == 0, made.stderr
    (tmp_path / "mine.txt").write_text("one sentence is left .\n")
    for command in (["evaluate"], ["diagnose"], ["evaluate", "--all"]):
        assert refused(
            call(command[0], "mine", *command[1:]), "mine.txt: has changed since mine was made", "train again"
        )
    (tmp_path / "mine.txt").unlink()
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "empty"))  # else the tokens would come from the cache
    assert refused(call("evaluate", "mine"), "mine.txt", "no such file")
