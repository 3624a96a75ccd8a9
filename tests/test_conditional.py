"""Conditional models: p(z|c) p(x|z, c) and q(z|x, c), whatever reads, writes and judges them."""

import json
import math
import shutil
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import textvae
from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.latent import shuffle_gap
from textvae.evaluation.likelihood import conditional_entropy
from textvae.evaluation.opened import open_run
from textvae.evaluation.probing import probe_run
from textvae.generate import labels
from textvae.generate.likelihood import likelihood
from textvae.generate.trained import load
from textvae.inference import Scores, densities, score
from textvae.metrics.information import mutual_information
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianMixture, SemiImplicit
from textvae.parts.priors import Place
from textvae.parts.settings import ModelSettings
from textvae.report.run_report import run_report
from textvae.run import Run
from textvae.run.data import corpus_of
from textvae.text import grammar
from textvae.text.batches import build as build_store
from textvae.text.batches import padded
from textvae.text.conditions import Labels
from textvae.training.loop import resume, train
from textvae.training.start import start_document

from .cli.conftest import call

NAMES = {"kind": ["x", "y"]}
SMALL = {
    "latent": 2,
    "embedding": 6,
    "encoder": {"name": "gru", "hidden": 6},
    "decoder": {"name": "gru", "hidden": 10},
    "conditioner": {"name": "labels", "embedding": 4},
}
CONDITIONAL = {**SMALL, "prior": {"name": "conditional-gaussian", "hidden": 5}}


def built(seed=0, init=0.7, **tables):
    torch.manual_seed(seed)
    settings = ModelSettings.model_validate({**CONDITIONAL, "init": init, **tables})
    return build(settings, 9, names=NAMES).double().eval()


def batch_of(labels, sentences=((4, 5, 2), (6, 2), (4, 2))):
    batch = padded([list(ids) for ids in sentences[: len(labels)]], range(len(labels)))
    return batch._replace(condition=Labels(torch.tensor(labels)[:, None]))


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache_of_its_own):
    """Texts of which the label says the first word, and nothing else does."""
    folder = tmp_path_factory.mktemp("conditional")
    rows = [f"{first} {second}\t{kind}" for first, kind in (("a", "x"), ("b", "y")) for second in "cdefgh" * 4]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.tsv").write_text("\n".join(["text\tkind", *rows]) + "\n")
    data = {split: str(folder / f"{split}.tsv") for split in ("train", "valid", "test")}
    train_table = {"batch_size": 12, "epochs": 60, "optimizer": {"name": "adam", "lr": 0.02}, "precision": "fp32"}
    settings = load_settings(
        data={**data, "column": "text", "condition_on": ["kind"]}, model=CONDITIONAL, train=train_table
    )
    return train(settings, folder / "run").folder


def test_the_kl_of_standardised_codes_is_that_to_the_conditional_prior():
    mean, std, prior_mean, prior_std = torch.tensor([[[0.3, -1.0]], [[0.5, 2.0]], [[1.0, 0.2]], [[2.0, 0.7]]])
    place = Place(prior_mean, prior_std)
    moved = DiagonalGaussian(mean, std).standardised(place)
    expected = kl_divergence(Normal(mean, std), Normal(prior_mean, prior_std)).sum(-1)
    assert kl_divergence(Normal(moved.mean, moved.std), Normal(0, 1)).sum(-1) == pytest.approx(expected.item())
    # By hand, first dimension: ln(2 / .5) + (.25 + .49) / 8 - .5
    by_hand = math.log(4) + (0.25 + 0.49) / 8 - 0.5
    assert kl_divergence(Normal(moved.mean, moved.std), Normal(0, 1))[0, 0].item() == pytest.approx(by_hand)
    components = GaussianMixture(torch.zeros(1, 1), mean[:, None], std[:, None]).standardised(place)
    assert torch.equal(components.means[:, 0], moved.mean) and torch.equal(components.stds[:, 0], moved.std)
    drawn = SemiImplicit(mean[:, None], std[:, None], 1).standardised(place)
    assert torch.equal(drawn.means[:, 0], moved.mean) and drawn.own == 1


