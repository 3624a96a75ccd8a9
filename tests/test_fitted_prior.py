"""Priors fitted after training: rate, bound and IW-NLL under them, what a run keeps, and what is refused."""

import json
import math
import shutil
import sys

import numpy as np
import pytest
import torch

import textvae
from textvae.comparison import compare
from textvae.errors import RequestError
from textvae.evaluation.advice import ends
from textvae.evaluation.diagnose import diagnose
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.importance import importance_weights
from textvae.evaluation.opened import open_run
from textvae.files import write_tensors
from textvae.generate.sources import tail_draws
from textvae.inference import score
from textvae.metrics.signature import parse
from textvae.model import build as build_model
from textvae.objective.presets import load_settings
from textvae.parts.decoders import RecurrentDecoderSettings
from textvae.parts.encoders import RecurrentEncoderSettings
from textvae.parts.priors import FittedMixture
from textvae.parts.settings import ModelSettings
from textvae.run import Run, model_of
from textvae.run.densities import choose, densities_of
from textvae.run.fitting import draw_codes, fit_prior
from textvae.run.pack import pack
from textvae.text.batches import collate
from textvae.training.loop import train

# On a tiny model.


@pytest.fixture(scope="module", params=["mixture", "flow"])
def model(every_sentence, request):
    """A model of one latent dimension under a mixture of two Gaussians, or a flow, fitted to its codes."""
    store, tokenizer = every_sentence
    torch.manual_seed(1)
    settings = ModelSettings(
        latent=1,
        embedding=3,
        encoder=RecurrentEncoderSettings(hidden=4),
        decoder=RecurrentDecoderSettings(hidden=5, dropout=0.0),
        init=1.0,
    )
    model = build_model(settings, len(tokenizer)).eval()
    codes = torch.cat([draw_codes(model, store, np.arange(len(store)), seed) for seed in range(20)])
    tried = densities_of(request.param, 2 if request.param == "mixture" else None, None)
    model.prior_network = tried.best(codes, codes[::2], 0).prior
    return model


@pytest.fixture(scope="module")
def exact(model, every_sentence) -> torch.Tensor:
    """Log p(x) of every sentence under the fitted prior: the integral over z by quadrature."""
    z = torch.linspace(-15, 15, 3001)[:, None, None]
    log_prior = model.prior.log_prob(z)[:, 0].double()
    assert log_prior.exp().sum().item() * 0.01 == pytest.approx(1, abs=1e-4)
    with torch.no_grad():
        rows = [collate(every_sentence[0], np.array([row])) for row in range(len(every_sentence[0]))]
        log_px = torch.stack([model.log_px(row, z).double().sum(-1)[:, 0] for row in rows])
    return (log_px + log_prior + math.log(0.01)).logsumexp(1)


def test_the_weighted_likelihood_is_that_under_the_fitted_prior_without_bias(model, every_sentence, exact):
    store = every_sentence[0]
    rows = np.arange(len(store))
    many = importance_weights(model, store, rows, 5_000).nll
    torch.testing.assert_close(-many, exact, rtol=0, atol=0.05)
    seeds = [importance_weights(model, store, rows, 2, seed=seed).nll for seed in range(60)]
    ratio = (-torch.stack(seeds) - exact).exp().mean(1)  # of the estimate of p(x) to p(x), whose mean is 1
    assert abs(ratio.mean().item() - 1) < 4 * ratio.std().item() / math.sqrt(len(seeds))
    assert importance_weights(model, store, rows, 2).nll.mean() > -exact.mean()


def test_the_rate_is_an_estimate_that_makes_the_bound_one_above_the_likelihood(model, every_sentence, exact):
    scores = score(model, every_sentence[0], samples=500)
    assert scores.rate_kind == "monte-carlo" and scores.rate_per_dimension is None
    assert (scores.bound > -exact - 0.02).all() and scores.bound.mean() < -exact.mean() + 1


# In a run.

SMALL = {
    "model": {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}},
    "train": {"batch_size": 16, "max_steps": 6, "device": "cpu"},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"{kind * 2} w{i} {kind} w{j}" for kind in "ab" for i in range(12) for j in range(12)]
    file.write_text("\n".join(lines) + "\n")
    return file


