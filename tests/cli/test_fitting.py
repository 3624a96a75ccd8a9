import json
import shutil

import numpy as np
import pytest

import textvae
from textvae.comparison import compare
from textvae.comparison.figures import curves
from textvae.files import write_tensors
from textvae.run import Run

from .conftest import call, refused
from .test_codes import lines


@pytest.fixture(scope="module")
def displaced(run, tmp_path_factory):
    """A copy of the run whose posteriors all lie around (2, 2, 2), with a fitted prior; to be read only."""
    unscored = shutil.ignore_patterns("evaluation", "report.html")  # what other tests may have left in it
    folder = shutil.copytree(run, tmp_path_factory.mktemp("runs") / "displaced", ignore=unscored)
    weights = {name: tensor.clone() for name, tensor in Run.open(folder).model().state_dict().items()}
    weights["posterior.parameters_of.bias"][:3], weights["posterior.parameters_of.bias"][3:] = 2.0, -4.0
    write_tensors(folder / "model.safetensors", weights)
    result = call("fit-prior", folder, "--components", "1,2")
    assert result.exit_code == 0 and f"kept in {folder / 'fitted'}: use it with --prior fitted" in result.stderr
    assert result.stdout.splitlines()[0] == f"{folder}: 118 codes of training, 40 of validation sentences"
    assert "own prior" in result.stdout and "\nKL " in result.stdout and "\nfitted-prior|" in result.stdout
    return folder


def test_it_prints_what_the_function_returns(displaced, tmp_path):
    folder = shutil.copytree(displaced, tmp_path / "run")
    found = json.loads(call("fit-prior", folder, "--kind", "gaussian", "--seed", 3, "--json").stdout)
    assert found == json.loads(json.dumps(textvae.fit_prior(folder, "gaussian", seed=3).document()))
    assert found["kept"] and found["kl_before"] - found["kl_after"] == pytest.approx(found["gain"])


def test_commands_use_it(displaced, tmp_path):
    folder = shutil.copytree(displaced, tmp_path / "run")
    under = textvae.load(folder, prior="fitted")
    name = under.run.fitted.name
    assert lines(call("sample", folder, "--prior", "fitted", "-n", 3, "--seed", 1)) == under.sample(3, 1)
    told = json.loads(call("sample", folder, "--prior", "fitted", "--json").stdout)
    assert told["prior"] == name and "prior" not in json.loads(call("sample", folder, "--json").stdout)
    assert lines(call("interpolate", folder, "--fitted-prior", "--steps", 4)) == under.interpolate_prior(steps=4)
    few = ["--iw-samples", 5, "--iw-sentences", 5]
    told = call("evaluate", folder, "--prior", "fitted", *few).stdout
    assert f"under {name}\n" in told and f"|prior:{name}|" in told
    assert json.loads((folder / "fitted" / "evaluation" / "test.json").read_text())["prior"] == name
    assert not (folder / "evaluation").exists()
    assert f"under {name})" in call("diagnose", folder, "--prior", "fitted").stdout
    compared = json.loads(call("compare", folder, "--prior", "fitted", "--json").stdout)
    assert compared["rows"][0]["kl"] < 5 and f"|prior:{name}|" in compared["runs"]["run"]["signature"]


def test_a_flow_is_fitted_and_used(displaced, tmp_path):
    folder = shutil.copytree(displaced, tmp_path / "run")
    told = call("fit-prior", folder, "--kind", "flow").stdout.splitlines()
    assert [line.split()[0] for line in told[1:5]] == ["prior", "own", "gaussian", "flow"]
    assert told[4].split()[-1] == "chosen" and "prior:fitted-flow|" in told[-1]
    under = textvae.load(folder, prior="fitted")
    assert lines(call("sample", folder, "--prior", "fitted", "-n", 3)) == under.sample(3)
    assert f"under {under.run.fitted.name})" in call("diagnose", folder, "--prior", "fitted").stdout


