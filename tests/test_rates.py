"""Runs of many KL weights: their curve, a rate looked up, results apart, and what is refused."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch

import textvae
from textvae.errors import RequestError
from textvae.inference import score
from textvae.objective.objective import Objective, criterion
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.run.data import corpus_of
from textvae.run.rates import CURVE, at_rate, measure
from textvae.training.loop import resume, train

SIZES = [
    "model.latent=2",
    "model.embedding=4",
    "model.encoder.hidden=4",
    "model.decoder.hidden=4",
    "model.multi_rate.knots=3",
    "train.batch_size=8",
    "train.epochs=2",
    "train.optimizer.lr=0.05",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory, tiny_sentences):
    """The tiny corpus as a file."""
    path = tmp_path_factory.mktemp("text") / "tiny.txt"
    path.write_text("\n".join(tiny_sentences) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, text):
    """A run of many KL weights."""
    folder = tmp_path_factory.mktemp("runs") / "many"
    train(load_settings(None, "multi-rate", [*SIZES, f"data.train={text}"]), folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory, text):
    """A run of one KL weight."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    sizes = [one for one in SIZES if "multi_rate" not in one]
    train(load_settings(None, "vanilla", [*sizes, f"data.train={text}"]), folder)
    return folder


def with_curve(folder, tmp_path, points):
    """Return a copy of a run with another curve."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    curve = json.loads((copy / CURVE).read_text())
    curve["points"] = points
    (copy / CURVE).write_text(json.dumps(curve))
    return copy


def test_the_curve_has_the_scores_of_the_run_at_each_weight(folder):
    run = Run.open(folder)
    curve = json.loads((folder / CURVE).read_text())
    assert curve == measure(run)
    assert [point["beta"] for point in curve["points"]] == pytest.approx(
        [0.01, 10**-1.25, 10**-0.5, 10**0.25, 10], rel=1e-5
    )
    store = corpus_of(run).split("valid")
    for point in curve["points"]:
        scores = score(run.at_beta(point["beta"]).model(), store)
        assert point["rate"] == pytest.approx(scores.rate.mean().item(), rel=1e-6)
        assert point["reconstruction"] == pytest.approx(scores.reconstruction.mean().item(), rel=1e-6)
        assert point["bound"] == pytest.approx(point["reconstruction"] + point["rate"])
        assert point["loss"] == pytest.approx(point["reconstruction"] + point["beta"] * point["rate"])
    assert len({point["reconstruction"] for point in curve["points"]}) > 1


def test_validations_are_judged_by_the_mean_loss_over_the_interval(folder):
    run = Run.open(folder)
    records = [one for one in run.log() if one["split"] == "valid"]
    best = min(records, key=lambda one: one["loss_over_rates"])
    store, model = corpus_of(run).split("valid"), run.model()
    beta = model.gates.settings.spread(len(store))
    own = score(model, store, beta=beta)
    assert best["loss_over_rates"] == pytest.approx((own.reconstruction + beta * own.rate).mean().item(), rel=1e-6)
    objective = Objective(run.settings.objective, 10)
    assert criterion(best, objective) == best["loss_over_rates"]
    assert best["bound"] == pytest.approx(score(model, store).bound.mean().item(), rel=1e-6)  # at beta = 1


def test_resuming_gives_the_run_that_was_never_stopped(folder, text, tmp_path):
    def interrupt(step, total, record):
        if step == 5:  # while the reach rises
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(load_settings(None, "multi-rate", [*SIZES, f"data.train={text}"]), tmp_path / "run", interrupt)
    resumed, whole = resume(tmp_path / "run", False).model().state_dict(), Run.open(folder).model().state_dict()
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert json.loads((tmp_path / "run" / CURVE).read_text())["points"] == measure(Run.open(folder))["points"]


def test_a_rate_is_looked_up_between_the_points_of_the_curve(folder, tmp_path):
    points = [
        {"beta": 0.01, "rate": 8.0, "reconstruction": 1.0},
        {"beta": 0.1, "rate": 4.0, "reconstruction": 2.0},
        {"beta": 10.0, "rate": 0.0, "reconstruction": 6.0},
    ]
    run = Run.open(with_curve(folder, tmp_path, points))
    for asked, beta in ((8.0, 0.01), (6.0, 10**-1.5), (4.0, 0.1), ("1", 10**0.5), (0.0, 10.0)):
        assert at_rate(run, asked).beta == pytest.approx(beta), asked
    assert at_rate(run, "beta=0.5").beta == 0.5
    for asked, reason in (
        (9.0, "from 0.00 to 8.00"),
        (-1.0, "from 0.00"),
        ("many", "give nats"),
        ("nan", "give nats"),
    ):
        with pytest.raises(RequestError, match=reason):
            at_rate(run, asked)
    for beta in ("beta=0.001", "beta=11"):
        with pytest.raises(RequestError, match=r"KL weights from 0\.01 to 10"):
            at_rate(run, beta)


def test_a_model_at_a_rate_encodes_and_writes_at_it_and_its_codes_are_its_own(folder):
    points = json.loads((folder / CURVE).read_text())["points"]
    asked = points[1]
    model, usual = textvae.load(folder, rate=f"beta={asked['beta']!r}"), textvae.load(folder)
    corpus = corpus_of(model.run)
    rate = score(model.model, corpus.split("valid")).rate.mean().item()
    assert rate == pytest.approx(asked["rate"], rel=1e-5)
    assert not np.allclose(model.encode(["w1 w2"]), usual.encode(["w1 w2"]))
    assert model.identity != usual.identity
    assert model.run.result("evaluation/test.json") != usual.run.result("evaluation/test.json")


def test_evaluations_at_a_rate_do_not_replace_those_of_the_run(folder):
    usual = textvae.evaluate(folder, iw_samples=2, iw_sentences=3, progress=False)
    other = textvae.evaluate(Run.open(folder).at_beta(0.01), iw_samples=2, iw_sentences=3, progress=False)
    assert other["kl"] != usual["kl"]
    assert "|beta:0.01|" in other["signature"] and "beta" not in usual["signature"]
    assert json.loads((folder / "evaluation/test.json").read_text())["kl"] == usual["kl"]


def test_what_has_no_curve_or_another_is_refused(folder, plain, tmp_path):
    for refused in (lambda: at_rate(Run.open(plain), 1.0), lambda: measure(Run.open(plain))):
        with pytest.raises(RequestError, match="one KL weight"):
            refused()
    with pytest.raises(RequestError, match="was not fitted to codes at"):
        Run.open(folder).at_beta(0.1).under("fitted")
    copy = with_curve(folder, tmp_path, [{"beta": 0.1, "rate": "much"}])
    with pytest.raises(RequestError, match=r"valid-rates\.json: damaged: points"):
        at_rate(Run.open(copy), 1.0)
    curve = json.loads((folder / CURVE).read_text())
    (copy / CURVE).write_text(json.dumps({**curve, "weights": "0" * 64}))
    with pytest.raises(RequestError, match="other weights"):
        at_rate(Run.open(copy), 1.0)
    (copy / CURVE).unlink()
    with pytest.raises(RequestError, match="--split valid --rates"):
        at_rate(Run.open(copy), 1.0)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["model.multi_rate.low=20"], r"low = 20.*not below high"),
        (["model.multi_rate.beta=20"], r"beta = 20.*from 0\.01 to 10"),
        (["model.multi_rate.reach=0.5"], "ends at 0.5"),
        (["model.latent=0"], "model.latent = 0"),
        (["model.prior.name='vamp'"], "model.prior.name"),
        (["model.posterior.name='vmf'", "model.prior.name='uniform-sphere'"], "fixed by its settings"),
        (["model.inference.name='refined'"], "different KL weights"),
        (["objective.multi-rate=false", "objective.kl.weight=1"], "no objective weights"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, reason):
    with pytest.raises(RequestError, match=reason):
        load_settings(None, "multi-rate", wrong)


def test_the_term_alone_is_refused():
    with pytest.raises(RequestError, match=r"model\.multi_rate\.low"):
        load_settings(None, "vanilla", ["objective.kl=false", "objective.multi-rate.weight=1"])