def trained(text, folder, method="vanilla", **model):
    settings = load_settings(
        method=method,
        data={"corpus": str(text), "split": {"valid": 0.3, "test": 0.2}},
        model={**SMALL["model"], **model},
        train=SMALL["train"],
    )
    return train(settings, folder)


def displace(folder, means=3.0):
    """Move all posteriors of a run away from the prior, and make them narrow."""
    weights = {name: tensor.clone() for name, tensor in Run.open(folder).model().state_dict().items()}
    bias = weights["posterior.parameters_of.bias"]
    bias[:2], bias[2:] = means, -4.0
    write_tensors(folder / "model.safetensors", weights)


@pytest.fixture(scope="module")
def displaced(text, tmp_path_factory):
    """A run whose aggregated posterior lies at (3, 3), with a prior fitted to it; to be read only."""
    folder = tmp_path_factory.mktemp("runs") / "displaced"
    trained(text, folder)
    displace(folder)
    fitted = fit_prior(folder, "gaussian")
    assert fitted.kept and fitted.not_kept is None
    return folder, fitted


def test_the_fitted_prior_lowers_the_validation_kl_and_bound_as_it_says(displaced):
    folder, fitted = displaced
    own, under = (open_run(folder, prior).scores("valid", 0) for prior in ("own", "fitted"))
    assert own.rate_kind == under.rate_kind == "exact"
    assert torch.equal(own.reconstruction, under.reconstruction)
    before, after = own.rate.mean().item(), under.rate.mean().item()
    assert fitted.kl_before == pytest.approx(before) and before > 9  # means at a distance of sqrt(18): 9 nats
    assert after < before - 8
    # one code a sentence in place of the integral
    assert fitted.kl_after == pytest.approx(after, abs=4 * fitted.gain_standard_error)
    assert fitted.bound_before - fitted.bound_after == pytest.approx(fitted.gain)
    assert fitted.bound_before == pytest.approx(own.bound.mean().item())


def test_the_fit_of_a_gaussian_has_the_moments_of_the_codes_of_training_sentences(displaced):
    folder, fitted = displaced
    run = open_run(folder)
    prior = open_run(folder, "fitted").model.prior
    codes = draw_codes(run.model, run.corpus.split("train"), run.rows("train"), 77).double()
    assert fitted.codes == len(codes) and fitted.validation_codes == len(run.corpus.split("valid"))
    # other draws of the same posteriors, so the moments are close and not equal
    torch.testing.assert_close(prior.means[0], codes.mean(0), rtol=0, atol=0.05)
    covariance = prior.factors[0] @ prior.factors[0].mT
    torch.testing.assert_close(covariance, codes.mT.cov(correction=0), rtol=0.4, atol=0.01)


def test_samples_come_from_the_fitted_prior(displaced):
    folder, _ = displaced
    own, under = textvae.load(folder), textvae.load(folder, prior="fitted")
    assert np.abs(own.draw(200).mean(0)).max() < 0.3
    np.testing.assert_allclose(under.draw(200).mean(0), 3, atol=0.3)
    assert np.array_equal(under.draw(5), under.draw(9)[:5])
    assert under.sample(4, seed=1) == under.decode(under.draw(4, 1), seed=1)
    np.testing.assert_array_equal(own.encode(["aa w1 a w2"]), under.encode(["aa w1 a w2"]))
    with pytest.raises(RequestError, match="tail draws are of a standard normal prior, and this one is fitted-ga"):
        tail_draws(under, 2)


def test_scores_say_which_prior_and_lie_beside_those_of_the_own_one(displaced, tmp_path):
    folder = shutil.copytree(displaced[0], tmp_path / "run")
    own = evaluate(folder, "valid", 20, 10)
    under = evaluate(open_run(folder, "fitted"), "valid", 20, 10)
    name = textvae.load(folder, "fitted").run.fitted.name
    assert name.startswith("fitted-gaussian-") and "prior" not in own and under["prior"] == name
    assert parse(under["signature"])[1]["prior"] == name and "prior" not in parse(own["signature"])[1]
    assert under["reconstruction"] == own["reconstruction"] and under["kl"] < own["kl"] - 8
    assert under["nll_iw"] < own["nll_iw"] - 5 and under["mutual_information"] == own["mutual_information"]
    assert under["kl_per_dimension"] is None and under["kl_moment_matched"] is None
    assert "fitted-gaussian" in under["reasons"]["kl_per_dimension"]
    files = folder / "evaluation" / "valid.json", folder / "fitted" / "evaluation" / "valid.json"
    assert [json.loads(file.read_text()) for file in files] == [own, under]