def test_the_rate_of_a_model_is_the_kl_of_its_networks():
    model, batch = built(), batch_of([0, 1])
    context = model.context(batch)
    encoded = model.posterior(model.hidden(batch))
    place = model.conditioning.placement(context)
    out = model(batch, sentence_noise(0, batch.index))
    expected = kl_divergence(Normal(encoded.mean, encoded.std), Normal(place.mean, place.std)).sum(-1)
    assert torch.allclose(out.posterior.rate(out.z, out.prior).nats, expected)
    assert not torch.allclose(place.mean[0], place.mean[1])


@pytest.mark.parametrize("prior", ["standard-normal", "conditional-gaussian"])
def test_importance_weighting_is_unbiased_under_a_condition(prior):
    """p(x|c) by quadrature over z itself, not the standardised code. Seed 1: posteriors wider than the prior."""
    table = {"name": prior} if prior == "standard-normal" else CONDITIONAL["prior"]
    model, batch = built(seed=1, latent=1, prior=table, init=0.5), batch_of([1, 0])
    with torch.no_grad():
        context = model.context(batch)
        place = None if model.conditioning.placement is None else model.conditioning.placement(context)
        grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
        truth = []
        for row in range(2):
            one = batch_of([1, 0][row : row + 1], (((4, 5, 2), (6, 2))[row],))
            mean, std = (0.0, 1.0) if place is None else (place.mean[row, 0], place.std[row, 0])
            z = mean + std * grid
            seen = torch.cat([z[:, None], context[row].expand(len(z), -1)], dim=1)[:, None]
            log_px = model._log_px(one, seen).sum(-1)[:, 0]
            # p(z) dz = N(u; 0, 1) du
            truth.append(torch.logsumexp(log_px + Normal(0.0, 1.0).log_prob(grid), 0) + math.log(24 / 4000))
        draws = 40_000
        out = model(batch, sentence_noise(3, batch.index), draws)
        weights = out.log_px.sum(-1) + out.prior.log_prob(out.z) - out.posterior.log_prob(out.z)
        found = weights.logsumexp(0) - math.log(draws)
    assert found.tolist() == pytest.approx([value.item() for value in truth], abs=0.005)


def test_every_part_reads_the_condition():
    model = built()
    one, other = batch_of([0, 0, 0]), batch_of([1, 1, 1])
    assert not torch.allclose(model.encode(one).mean, model.encode(other).mean)
    z = torch.randn(1, 3, 2, dtype=torch.float64)
    assert not torch.allclose(model.log_px(one, z), model.log_px(other, z))
    language_model = built(latent=0, prior={"name": "standard-normal"})
    assert not torch.allclose(language_model.log_px(one, None), language_model.log_px(other, None))


def test_a_condition_for_all_is_that_of_each():
    model, batch = built(), batch_of([1, 1, 1])
    fixed = model.given(Labels(torch.tensor([[1]])))
    without = batch._replace(condition=None)
    assert torch.equal(fixed.encode(without).mean, model.encode(batch).mean)
    z = torch.randn(3, 2, dtype=torch.float64)
    assert torch.allclose(fixed.code(z), model.code(z, model.context(batch)))
    with pytest.raises(RequestError, match="conditional, and none is given"):
        model.encode(without)


def test_what_is_written_has_the_label_that_was_asked_for(run):
    model = load(run)
    for kind, first in (("x", "a"), ("y", "b")):
        samples = model.sample(20, decoding="sample", condition={"kind": kind})
        assert sum(text.startswith(first) for text in samples) >= 18
        assert samples == model.given({"kind": kind}).sample(20, decoding="sample")
        assert samples[:3] == model.sample(3, decoding="sample", condition={"kind": [kind] * 3})
    mixed = model.sample(20, decoding="sample", condition={"kind": ["x", "y"] * 10})
    under_y = model.sample(20, decoding="sample", condition={"kind": "y"})
    assert mixed[1::2] == under_y[1::2]


