import json
from statistics import fmean

import numpy as np
import pytest

import textvae
from textvae.evaluation.sensitivity import sensitivity
from textvae.generate import paths
from textvae.generate.codes import save_codes
from textvae.generate.decoding import Decoding
from textvae.generate.paths import homotopies, prior_ends, same_paths
from textvae.generate.trained import load

from .conftest import call, refused
from .test_codes import lines


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
    for arguments, told in (
        (["a", "b", "--prior"], "interpolate: sentences and --prior are given"),
        (["--prior", "--codes", "c.npy"], "interpolate: --prior and --codes are given"),
        (["--pairs", "p.tsv", "a"], "interpolate: sentences and --pairs are given"),
    ):
        assert refused(call("interpolate", run, *arguments), told, "ends of paths come from one of them")
    for arguments in ([], ["a"]):
        assert refused(call("interpolate", run, *arguments), "two sentences", "--prior", "--pairs", "--codes")
    assert refused(call("interpolate", run, "a", "b", "--steps", "1"), "--steps", "2")


def test_a_path_is_scored_on_stderr_and_in_json(run, language_model):
    trained, scorer = textvae.load(run), textvae.load(language_model)
    (expected,) = homotopies(trained, prior_ends(trained, 1, 2), 5, "spherical", language_model=scorer)
    way = ["--prior", "--seed", 2, "--steps", 5, "--path", "spherical", "--language-model", language_model]
    result = call("interpolate", run, *way)
    score = expected.smoothness
    assert lines(result) == expected.texts
    assert result.stderr == (
        f"{score.distinct} different of 5 sentences; {score.mean_edit:.1f} words change at a step, "
        f"{score.largest_edit} at most; NLL of the ends {score.nll_ends:.2f}, between them {score.nll_between:.2f} "
        "nats/sentence\n"
    )
    told = json.loads(call("interpolate", run, *way, "--json").stdout)
    assert told["path"] == "spherical" and told["paths"][0]["repeated"] == expected.repeated and not told["reasons"]
    own = json.loads(call("interpolate", run, "--prior", "--steps", 2, "--json").stdout)
    assert own["path"] is None and own["reasons"]["path"].endswith("the path is the prior's own")
    assert told["paths"][0]["smoothness"]["nll_between"] == pytest.approx(score.nll_between)


def test_texts_that_come_again_are_marked_on_a_terminal(run, monkeypatch):
    texts = ["one", "two\x1b[31m", "two\x1b[31m", "one", "three"]
    monkeypatch.setattr("textvae.generate.trained.Trained.decode", lambda *_, **__: texts)
    assert call("interpolate", run, "--prior", "--steps", 5).stdout.splitlines() == texts
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
    shown = call("interpolate", run, "--prior", "--steps", 5).stdout
    assert shown == "  one\n  two\\x1b[31m\n= two\\x1b[31m\n= one\n  three\n"


def test_many_paths_at_once(run, tmp_path):
    trained = textvae.load(run)
    pairs = [("the food was good .", "a phone"), ("this is bad .", "the coffee is so good .")]
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in pairs))
    for file in ("pairs.tsv", "pairs.jsonl"):
        told = json.loads(call("interpolate", run, "--pairs", file, "--steps", 4, "--json").stdout)["paths"]
        assert [(one["a"], one["b"]) for one in told] == pairs
        assert [one["steps"] for one in told] == [trained.interpolate(a, b, 4) for a, b in pairs]
    rows = "".join(f"1\t{b}\t{a}\n" for a, b in pairs)
    for head, named in (("id\tnew\told\n", ["old", "new"]), ("", [2, 1])):
        (tmp_path / "other.tsv").write_text(head + rows)
        way = ["--pairs", "other.tsv", "--column-a", named[0], "--column-b", named[1], "--steps", 4, "--json"]
        found = json.loads(call("interpolate", run, *way).stdout)["paths"]
        assert [(one["a"], one["b"]) for one in found] == pairs
    shown = call("interpolate", run, "--prior", "-n", 2, "--steps", 3, "--seed", 1)
    expected = homotopies(trained, prior_ends(trained, 2, 1), 3)
    assert lines(shown) == [*expected[0].texts, "", *expected[1].texts]
    assert shown.stderr.startswith("path 1: ") and "\npath 2: " in shown.stderr
    save_codes("codes.npy", prior_ends(trained, 2, 1).reshape(4, 3))
    assert lines(call("interpolate", run, "--codes", "codes.npy", "--steps", 3)) == lines(shown)


def test_paths_that_cannot_be(run, tmp_path):
    assert refused(call("interpolate", run, "a phone", "a phone"), "pair 1: both ends are 'a phone'")
    assert refused(call("interpolate", run, "a", "b", "-n", 2), "-n 2", "--prior")
    assert refused(call("interpolate", run, "--prior", "--path", "round"), "path = 'round'", "linear, spherical")
    (tmp_path / "pairs.tsv").write_text("a phone\tthe food\na phone\t\n")
    assert refused(
        call("interpolate", run, "--pairs", "pairs.tsv", "--strict"),
        "pairs.tsv:2: has one sentence; give two",
    )
    assert refused(
        call("interpolate", run, "a", "b", "--column-a", "x"), "--column-a x: only a file of pairs has columns"
    )
    (tmp_path / "pairs.txt").write_text("a phone\n")
    assert refused(call("interpolate", run, "--pairs", "pairs.txt"), "pairs.txt: plain text has no column")
    np.save("codes.npy", np.zeros((3, 3)))
    assert refused(call("interpolate", run, "--codes", "codes.npy"), "3 codes: their number is odd")
    np.save("codes.npy", np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 0, 0]]))
    message = "pair 2: both ends have the same code, so there is no path; give other ends"
    assert refused(call("interpolate", run, "--codes", "codes.npy"), message)


