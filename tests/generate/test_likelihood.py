"""Likelihood of given texts: what evaluation finds on the same sentences, by one text or many."""

import math
import re

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from textvae.errors import RequestError
from textvae.generate.codes import encoded
from textvae.generate.likelihood import IW_TOKENS, likelihood
from textvae.generate.neighbours import neighbours
from textvae.generate.trained import load
from textvae.inference import score
from textvae.metrics.weights import effective_samples, error_of_log_mean
from textvae.text.batches import build as build_store

from .conftest import LINES, made

TEXTS = ["great food", "the staff was nice .", "we", "i will never come back .", "the place was nice"]
NAMES = ["gaussian-mixture", "semi-implicit", "iaf", "vmf", "vamp", "refined"]


def scores(found):
    """The numbers of a likelihood as rows."""
    return np.stack([found.nll, found.nll_standard_error, found.bound, found.tokens, found.unknown])


@pytest.mark.parametrize("name", [None, *NAMES])
def test_values_are_those_of_evaluation(vae, model_with, tmp_path, name):
    from textvae.evaluation.importance import importance_weights

    model = vae if name is None else model_with(name)
    store = build_store(
        tmp_path / "store", {"train": LINES, "valid": TEXTS}, vocabulary_of=model.run.folder / "tokenizer.json"
    )
    rows = np.arange(len(TEXTS))
    weighted = importance_weights(model.model, store["valid"], rows, 30, seed=3)
    found = model.log_prob(TEXTS, samples=30, seed=3)
    np.testing.assert_allclose(found.nll, weighted.nll, rtol=1e-6)
    np.testing.assert_allclose(found.bound, score(model.model, store["valid"], 3).bound, rtol=1e-6)
    np.testing.assert_array_equal(found.tokens, store["valid"].lengths)
    assert found.unknown.tolist() == [0, 0, 0, 0, 0]


def test_texts_in_pieces_are_texts_at_once(vae, monkeypatch):
    whole = scores(vae.log_prob(TEXTS, 20, seed=1))
    pieces = [likelihood(vae, TEXTS[:2], 20, 1), likelihood(vae, TEXTS[2:], 20, 1, begin=2)]
    np.testing.assert_allclose(np.concatenate(list(map(scores, pieces)), axis=1), whole, rtol=1e-6)
    monkeypatch.setattr("textvae.generate.likelihood.IW_TOKENS", 1)
    monkeypatch.setattr("textvae.generate.likelihood.SCORED", 1)
    np.testing.assert_allclose(scores(vae.log_prob(TEXTS, 20, seed=1)), whole, rtol=1e-5)
    assert IW_TOKENS > 1


def test_one_text_and_none(vae):
    (nll,) = vae.log_prob("great food", 5).nll
    assert nll == pytest.approx(vae.log_prob(["great food"], 5).nll[0])
    assert scores(vae.log_prob([])).shape == (5, 0)


def gentle(vae):
    """The model with a posterior near the prior, so that weights are even enough for an error to first order."""
    model = load(vae.run)
    with torch.no_grad():
        for weight in model.model.posterior.parameters():
            weight *= 0.1
    return model


def test_the_error_is_that_of_estimates_with_other_draws(vae):
    """The deviation of estimates over seeds is what one estimate says of itself."""
    vae = gentle(vae)
    found = [vae.log_prob(TEXTS, 200, seed=seed) for seed in range(30)]
    deviation = np.std([one.nll for one in found], axis=0, ddof=1)
    said = np.mean([one.nll_standard_error for one in found], axis=0)
    np.testing.assert_allclose(said, deviation, rtol=0.5)


def test_the_error_by_hand():
    """Weights 1 and 3: their mean is 2 ± 1, so the logarithm is off by 1 / 2 to first order."""
    logs = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    assert error_of_log_mean(effective_samples(logs), 2).tolist() == pytest.approx([0.5, 0.0], abs=1e-7)
    assert error_of_log_mean(effective_samples(logs[:1]), 1).isnan().all()