def test_a_label_is_changed_while_the_code_stays(run):
    model = load(run)
    changed = model.relabel(["a c", "b d"], {"kind": ["x", "y"]}, {"kind": ["y", "x"]})
    assert [text.split()[0] for text in changed] == ["b", "a"]
    codes = model.encode(["a c", "b d"], {"kind": ["x", "y"]})
    assert changed == model.decode(codes, condition={"kind": ["y", "x"]})
    alone = np.concatenate([model.given({"kind": "x"}).encode(["a c"]), model.given({"kind": "y"}).encode(["b d"])])
    np.testing.assert_allclose(codes, alone, atol=1e-6)


def test_labels_are_inferred_by_bayes_rule(run, monkeypatch):
    model = load(run)
    found = model.infer_labels(["a c", "b d", "a f"])
    assert found.labels == {"kind": ["x", "y", "x"]}
    assert (found.probability > 0.9).all()
    # By hand: p(x) = 3/4, nats 1 and 2.
    monkeypatch.setitem(model.run.environment["data"], "condition_counts", {"kind": [30, 10]})

    class Fixed(NamedTuple):
        nll: np.ndarray

    told = {"x": 2.0, "y": 1.0}
    monkeypatch.setattr(labels, "likelihood", lambda codec, *_: Fixed(np.array([told[codec]])))
    found = labels.infer_labels(model, lambda condition: condition["kind"], ["a"])
    share = 3 * math.exp(-2) / (3 * math.exp(-2) + math.exp(-1))
    assert found.marginals["kind"][0].tolist() == pytest.approx([share, 1 - share])
    assert found.labels == {"kind": ["x"]} and found.probability.tolist() == pytest.approx([share])


def test_a_transfer_infers_the_labels_that_it_is_not_told(run):
    model = load(run)
    assert [text[0] for text in model.relabel(["a c", "b d"], None, {"kind": "y"})] == ["b", "b"]
    few = model.run.environment["data"] | {"conditions": {"kind": [str(n) for n in range(1001)]}}
    model.run.environment = model.run.environment | {"data": few}
    with pytest.raises(RequestError, match="1,001 combinations of labels, and at most 1,000 are tried"):
        model.infer_labels(["a c"])


def test_a_report_shows_samples_and_a_path_under_conditions(run):
    written = textvae.evaluate(run, iw_samples=5, iw_sentences=5)
    report = run_report(open_run(run), "test", written, 0)
    assert len(report.samples) == 5 and len(report.interpolation) == 7


def test_a_probe_looks_at_the_labels_of_the_condition(run):
    found = probe_run(run, sizes=[None])["probes"]["kind"]
    assert found["values"] == 2 and found["sizes"][0]["bag_of_words"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m.sample(2), "conditional, and none is given"),
        (lambda m: m.encode(["a c"]), "conditional, and none is given"),
        (lambda m: m.sample(2, condition={"kind": "z"}), "condition kind = 'z'"),
        (lambda m: m.sample(3, condition={"kind": ["x", "y"]}), "2 values for 3 texts"),
        (lambda m: m.given({"kind": ["x", "y"]}), "2 values for 1 texts"),
        (lambda m: m.given({"sort": "x"}), "no column 'sort'"),
    ],
)
def test_conditions_that_do_not_fit_the_model(run, call, message):
    with pytest.raises(RequestError, match=message):
        call(load(run))


def test_an_unconditional_model_has_no_condition():
    settings = load_settings(data={"corpus": "grammar"})
    assert settings.model.conditioner.name == "none"
    assert build(ModelSettings(latent=2), 9).conditioning is None


def test_all_evaluations_of_a_conditional_model(run, recwarn):
    found = evaluate(run, "test", iw_samples=20, iw_sentences=8)
    assert found["bound"] == pytest.approx(found["reconstruction"] + found["kl"])
    assert math.isfinite(found["nll_iw"])
    assert found["mutual_information_sentences"] == 24  # those of one label, of 48
    assert "|given:kind|" in found["signature"] and "|given:kind|" in found["latent_signature"]
    told = textvae.diagnose(run)
    assert any("I(x; z | c)" in sentence and "N = 24" in sentence for sentence in told.sentences)
    opened = open_run(run)
    samples = opened.sample(100, 0, "sample")
    assert 30 < sum(text.startswith("a") for text in samples) < 70  # conditions as in the training text
    assert samples[:40] == open_run(run).sample(40, 0, "sample")


