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
    assert "'small'" in done.stderr and "objective.norm: unknown term; " in done.stderr
