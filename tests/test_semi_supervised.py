"""Labels that sentences lack, inferred in training: expectations over all of them, exactly (M2)."""

import math

import numpy as np
import pytest
import torch

from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.generate.trained import load
from textvae.model import build
from textvae.objective.objective import Objective
from textvae.objective.presets import load_settings
from textvae.objective.terms import TERMS
from textvae.parts.conditioners.inferred import LabelPosterior
from textvae.parts.noise import sentence_noise
from textvae.parts.settings import ModelSettings
from textvae.text.batches import padded
from textvae.text.conditions import MISSING, Labels
from textvae.training.loop import train

NAMES = {"kind": ["x", "y"], "size": ["l", "m", "s"]}
MODEL = {
    "latent": 2,
    "embedding": 6,
    "init": 0.6,
    "encoder": {"name": "gru", "hidden": 6},
    "decoder": {"name": "gru", "hidden": 8, "dropout": 0.0},
    "conditioner": {"name": "labels", "embedding": 3, "infer": True},
    "prior": {"name": "conditional-gaussian", "hidden": 4},
}
OBJECTIVE = {
    "kl": {"weight": {"schedule": "linear", "steps": 0.5, "unit": "run"}},
    "inferred-labels": {"classification": 5.0},
}
TERMS_USED = {"kl": {"weight": 0.7}, "bow": {"hidden": 4}, "inferred-labels": {"classification": 2.5}}


def built(**tables):
    torch.manual_seed(0)
    settings = ModelSettings.model_validate({**MODEL, **tables})
    terms = {name: TERMS[name].model_validate(table) for name, table in TERMS_USED.items()}
    return build(settings, 9, terms, names=NAMES).double().train(), terms


def batch_of(*labels):
    sentences = [[4, 5, 2], [6, 2], [4, 7, 8, 2]][: len(labels)]
    return padded(sentences, range(len(labels)))._replace(condition=Labels(torch.tensor(labels)))


def test_the_objective_is_the_expectation_over_the_labels_that_are_missing():
    """By an explicit loop over the labels, each of which is given to the model as a batch of its own."""
    model, terms = built()
    batch = batch_of([0, 2], [MISSING, 1], [MISSING, MISSING])
    noise = torch.randn(1, 3, 2, dtype=torch.float64)
    out = model(batch, lambda samples, size: noise)
    loss, raw = Objective(terms, 10)(out, 0)
    log_q = model.conditioning.classifier.log_probs(model.vector(batch))
    expected = 0.0
    model.eval()  # the plain way
    for row, known in enumerate(batch.condition.values.tolist()):
        ids = batch.ids[row : row + 1, : int(batch.lengths[row])]
        for kind in range(2) if known[0] == MISSING else (known[0],):
            for size in range(3) if known[1] == MISSING else (known[1],):
                weight = 1.0
                for n, (value, own) in enumerate(zip((kind, size), log_q, strict=True)):
                    weight = weight * (own[row, value].exp() if known[n] == MISSING else 1.0)
                one = padded([ids[0].tolist()], [row])._replace(condition=Labels(torch.tensor([[kind, size]])))
                told = model(one, lambda samples, size, row=row: noise[:, row : row + 1])
                nats = -told.log_px.sum() + 0.7 * told.posterior.rate(told.z, told.prior).nats.sum()
                expected = expected + weight * (nats - told.heads["bow"].sum())
        for n, own in enumerate(log_q):
            if known[n] == MISSING:  # KL to the uniform distribution
                expected = expected + (own[row].exp() * own[row]).sum() + math.log(own.shape[1])
            else:
                expected = expected - 2.5 * own[row, known[n]]
    assert loss.item() == pytest.approx((expected / 3).item(), rel=1e-9)
    assert set(raw) == {"reconstruction", "kl", "bow", "inferred-labels"}
    one, other = (
        torch.autograd.grad(value, model.conditioning.classifier.columns[0].weight)[0]
        for value in (loss, expected / 3)
    )
    torch.testing.assert_close(one, other)