def test_given_the_label_a_code_of_the_label_alone_says_nothing():
    """I(x; z) is ln 2 where the code is the label, I(x; z | c) is 0."""
    mean = torch.tensor([[-4.0], [4.0]]).repeat_interleave(50, 0)
    posterior = DiagonalGaussian(mean, torch.ones(100, 1))
    z = posterior.rsample(sentence_noise(0, torch.arange(100)))[0]
    nothing = torch.zeros(100, dtype=torch.float64)
    given = {"reconstruction": nothing, "rate": nothing, "rate_kind": "exact", "rate_per_dimension": None}
    groups = torch.arange(2).repeat_interleave(50)
    for known, nats, mixed in ((None, math.log(2), 100), (groups, 0.0, 50)):
        scores = Scores(**given, kept=torch.arange(100), z=z, posterior=posterior, tokens=100, groups=known)
        found = mutual_information(*densities(scores, 100))
        assert found.nats == pytest.approx(nats, abs=0.01) and found.sentences == mixed


def test_codes_are_exchanged_under_the_same_condition_alone(run):
    opened = open_run(run)
    store = opened.corpus.split("test")
    scores = score(opened.model, store)
    gap = shuffle_gap(opened.model, store, scores, 0)
    groups = store.conditions.groups(np.arange(len(store)))
    # With every sentence a condition of its own, all keep their codes.
    alone = replace(scores, groups=torch.arange(len(store)))
    assert shuffle_gap(opened.model, store, alone, 0).abs().max() < 1e-4
    assert len(np.unique(groups)) == 2 and gap.shape == (48,)


def test_the_entropy_of_the_grammar_given_attributes(tmp_path):
    language = grammar.reviews()
    texts = language.sample(60, 1)
    store = build_store(tmp_path / "a", {"train": texts}, valid=0.0, test=0.0)["train"]
    assert conditional_entropy(store) == pytest.approx(language.entropy)
    path = tmp_path / "a.tsv"
    rows = [f"{text}\t{language.attributes(text)['sentiment']}" for text in texts]
    path.write_text("\n".join(["text\tsentiment", *rows]) + "\n")
    marks = {"sentiment": "sentiment"}
    store = build_store(tmp_path / "b", {"train": path}, condition_on=marks, valid=0.0, test=0.0)["train"]
    share = language.values["sentiment"]["positive"]
    of_sentiment = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert conditional_entropy(store) == pytest.approx(language.entropy - of_sentiment)


def test_a_conditional_run_resumes_exactly(run, tmp_path):
    settings = load_settings(run / "settings.toml", None, ["train.epochs=4"])

    def stop(step, total, record):
        if step == 7:
            raise KeyboardInterrupt

    whole = train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", stop)
    resume(tmp_path / "parts", None)
    one, other = (
        torch.cat([tensor.flatten() for tensor in load(folder).model.state_dict().values()])
        for folder in (whole.folder, tmp_path / "parts")
    )
    assert torch.equal(one, other)


def test_the_likelihood_of_given_texts_is_under_the_condition(run):
    model = load(run)
    right, wrong = (likelihood(model.given({"kind": kind}), ["a c", "a d"], 50, 0).nll for kind in "xy")
    assert (right < wrong).all()


@pytest.mark.parametrize(
    "tables, message",
    [
        ({"model": {"conditioner": {"name": "labels"}}}, "data.condition_on names, and it names none"),
        ({"data": {"condition_on": ["kind"]}}, "is a condition that the model does not read"),
        ({"model": {"prior": {"name": "conditional-gaussian"}}}, "there is no condition"),
        (
            {
                "data": {"condition_on": ["kind"]},
                "model": {
                    "conditioner": {"name": "labels"},
                    "prior": {"name": "conditional-gaussian"},
                    "posterior": {"name": "iaf"},
                },
            },
            "cannot be standardised",
        ),
        (
            {
                "data": {"condition_on": ["kind"]},
                "model": {"conditioner": {"name": "labels"}, "prior": {"name": "vamp"}},
            },
            "pseudo-sentences have no condition",
        ),
        ({"data": {"condition_on": ["kind"], "window": 12}}, "no condition of their own"),
    ],
)
def test_settings_that_do_not_fit_together(tables, message):
    with pytest.raises(RequestError, match=message):
        load_settings(**tables)


