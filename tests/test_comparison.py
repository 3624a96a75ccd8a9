"""Runs side by side: numbers by hand, means over seeds against numpy, data that agree, figures point by point."""

import csv
import io
import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import textvae
from textvae.comparison import compare, figures, sweep
from textvae.comparison.members import unique_names
from textvae.comparison.methods import flattened, is_vanilla, method
from textvae.comparison.rows import columns_of_scores, group_names
from textvae.comparison.tables import escaped, inert, markdown
from textvae.errors import RequestError, WorkError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.record import evaluation_record, known_names
from textvae.evaluation.showing import DASH
from textvae.files import write_json, write_tensors, write_text
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.text.corpus import open_corpus

SMALL = {
    "model": {"latent": 2, "embedding": 4, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}},
    "train": {"batch_size": 16, "device": "cpu", "precision": "fp32"},
}
SCORES = {
    "split": "test",
    "sentences": 100,
    "tokens": 700,
    "reconstruction": 17.0,
    "kl": 3.0,
    "rate_kind": "exact",
    "bound": 20.0,
    "nll_iw": 19.0,
    "nll_iw_standard_error": 0.25,
    "nll_iw_kind": "importance-weighted",
    "iw_samples": 500,
    "iw_sentences": 50,
    "iw_effective_samples": 250.0,
    "iw_effective_samples_low": 100.0,
    "iw_heavy_tailed": 0.0,
    "bound_iw_sentences": 19.5,
    "mutual_information": 2.5,
    "mutual_information_sentences": 100,
    "mutual_information_ceiling": math.log(100),
    "active_units": {"0.01": 2, "0.2": 1},
    "latent": 2,
    "shuffle_gap": 4.5,
    "shuffle_gap_standard_error": 0.1,
    "signature": "nll|bound:iw500|posterior:gaussian|rate:exact|seed:0|sentences:50|textvae:0.1.0",
}
EXACT = {
    **SCORES,
    "reconstruction": 20.0,
    "kl": None,
    "rate_kind": None,
    "nll_iw": 20.0,
    "nll_iw_kind": "exact",
    "iw_samples": 0,
    "iw_effective_samples": None,
    "iw_effective_samples_low": None,
    "iw_heavy_tailed": None,
    "bound_iw_sentences": 20.0,
    "mutual_information": None,
    "mutual_information_sentences": None,
    "mutual_information_ceiling": None,
    "active_units": None,
    "latent": None,
    "shuffle_gap": None,
    "shuffle_gap_standard_error": None,
    "signature": "nll|bound:exact|seed:0|sentences:50|textvae:0.1.0",
}


def records(speeds=(100.0, 300.0, 200.0), weight=1.0, kl=3.0):
    training = [
        {"step": 10 * (n + 1), "split": "train", "reconstruction": 30.0 - n, "tokens_per_second": speed}
        | ({} if kl is None else {"kl": kl * (n + 1) / 3, "weights": {"kl": weight * (n + 1) / 3}})
        for n, speed in enumerate(speeds)
    ]
    return [*training, {"step": 30, "split": "valid", "reconstruction": 29.0} | ({} if kl is None else {"kl": kl})]


@pytest.fixture(scope="module")
def text(tmp_path_factory, tiny_sentences):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(tiny_sentences) + "\n")
    return file