@pytest.mark.filterwarnings("ignore:.*no word that the model knows")
def test_ends_of_unknown_words_are_told(run, tmp_path):
    told = "pairs.tsv:2: 'zz' and 'xx': the model knows no word of either, so there is no path"
    (tmp_path / "pairs.tsv").write_text("a phone\tthe food\nzz\txx\n")
    assert refused(call("interpolate", run, "--pairs", "pairs.tsv", "--strict"), told)


@pytest.mark.parametrize(
    "arguments",
    [
        ["reconstruct", "zz xx", "a phone"],
        ["interpolate", "zz xx", "a phone"],
        ["encode", "zz xx", "a phone", "--out", "codes.npy"],
        ["transfer", "zz xx", "a phone", "--direction", "way.npy"],
    ],
)
def test_a_text_of_unknown_words_is_told_and_no_error(run, arguments):
    np.save("way.npy", np.ones(3, np.float32))
    with pytest.warns(UserWarning, match="1 of 2 texts have no word that the model knows"):
        assert call(arguments[0], run, *arguments[1:]).exit_code == 0


def test_the_same_path_by_several_runs_and_decodings(run, language_model):
    trained = textvae.load(run)
    (expected,) = homotopies(trained, prior_ends(trained, 1, 4), 7, seed=4)
    way = ["--decode", "greedy", "--decode", "top-k:3", "--seed", 4, "--language-model", language_model]
    told = json.loads(call("homotopy", run, run, *way, "--json").stdout)
    assert [cell["run"] for cell in told["cells"]] == [str(run)] * 4
    assert [cell["decoding"]["name"] for cell in told["cells"]] == ["greedy", "top-k"] * 2
    assert told["cells"][0]["paths"] == told["cells"][2]["paths"]
    assert told["cells"][0]["paths"][0]["steps"] == expected.texts
    shown = lines(call("homotopy", run, run, *way))
    assert shown[0] == f"{run}, greedy" and shown[9] == f"{run}, top-k:3"
    assert [line[5:].rstrip() for line in shown[1:8]] == [text.rstrip() for text in expected.texts]
    assert [line[3:4] == "=" for line in shown[1:8]] == expected.repeated
    assert len(shown) == 4 * 9 + 5 and "NLL ends" in shown[36]
    assert f"{expected.smoothness.distinct:.1f} of 7" in shown[37]
    assert refused(call("homotopy", run, language_model), "language model")
    assert refused(call("homotopy", run, "--decode", "beem:3"), "'beem'", "did you mean 'beam'?")


def test_many_paths_are_written_as_they_are_decoded(run, language_model, monkeypatch):
    way = [run, "-n", 5, "--steps", 3, "--language-model", language_model]
    before = [call("homotopy", *way, *end).stdout for end in ([], ["--json"])]
    monkeypatch.setattr(paths, "PAIRS", 2)
    assert [call("homotopy", *way, *end).stdout for end in ([], ["--json"])] == before
    whole = same_paths([load(run)], [Decoding()], 5, 3, language_model=load(language_model))[0].homotopies
    told = json.loads(before[1])["cells"][0]["paths"]
    assert [path["steps"] for path in told] == [path.texts for path in whole]
    scores = [path.smoothness for path in whole]
    row = before[0].splitlines()[-1].split()
    assert row[2:5] == [f"{fmean(score.distinct for score in scores):.1f}", "of", "3"]
    assert float(row[-1]) == pytest.approx(fmean(score.nll_between for score in scores), abs=0.006)


def test_the_same_path_by_shorter_texts_and_known_words(run):
    short = call("homotopy", run, "--decode", "sample", "--max-length", 2, "--no-unknown", "--json")
    (cell,) = json.loads(short.stdout)["cells"]
    assert (cell["decoding"]["max_length"], cell["decoding"]["allow_unknown"]) == (2, False)
    assert all(len(text.split()) <= 2 for text in cell["paths"][0]["steps"])


def test_sensitivity_in_a_table_and_in_json(run):
    texts = ["the food was very good .", "a phone"]
    way = ["--distances", "0.5,4", "--directions", 3, "--seed", 1]
    found = json.loads(call("sensitivity", run, *texts, *way, "--json").stdout)
    expected = sensitivity(textvae.load(run), texts, [0.5, 4.0], 3, 1).document()
    assert found["curves"] == expected["curves"] and found["half"] == expected["half"]
    assert (found["directions"], found["seed"]) == (3, 1)
    shown = lines(call("sensitivity", run, *texts, *way))
    assert shown[0].startswith("decoded without a move: ") and shown[2].split() == ["distance", "0.5", "4"]
    assert shown[3].startswith("3 random directions: changed") and shown[5].endswith("nats/sentence")
    assert shown[-1].startswith("half of the sentences have ")
    assert refused(
        call("sensitivity", run, "a phone", "--distances", "1,far"), "--distances 1,far", "such as 0.5,1,2"
    )
    assert refused(call("sensitivity", run, "a phone", "--distances", "2,1"), "must be above 0, rise")


def test_a_language_model_has_no_ways(language_model):
    assert refused(call("interpolate", language_model, "a", "b"), "language model", "no latent code")
    assert refused(call("sensitivity", language_model, "a"), "language model", "no latent code")