def test_missing_labels_are_refused_before_a_run_is_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,kind\n" + "\n".join(f"a {n},{'xy'[n % 2]}" for n in range(60)) + "\na b,\n")
    settings = load_settings(
        data={"train": str(path), "condition_on": ["kind"]}, model=SMALL, train={"batch_size": 2}
    )
    with pytest.raises(RequestError, match="1 of .* sentences of the .* split have no 'kind'"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_commands(run, tmp_path, monkeypatch):
    def ran(*arguments):
        done = call(*arguments)
        return done.exit_code, done.stdout, done.stderr

    code, out, _ = ran("sample", run, "-n", "3", "--condition", "kind=y", "--decode", "sample")
    assert code == 0 and len(out.splitlines()) == 3
    _, out, _ = ran("sample", run, "-n", "1", "--condition", "kind=y", "--json")
    assert json.loads(out)["condition"] == {"kind": "y"}
    _, out, _ = ran("transfer", run, "a c", "--condition", "kind=x", "--to-condition", "kind=y")
    assert out.startswith("b")
    assert ran("transfer", run, "a c", "--to-condition", "kind=y")[1] == out  # the label is inferred
    _, out, _ = ran("transfer", run, "a c", "--to-condition", "kind=y", "--json")
    assert "--condition was not given" in json.loads(out)["reasons"]["condition"]
    for arguments, message in (
        (("sample", run), "give --condition COLUMN=VALUE"),
        (("sample", run, "--condition", "kind"), "--condition kind: give COLUMN=VALUE"),
        (("sample", run, "--condition", "kind=x", "--condition", "kind=y"), "kind is given twice"),
        (
            ("transfer", run, "a c", "--condition", "kind=x", "--to-condition", "kind=y", "--from", "a"),
            "--to-condition: has no use for --from",
        ),
    ):
        code, _, err = ran(*arguments)
        assert code == 2 and message in err, arguments
    rows = "\n".join(f"the food was {n},{'xy'[n % 2]}" for n in range(300))
    (tmp_path / "a.csv").write_text(f"review,kind\n{rows}\n")
    monkeypatch.chdir(tmp_path)
    code, out, _ = ran(
        "train", "--data", "a.csv", "--label", "kind", "--condition-on", "label", "--method", "vanilla", "--dry-run"
    )
    assert code == 0 and 'condition_on = [\n    "kind",\n]' in out or 'condition_on = ["kind"]' in out
    assert 'name = "labels"' in out


def test_other_labels_of_the_same_texts_are_other_data(run, tmp_path):
    """Labels are what a model is trained on: neither resumed nor evaluated with others, nor with other names."""
    shutil.copytree(run.parent, tmp_path / "copy")
    folder = tmp_path / "copy" / "run"
    tables = [tmp_path / "copy" / f"{split}.tsv" for split in ("train", "valid", "test")]
    text = tables[0].read_text()
    for old, new in (("a c\tx", "a c\ty"), ("\tx", "\tw")):
        for table in tables:
            table.write_text(text.replace(old, new))
        with pytest.raises(RequestError, match="its condition of the train split is not the one"):
            corpus_of(Run.open(folder, tmp_path / "copy"))
    for table in tables:
        table.write_text(text)
    assert corpus_of(Run.open(folder, tmp_path / "copy")).split("train").conditions is not None


def test_weights_are_of_their_own_labels(run, tmp_path):
    rows = "\n".join(f"a {n}\t{'xz'[n % 2]}" for n in range(40))
    path = tmp_path / "other.tsv"
    path.write_text(f"text\tkind\n{rows}\n")
    given = start_document(Run.open(run)) | {
        "data": {"train": str(path), "valid": str(path), "column": "text", "condition_on": ["kind"]}
    }
    with pytest.raises(RequestError, match="--from .*: its weights are of its own labels, and 'kind' has"):
        train(load_settings(given), tmp_path / "run", start=run)
    assert not (tmp_path / "run" / "environment.json").exists()