@pytest.fixture
def make(tmp_path, text):
    """A function that makes a run folder with an untrained model and these numbers."""

    def made(name, *assignments, scores=SCORES, log=None, weights=True, file=text, **tables):
        data = {"corpus": str(file), "split": {"valid": 0.2, "test": 0.3}}
        settings = load_settings(None, None, assignments, **{**SMALL, "data": data, **tables})
        corpus = open_corpus(settings.data)
        run = Run.create(tmp_path / name, settings, corpus.tokenizer, corpus.description())
        if weights:
            model = build(settings.model, len(corpus.tokenizer), settings.terms())
            write_tensors(run.folder / "model.safetensors", model.state_dict())
        lines = records() if log is None else log
        write_text(run.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if scores is not None:
            (run.folder / "evaluation").mkdir()
            write_json(run.folder / "evaluation" / "test.json", scores)
        return run.folder

    return made


@pytest.fixture
def three(make):
    """A heavy mu-forcing, a vanilla VAE and a language model."""
    forced = {**SCORES, "nll_iw": 18.0, "kl": 6.0, "reconstruction": 13.5}
    return [
        make("forced", "objective.mu-forcing.margin=3", "objective.kl.weight=0.5", scores=forced,
             log=records((50.0, 70.0), weight=0.5)),
        make("vanilla"),
        make("lm", "model.latent=0", scores=EXACT, log=records((400.0,), kl=None)),
    ]  # fmt: skip


def test_every_number_of_the_table_by_hand(three):
    found = compare(three)
    assert (found.baseline, found.speed_of, found.split) == ("lm", "vanilla", "test")
    forced, vanilla, lm = (row.values for row in found.rows)
    assert [row["nll_relative_percent"] for row in (forced, vanilla, lm)] == pytest.approx([-10.0, -5.0, 0.0])
    # Over all steps: two records of equally many at 50 and 70 tokens a second are 58.33 together.
    speed = 3 / (1 / 100 + 1 / 300 + 1 / 200)
    expected = [2 / (1 / 50 + 1 / 70) / speed, 1.0, 400.0 / speed]
    assert [row["relative_speed"] for row in (forced, vanilla, lm)] == pytest.approx(expected)
    assert [row["final_kl_weight"] for row in (forced, vanilla, lm)] == pytest.approx([1 / 3, 1.0, None])
    head, *rows = found.table()
    assert dict(zip(head, rows[1], strict=True)) == {
        "run": "vanilla",
        "NLL": "19.00 ± 0.25",
        "bound of these": "19.50",
        "by": "iw500/50",
        "vs base": "-5.0 %",
        "reconstr.": "17.00",
        "KL": "3.00",
        "MI": "2.50",
        "active units": "2 / 1 of 2",
        "shuffle gap": "4.50",
        "speed": "1.00×",
        "KL weight": "1.00",
        "method": "kl",
    }
    assert rows[0][-1] == "kl × 0.5 + mu-forcing margin=3"
    assert (
        rows[2][1:6] == ["20.00 ± 0.25", "20.00", "exact/50", "0.0 %", "20.00"] and rows[2][-1] == "language model"
    )
    assert rows[2][6:10] == [DASH] * 4 and rows[2][11] == DASH
    assert any(note.endswith("can be at most 4.61 nats.") for note in found.notes)
    assert not any(note.startswith("Careful") for note in found.notes)


def test_uneven_weights_an_estimated_rate_and_what_is_null_are_told(make):
    """The caveat of a run's own NLL; the standard error of a KL that is estimated; a reason for each null."""
    few = {"iw_effective_samples_low": 3.0, "rate_kind": "monte-carlo", "kl": -0.01, "kl_standard_error": 0.02}
    gap = {"shuffle_gap": None, "shuffle_gap_standard_error": None, "reasons": {"shuffle_gap": "one sentence"}}
    runs = [make("few", scores={**SCORES, **few, **gap}), make("other", "objective.kl.weight=0.5", log=[])]
    found = compare(runs)
    told = [note for note in found.notes if "uneven" in note]
    assert len(told) == 1 and told[0].startswith("Careful: few: importance weights are uneven: one sentence in 20")
    head, *rows = found.table()
    assert rows[0][head.index("KL")] == "-0.01 ± 0.02 monte-carlo" and rows[1][head.index("KL")] == "3.00"
    for row in found.document()["rows"]:
        nulls = {name for name, value in row.items() if value is None}
        nulls |= {f"deviations.{name}" for name, value in row["deviations"].items() if value is None}
        assert set(row["reasons"]) == nulls and row["reasons"]["deviations.nll"] == "one run has no deviation"
    first, second = (row["reasons"] for row in found.document()["rows"])
    assert (
        first["shuffle_gap"] == "one sentence" and "the training log has no speeds" in second["tokens_per_second"]
    )
    assert first["nll_relative_percent"] == "there is no NLL, or none of a run that it would be relative to"
    assert first["mmd_squared"] == "the evaluation does not have it; evaluate again (--again)"


def test_reasons_of_scores_by_name_are_those_that_stand_beside_them(make):
    """A reason beside a score, one in a table of reasons, and one of the part that a score would be in."""
    some = {"accuracy": 0.5, "standard_deviation": 0.1, "reasons": {}}
    one = {
        "accuracy": 0.5,
        "standard_deviation": None,
        "reasons": {"standard_deviation": "of one draw there is none"},
    }
    bleu = {"value": None, "reason": "no sentence has 4 tokens"}
    folders = []
    for name, probe, greedy in (
        ("first", some, {"scores": {"self-bleu-4": {"value": 0.5}}}),
        ("second", one, {"scores": {"self-bleu-4": bleu}}),
        ("third", one, {"scores": None, "reason": "it writes one sentence"}),
    ):
        scores = SCORES if name != "third" else {**SCORES, "active_units": None}
        folder = make(name, scores=scores)
        more = {"generated": {"greedy": greedy}, "probes": {"mood": {"sizes": [{"code": probe}]}}}
        more["reasons"] = {"active_units": "the mean of one sentence does not vary"}
        write_json(folder / "evaluation" / "test-all.json", {**scores, **more})
        folders.append(folder)
    names = (
        "probes.mood.sizes[0].code.standard_deviation",
        "generated.greedy.scores.self-bleu-4",
        "active_units.0.01",
    )
    found = compare(folders, scores=names).document()
    probe, self_bleu, units = (f"scores.{name}.value" for name in names)
    reasons = [row["reasons"] for row in found["rows"]]
    assert not {probe, self_bleu, units} & reasons[0].keys()
    assert reasons[1][probe] == reasons[2][probe] == "of one draw there is none"
    assert reasons[1][self_bleu] == "no sentence has 4 tokens" and reasons[2][self_bleu] == "it writes one sentence"
    assert units not in reasons[1] and reasons[2][units] == "the mean of one sentence does not vary"
    assert found["baseline"] is None and "--baseline was not given" in found["reasons"]["baseline"]
    assert found["speed_of"] == "first" and "speed_of" not in found["reasons"]
    told = found["runs"]["first"]
    assert told["finished"] is None and "no checkpoint" in told["reasons"]["finished"]


def test_the_baseline_can_be_any_run_and_joins_the_others(three):
    forced, vanilla, lm = three
    found = compare([forced, lm], baseline=vanilla)
    assert [row.name for row in found.rows] == ["forced", "lm", "vanilla"] and found.baseline == "vanilla"
    assert found.rows[0].values["nll_relative_percent"] == pytest.approx(100 * (18 / 19 - 1))
    assert len(compare([forced, vanilla], baseline=vanilla).rows) == 2
    alone = compare([forced])
    assert alone.baseline is None and alone.rows[0].values["nll_relative_percent"] is None
    assert alone.rows[0].values["relative_speed"] == 1.0  # no vanilla run: relative to the first


def test_runs_that_only_the_seed_tells_apart_make_one_row(make):
    numbers = {"nll_iw": (10.0, 12.0, 14.0), "kl": (1.0, 2.0, 6.0), "mutual_information": (1.0, None, 2.0)}
    folders = []
    for seed in range(3):
        own = {name: values[seed] for name, values in numbers.items()}
        folders.append(make(f"vae-seed{seed}", f"train.seed={seed}", scores={**SCORES, **own}))
    folders.append(make("other", "model.latent=3", "train.seed=1"))
    found = compare(folders, by_seed=True)
    assert [(row.name, row.seeds) for row in found.rows] == [("vae", [0, 1, 2]), ("other", [1])]
    seeds, other = found.rows
    assert (seeds.values["nll"], seeds.deviations["nll"]) == (12.0, 2.0)
    assert seeds.values["kl"] == pytest.approx(np.mean(numbers["kl"]))
    assert seeds.deviations["kl"] == pytest.approx(np.std(numbers["kl"], ddof=1))
    assert seeds.values["mutual_information"] is None  # not the mean of the two that have one
    assert set(other.deviations.values()) == {None} and other.values["nll"] == 19.0
    head, *rows = found.table()
    assert rows[0][:3] == ["vae", "3", "12.00 ± 2.00"] and rows[1][:3] == ["other", "1", "19.00"]
    assert "standard deviation over seeds" in found.notes[0]
    assert len(compare(folders).rows) == 4
    table = list(csv.DictReader(io.StringIO(found.csv())))
    assert table[0]["seeds"] == "0 1 2" and float(table[0]["nll_deviation"]) == 2.0


def test_the_same_seed_twice_is_pointed_out(make):
    found = compare([make("vae-a"), make("vae-b")], by_seed=True)
    assert len(found.rows) == 1 and found.rows[0].name == "vae"
    assert any("runs of the same seed" in note for note in found.notes)


def test_what_settings_differ_in_is_said_by_path(make):
    found = compare([make("a"), make("b", "model.latent=3", "train.epochs=7")])
    differing = found.document()["differences"]
    assert differing == {"model.latent": {"a": 2, "b": 3}, "train.epochs": {"a": 20, "b": 7}}
    assert [row.method for row in found.rows] == [
        "kl, model.latent=2, train.epochs=20",
        "kl, model.latent=3, train.epochs=7",
    ]
    assert "differences" not in found.document()["reasons"]
    found = compare([found.members[0].run.folder, make("c", "train.patience=3")]).document()
    assert found["differences"] == {"train.patience": {"a": None, "c": 3}}
    assert found["reasons"]["differences"] == "the settings of the run have no such entry, or leave it open"


@pytest.mark.parametrize(
    "assignments, expected",
    [
        ([], "kl"),
        (["objective.kl.weight.schedule=linear"], "kl linear 0→1"),
        (["model.posterior.name=iaf", "model.word_keep=0.5"], "kl, iaf posterior, word keep 0.5"),
        (["model.posterior={name='delta', rate=2.0}"], "kl, delta rate=2 posterior"),
        (["model.prior={name='vamp', components=7}"], "kl, vamp components=7 prior"),
        (["model.inference.name=refined"], "kl, refined"),
        (["model.feedforward.layers=2"], "kl, 2 highway layers around z"),
        (["train.update={name='aggressive', inner=3}"], "kl, aggressive updates inner=3"),
        (["train.update={name='aggressive', inner=3, until='mi'}"], "kl, aggressive updates inner=3 until=mi"),
        (
            ["phase=[{epochs=1, reset=['decoder']}, {objective={kl={weight=0.0}}}]"],
            "kl (decoder reset), then kl × 0",
        ),
    ],
)  # fmt: skip
def test_a_method_is_described_by_what_is_unusual(assignments, expected):
    settings = load_settings(None, None, assignments)
    assert method(settings) == expected
    assert is_vanilla(settings) == (not assignments)


def test_labels_of_bounds_and_estimates_have_a_note_each(make):
    kinds = [("upper", "surrogate"), ("monte-carlo", "importance-weighted")]
    folders = [
        make(f"{rate}", f"model.latent={2 + n}", scores={**SCORES, "rate_kind": rate, "nll_iw_kind": nll})
        for n, (rate, nll) in enumerate(kinds)
    ]
    found = compare(folders)
    assert [row[6] for row in found.table()[1:]] == ["3.00 upper", "3.00 monte-carlo"]
    assert found.table()[1][3] == "iw500/50 surrogate"
    starts = [note.split(":")[0] for note in found.notes]
    assert {"KL upper", "KL monte-carlo", "NLL surrogate"} <= set(starts)


def test_information_from_below_and_above_is_a_range(make):
    between = {**SCORES, "mutual_information_lower": 2.25}
    other = {**between, "mutual_information_lower": 2.75, "mutual_information": 3.5}
    folders = [make("a", "train.seed=1", scores=between), make("b", "train.seed=2", scores=other)]
    first, second = compare(folders[:1]), compare(folders, by_seed=True)
    assert first.table()[1][7] == "2.25 to 2.50" and second.table()[1][8] == "2.50 ± 0.35 to 3.00 ± 0.71"
    assert any("lies between mutual_information_lower" in note for note in second.notes)
    plain, old = compare([make("c", scores=SCORES)]), compare([make("d", scores={**SCORES, "rate_kind": "upper"})])
    assert plain.table()[1][7] == "2.50" and not any("lies between" in note for note in plain.notes)
    assert old.table()[1][7] == "at most 2.50"
    for scores, told in ((between, True), ({**SCORES, "rate_kind": "upper"}, True), (SCORES, False)):
        folder = make(f"{told}-{len(scores)}", scores=scores)
        notes = " ".join(compare([folder], scores=["mutual_information"]).notes)
        assert ("an estimate from above" in notes) == told


def test_a_point_posterior_and_old_evaluations_have_dashes(make, tmp_path):
    point = {**SCORES, "reasons": {"kl": "the point posterior has no density"}}
    point |= dict.fromkeys(
        ("kl", "rate_kind", "bound", "bound_iw_sentences", "nll_iw", "nll_iw_standard_error", "nll_iw_kind")
    )
    old = {"split": "test", "reconstruction": 18.0}
    folders = [
        make("point", scores=point),
        make("old", "model.latent=3", scores=old, log=[{"step": 1, "split": "x"}]),
    ]
    found = compare(folders)
    first, second = found.table()[1:]
    assert first[1:7] == [DASH, DASH, DASH, DASH, "17.00", DASH]
    assert second[1:12] == [DASH, DASH, DASH, DASH, "18.00", *[DASH] * 6]
    unfinished = {"finished": "there is no checkpoint, which would tell"}
    assert found.document()["runs"]["point"]["reasons"] == point["reasons"] | unfinished
    assert sorted(path.name for path in found.write(tmp_path / "out")) == [
        "comparison.csv", "comparison.json", "comparison.md", "curves.png", "sweep.png",
    ]  # fmt: skip


def test_evaluations_that_were_made_otherwise_are_pointed_out(make):
    other = {**SCORES, "signature": SCORES["signature"].replace("iw500", "iw50").replace("seed:0", "seed:3")}
    found = compare([make("a"), make("b", "model.latent=3", scores=other)])
    (careful,) = [note for note in found.notes if note.startswith("Careful")]
    assert "importance samples (iw500, iw50)" in careful and "seed (0, 3)" in careful


def test_an_evaluation_that_names_no_softmax_had_all_ids(make):
    for support, warned in (("all-ids", False), ("text-ids", True)):
        stated = {**SCORES, "signature": SCORES["signature"].replace("|seed", f"|softmax:{support}|seed")}
        found = compare([make(f"a-{support}"), make(f"b-{support}", "model.latent=3", scores=stated)])
        assert [f"softmax (all-ids, {support})" in note for note in found.notes if "differ" in note] == [
            True
        ] * warned


def test_an_autoencoder_needs_no_importance_samples(make):
    point = {**SCORES, "signature": SCORES["signature"].replace("iw500", "none"), "nll_iw": None}
    found = compare([make("vae"), make("point", "model.latent=3", scores=point)])
    assert not any("evaluations differ" in note for note in found.notes)


def test_runs_of_different_lengths_are_pointed_out(make):
    folders = [make("long"), make("short", "model.latent=3", log=[line for line in records() if line["step"] < 30])]
    assert "Careful: the runs were trained for 20, 30 steps." in compare(folders).notes
    assert not any("steps" in note for note in compare(folders[:1]).notes)


def test_a_run_in_the_middle_of_its_training_is_pointed_out(make):
    folder = make("half")
    assert compare([folder]).document()["runs"]["half"]["finished"] is None
    for finished in (False, True):
        write_tensors(folder / "checkpoint" / "last.safetensors", {}, {"finished": finished})
        found = compare([folder])
        assert any("has not come to its end in half" in note for note in found.notes) == (not finished)


def test_json_and_csv_have_every_number_in_full(three):
    found = compare(three)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    table = list(csv.DictReader(io.StringIO(found.csv())))
    for row, values, line in zip(found.rows, document["rows"], table, strict=True):
        for name, value in row.values.items():
            assert values[name] == value
            assert line[name] == ("" if value is None else str(value))
    run = document["runs"]["vanilla"]
    assert run["signature"] == SCORES["signature"] and run["seed"] == 0
    assert run["environment"]["textvae"] == textvae.__version__ and run["environment"]["torch"]


def test_markdown_shows_names_as_they_are():
    page = markdown([["run", "NLL", "method"], ["a|b_*c*<i>$x$", "1.00", "kl\x1b"]], ["of a|b"])
    rows = page.splitlines()
    assert rows[1] == "| --- | ---: | --- |"
    assert rows[2] == r"| a\|b\_\*c\*\<i\>\$x\$ | 1.00 | kl" + "\ufffd |"
    assert rows[4] == r"- of a\|b"


def test_what_is_evaluated_already_is_used_and_what_is_not_is_evaluated(make):
    folders = [make("done"), make("new", "model.latent=3", scores=None)]
    told = []
    numbers = {"iw_samples": 3, "iw_sentences": 4, "seed": 1}
    found = compare(folders, progress=lambda *at: told.append(at), **numbers)
    assert found.rows[0].values["nll"] == 19.0
    assert told[-1] == ("evaluating new", 4, 4) and {part for part, *_ in told} == {"evaluating new"}
    scores = evaluate(folders[1], **numbers)
    assert found.rows[1].values["nll"] == scores["nll_iw"] and found.rows[1].values["iw_samples"] == 3
    anew = compare(folders, again=True, **numbers)
    assert anew.rows[0].values["nll"] == evaluate(folders[0], **numbers)["nll_iw"] != 19.0


def test_wrong_requests_are_refused_in_one_line(make, tmp_path):
    vae = make("vae")
    with pytest.raises(RequestError, match="no runs given"):
        compare([])
    with pytest.raises(RequestError, match="no runs given"):
        compare(str(vae))
    with pytest.raises(RequestError, match="nothing: no such run folder"):
        compare([vae, tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="is .*empty a run folder"):
        compare([vae, tmp_path / "empty"])
    with pytest.raises(RequestError, match="vae: given twice, as .*vae"):
        compare([vae, tmp_path / "empty" / ".." / "vae"])
    with pytest.raises(RequestError, match="model.safetensors: not written yet; .*--resume"):
        compare([vae, make("young", weights=False)])
    with pytest.raises(RequestError, match="--split dev: .*vae has only train, valid, test"):
        compare([vae], "dev")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(WorkError, match="cannot be written"):
        compare([vae]).write(file)


@pytest.mark.parametrize(
    "content, reason",
    [
        ("{", "not JSON"),
        ("[]", "a table is expected"),
        (json.dumps({**SCORES, "split": "valid"}), "does not say that it is of the test split"),
        (json.dumps({**SCORES, "kl": "3"}), "kl = .3.: should be a valid number"),
        (json.dumps({**SCORES, "nll_iw": math.nan}), "nll_iw = NaN: is not a number that can be"),
        (json.dumps({**SCORES, "active_units": [1]}), r"active_units = \[1\]: should be a valid dictionary"),
        (json.dumps({**SCORES, "reconstruction": None}), "reconstruction = null: should be a valid number"),
        (json.dumps({**SCORES, "kl": 10**400}), "kl = a number|kl = 1000.*: is not a number"),
        (json.dumps({**SCORES, "rate_kind": ["exact"]}), "rate_kind = .*exact.*: should be a valid string"),
        (json.dumps({**SCORES, "sentences": -3}), "sentences = -3: should be greater than or equal to 0"),
        (
            json.dumps({**SCORES, "generated": {"x": [1, -(2**70)]}}),
            r"generated\.x\[1\] = -1180591620717411303.*: is no",
        ),
        (json.dumps({**SCORES, "iw_heavy_tailed": "x"}), "iw_heavy_tailed = .x.: should be a valid number"),
        (json.dumps({**SCORES, "iw_heavy_tailed": 0.9, "iw_samples": 1}), "iw_heavy_tailed = 0.9: takes"),
        (json.dumps({**SCORES, "iw_effective_samples_low": {}}), "iw_effective_samples_low = .*: should be"),
        (json.dumps({**SCORES, "signature": "nll|split:zzzzzz"}), "another split's sentences"),
    ],
)
def test_a_damaged_evaluation_is_refused(make, content, reason):
    folder = make("vae")
    (folder / "evaluation" / "test.json").write_text(content)
    with pytest.raises(RequestError, match=f"test.json: damaged: .*{reason}.*--again"):
        compare([folder])


def test_runs_of_different_data_are_refused(make, text, tmp_path):
    first, longer = make("first"), tmp_path / "longer.txt"
    longer.write_text(text.read_text() + "w1 w1 w1 w1 w2 w3 w3 w2\n" * 2)
    with pytest.raises(RequestError, match="first and .*second: not of the same data: the .* split differs"):
        compare([first, make("second", file=longer)])
    with pytest.raises(RequestError, match="first and .*third: not of the same data: the vocabulary differs"):
        compare([first, make("third", data={"corpus": str(text), "tokenizer": {"name": "character"}})])


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=8))
def test_names_are_the_shortest_ends_that_tell_folders_apart(parts):
    folders = list(dict.fromkeys(Path("/r", *own) for own in parts))
    names = unique_names(folders)
    for folder, name in zip(folders, names, strict=True):
        assert f"/{folder}".endswith(f"/{name}")
    if all(len(folder.parts) == len(folders[0].parts) for folder in folders):  # none is the end of another
        assert len(set(names)) == len(names)
    if len({folder.name for folder in folders}) == len(folders):
        assert names == [folder.name for folder in folders]


