"""An installed package adds parts of every kind: trained, evaluated and sampled from like the library's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "example"
METHOD = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import textvae
    from textvae.evaluation.evaluate import evaluate
    settings = textvae.load_settings(
        data={"corpus": "grammar"},
        model={
            "latent": 4, "embedding": 8,
            "encoder": {"name": "average"}, "posterior": {"name": "unit"},
            "prior": {"name": "wide"}, "decoder": {"name": "small"},
        },
        objective={"kl": {}, "norm": {"size": 0.5}},
        train={"max_steps": 3, "batch_size": 8, "log_every": 1},
    )
run = textvae.train(settings, sys.argv[1])
scores = evaluate(run.folder, "valid", iw_samples=2, iw_sentences=5)
texts = textvae.load(run.folder).sample(2, seed=0)
print(json.dumps({
    "warnings": [str(one.message) for one in caught],
    "log": run.log()[0], "texts": texts,
    **{name: scores[name] for name in ("kl", "rate_kind", "nll_iw", "kl_moment_matched", "signature", "reasons")},
}))
"""


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs") / "one"


@pytest.fixture(scope="module")
def trained(folder) -> dict:
    return json.loads(run("-c", METHOD, str(folder)).stdout)


def test_a_command_of_a_package_stands_beside_the_others(trained, folder):
    done = run("-m", "textvae", "shout", str(folder), "--times", "2")
    assert len(done.stdout.splitlines()) == 2 and done.stdout == done.stdout.upper()
    assert "textvae.commands: score is left out: its name is taken" in done.stderr
    assert "Write a sample of a run in capitals." in run("-m", "textvae", "--help").stdout


def test_parts_and_terms_of_a_package_are_trained_and_evaluated(trained):
    assert trained["log"]["norm"] > 0 and "norm" in trained["log"]["weights"]
    assert trained["rate_kind"] == "monte-carlo"  # of the package's prior no KL is known in closed form
    assert trained["kl"] > 0 and trained["nll_iw"] > 0 and len(trained["texts"]) == 2
    assert "posterior:unit" in trained["signature"]
    assert trained["kl_moment_matched"] is None and "wide" in trained["reasons"]["kl_moment_matched"]


def test_a_metric_of_a_package_scores_text(tmp_path):
    (tmp_path / "text.txt").write_text("the FOOD was\nGREAT\n")
    done = run("-m", "textvae", "score", str(tmp_path / "text.txt"), "--metrics", "shouted,length", "--json")
    scores = json.loads(done.stdout)["scores"]
    assert (scores["shouted"]["value"], scores["length"]["value"]) == (0.5, 2.0)
    assert scores["shouted"]["signature"].startswith("shouted|unit:share|")
    assert "textvae.metrics: length is left out: its name is missing or taken" in done.stderr


def test_what_is_broken_is_left_out_with_a_warning(trained):
    gone, other = sorted(text for text in trained["warnings"] if "textvae.terms" in text)
    assert "textvae_example:NOT_A_TERM is left out: it is not a subclass of Term" in gone
    assert "textvae_missing:Term is left out: No module named" in other


def test_a_package_cannot_take_a_name_that_is_taken(tmp_path):
    info = tmp_path / "textvae_thief-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: textvae-thief\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[textvae.posteriors]\nunit = thief:Vmf\n[textvae.terms]\nkl = thief:Kl\n"
    )
    (tmp_path / "thief.py").write_text(
        "from textvae.parts.posteriors.vmf import VmfSettings\n"
        "from textvae.objective.terms.term import Term\n"
        "class Vmf(VmfSettings): pass\n"
        "class Kl(Term): pass\n"
    )
    probe = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from textvae.parts.posteriors import POSTERIORS; from textvae.objective.terms import TERMS\n"
        "print(POSTERIORS['vmf'].__module__, TERMS['kl'].__module__)"
    )
    done = run("-c", probe)
    assert done.stdout.split() == ["textvae.parts.posteriors.vmf", "textvae.objective.terms.kl"]
    assert "unit is left out: its name is missing or taken" in done.stderr


