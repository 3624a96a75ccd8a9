"""The programs in `recipes/` at a size of seconds, and what they measure against what is known."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianPosterior

RECIPES = Path(__file__).parents[1] / "recipes"
FIGURE2 = RECIPES / "fu2020_figure2.py"


@pytest.fixture(scope="module")
def figure2():
    spec = importlib.util.spec_from_file_location("fu2020_figure2", FIGURE2)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figure2_writes_its_figure_and_its_numbers(figure2, tmp_path, monkeypatch):
    sizes = ["--iterations", "3", "--samples", "4", "--draws", "40", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(FIGURE2), *sizes])
    figure2.main()
    assert (tmp_path / "fu2020_figure2_seed0.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "fu2020_figure2.json").read_text()
    found = json.loads(text)
    cells = {(row["posterior"], row["schedule"], row["seed"]) for row in found["rows"]}
    assert len(found["rows"]) == len(cells) == 6
    assert found["settings"]["iterations"] == 3 and found["settings"]["seeds"] == [0]
    assert {"textvae", "torch", "python"} <= found["versions"].keys()
    assert str(Path.home()) not in text and str(tmp_path) not in text
    for row in found["rows"]:
        assert row["rate_kind"] == ("exact" if row["posterior"] == "gaussian" else "upper")
        assert row["mutual_information_ceiling"] == pytest.approx(math.log(10))
        assert row["bound"] == pytest.approx(row["reconstruction"] + row["kl"])
        # E KL(q(z|n) || p) = I(n; z) + KL(q(z) || p), exactly for any densities.
        assert row["kl_estimated"] == pytest.approx(row["mutual_information"] + row["kl_aggregate_to_prior"])


def test_figure2_sequences_have_one_1_each(figure2):
    batch = figure2.sequences()
    ones = batch.ids - batch.ids.min()
    assert ones.tolist() == [[int(i == n) for i in range(10)] for n in range(10)]
    assert figure2.OneHot(0)(batch.ids, batch.lengths).tolist() == ones.tolist()


@pytest.mark.parametrize(("distance", "accuracy", "information"), [(0.0, 0.1, 0.0), (50.0, 1.0, math.log(10))])
def test_figure2_measures_posteriors_that_are_known(figure2, monkeypatch, distance, accuracy, information):
    """Ten equal Gaussians, and ten far apart: accuracy by chance or sure, information none or all of it."""
    model = figure2.toy("gaussian", 0)
    angle = torch.arange(10) * (2 * math.pi / 10)
    mean = distance * torch.stack([angle.cos(), angle.sin()], dim=1)
    std = torch.full((10, 2), 0.5)
    monkeypatch.setattr(TextVAE, "encode", lambda *given, **named: DiagonalGaussian(mean, std))
    scores, z = figure2.measures(model, 0, 100, 400)
    assert z.shape == (400, 10, 2)
    assert scores["accuracy"] == pytest.approx(accuracy, abs=0.03)
    assert scores["accuracy_neighbours"] == pytest.approx(accuracy, abs=0.03)
    assert scores["mutual_information"] == pytest.approx(information, abs=0.01)
    exact = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1).mean().item()
    assert scores["kl"] == pytest.approx(exact, rel=1e-5)
    assert scores["kl_estimated"] == pytest.approx(exact, rel=0.01, abs=0.05)
    assert scores["kl_aggregate_to_prior"] == pytest.approx(exact - information, rel=0.01, abs=0.05)


def test_figure2_densities_of_a_semi_implicit_posterior_approach_the_true_ones(figure2):
    """Linear in x and noise with a fixed scale, q(z|n) is a Gaussian: mean W x + b, covariance B B' + s^2 I."""
    model = figure2.toy("semi-implicit", 0)
    model.posterior = figure2.SemiImplicitPosterior(10, 2, 2, layers=0)
    with torch.no_grad():
        model.posterior.from_noise.weight.copy_(torch.tensor([[0.5, 0.2], [0.0, 0.4], [0.0, 0.0], [0.0, 0.0]]))
        model.posterior.from_text.weight[2:] = 0
        model.posterior.from_text.bias[2:] = 2 * math.log(0.6)
        mean = (model.posterior.from_text.weight.mT + model.posterior.from_text.bias)[:, :2]
        spread = model.posterior.from_noise.weight[:2]
        exact = torch.distributions.MultivariateNormal(mean, spread @ spread.mT + 0.36 * torch.eye(2))
        torch.manual_seed(0)
        z = exact.sample((5,))[:, 0]
        found = figure2.densities(z, *figure2.components(model, 0, 20_000))
        torch.testing.assert_close(found, exact.log_prob(z[:, None]).double(), rtol=0, atol=0.1)


def test_figure2_trains_both_posteriors(figure2):
    """After some steps the plain symbols' frequencies are learned: from 10 ln 6 nats to less than 6."""
    for posterior in figure2.POSTERIORS:
        model = figure2.toy(posterior, 0)
        figure2.train(model, "constant", 0, 60, 2)
        with torch.no_grad():
            batch = figure2.sequences()
            out = model(batch, sentence_noise(0, batch.index))
        assert -out.log_px.sum(-1).mean().item() < 6
    assert isinstance(figure2.toy("gaussian", 0).posterior, GaussianPosterior)