@given(
    st.recursive(
        st.integers() | st.text(max_size=3) | st.none(),
        lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, min_size=1, max_size=3),
    ).filter(lambda tree: isinstance(tree, dict))
)
def test_flattened_paths_lead_to_the_values(tree):
    def leaves(node):
        return sum(map(leaves, node.values())) if isinstance(node, dict) else 1

    flat = flattened(tree)
    assert len(flat) == leaves(tree)
    for path, value in flat.items():
        node = tree
        for name in path.split("."):
            node = node[name]
        assert node == value


def test_a_group_is_named_by_what_its_runs_share():
    def names(*groups):
        return group_names(groups)

    assert names(["vae-seed0", "vae-seed1"], ["lm_s1", "lm_s2"], ["alone"]) == ["vae", "lm", "alone"]
    assert names(["kl-10", "kl-11"], ["x", "y"], ["vae/1", "vae/2"]) == ["kl", "x", "vae"]
    assert names(["vae-seed0", "vae-seed1"], ["vae-2", "vae-3"]) == ["vae", "vae-2"]
    assert names(["vae2-seed0", "vae2-seed1"]) == ["vae2"]


@pytest.mark.parametrize(("others", "drawn"), [(3, 4), (40, 40)])
def test_of_many_points_one_far_away_is_named_and_not_drawn(others, drawn):
    """Of few it is drawn: 41 points at 0, 0.1, ..., 3.9 and 700, of which 95 in 100 have at most 3.8."""
    named = [(f"run {n}", [(n / 10, 30.0 + n)]) for n in range(others)] + [("broken", [(700.0, 46.0)])]
    axes = figures.plane(named, None).axes[0]
    assert sum(len(points.get_offsets()) for points in axes.collections if len(points.get_offsets())) == drawn
    assert ("further right: broken at 700" in axes.get_xlabel()) is (drawn == others)
    assert bool(axes.get_xlim()[1] < 10) is (drawn == others)