def test_a_comparison_under_fitted_priors(displaced, text, tmp_path):
    folder = shutil.copytree(displaced[0], tmp_path / "run")
    numbers = {"split": "valid", "iw_samples": 10, "iw_sentences": 5}
    own, under = compare([folder], **numbers), compare([folder], prior="fitted", **numbers)
    assert own.rows[0].values["kl"] - under.rows[0].values["kl"] > 8
    assert "fitted-gaussian prior" in under.rows[0].method and "fitted" not in own.rows[0].method
    # it is read, not evaluated again, until the prior is fitted again
    file = folder / "fitted" / "evaluation" / "valid.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "kl": 123.0}))
    assert compare([folder], prior="fitted", **numbers).rows[0].values["kl"] == 123.0
    assert fit_prior(folder, "mixture", 2, seed=1).kept
    assert compare([folder], prior="fitted", **numbers).rows[0].values["kl"] < 20
    bare = tmp_path / "bare"
    trained(text, bare)
    with pytest.raises(RequestError, match="bare: has no fitted prior; fit one with `textvae fit-prior"):
        compare([folder, bare], prior="fitted", **numbers)


def test_a_packed_run_keeps_its_fitted_prior(displaced, tmp_path):
    pack(displaced[0], tmp_path / "packed")
    own, packed = (textvae.load(folder, prior="fitted") for folder in (displaced[0], tmp_path / "packed"))
    np.testing.assert_array_equal(packed.draw(3), own.draw(3))


def test_a_diagnosis_under_the_fitted_prior(displaced):
    folder, _ = displaced
    own, under = diagnose(folder), diagnose(open_run(folder, "fitted"))
    assert "prior" not in own.document() and under.document()["prior"].startswith("fitted-gaussian-")
    assert f"under {under.prior})" in under.sentences[0] and "under" not in own.sentences[0]
    assert own.kl - under.kl > 8 and own.shuffle_gap == under.shuffle_gap
    assert any("`textvae fit-prior` fits one" in sentence for sentence in own.sentences)
    assert not any("aggregated posterior" in sentence for sentence in under.sentences)
    trained = open_run(folder, "fitted")
    assert ends(trained.run, trained.corpus.split("valid"), trained.rows("valid")) == "--fitted-prior"


def test_a_seed_repeats_the_fit_to_the_last_bit(displaced, tmp_path):
    folder, fitted = displaced
    again = shutil.copytree(folder, tmp_path / "again")
    shutil.rmtree(again / "fitted")
    assert {**fit_prior(again, "gaussian").document(), "run": ""} == {**fitted.document(), "run": ""}
    for file in ("prior.json", "prior.safetensors"):
        assert (again / "fitted" / file).read_bytes() == (folder / "fitted" / file).read_bytes()
    assert fit_prior(again, "gaussian", seed=1).gain != fitted.gain


def test_codes_depend_on_the_sentence_alone(displaced, monkeypatch):
    run = open_run(displaced[0])
    store, rows = run.corpus.split("train"), run.rows("train")
    codes = draw_codes(run.model, store, rows, 5)
    monkeypatch.setattr("textvae.run.fitting.TOKENS", 40)
    torch.testing.assert_close(draw_codes(run.model, store, rows[10:20], 5), codes[10:20])


def test_the_number_of_components_is_chosen_on_other_codes():
    generator = torch.Generator().manual_seed(0)
    two = torch.randn(400, 2, generator=generator) + 6 * (torch.arange(400) % 2)[:, None]
    best, densities = choose(two[:300], two[300:], (1, 2, 20), "full", 0)
    assert len(best.means) == 2 and list(densities) == ["1", "2", "20"]
    assert densities["2"] > densities["1"] > -20 and densities["20"] < densities["2"]
    best, densities = choose(two[::2][:150], two[::2][150:], (1, 10, 40), "full", 0)
    assert len(best.means) == 1 and list(densities) == ["1", "10"]  # it ends where the density falls


