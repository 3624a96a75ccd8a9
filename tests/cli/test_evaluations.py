import json
import random
import shutil

import pytest

from textvae.cli.evaluations import _true_distances

from .conftest import SMALL, _trained, call, refused

QUICK = ("--iw-samples", 3, "--iw-sentences", 10, "--samples", 30)


@pytest.fixture(scope="module")
def labelled(reviews, tmp_path_factory):
    """A finished run of labelled reviews."""
    chosen = random.Random(1)
    rows = [f"{chosen.choice(['<x>', 'y'])}\t{text}" for text in reviews.read_text().splitlines()]
    path = tmp_path_factory.mktemp("text") / "labelled.tsv"
    path.write_text("\n".join(["coin\ttext", *rows]) + "\n")
    return _trained(path, path.parent / "vae", "vanilla", [*SMALL, "data.label=coin"])


def test_everything_is_printed_and_written(labelled):
    done = call("evaluate", labelled, "--all", *QUICK, "--decode", "greedy", "--decode", "nucleus:0.7")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    (head,) = (line for line in lines if line.startswith("written from the prior"))
    assert head.split() == ["written", "from", "the", "prior", "greedy", "nucleus"]
    for start in (
        "reconstructions ",
        "self-bleu-4 ",
        "copied ",
        "coin: 2 values, accuracy on ",
        "MMD² to the prior",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert any(line.startswith("no true distance: the distribution of the text is not known") for line in lines)
    found = json.loads((labelled / "evaluation" / "test-all.json").read_text())
    assert found["generated"]["nucleus"]["decoding"]["top_p"] == 0.7
    files = ("evaluation/test.json", "evaluation/test-all.json", "report.html")
    assert f"written: {', '.join(str(labelled / name) for name in files)}\n" in done.stderr
    (length,) = (line for line in lines if line.startswith("length "))
    own = found["generated"]["nucleus"]["scores"]["length"]
    assert own["draws"] == 3 and f"{own['value']:,.4f} ± {own['standard_deviation']:,.4f}" in length
    page = (labelled / "report.html").read_text()
    assert "&lt;x&gt;" in page and "<x>" not in page


def test_json_is_the_whole_document(language_model):
    done = call("evaluate", language_model, "--all", *QUICK, "--json", "--split", "valid", "--decode", "sample")
    found = json.loads(done.stdout)
    assert found == json.loads((language_model / "evaluation" / "valid-all.json").read_text())
    assert found["probes"] is None and found["reasons"]["probes"] == "a language model has no code"
    assert list(found["generated"]) == ["sample"]


def test_requests_that_cannot_be(run):
    assert refused(call("evaluate", run, "--all", "--decode", "gredy"), "did you mean 'greedy'?")
    assert refused(call("evaluate", run, "--all", "--decode", ","), "--decode: names no way of decoding")
    assert refused(call("evaluate", run, "--all", "--samples", 1), "--samples", "2")


def test_options_that_would_do_nothing_are_refused(run):
    for option, value in (("--samples", 50), ("--times", 2), ("--decode", "beam:2")):
        assert refused(call("evaluate", run, option, value), f"{option}: says how text is written", "--all")
    assert refused(call("evaluate", run, "--temperature", 0.7), "--decode: says how text is written")
    assert refused(call("evaluate", run, "--all", "--top-p", 0.5), "--top-p 0.5: is for --decode nucleus")
    assert refused(call("evaluate", run, "--all", "--split", "tset", *QUICK), "--split tset")


def test_any_score_can_be_compared(labelled, run):
    """Of one run there is all, of the other what `evaluate` has."""
    call("evaluate", labelled, "--all", *QUICK)
    scores = [
        "kl_moment_matched",
        "generated.greedy.scores.self-bleu-2",
        "probes.coin.majority",
        "active_units.0.01",
    ]
    done = call("compare", labelled, "--scores", ",".join(scores), "--json")
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    every = json.loads((labelled / "evaluation" / "test-all.json").read_text())
    assert row["scores"] == {
        name: {"value": value, "deviation": None}
        for name, value in zip(
            scores,
            [
                every["kl_moment_matched"],
                every["generated"]["greedy"]["scores"]["self-bleu-2"]["value"],
                every["probes"]["coin"]["majority"]["accuracy"],
                every["active_units"]["0.01"],
            ],
            strict=True,
        )
    }
    shown = call("compare", labelled, "--scores", "mean_squared_norm,generated.greedy.scores.vocabulary").stdout
    head, line, *_ = shown.splitlines()
    assert head.split() == ["run", "mean_squared_norm", "generated.greedy.scores.vocabulary", "method"]
    vocabulary = every["generated"]["greedy"]["scores"]["vocabulary"]  # a mean of three counts
    assert line.split()[2] == f"{vocabulary['value']:.4f}"
    wrong = call("compare", labelled, "--scores", "self-bleu-2")
    assert refused(wrong, "--scores self-bleu-2: no run's evaluation has it; did you mean generated.greedy.scores.")
    assert refused(call("compare", labelled, "--scores", "bits"), "--scores bits: no run's evaluation has it")
    assert refused(call("compare", labelled, "--scores", "iw_components"), "is null in every run")
    assert refused(call("compare", labelled, "--scores", ","), "--scores: names no score")


def test_where_nothing_was_written_there_is_no_table_of_distances():
    found = _true_distances({"greedy": None, "beam": None})
    assert found == "no distance to the grammar: nothing was written by greedy, beam"


def test_what_could_not_be_written_is_not_said_to_be(labelled, tmp_path):
    folder = shutil.copytree(labelled, tmp_path / "run")
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    (folder / "evaluation").write_text("in its way")
    (folder / "report.html").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match="could not be saved in the run"):
        done = call("evaluate", folder, "--all", *QUICK, "--decode", "greedy")
    assert done.exit_code == 0, done.stderr
    assert f"written: {folder / 'report.html'}\n" in done.stderr
    assert ".json" not in done.stderr
