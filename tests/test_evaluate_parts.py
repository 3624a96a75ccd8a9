"""Every posterior and prior through the scores: IW-NLL against quadrature, bounds above it, labels and reasons."""

import json
import math
import re

import numpy as np
import pytest
import torch

from textvae.cli.progress import validation_line
from textvae.cli.tables import measures
from textvae.evaluation import schema
from textvae.evaluation.diagnose import diagnose
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.importance import importance_weights
from textvae.evaluation.latent import Codes, shuffle_gap
from textvae.evaluation.opened import open_run
from textvae.generate.trained import load
from textvae.inference import information, score
from textvae.metrics.latent import variance_of_means
from textvae.metrics.signature import parse
from textvae.model import build as build_model
from textvae.objective.presets import load_settings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors.vmf import mean_length
from textvae.parts.settings import ModelSettings
from textvae.run.data import corpus_of
from textvae.text.batches import collate
from textvae.text.tokenizers import Tokenizer
from textvae.training.loop import train

# Name of the case: the model's tables, and the kind of its rate.
CASES = {
    "gaussian": ({}, "exact"),
    "batch-norm": ({"posterior": {"name": "batch-norm"}}, "exact"),
    "delta": ({"posterior": {"name": "delta", "rate": 0.05}}, "exact"),
    "gaussian-mixture": ({"posterior": {"name": "gaussian-mixture", "components": 3}}, "monte-carlo"),
    "semi-implicit": ({"posterior": {"name": "semi-implicit", "components": 8, "noise": 3}}, "upper"),
    "iaf": ({"posterior": {"name": "iaf", "hidden": 6, "context": 3}}, "monte-carlo"),
    "planar": ({"posterior": {"name": "planar", "flows": 3}}, "monte-carlo"),
    "radial": ({"posterior": {"name": "radial", "flows": 3}}, "monte-carlo"),
    "multi-step": ({"posterior": {"name": "multi-step", "steps": 1, "hidden": 4}}, "monte-carlo"),
    "vmf": (
        {"latent": 2, "posterior": {"name": "vmf", "concentration": 1.0}, "prior": {"name": "uniform-sphere"}},
        "exact",
    ),
    "mixture-prior": ({"prior": {"name": "gaussian-mixture", "components": 3}}, "monte-carlo"),
    "vamp": ({"prior": {"name": "vamp", "components": 3, "length": 2}}, "monte-carlo"),
    "refined": ({"inference": {"name": "refined", "steps": 3, "lr": 0.05}}, "upper"),
    "highway": ({"feedforward": {"layers": 2}}, "exact"),
}


def model_of(case: str, tokenizer: Tokenizer):
    """A small model with one latent dimension whose decoder's weights are so large that z matters."""
    torch.manual_seed(1)
    sizes = {"encoder": {"hidden": 4}, "decoder": {"hidden": 5, "dropout": 0.0}, "latent": 1, "embedding": 3}
    tables = {**sizes, "init": 1.0, **CASES[case][0]}
    model = build_model(ModelSettings.model_validate(tables), len(tokenizer)).eval()
    with torch.no_grad():  # a posterior that is much narrower than the true one would need too many codes
        for parameter in model.posterior.parameters():
            parameter *= 0.1
        if case == "delta":
            model.posterior.parameters_of.bias[1] = 5.0  # the widest that it can be
        if case == "planar":
            model.posterior.parameters_of.bias[1] = 2.5  # each of its maps takes a third of the width away
    return model


def exact_nll(model, store) -> torch.Tensor:
    """-log p(x) of every sentence, by a sum over a fine grid of codes."""
    if CASES_LATENT[model.prior.__class__.__name__] == 2:
        angle = torch.arange(2000) * (2 * math.pi / 2000)
        z, step = torch.stack([angle.cos(), angle.sin()], dim=1), 2 * math.pi / 2000
    else:
        z, step = torch.linspace(-12, 12, 4001)[:, None], 24 / 4000
    found = []
    with torch.no_grad():
        log_prior = model.prior.log_prob(z).double() + math.log(step)
        assert log_prior.logsumexp(0).abs() < 1e-3  # the grid holds the prior's mass
        for row in range(len(store)):
            log_px = model.log_px(collate(store, np.array([row])), z[:, None]).double().sum(-1)[:, 0]
            found.append(-(log_px + log_prior).logsumexp(0))
    return torch.stack(found)


CASES_LATENT = dict.fromkeys(("StandardNormal", "MixtureOfGaussians", "MeanOfPosteriors"), 1) | {"UniformSphere": 2}