def test_own_and_fitted_prior_stand_in_one_table(displaced, tmp_path):
    folder = shutil.copytree(displaced, tmp_path / "run")
    few = ["--iw-samples", 5, "--iw-sentences", 5]
    told = call("evaluate", folder, *few).stdout.splitlines()
    assert told[1].split() == ["own", "prior", "fitted", "prior"]
    (kl,) = [line.split() for line in told if line.startswith("KL ")]
    own, fitted = (
        json.loads((place / "evaluation" / "test.json").read_text()) for place in (folder, folder / "fitted")
    )
    assert float(kl[1]) == pytest.approx(own["kl"], abs=0.006) and own["kl"] > fitted["kl"]
    assert f"under {fitted['prior']}" in " ".join(kl) and "prior" not in own
    assert sum(line.startswith("nll|") for line in told) == 2
    rows = json.loads(call("compare", folder, "--json").stdout)["rows"]
    assert [row["name"] for row in rows] == ["run", "run (fitted prior)"]
    assert [row["kl"] for row in rows] == [own["kl"], fitted["kl"]]
    both = compare([folder])
    figure = curves(both.members, {"run": 0, "run (fitted prior)": 1}, ["run", "run (fitted prior)"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["run", "thin: training"]  # one training
    assert len(json.loads(call("compare", folder, "--json", "--prior", "own").stdout)["rows"]) == 1
    assert json.loads(call("evaluate", folder, "--json", *few).stdout) == own
    # One that was fitted to other weights is left out, which is said.
    weights = Run.open(folder).model().state_dict()
    write_tensors(folder / "model.safetensors", {name: tensor + 1 for name, tensor in weights.items()})
    with pytest.warns(UserWarning, match="the fitted prior is left out: .* other weights"):
        assert len(json.loads(call("compare", folder, "--json").stdout)["rows"]) == 1


def test_every_evaluation_under_it_has_a_folder_of_its_own(displaced, tmp_path):
    folder = shutil.copytree(displaced, tmp_path / "run")
    few = ["--iw-samples", 5, "--iw-sentences", 5, "--samples", 5, "--times", 1]
    assert call("evaluate", folder, "--all", "--prior", "fitted", *few).exit_code == 0
    written = {str(path.relative_to(folder)) for path in (folder / "fitted").rglob("*") if path.is_file()}
    files = ("prior.json", "prior.safetensors", "evaluation/test.json", "evaluation/test-all.json", "report.html")
    assert written == {f"fitted/{name}" for name in files}
    assert not (folder / "report.html").exists()


def test_one_that_is_not_better_is_not_kept(run, tmp_path):
    """After 12 steps the codes are draws of N(0, I), and three codes show nothing of it."""
    folder = shutil.copytree(run, tmp_path / "run")
    result = call("fit-prior", folder, "--codes", 6, "--kind", "gaussian")
    assert result.exit_code == 1 and "own prior" in result.stdout
    assert f"error: {folder}: the fitted prior was not kept: " in result.stderr
    assert not (folder / "fitted").exists()
    assert (
        json.loads(call("fit-prior", folder, "--codes", 6, "--kind", "gaussian", "--json").stdout)["kept"] is False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit-prior", "RUN", "--kind", "flows"], "kind = 'flows': unknown; did you mean 'flow'?"),
        (["fit-prior", "RUN", "--kind", "flow", "--components", "2"], "components = [2]: a flow has none"),
        (["fit-prior", "RUN", "--kind", "flow", "--covariance", "full"], "covariance = 'full': a flow has none"),
        (["fit-prior", "RUN", "--components", "3,x"], "--components 3,x: give whole numbers with commas"),
        (
            ["fit-prior", "RUN", "--components", "100"],
            "components = 100: 118 codes are too few; 100 of 3 dimensions",
        ),
        (["fit-prior", "gone"], "gone: no such run folder"),
        (["sample", "RUN", "--prior", "fitted"], "has no fitted prior; fit one with `textvae fit-prior"),
        (["evaluate", "RUN", "--prior", "fitted"], "has no fitted prior"),
        (["diagnose", "RUN", "--prior", "fited"], "prior = 'fited': unknown; did you mean 'fitted'?"),
        (["compare", "RUN", "--prior", "fitted"], "has no fitted prior"),
        (["interpolate", "RUN", "--fitted-prior"], "has no fitted prior"),
        (
            ["interpolate", "RUN", "--prior", "fitted"],
            "--prior fitted: it takes no value here; give --fitted-prior",
        ),
        (["interpolate", "RUN", "--prior", "--fitted-prior"], "interpolate: --prior and --fitted-prior are given"),
    ],
)
def test_what_is_refused(run, arguments, message):
    assert refused(call(*(run if argument == "RUN" else argument for argument in arguments)), message)


def test_a_read_only_run_says_that_nothing_was_kept(displaced, tmp_path, monkeypatch):
    folder = shutil.copytree(displaced, tmp_path / "run")
    shutil.rmtree(folder / "fitted")
    (folder / "fitted").write_text("in the way")
    result = call("fit-prior", folder, "--kind", "gaussian")
    assert result.exit_code == 1 and f"{folder / 'fitted'}: cannot be written" in result.stderr
    assert np.isfinite(textvae.load(folder).draw(2)).all()