def test_a_run_whose_package_is_gone_says_which_part_is_unknown(trained, folder):
    done = subprocess.run(
        [sys.executable, "-m", "textvae", "sample", str(folder), "-n", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    path, remedy = folder / "settings.toml", "; if an installed package provided it, install that"
    assert all(line.startswith(f"error: {path}: ") for line in lines)
    assert all(line.endswith(remedy) for line in lines)
    assert "'small'" in done.stderr and "objective.norm" not in done.stderr  # which sampling does not need


# Commands on a run whose terms, one with a head, are a package's; its parts are the library's own.
SMALL = {
    "model.latent": 3, "model.embedding": 4, "model.encoder.hidden": 5, "model.decoder.hidden": 5,
    "train.max_steps": 3, "train.batch_size": 8, "objective.norm.size": 0.5, "objective.size.weight": 0.1,
}  # fmt: skip
USE = [
    ["diagnose"],
    ["evaluate", "--iw-samples", "2"],
    ["sample", "-n", "2"],
    ["reconstruct", "the cat is red ."],
    ["encode", "the cat is red .", "--out", "codes.parquet"],
    ["decode", "--codes", "codes.parquet"],
    ["neighbours", "the cat is red .", "--file", "texts.txt"],
    ["log-prob", "the cat is red .", "--iw-samples", "2"],
    ["interpolate", "--prior"],
    ["sensitivity", "the cat is red .", "--directions", "2"],
    ["transfer", "the cat is red .", "--from", "a cat", "--to", "the cat"],
    ["compare"],
    ["pack"],
]
TRAIN = [
    ["train", "--resume", "{run}", "--set", "train.max_steps=4"],
    ["train", "--from", "{run}", "--set", "objective.norm.size=2", "--out", "{run}-again"],
    ["train", "{run}/settings.toml", "--set", "objective.norm.size=1", "--dry-run"],
]
CALLS = """
import json, sys
from typer.testing import CliRunner
from textvae.cli import app
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words)
    print(json.dumps([words, done.exit_code, done.stdout, done.stderr, repr(done.exception)]))
"""


def calls(lines, folder, package):
    """Call commands on a run in one process, with the package or without it; exit codes and what they print."""
    words = [[word.format(run=folder) for word in line] for line in lines]
    words = [line if line[0] == "train" else [line[0], str(folder), *line[1:]] for line in words]
    path = os.pathsep.join(filter(None, [str(EXAMPLE) if package else "", os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(words)],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def termed(tmp_path_factory) -> Path:
    """The folder of a run with two terms of the package."""
    place = tmp_path_factory.mktemp("termed")
    texts = [
        f"{a} {b} is {c} ." for a in ("the", "a") for b in ("cat", "dog", "cow") for c in "red green blue".split()
    ]
    (place / "texts.txt").write_text("\n".join([*texts, *(f"i see that {text}" for text in texts)]) + "\n")
    settings = [word for setting in SMALL.items() for word in ("--set", "{}={}".format(*setting))]
    given = ["train", "--data", "texts.txt", "--out", "{run}", *settings]
    split = ["--set", "data.split.valid=0.3", "--set", "data.split.test=0.3"]
    (found,) = calls([[*given, *split]], place / "run", package=True)
    assert found[1] == 0, found
    return place / "run"


def test_a_term_of_a_package_is_one_of_every_commands(termed):
    for words, code, stdout, stderr, exception in calls([*USE, *TRAIN], termed, package=True):
        assert code == 0 and stdout, (words, stderr, exception)
    records = list(map(json.loads, (termed / "log.jsonl").read_text().splitlines()))
    assert next(record for record in records if record["split"] == "train")["size"] > 0


def test_a_run_whose_term_is_gone_is_used_but_not_trained(termed):
    with_it, without = (calls(USE, termed, package=package) for package in (True, False))
    for (words, *own), (_, code, stdout, stderr, exception) in zip(with_it, without, strict=True):
        assert code == own[0] == 0, (words, stderr, exception)
        assert stdout == own[1] or words[0] == "diagnose"  # which names another command to try next
    resumed, started, dry = calls(TRAIN, termed, package=False)
    path = termed / "settings.toml"
    remedy = "if an installed package provided it, install that"
    lines = resumed[3].splitlines()
    assert [line.split(";")[0] for line in lines] == [
        f"error: {path}: objective.{name}: unknown term" for name in ("norm", "size")
    ]
    assert all(line.endswith(remedy) for line in lines)
    for done in (resumed, started, dry):
        assert done[1] == 2 and "objective.norm: unknown term" in done[3] and "Traceback" not in done[3]
    given = ["train", "--from", "{run}", "--method", "beta", "--out", "{run}-beta", "--set", "train.max_steps=1"]
    assert calls([given], termed, package=False)[0][1] == 0