# What is not kept, and what is refused.


def test_a_run_that_has_collapsed_has_nothing_to_fit(text, tmp_path):
    trained(text, tmp_path / "run")
    weights = {name: tensor.clone() for name, tensor in Run.open(tmp_path / "run").model().state_dict().items()}
    for name in ("weight", "bias"):
        weights[f"posterior.parameters_of.{name}"].zero_()
    write_tensors(tmp_path / "run" / "model.safetensors", weights)
    fitted = fit_prior(tmp_path / "run")
    assert not fitted.kept and fitted.kl_before == 0 and abs(fitted.gain) < 0.2
    assert fitted.not_kept == (
        "the posterior has collapsed (KL = 0.00 nats per sentence): the codes follow the run's own prior, and "
        "there is nothing to fit"
    )
    assert not (tmp_path / "run" / "fitted").exists()


def test_a_prior_that_is_worse_on_validation_sentences_is_not_kept(displaced, tmp_path):
    """Fitted to so few codes that it fits no others; what was kept before stays."""
    folder = shutil.copytree(displaced[0], tmp_path / "run")
    displace(folder, 0.0)  # codes around 0: the own prior is wide, but not wrong
    before = (folder / "fitted" / "prior.json").read_bytes()
    fitted = fit_prior(folder, "mixture", 3, codes=9)
    assert not fitted.kept and fitted.gain < -0.01
    assert fitted.not_kept == (
        f"it makes the validation bound worse by {-fitted.gain:.2f} nats per sentence than the run's own prior"
    )
    assert (folder / "fitted" / "prior.json").read_bytes() == before