def test_the_rate_distortion_plane_has_every_run_where_it_belongs(three):
    figure = figures.rate_distortion(compare(three).rows)
    (axes,) = figure.axes
    points = [tuple(dots.get_offsets()[0]) for dots in axes.collections]
    assert points == [(6.0, 13.5), (3.0, 17.0), (0.0, 20.0)]
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert len(dashed) == 1
    for line in axes.lines:  # rate + distortion is the same all along
        assert np.ptp(line.get_xdata() + np.asarray(line.get_ydata())) == pytest.approx(0.0)
    assert dashed[0].get_xdata()[0] + dashed[0].get_ydata()[0] == pytest.approx(20.0)
    figure.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert {"forced", "vanilla", "lm"} <= set(boxes)
    names = [boxes[name] for name in ("forced", "vanilla", "lm")]
    assert not any(one.overlaps(other) for place, one in enumerate(names) for other in names[:place])


def test_the_curves_are_the_logs(three):
    found = compare(three)
    places = {member.name: place for place, member in enumerate(found.members)}
    figure = figures.curves(found.members, places, ["$forced$", "_vanilla", "lm"])
    left, right = figure.axes
    lines = {line.get_color(): line for line in right.lines if len(line.get_xdata()) > 1 or line.get_marker()}
    assert set(lines) == {figures.style(place)["color"] for place in range(3)}
    vanilla = [line for line in right.lines if line.get_color() == figures.style(1)["color"]]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in vanilla] == [
        ([10.0, 20.0, 30.0], [30.0, 29.0, 28.0]),
        ([30.0], [29.0]),
    ]
    assert len(left.lines) == 4  # the language model has no KL
    assert left.get_yscale() == "symlog" and left.get_ylim()[0] == 0.0
    figure.canvas.draw()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "$forced$",
        "_vanilla",
        "lm",
        "thin: training",
    ]


