"""`recipes/bowman2016.py`: what it would train at every scale, and both tables at a size of seconds."""

import argparse
import copy
import importlib
import json
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w

import textvae
from textvae.objective.presets import load_settings

RECIPES = Path(__file__).parents[1] / "recipes"
PLAN = tomllib.loads((RECIPES / "bowman2016.toml").read_text())


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(RECIPES))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("bowman2016")


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
def test_every_run_is_one_that_can_be_trained(recipe, scale):
    asked = argparse.Namespace(scale=scale, tables=["4", "5"], seeds=[0, 1])
    files = {name: Path(f"{name}.txt") for name in ("train", "valid", "test", "held-out")}
    jobs, cells = recipe.planned(PLAN, asked, files)
    # A language model that measures, and for each seed six models, of which both tables use one.
    assert len(jobs) == len({job.folder for job in jobs}) == 1 + 2 * 6 and len(cells) == 2 * (3 + 4)
    seeds = {}
    for job in jobs:
        settings = load_settings(None, job.method, job.assignments, **job.tables)
        independent = job.folder.name == "independent"
        assert settings.data.right_to_left != independent
        assert settings.model.latent or independent or job.folder.name.startswith("language_model")
        seeds.setdefault(settings.train.seed, []).append(job.folder.name)
    assert seeds.pop(PLAN["independent"]["seed"]) == ["independent"] and sorted(seeds) == [0, 1]
    assert {cell.folder for cell in cells} | {cells[0].independent} == {job.folder for job in jobs}
    keeps = [load_settings(None, job.method, job.assignments, **job.tables).model.word_keep for job in jobs]
    assert sorted(keeps) == sorted([1.0] * (1 + 2 * 2) + [0.75] * 4 + [0.5] * 2 + [0.0] * 2)


def test_no_held_out_sentence_is_in_a_split_or_comes_twice(recipe):
    found = recipe.texts(PLAN["scales"]["smoke"])
    sizes = PLAN["scales"]["smoke"]
    assert [len(found[split]) for split in ("train", "valid", "test")] == [4000, 100, 100]
    held_out = found["held-out"]
    assert sizes["sentences"] < len(held_out) == len(set(held_out)) < sizes["held_out"]
    assert not set(held_out) & {text for split in ("train", "valid", "test") for text in found[split]}


def test_an_error_of_one_group_of_pairs_has_no_deviation(recipe):
    assert recipe._error({"error": 0.25, "standard_error": 0.031}) == "25.0 ± 3.1"
    assert recipe._error({"error": 0.25, "standard_error": None}) == "25.0 ± –"


@pytest.mark.slow
def test_both_tables_from_end_to_end(recipe, monkeypatch, tmp_path):
    """Every number of the tables is what the library gives for the runs; nothing is trained twice."""
    plan = copy.deepcopy(PLAN)
    plan["scales"]["smoke"] |= {"train": 300, "sentences": 30, "samples": 9}
    plan["scales"]["smoke"]["settings"]["train"] |= {"max_steps": 6, "batch_size": 16}
    plan["tables"]["4"]["rows"], plan["tables"]["5"]["rows"] = ["language model", "keep 0.75"], ["keep 0.75"]
    (tmp_path / "bowman2016.toml").write_text(tomli_w.dumps(plan))
    monkeypatch.setattr(recipe, "HERE", tmp_path)
    for processes in ("2", "1"):
        arguments = ["bowman2016.py", "4", "5", "--scale", "smoke", "--processes", processes, "--out", "out"]
        monkeypatch.setattr(sys, "argv", arguments)
        assert recipe.main() == 0
        found = {name: json.loads(Path(f"out/table{name}-smoke.json").read_text()) for name in "45"}
        if processes == "2":
            before, independent = found, textvae.load("runs/bowman2016/smoke/independent")
            written = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("model.safetensors")}
    assert found == before
    assert written == {path: path.stat().st_mtime_ns for path in Path("runs").rglob("model.safetensors")}
    assert {path.parent.name for path in written} == {"independent", "language_model-0", "keep_0.75-0"}

    held_out = Path("runs/bowman2016/smoke/text/held-out.txt").read_text().splitlines()
    table, vae = found["4"], textvae.load("runs/bowman2016/smoke/keep_0.75-0")
    assert table["sentences"] == 30 and [row["row"] for row in table["rows"]] == ["language model", "keep 0.75"]
    assert [(row["rounds"], row["beam"]) for row in table["rows"]] == [(1, 15), (3, 5)]
    if not table["left_out"]:
        assert table["rows"][1]["nll"] == pytest.approx(independent.nll(vae.impute(held_out[:30], last=0.2)).mean())
        assert table["true"]["nll"] == pytest.approx(independent.nll(held_out[:30]).mean())
    head, _, *examples = Path("runs/bowman2016/smoke/examples.md").read_text().splitlines()
    assert head == "| known | true | language model | keep 0.75 |" and examples
    for known, true, *_ in (line.strip("| ").split(" | ") for line in examples):
        assert f"{known} {true}" in held_out
    (row,), samples = found["5"]["rows"], vae.sample(9)  # greedy, of all words
    assert row["nll"] == pytest.approx(independent.nll(samples).mean()) and row["distinct"] == len(set(samples))
    assert row["first"] == list(dict.fromkeys(samples))[:5]
    scores = json.loads(Path("runs/bowman2016/smoke/keep_0.75-0/evaluation/test.json").read_text())
    assert (row["test"]["kl"], row["test"]["bound"]) == (scores["kl"], scores["bound"])
    assert "28.32" in Path("out/table4-smoke.md").read_text()
    assert str(tmp_path) not in json.dumps(found)