def test_a_prior_of_other_weights_is_refused(displaced, tmp_path):
    folder = shutil.copytree(displaced[0], tmp_path / "run")
    displace(folder, 2.0)
    with pytest.raises(RequestError) as error:
        textvae.load(folder, prior="fitted")
    assert str(error.value) == (
        f"{folder / 'fitted' / 'prior.json'}: was fitted to other weights than model.safetensors has now, as after "
        f"more training; fit it again with `textvae fit-prior {folder}`"
    )
    assert textvae.load(folder).sample(1)
    fit_prior(folder, "gaussian")
    np.testing.assert_allclose(textvae.load(folder, prior="fitted").draw(200).mean(0), 2, atol=0.3)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("prior.json", b"{", "damaged: not JSON"),
        ("prior.json", b'{"kind": "ring"}', "damaged: kind = "),
        ("prior.json", b'{"kind": "flow", "weights": "a", "tensors": "b"}', "was fitted to other weights"),
        ("prior.safetensors", b"abc", "missing, or not the file that prior.json is of"),
        ("prior.safetensors", None, "missing, or not the file that prior.json is of"),
    ],
)
def test_damaged_files_are_refused_with_the_remedy(displaced, tmp_path, file, content, message):
    folder = shutil.copytree(displaced[0], tmp_path / "run")
    path = folder / "fitted" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RequestError) as error:
        textvae.load(folder, prior="fitted")
    assert str(error.value).startswith(f"{path}: {message}")
    assert str(error.value).endswith(f"; fit it again with `textvae fit-prior {folder}`")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mixtures"}, "kind = 'mixtures': unknown; did you mean 'mixture'?"),
        ({"covariance": "round"}, "covariance = 'round': unknown"),
        ({"kind": "gaussian", "components": 3}, "components = 3: a gaussian has one"),
        ({"components": (2, 0)}, "components = (2, 0): give numbers, 1 or more"),
        ({"components": ()}, "components = (): give numbers"),
        ({"codes": 0}, "codes = 0: must be 1 or more"),
        (
            {"kind": "flow", "components": 3},
            "components = 3: a flow has none; leave it out, or take kind = 'mixture'",
        ),
        ({"kind": "flow", "covariance": "full"}, "covariance = 'full': a flow has none; leave it out"),
        ({"kind": "flow", "codes": 2}, "kind = 'flow': 2 codes are too few; one of 2 dimensions takes 3 or more"),
        (
            {"components": (1, 500)},
            "components = 500: 153 codes are too few; 500 of 2 dimensions with full covariance ",
        ),
        (
            {"codes": 2},
            "components = 1: 2 codes are too few; 1 of 2 dimensions with full covariance take 3 or more",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(displaced, options, message):
    with pytest.raises(RequestError) as error:
        fit_prior(displaced[0], **options)
    assert str(error.value).startswith(message)


def test_models_without_codes_on_a_sphere_and_other_names_are_refused(displaced, text, tmp_path):
    trained(text, tmp_path / "lm", "language-model", latent=0)
    with pytest.raises(RequestError, match="lm: is a language model: it has no code, and so no prior to fit"):
        fit_prior(tmp_path / "lm")
    with pytest.raises(RequestError, match="lm: is a language model"):
        textvae.load(tmp_path / "lm", prior="fitted")
    sphere = {"posterior": {"name": "vmf", "concentration": 9.0}, "prior": {"name": "uniform-sphere"}}
    trained(text, tmp_path / "vmf", **sphere)
    for kind in ("mixture", "flow"):
        with pytest.raises(RequestError, match="codes of its vmf posterior lie on a sphere"):
            fit_prior(tmp_path / "vmf", kind)
    with pytest.raises(RequestError, match="prior = 'fited': unknown; did you mean 'fitted'?"):
        textvae.load(displaced[0], prior="fited")


# A flow.


@pytest.fixture(scope="module")
def flowing(displaced, tmp_path_factory):
    """A copy of the run with a flow fitted to its codes; to be read only."""
    folder = shutil.copytree(displaced[0], tmp_path_factory.mktemp("flows") / "flowing")
    fitted = fit_prior(folder, "flow")
    assert fitted.kept
    return folder, fitted


def test_a_flow_lowers_kl_and_bound_as_it_says(flowing, displaced):
    folder, fitted = flowing
    own, under = (open_run(folder, prior).scores("valid", 0) for prior in ("own", "fitted"))
    assert under.rate_kind == "monte-carlo" and torch.equal(own.reconstruction, under.reconstruction)
    assert fitted.kl_after == pytest.approx(under.rate.mean().item(), abs=4 * fitted.gain_standard_error)
    assert fitted.bound_before - fitted.bound_after == pytest.approx(fitted.gain)
    gaussian, flow = fitted.log_density.values()
    assert flow >= gaussian and gaussian == displaced[1].log_density["1"]
    assert fitted.gain == pytest.approx(flow - fitted.log_density_own)
    document = fitted.document()
    assert document["kind"] == "flow" and not {"components", "covariance"} & document.keys()
    assert document["flow"].keys() == {"transforms", "hidden", "bins", "epochs"}
    assert parse(fitted.signature)[1]["prior"] == "fitted-flow" and "zuko" in parse(fitted.signature)[1]["by"]
    assert "flow" not in displaced[1].document()


def test_samples_and_scores_under_a_flow(flowing, tmp_path):
    folder = shutil.copytree(flowing[0], tmp_path / "run")
    under = textvae.load(folder, prior="fitted")
    np.testing.assert_allclose(under.draw(200).mean(0), 3, atol=0.3)
    assert np.array_equal(under.draw(5), under.draw(9)[:5])
    name = under.run.fitted.name
    scores = evaluate(under, "valid", 20, 10)
    assert name.startswith("fitted-flow-") and scores["prior"] == name
    assert parse(scores["signature"])[1]["prior"] == name
    assert scores["nll_iw"] < evaluate(folder, "valid", 20, 10)["nll_iw"] - 5
    assert under.interpolate_prior(steps=3) and diagnose(under).document()["prior"] == name
    compared = compare([folder], "valid", prior="fitted", iw_samples=20, iw_sentences=10)
    assert "fitted-flow prior" in compared.rows[0].method


def test_a_seed_repeats_a_flow_to_the_last_bit(flowing, tmp_path):
    again = shutil.copytree(flowing[0], tmp_path / "again")
    shutil.rmtree(again / "fitted")
    assert {**fit_prior(again, "flow").document(), "run": ""} == {**flowing[1].document(), "run": ""}
    for file in ("prior.json", "prior.safetensors"):
        assert (again / "fitted" / file).read_bytes() == (flowing[0] / "fitted" / file).read_bytes()


def test_without_its_library_the_extra_is_named_and_the_own_prior_works(flowing, text, tmp_path, monkeypatch):
    folder = shutil.copytree(flowing[0], tmp_path / "run")
    monkeypatch.setitem(sys.modules, "zuko", None)
    how = "a flow needs zuko, which is not installed; install it with pip install 'textvae[flow]'"
    for use in (textvae.load, open_run):
        with pytest.raises(RequestError) as error:
            use(folder, prior="fitted")
        assert str(error.value) == f"{folder / 'fitted'}: {how}; or use the run's own prior (--prior own)"
    with pytest.raises(RequestError) as error:
        fit_prior(folder, "flow")
    assert str(error.value) == f"kind = 'flow': {how}, or take kind = 'mixture'"
    assert textvae.load(folder, prior="own").sample(2)
    with pytest.warns(UserWarning, match="the fitted prior is left out: .*textvae.flow"):
        assert len(compare([folder], "valid", iw_samples=5, iw_sentences=5).rows) == 1
    assert fit_prior(folder, "gaussian").kept and textvae.load(folder, prior="fitted").sample(2)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        ({"hidden": 8}, "prior.safetensors: does not fit prior.json: it has in another shape splines."),
        ({"transforms": 3}, "prior.safetensors: does not fit prior.json: it lacks splines."),
        ({"bins": 0}, "prior.json: damaged: flow.bins = 0: "),
        ({"hidden": 2**40}, "prior.json: damaged: flow.hidden = "),
        (None, "prior.json: damaged: flow: is missing"),
    ],
)
def test_a_flow_of_other_sizes_is_refused(flowing, tmp_path, flow, message):
    folder = shutil.copytree(flowing[0], tmp_path / "run")
    path = folder / "fitted" / "prior.json"
    record = json.loads(path.read_text())
    sizes = record.pop("flow")
    path.write_text(json.dumps(record if flow is None else {**record, "flow": {**sizes, **flow}}))
    with pytest.raises(RequestError) as error:
        textvae.load(folder, prior="fitted")
    assert str(error.value).startswith(f"{folder / 'fitted'}/{message}") and "\n" not in str(error.value)
    assert str(error.value).endswith(f"; fit it again with `textvae fit-prior {folder}`")