def test_files_are_written_whole_and_are_the_same_again(three, tmp_path):
    found = compare(three)
    written = found.write(tmp_path / "deep" / "out")
    names = ["comparison.json", "comparison.csv", "comparison.md", "curves.png", "rate-distortion.png"]
    assert [path.name for path in written] == names
    assert sorted(names) == sorted(path.name for path in (tmp_path / "deep" / "out").iterdir())
    before = [path.read_bytes() for path in written]
    assert all(content.startswith(b"\x89PNG") for content in before[3:])
    assert json.loads(before[0])["rows"][0]["name"] == "forced"
    assert [path.read_bytes() for path in found.write(tmp_path / "deep" / "out")] == before


def test_numbers_in_names_stand_in_their_own_order_and_all_else_as_given(make):
    names = ["C12", "other", "C3", "C0.5-seed10", "C0.5-seed9"]
    folders = [make(name, f"model.latent={2 + place}") for place, name in enumerate(names)]
    order = [row.name for row in compare(folders).rows]
    assert order == ["C3", "other", "C12", "C0.5-seed9", "C0.5-seed10"]


@pytest.fixture
def swept(make):
    """Targets 3 and 12 with two seeds each, in the order of a shell's *, and a language model."""
    folders = []
    for target, nll in ((12, 18.0), (3, 19.0)):
        for seed in (0, 1):
            scores = {**SCORES, "nll_iw": nll + seed, "kl": float(target), "reconstruction": 17.0 - target / 3}
            assignments = (f"objective.kl.weight={target}", f"train.seed={seed}")
            folders.append(make(f"C{target}-{seed}", *assignments, scores=scores))
    return [*folders, make("no-code", "model.latent=0", scores=EXACT, log=records(kl=None))]