@pytest.mark.parametrize("case", CASES)
def test_importance_weighting_finds_the_exact_likelihood_and_the_bound_is_above_it(case, every_sentence):
    store, tokenizer = every_sentence
    model = model_of(case, tokenizer)
    exact = exact_nll(model, store)
    samples = 40_000 if case == "iaf" else 8_000  # its gates make it narrower than the true posterior
    estimate = importance_weights(model, store, np.arange(len(store)), samples).nll
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.08)
    scores = score(model, store, samples=300)
    assert scores.rate_kind == CASES[case][1]
    assert scores.bound.mean() > exact.mean() - 0.02
    assert torch.isfinite(scores.z).all() and scores.z.shape == (len(store), 2 if case == "vmf" else 1)
    known = case in ("gaussian", "batch-norm", "delta", "refined", "highway")
    assert (scores.rate_per_dimension is not None) == known


@pytest.mark.parametrize("case", CASES)
def test_no_batching_or_chunking_changes_a_score(case, every_sentence):
    store, tokenizer = every_sentence
    model = model_of(case, tokenizer)
    rows = np.array([9, 2, 5])
    whole, some = score(model, store), score(model, store, rows=rows)
    torch.testing.assert_close(some.bound, whole.bound[rows], rtol=0, atol=2e-5)
    torch.testing.assert_close(some.posterior.mean, whole.posterior.mean[rows], rtol=0, atol=2e-5)
    found = [importance_weights(model, store, rows, 30, tokens=tokens).nll for tokens in (1, 100_000)]
    torch.testing.assert_close(*found, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_information_is_between_nothing_and_its_ceiling_and_the_gap_is_finite(case, every_sentence):
    store, tokenizer = every_sentence
    model = model_of(case, tokenizer)
    scores = score(model, store)
    found = information(scores, len(store))
    quarter = case in ("iaf", "planar", "radial", "multi-step")  # what mixes slowly mixes fewer
    assert found.sentences == (4 if quarter else 14)
    assert -0.2 < found.nats <= found.ceiling == math.log(found.sentences)
    assert torch.isfinite(shuffle_gap(model, store, scores, seed=0)).all()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run of some methods on the embedded corpus, by name."""
    place = tmp_path_factory.mktemp("runs")
    model = {"embedding": 8, "latent": 4, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
    tables = {"data": {"corpus": "grammar"}, "train": {"max_steps": 4, "batch_size": 16}}
    found = {}
    for name in ("semi-implicit", "vmf", "point", "mixture-prior", "iaf", "semi-amortized"):
        own = {**model, "posterior": {"components": 6}} if name == "semi-implicit" else model
        found[name] = train(load_settings(None, name, model=own, **tables), place / name)
    return found


def evaluated(run):
    found = evaluate(run.folder, iw_samples=4, iw_sentences=5)
    assert json.loads((run.folder / "evaluation" / "test.json").read_text()) == found
    nulls = {name for name, value in found.items() if value is None}
    bounds = found["information_bounds"] or {}
    nulls |= {f"information_bounds.{name}" for name in bounds.keys() - {"reason"} if bounds[name] is None}
    assert nulls == found["reasons"].keys()
    return found, parse(found["signature"])[1]


def test_a_refined_evaluation_says_that_its_rate_and_information_are_from_above(runs):
    found, signature = evaluated(runs["semi-amortized"])
    assert (found["rate_kind"], signature["rate"], found["nll_iw_kind"]) == (
        "upper",
        "upper",
        "importance-weighted",
    )
    assert math.isfinite(found["mutual_information_lower"]) and "mutual_information_lower" not in found["reasons"]
    assert parse(found["latent_signature"])[1]["refinements"] == "2"
    row = next(row for row in measures(found) if row[0] == "MI of sentence and code")
    assert " to " in row[1]
    record = [record for record in runs["semi-amortized"].log() if record.get("split") == "valid"][-1]
    assert record["rate_kind"] == "upper" and "(upper)" in validation_line(record)
    (rate,) = [score for score in schema.SCORES if score.name == "kl"]
    assert rate.shown(found, lambda value, *_: f"{value:.2f}").detail == "upper"


def test_active_units_are_those_of_the_expectation(runs):
    """Directions on the sphere times the length of their expectation; of a flow by codes, as the signature says."""
    run = runs["vmf"]
    found, _ = evaluated(run)
    store = corpus_of(run).split("test")
    directions = load(run.folder).means_of(store.sentences(None)).double()
    length = mean_length(4, run.settings.model.posterior.concentration)
    variance = length**2 * directions.var(0, correction=0)
    for threshold in (0.01, 0.2):
        assert found["active_units"][str(threshold)] == int((variance > threshold).sum())
    assert parse(found["latent_signature"])[1]["active"] == "variance-of-means"
    codes = Codes.of(open_run(runs["iaf"]), "test", 0, 20)
    assert parse(codes.signature)[1]["active"] == "variance-of-means-of-50-codes"


@pytest.mark.parametrize("case", ["vmf", "iaf", "semi-implicit", "refined"])
def test_validation_and_evaluation_count_the_same_units(case, every_sentence):
    """By the variance of E[z|x], known here by very many codes of each of 14 sentences."""
    store, tokenizer = every_sentence
    model = model_of(case, tokenizer)
    with torch.no_grad():
        for weight in model.posterior.parameters():
            weight *= 10
    index = torch.arange(14).repeat(1000)
    batch = collate(store, index.numpy())
    with torch.no_grad():
        noise = sentence_noise(5, torch.arange(14_000))
        codes = model.encode(batch, noise, 1, 1).rsample(noise)[0].double().view(1000, 14, -1)
    noise = codes.var(0) / 1000
    exact, of_it = variance_of_means(codes.mean(0), noise), noise.mean(0)
    known = of_it * (2 / 14) ** 0.5 + 2 * (exact.clamp(min=0) * of_it / 14) ** 0.5
    found = [variance_of_means(*score(model, store, seed).expectation(seed)) for seed in range(8)]
    error = torch.stack(found).std(0) / 8**0.5
    assert ((torch.stack(found).mean(0) - exact).abs() < 4 * (error + known) + 1e-6).all()


def test_a_semi_implicit_evaluation_says_what_stands_for_the_density(runs):
    found, signature = evaluated(runs["semi-implicit"])
    assert (found["rate_kind"], found["nll_iw_kind"], found["iw_components"]) == ("upper", "surrogate", 6)
    assert (signature["posterior"], signature["rate"], signature["k"]) == ("semi-implicit", "upper", "6")
    assert parse(found["latent_signature"])[1]["k"] == "6"
    assert found["kl_per_dimension"] is None and "no closed form" in found["reasons"]["kl_per_dimension"]
    assert found["nll_iw"] <= found["bound"] + 5
    assert found["mutual_information_lower"] < found["mutual_information"] <= found["mutual_information_ceiling"]
    bounds = found["information_bounds"]
    assert bounds["mutual_information_lower"] < bounds["mutual_information"]
    assert "mutual_information_lower" not in found["reasons"]


def test_one_estimate_of_the_information_is_enough_for_a_density(runs):
    found, _ = evaluated(runs["mixture-prior"])
    assert found["information_bounds"]["mutual_information_lower"] is None
    reasons = found["reasons"]
    assert "one estimate" in reasons["mutual_information_lower"]
    assert reasons["information_bounds.mutual_information_lower"] == reasons["mutual_information_lower"]


def test_on_a_sphere_there_are_no_moments(runs):
    found, signature = evaluated(runs["vmf"])
    assert found["rate_kind"] == signature["rate"] == "exact"
    for name in ("log_det_covariance", "mean_squared_norm", "kl_moment_matched"):
        assert found[name] is None
    assert found["reasons"]["log_det_covariance"] == "codes lie on a sphere"


def test_an_autoencoder_has_a_reconstruction_and_no_likelihood(runs):
    found, signature = evaluated(runs["point"])
    information = ("mutual_information", "mutual_information_lower")
    for name in ("kl", "bound", "nll_iw", "perplexity_iw", *information, "perplexity_bound"):
        assert found[name] is None and found["reasons"][name] == "the point posterior has no density"
    assert found["reconstruction"] > 0 and found["active_units"]["0.01"] >= 0
    assert signature["rate"] == signature["bound"] == "none" and "gap_to_surprisal" not in found


def test_a_learned_prior_has_no_distance_to_a_standard_normal(runs):
    found, _ = evaluated(runs["mixture-prior"])
    assert found["rate_kind"] == "monte-carlo" and found["kl_moment_matched"] is None
    assert "the prior is gaussian-mixture" in found["reasons"]["kl_moment_matched"]


@pytest.mark.parametrize("name", ["semi-implicit", "vmf", "point", "mixture-prior", "iaf"])
def test_every_kind_of_model_is_diagnosed_and_generates(runs, name):
    found = diagnose(runs[name].folder)
    assert found.sentences and all(found.sentences) and found.command.startswith("textvae ")
    assert (found.kl is None) == (name == "point")
    told = " ".join(found.sentences)
    if name == "semi-implicit":
        assert (
            f"between {max(0, found.mutual_information_lower):.2f} and {found.mutual_information:.2f} nats" in told
        )
    else:
        assert found.mutual_information_lower is None and not re.search(r"tells \S+ to", told)
    model = load(runs[name].folder)
    texts = ["the kettle impressed my sister .", "they will dislike the chair ."]
    z = model.encode(texts)
    np.testing.assert_allclose(model.encode(texts[1:]), z[1:], atol=1e-5)  # one as in many
    assert z.shape == (2, 4) and len(model.decode(z)) == 2 and len(model.sample(3)) == 3
    assert len(model.interpolate(*texts, steps=4)) == 4
    assert len(model.reconstruct(texts, sample_posterior=True)) == 2