def test_a_mixture_of_another_shape_is_refused(displaced, tmp_path):
    folder = shutil.copytree(displaced[0], tmp_path / "run")
    path = folder / "fitted" / "prior.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "components": 2}))
    with pytest.raises(
        RequestError, match="fitted/prior.safetensors: does not fit prior.json: it has in another sh"
    ):
        textvae.load(folder, prior="fitted")


# Other posteriors and priors.


def test_an_autoencoder_gets_a_sampler_and_its_scores_stay_null(text, tmp_path):
    folder = trained(text, tmp_path / "run", "point").folder
    fitted = fit_prior(folder, "gaussian")
    assert fitted.kept and fitted.gain > 1  # codes of an untrained encoder are close to each other
    assert fitted.kl_before is fitted.bound_after is None
    assert fitted.reasons["kl_after"] == "the point posterior has no density"
    under = textvae.load(folder, prior="fitted")
    codes = open_run(folder).scores("train", 0).z.numpy()
    np.testing.assert_allclose(under.draw(500).std(0), codes.std(0), rtol=0.3)
    scores = evaluate(open_run(folder, "fitted"), "valid", 5, 5)
    assert scores["kl"] is scores["nll_iw"] is None and scores["prior"].startswith("fitted-gaussian-")
    assert scores["reasons"]["kl"] == "the point posterior has no density"
    told = diagnose(open_run(folder, "fitted"))
    assert told.sentences[0].endswith("Its prior was fitted to its codes afterwards.")