def test_scores_are_drawn_over_the_one_number_that_tells_runs_apart(swept, three, make, tmp_path):
    found = compare(swept)
    one = sweep.sweep_of(found.members)
    assert one.path == "objective.kl.weight.value" and sorted(set(one.values.values())) == [3.0, 12.0]
    points = sweep.points(one, found.rows, "nll_iw")
    deviation = math.sqrt(0.5)  # of n and n + 1
    assert [tuple(point) for point in points] == [
        (3.0, 19.5, pytest.approx(deviation), 2),
        (12.0, 18.5, pytest.approx(deviation), 2),
    ]
    assert sweep.curve(one, found.rows) == [(3.0, 16.0), (12.0, 13.0)]
    figure = sweep.draw(one, found.rows)
    (panel,) = [axes for axes in figure.axes if "NLL" in axes.get_title(loc="left")]
    lines = {line.get_label(): list(line.get_ydata()) for line in panel.lines}
    assert lines["NLL"] == [19.5, 18.5] and lines["language model"] == [20.0, 20.0]
    assert "n = 2 seeds" in panel.get_xlabel() and len(panel.collections) == 2  # a band each
    assert "sweep.png" in [path.name for path in found.write(tmp_path / "out")]
    plane = figures.rate_distortion(found.rows, sweep.curve(one, found.rows))
    assert any(list(line.get_xdata()) == [3.0, 12.0] for line in plane.axes[0].lines)
    # Of single runs the error is that of the evaluation.
    alone = compare([swept[0], swept[2]])
    points = sweep.points(sweep.sweep_of(alone.members), alone.rows, "nll_iw")
    assert [point.error for point in points] == [0.25] * 2
    assert sweep.sweep_of(compare(three).members) is None  # differ in a term too
    latent = make("latent", "model.latent=3", "objective.kl.weight=3")
    assert sweep.sweep_of(compare([*swept, latent]).members) is None  # in two numbers
    assert sweep.sweep_of(compare(swept[:2]).members) is None  # in the seed alone