def test_more_samples_give_a_lower_nll_and_a_smaller_error(vae):
    few, many = (vae.log_prob(TEXTS, samples) for samples in (2, 1000))
    assert many.nll.sum() < few.nll.sum() and (many.nll_standard_error < 0.2).all()
    assert np.isnan(vae.log_prob(TEXTS, 1).nll_standard_error).all()


def test_a_language_model_is_exact(lm):
    found = lm.log_prob(TEXTS, 3)
    np.testing.assert_allclose(found.nll, lm.nll(TEXTS), rtol=1e-6)
    np.testing.assert_array_equal(found.bound, found.nll)
    assert not found.nll_standard_error.any()


def test_unknown_words_are_counted_and_long_texts_are_whole(vae):
    found = vae.log_prob(["the xx yy", " ".join(["great"] * 20)], 3)
    assert found.unknown.tolist() == [2, 0] and found.tokens.tolist() == [4, 21]
    assert found.nll[1] > vae.log_prob([" ".join(["great"] * 7)], 3).nll[0]


@pytest.mark.parametrize(
    "texts, samples, message",
    [
        (["we", " "], 5, r"texts\[1\]: is empty; remove it"),
        (["we", 3], 5, r"texts\[1\]: is a int, not a string"),
        (["we"], 0, "samples = 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_scored_is_refused(vae, texts, samples, message):
    with pytest.raises((RequestError, TypeCheckError)) as error:  # the latter: every call checked
        vae.log_prob(texts, samples)
    assert isinstance(error.value, TypeCheckError) or re.search(message, str(error.value))


def test_a_model_without_density_has_no_likelihood(autoencoder):
    with pytest.raises(RequestError, match="the point posterior has no density, so a text has neither a bound nor"):
        autoencoder.log_prob(["we"])


def test_a_model_of_fixed_length_reads_no_longer_texts(tmp_path):
    model = load(made(tmp_path / "run"))
    model.run.settings = model.run.settings.model_copy(
        update={"model": model.run.settings.model.model_copy(update={"encoder": Fixed()})}
    )
    assert len(model.log_prob(["great " * 7], 2).nll) == 1
    with pytest.raises(RequestError, match=r"texts\[1\]: has 8 tokens, and this model reads at most 7"):
        model.log_prob(["we", "great " * 8], 2)


class Fixed:
    """Settings of an encoder that reads all positions that there can be."""

    fixed_length = True


# Neighbours, which are those of `generate.neighbours` on codes of the same model.


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_found_among_texts_or_codes(vae, metric):
    found = vae.neighbours(TEXTS[:2], 3, among=LINES, metric=metric)
    assert found == neighbours(vae.encode(TEXTS[:2]), encoded(vae, LINES), 3, metric)
    assert [one.text for one in found[0]] == [LINES[one.row] for one in found[0]]
    codes = vae.encode(LINES)
    for among in (codes, codes.astype(np.float64), torch.from_numpy(codes)):
        rows = vae.neighbours(TEXTS[:2], 3, among=among, metric=metric)
        assert [[one.row for one in near] for near in rows] == [[one.row for one in near] for near in found]
        assert rows[0][0].text is None
    (alone,) = vae.neighbours(TEXTS[0], 3, among=iter(LINES), metric=metric)
    assert [(one.row, one.text) for one in alone] == [(one.row, one.text) for one in found[0]]
    (near,) = vae.neighbours(LINES[2], 1, among=np.array(LINES))[0]
    assert (near.row, near.text) == (2, LINES[2]) and near.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "among, k, message",
    [
        ([], 5, "among: is empty; give texts, or their codes"),
        (np.zeros((0, 4)), 5, "among: is empty"),
        (np.zeros((3, 2)), 5, r"among: has shape \(3, 2\); codes of shape \(n, 4\) are expected"),
        (["we", None], 5, r"among\[1\]: is a NoneType, not a string: None; leave out what is missing"),
        ("the food", 5, "among = 'the food': a list of texts is expected"),
        (LINES, 0, "n = 0: must be 1 or more"),
    ],
)
def test_neighbours_of_nothing_are_refused(vae, among, k, message):
    with pytest.raises(RequestError, match=message):
        vae.neighbours("we", k, among=among)