@pytest.mark.parametrize(
    "model",
    [
        {"prior": {"name": "gaussian-mixture", "components": 3}},
        {"prior": {"name": "vamp", "components": 2}},
        {"posterior": {"name": "iaf", "hidden": 8, "context": 4}},
        {"posterior": {"name": "semi-implicit", "noise": 4, "hidden": 8, "components": 3}},
        {"inference": {"name": "refined", "steps": 1}},
    ],
    ids=["learned mixture", "vamp", "iaf", "semi-implicit", "refined"],
)
def test_every_posterior_with_a_density_and_every_prior_works(text, tmp_path, model):
    folder = trained(text, tmp_path / "run", **model).folder
    fitted = fit_prior(folder, "mixture", (1, 2))
    run = Run.open(folder)
    own = model_of(run)
    if not fitted.kept:  # little was trained: what is told is at least consistent
        assert fitted.gain < 0.01
        return
    under = model_of(run.under("fitted"))
    valid = open_run(folder).corpus.split("valid")
    assert score(own, valid).reconstruction.equal(score(under, valid).reconstruction)
    change = score(own, valid, samples=20).rate.mean() - score(under, valid, samples=20).rate.mean()
    assert change.item() == pytest.approx(fitted.gain, abs=max(0.1, 5 * fitted.gain_standard_error))
    assert isinstance(under.prior, FittedMixture)


def test_a_model_of_windows_works(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"a b c w{i} d" for i in range(200)) + "\n")
    settings = load_settings(
        method="vanilla",
        data={"corpus": str(file), "window": 8, "split": {"valid": 0.2, "test": 0.2}},
        **SMALL,
    )
    folder = train(settings, tmp_path / "run").folder
    displace(folder)
    assert fit_prior(folder, "gaussian").gain > 5
    assert len(textvae.load(folder, prior="fitted").sample(2)) == 2


def test_a_run_trained_with_fit_prior_is_used_under_it_unless_its_own_is_asked_for(text, tmp_path, monkeypatch):
    monkeypatch.setattr("textvae.run.fitting.LEAST_GAIN", -1e9)  # of so short a training the codes are the prior
    settings = load_settings(
        data={"corpus": str(text)}, model=SMALL["model"], train={**SMALL["train"], "fit_prior": True}
    )
    run = train(settings, tmp_path / "run")
    model = textvae.load(run.folder)
    assert model.run.fitted.name == textvae.load(run.folder, "fitted").run.fitted.name
    assert textvae.load(run.folder, "own").run.fitted is None
    assert evaluate(run.folder, iw_sentences=5)["prior"] == model.run.fitted.name
    own = Run.open(run.folder).under("own")
    assert own.under("usual").fitted is open_run(own).run.fitted is None  # once chosen, it stays
    assert "prior" not in evaluate(own, iw_sentences=5) and diagnose(own).prior == ""
    assert (
        model.run.under("own").fitted is None
        and model.run.under("own").settings.model.prior == own.settings.model.prior
    )
    rows = compare([run.folder], iw_sentences=5).rows
    assert [row.name for row in rows] == ["run", "run (fitted prior)"]
    before = (run.folder / "fitted/prior.json").read_bytes()
    assert textvae.resume(run.folder).under("usual").fitted is not None  # finished already: nothing is fitted again
    assert (run.folder / "fitted/prior.json").read_bytes() == before


def test_a_prior_that_is_not_kept_is_said_and_the_run_has_its_own(text, tmp_path, monkeypatch):
    monkeypatch.setattr("textvae.run.fitting.LEAST_GAIN", 1e9)
    settings = load_settings(
        data={"corpus": str(text)}, model=SMALL["model"], train={**SMALL["train"], "fit_prior": True}
    )
    with pytest.warns(UserWarning, match="train.fit_prior: no prior was kept: "):
        run = train(settings, tmp_path / "run")
    assert textvae.load(run.folder).run.fitted is None


def test_there_is_no_prior_to_fit_without_codes_or_on_a_sphere():
    for changes in ({"method": "language-model"}, {"method": "vmf"}):
        with pytest.raises(RequestError, match="train.fit_prior = true: .*; set it to false"):
            load_settings(**changes, data={"corpus": "grammar"}, train={"fit_prior": True})