def test_curves_of_seeds_are_a_mean_with_a_band(make):
    folders = [
        make(f"vae-{seed}", f"train.seed={seed}", log=records(kl=3.0 + seed, speeds=(1.0, 1.0))) for seed in (0, 1)
    ]
    found = compare(folders, by_seed=True)
    figure = figures.curves(found.members, {member.name: 0 for member in found.members}, ["vae"])
    left, _ = figure.axes
    valid = [line for line in left.lines if list(line.get_xdata()) == [30.0]]
    assert [list(line.get_ydata()) for line in valid] == [[3.5]]
    (band,) = left.collections
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (low, high) == pytest.approx((3.5 - math.sqrt(0.5), 3.5 + math.sqrt(0.5)))
    assert figure.legends[0].get_texts()[0].get_text() == "vae (n = 2)"


def latex_rows(found):
    """The cells of the rows of a comparison's LaTeX table, head first."""
    lines = [line for line in found.latex().splitlines() if line.endswith("\\\\")]
    return [line.removesuffix("\\\\").strip().split(" & ") for line in lines]


def test_the_latex_table_is_escaped_and_bold_beyond_the_error_alone(three, make):
    head, forced, vanilla, lm = latex_rows(compare(three))
    assert head[:3] == ["run", "NLL $\\downarrow$", "bound of these $\\downarrow$"]
    assert forced[1] == "\\textbf{18.00 $\\pm$ 0.25}"
    assert (vanilla[1], lm[1]) == ("19.00 $\\pm$ 0.25", "20.00 $\\pm$ 0.25")
    assert not any("textbf" in cell for cell in forced[2:])  # no errors, or no better direction
    near = make("near", "model.latent=3", scores={**SCORES, "nll_iw": 18.4})
    assert "textbf" not in compare([*three, near]).latex()  # 0.4 is less than 0.25 + 0.25
    other = make("a_b&c%$#", "model.latent=4", scores={**SCORES, "nll_iw": 10.0, "iw_samples": 100})
    found = compare([*three, other])
    assert "textbf" not in found.latex()  # not the same estimate
    assert latex_rows(found)[-1][0] == "a\\_b\\&c\\%\\$\\#"
    body = [line for line in found.latex().splitlines() if not line.startswith("%")]
    assert body[0] == f"\\begin{{tabular}}{{l{'r' * (len(head) - 2)}l}}" and body[-1] == "\\end{tabular}"
    assert [line for line in body if line.endswith("rule")] == ["\\toprule", "\\midrule", "\\bottomrule"]
    assert all(ord(character) < 128 for line in body for character in line)


def test_an_exact_likelihood_is_not_bold_beside_upper_bounds(make):
    worse = make("vae", scores={**SCORES, "nll_iw": 25.0})
    lm = make("lm", "model.latent=0", scores=EXACT, log=records(kl=None))
    assert "textbf" not in compare([worse, lm]).latex()


def test_runs_without_evaluation_are_evaluated_by_the_same_numbers(make, monkeypatch):
    """Those of evaluations that are there, if these agree; else the least of the runs' own."""
    asked = []

    def evaluated(trained, split, progress, **numbers):
        asked.append(numbers)
        return SCORES

    monkeypatch.setattr(sys.modules["textvae.comparison.members"], "evaluate", evaluated)
    least, long = make("least", scores=None), make("long", "model.latent=3", scores=None)
    lines = [{"step": 1, "epoch": 10**6, "split": "train", "reconstruction": 1.0}]
    write_text(long / "log.jsonl", json.dumps(lines[0]) + "\n")
    compare([long])
    compare([least, long])
    compare([long, make("there", "model.latent=4", scores={**SCORES, "iw_samples": 70, "iw_sentences": 9})])
    compare([long], iw_samples=3)
    chosen = [(numbers["iw_samples"], numbers["iw_sentences"]) for numbers in asked]
    assert chosen == [(500, 22), (100, 22), (100, 22), (70, 9), (3, 22)]


def test_nothing_to_draw_gives_no_figure(make):
    found = compare([make("vae", scores={**SCORES, "kl": None}, log=[])])
    assert figures.rate_distortion(found.rows) is None
    assert figures.curves(found.members, {"vae": 0}, ["vae"]) is None