def test_with_all_labels_given_it_is_the_supervised_objective():
    model, terms = built()
    batch = batch_of([0, 2], [1, 1])
    out = model(batch, sentence_noise(0, batch.index))
    with_classifier = model.conditioning.classifier
    model.conditioning.classifier = None
    plain = model(batch, sentence_noise(0, batch.index))
    model.conditioning.classifier = with_classifier
    torch.testing.assert_close(out.log_px, plain.log_px)
    torch.testing.assert_close(
        out.posterior.rate(out.z, out.prior).nats, plain.posterior.rate(plain.z, plain.prior).nats
    )
    assert not out.labels.kl.any() and (out.labels.given > 0).all()
    assert plain.labels is None and TERMS["inferred-labels"]()(plain, 0).item() == 0


def test_the_nats_of_labels_by_hand():
    posterior = LabelPosterior(2, [2])
    log_q = [torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()]
    found = posterior.nats(log_q, Labels(torch.tensor([[MISSING], [1]])))
    kl = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found.kl.tolist() == pytest.approx([kl, 0.0])
    assert found.given.tolist() == pytest.approx([0.0, -math.log(0.75)])


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache_of_its_own):
    """Texts of which the first word says the label, which one in six has."""
    folder = tmp_path_factory.mktemp("semi")
    rows = [(f"{first} {second}", kind) for first, kind in (("a", "x"), ("b", "y")) for second in "cdefgh" * 6]
    for split in ("train", "valid", "test"):
        lines = [f"{text}\t{kind if split != 'train' or n % 6 == 0 else ''}" for n, (text, kind) in enumerate(rows)]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tkind", *lines]) + "\n")
    data = {split: str(folder / f"{split}.tsv") for split in ("train", "valid", "test")}
    settings = load_settings(
        data={**data, "column": "text", "condition_on": ["kind"]},
        model={name: MODEL[name] for name in ("latent", "embedding", "encoder", "decoder", "conditioner")},
        objective=OBJECTIVE,
        train={"batch_size": 12, "epochs": 60, "optimizer": {"name": "adam", "lr": 0.02}, "precision": "fp32"},
    )
    return train(settings, folder / "run").folder


def test_labels_that_were_missing_are_learned(run):
    model = load(run)
    found = model.infer_labels(["a c", "b c", "a h"])
    assert found.labels == {"kind": ["x", "y", "x"]}
    assert found.marginals["kind"].sum(1).tolist() == pytest.approx([1, 1, 1])
    samples = model.sample(20, decoding="sample", condition={"kind": "y"})
    assert sum(text.startswith("b") for text in samples) >= 17
    scores = evaluate(run, iw_samples=5, iw_sentences=5)
    assert np.isfinite(scores["bound"])


@pytest.mark.parametrize(
    "tables, message",
    [
        ({"objective": {"kl": {}}}, "no term of the objective trains the classifier"),
        ({"model": {"conditioner": {"name": "labels"}}}, "the model infers no labels"),
        ({"model": {"posterior": {"name": "semi-implicit"}}}, "not of their possible labels"),
        ({"model": {"latent": 0}}, "no encoder that could read them"),
    ],
)
def test_settings_that_do_not_fit_together(tables, message):
    base = {
        "data": {"condition_on": ["kind"]},
        "model": {"conditioner": {"name": "labels", "infer": True}},
        "objective": {"kl": {}, "inferred-labels": {}},
    }
    merged = {name: {**base[name], **tables.get(name, {})} for name in base}
    if "objective" in tables:
        merged["objective"] = tables["objective"]
    with pytest.raises(RequestError, match=message):
        load_settings(**merged)


def test_held_out_sentences_must_have_labels(tmp_path):
    for split, row in (("train", "a b\t"), ("valid", "a b\t")):
        rows = "\n".join(f"{'ab'[n % 2]} {n}\t{'xy'[n % 2]}" for n in range(40))
        (tmp_path / f"{split}.tsv").write_text(f"text\tkind\n{rows}\n{row}\n")
    data = {split: str(tmp_path / f"{split}.tsv") for split in ("train", "valid")}
    settings = load_settings(
        data={**data, "column": "text", "condition_on": ["kind"]},
        model={"conditioner": MODEL["conditioner"]},
        objective=OBJECTIVE,
        train={"batch_size": 4},
    )
    with pytest.raises(RequestError, match="1 of 41 sentences of the valid split have no 'kind'"):
        train(settings, tmp_path / "run")