def test_a_figure_starts_no_pyplot(three, tmp_path):
    probe = (
        "import sys; from textvae.comparison import compare; assert 'matplotlib' not in sys.modules\n"
        "compare(sys.argv[2:]).write(sys.argv[1]); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", probe, str(tmp_path / "out"), *map(str, three)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_of_one_name_are_told_apart(make, tmp_path):
    first = make("vae")
    second = shutil.copytree(first, tmp_path / "copies" / "vae")
    names = [row.name for row in compare([first, second]).rows]
    assert names == [f"{tmp_path.name}/vae", "copies/vae"]


def test_the_package_offers_it():
    assert textvae.compare is compare


def test_a_name_that_would_seem_another_points_is_in_the_legend_alone(make):
    same = [make(f"run{n}", f"train.seed={n}", scores={**SCORES, "kl": 3.0 + n * 1e-4}) for n in range(2)]
    figure = figures.rate_distortion(compare([*same, make("far", scores={**SCORES, "kl": 6.0})]).rows)
    drawn = {text.get_text() for text in figure.axes[0].texts}
    assert "far" in drawn and not drawn & {"run0", "run1"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["run0", "run1", "far"]


def test_scores_by_name_are_averaged_over_seeds(make):
    folders = []
    for seed, norm in enumerate((1.0, 2.0, 6.0)):
        bleu = {"self-bleu-4": {"value": 0.1 * (seed + 1), "signature": "s"}, "length": {"value": 7}}
        folder = make(f"vae-{seed}", f"train.seed={seed}", scores={**SCORES, "mean_squared_norm": norm})
        write_json(
            folder / "evaluation" / "test-all.json",
            {**SCORES, "mean_squared_norm": 99.0, "generated": {"greedy": {"scores": bleu}}, "probes": None},
        )
        folders.append(folder)
    lacking = make("other", "model.latent=3", scores={**SCORES, "mean_squared_norm": None})
    names = ["mean_squared_norm", "generated.greedy.scores.self-bleu-4", "generated.greedy.scores.length"]
    found = compare([*folders, lacking], by_seed=True, scores=names)
    first, second = found.rows
    assert first.chosen["mean_squared_norm"] == (3.0, pytest.approx(np.std([1, 2, 6], ddof=1)))
    assert first.chosen[names[1]] == (pytest.approx(0.2), pytest.approx(0.1))
    assert second.chosen == dict.fromkeys(names, (None, None))
    assert first.values["mean_squared_norm"] == 3.0  # beside the table, as ever
    assert found.table()[0] == ["run", "seeds", *names, "method"]
    assert found.table()[1][2:4] == ["3.0000 ± 2.6458", "0.2000 ± 0.1000"]
    assert found.table()[2][2:5] == [DASH] * 3
    columns = found.csv().splitlines()[0].split(",")
    assert len(set(columns)) == len(columns)
    table = list(csv.DictReader(io.StringIO(found.csv())))
    assert float(table[0][names[1]]) == pytest.approx(0.2) and table[1][names[1]] == ""
    assert float(table[0][f"{names[1]}_deviation"]) == pytest.approx(0.1)
    with pytest.raises(RequestError, match="^--scores probes: is null in every run$"):
        compare(folders, scores=["probes"])
    with pytest.raises(
        RequestError, match="--scores self-bleu-4: no run's evaluation has it; did you mean generated"
    ):
        compare(folders, scores=["self-bleu-4"])


def test_a_name_that_no_evaluation_can_have_is_refused_before_any_is_made(make):
    folders = [make("done"), make("new", "model.latent=3", scores=None)]
    with pytest.raises(RequestError, match=r"--scores nll: no run's .*\(evaluate --all has more\)"):
        compare(folders, scores=["bound", "nll"])
    with pytest.raises(RequestError, match=r"--scores shufle_gap: .*did you mean shuffle_gap or"):
        compare(folders, scores=["shufle_gap"], again=True)
    with pytest.raises(RequestError, match=r"--scores generated.greedy.scores.length: no run's evaluation has it"):
        compare(folders, scores=["generated.greedy.scores.length"])  # only evaluate --all would give it
    assert not (folders[1] / "evaluation").exists()
    found = compare(folders, iw_samples=2, iw_sentences=2, scores=["bound", "active_units.0.01"])
    assert found.table()[0] == ["run", "bound", "active_units.0.01", "method"]


def test_the_notes_of_chosen_scores_speak_of_their_columns_alone(make):
    folders = [make("vae"), make("lm", "model.latent=0", scores=EXACT)]
    usual = " ".join(compare(folders).notes)
    assert all(part in usual for part in ("vs base", "Speed", "Shuffle gap", "Active units", "by: importance"))
    notes = " ".join(compare(folders, scores=["bound"]).notes)
    assert notes.startswith("Numbers of the evaluations, by their path; docs/metrics.md") and "±" not in notes
    for part in ("vs base", "Speed", "speeds", "Shuffle gap", "Active units", "importance samples / ", "MI of"):
        assert part not in notes
    assert "MI of" in " ".join(compare(folders, scores=["mutual_information"]).notes)
    twins = [make(f"twin-seed{seed}", f"train.seed={seed}") for seed in range(2)]
    assert "±: standard deviation over seeds" in compare(twins, by_seed=True, scores=["bound"]).notes[0]


def test_text_of_models_is_no_markup():
    assert escaped("a | <unk> *b* _c_ [d] &lt;") == r"a \| \<unk\> \*b\* \_c\_ \[d\] \&lt;"


@pytest.mark.parametrize("name", ["=1+2", "+1", "-x", "@sum(a1)", " =1", "\tx"])
def test_names_in_a_csv_are_no_formulas(name):
    assert inert(name) == f"'{name}"
    assert inert(f"vae {name}") == f"vae {name}"


def test_every_score_of_an_evaluation_is_checked():
    paths = {*filter(None, columns_of_scores().all.values()), *known_names()}
    assert {path.partition(".")[0] for path in paths} <= evaluation_record().model_fields.keys()


WRONG = (10**400, -(2**70), -1, 1.5, math.inf, math.nan, "x", True, None, [], [1], {}, {"a": 1}, 0)


def places(table, path=()):
    """The path of every value of a document, tables among them."""
    for key, value in (
        table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    ):
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(document, path, value):
    copy = json.loads(json.dumps(document))
    here = copy
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", ["evaluation/test.json", "environment.json", "log.jsonl"])
def test_whatever_a_file_of_a_run_says_it_is_read_or_refused_by_its_name(make, name):
    """Every value of the files that a comparison reads, by values of other types and out of range."""
    folder, other = make("vae"), make("other")
    path = folder / name
    whole = path.read_text()
    records = [json.loads(line) for line in whole.splitlines()] if name == "log.jsonl" else None
    document = json.loads(whole) if records is None else records[0]
    refused = 0
    generator = random.Random(0)
    cases = [(place, value) for place in places(document) for value in WRONG]
    for place, value in generator.sample(cases, min(len(cases), 150)):
        new = changed(document, place, value)
        lines = [new] if records is None else [new, *records[1:]]
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
        try:
            found = compare([folder, other])
            json.dumps(found.document(), allow_nan=False)
            assert found.markdown() and found.csv()
        except RequestError as error:
            refused += 1
            assert len(str(error)) < 600 + len(str(path)) and str(folder) in str(error)
    assert refused > 10
