import numpy as np
import pytest
import torch

from textvae import inference as module
from textvae.inference import densities, evaluating, information, looked_at, score, validation
from textvae.metrics.information import mutual_information
from textvae.model import build
from textvae.parts.decoders import RecurrentDecoderSettings
from textvae.parts.encoders import RecurrentEncoderSettings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import mapped
from textvae.parts.posteriors.semi_implicit import SemiImplicitPosterior
from textvae.parts.settings import ModelSettings
from textvae.text.batches import Batch, collate


def tiny(tokenizer, latent: int = 3, word_keep: float = 1.0, **decoder):
    settings = ModelSettings(
        latent=latent,
        embedding=6,
        encoder=RecurrentEncoderSettings(hidden=5, bidirectional=True),
        decoder=RecurrentDecoderSettings(hidden=7, **decoder),
        word_keep=word_keep,
        init=0.5,
    )
    torch.manual_seed(0)
    return build(settings, len(tokenizer))


def same(found, expected) -> bool:
    """Scores must differ by no more than the rounding of float32 in another batch."""
    assert len(found) == len(expected) and found.tokens == expected.tokens
    for name in ("reconstruction", "rate", "bound", "z", "rate_per_dimension"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.posterior.mean, expected.posterior.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.posterior.std, expected.posterior.std, rtol=1e-5, atol=1e-5)
    return True


@pytest.fixture
def model(tiny_tokenizer):
    return tiny(tiny_tokenizer)


@pytest.mark.parametrize("samples", [1, 3])
def test_every_sentence_has_the_score_that_it_has_alone(model, tiny_store, samples):
    """Against the model called by hand on one sentence at a time."""
    found = score(model, tiny_store, seed=4, samples=samples)
    assert len(found) == len(tiny_store) == 40 and found.rate_kind == "exact"
    model.eval().requires_grad_(False)
    for i in range(len(tiny_store)):
        ids = torch.from_numpy(tiny_store[i].astype(np.int64))[None]
        batch = Batch(ids, torch.tensor([ids.shape[1]]), torch.tensor([i]))
        posterior = model.encode(batch)
        z = posterior.rsample(sentence_noise(4, batch.index), samples)
        nats = [-model.decoder.log_prob(ids, z[k : k + 1]).sum().item() for k in range(samples)]
        assert float(found.reconstruction[i]) == pytest.approx(sum(nats) / samples, rel=1e-5)
        torch.testing.assert_close(found.z[i], z[0, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.posterior.mean[i], posterior.mean[0], rtol=1e-5, atol=1e-5)
        variance = posterior.std.square()
        rate = float((posterior.mean.square() + variance - 1 - variance.log()).sum()) / 2
        assert float(found.rate[i]) == pytest.approx(rate, rel=1e-4)
        assert float(found.bound[i]) == pytest.approx(sum(nats) / samples + rate, rel=1e-5)


def test_sums_add_up(model, tiny_store):
    found = score(model, tiny_store)
    assert found.tokens == tiny_store.counts["tokens"]  # end marks counted
    assert found.reconstruction.dtype == found.rate.dtype == torch.float64
    torch.testing.assert_close(found.rate_per_dimension.sum(), found.rate.mean(), rtol=1e-6, atol=0)
    assert found.rate_per_dimension.shape == (3,)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("tokens", [1, 17, 100, 10**6])
def test_no_batching_changes_a_score(model, tiny_store, monkeypatch, tokens, samples):
    expected = score(model, tiny_store, 1, samples)
    monkeypatch.setattr(module, "TOKENS", tokens)
    assert same(score(model, tiny_store, 1, samples), expected)


def test_rows_keep_the_order_they_were_asked_in(model, tiny_store):
    whole = score(model, tiny_store)
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(40)[: 1 + 9 * seed]
        found = score(model, tiny_store, rows=rows)
        assert len(found) == len(rows) and found.tokens == tiny_store.lengths[rows].sum()
        index = torch.from_numpy(rows)
        torch.testing.assert_close(found.reconstruction, whole.reconstruction[index], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.z, whole.z[index], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.posterior.std, whole.posterior.std[index], rtol=1e-5, atol=1e-5)


def test_a_row_asked_for_twice_comes_twice(model, tiny_store):
    found = score(model, tiny_store, rows=np.array([7, 3, 7]))
    torch.testing.assert_close(found.z[0], found.z[2], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found.z[0], found.z[1]) and len(found) == 3


def test_the_seed_draws_other_codes_from_the_same_posteriors(model, tiny_store):
    first, second = score(model, tiny_store, seed=0), score(model, tiny_store, seed=1)
    assert torch.equal(first.rate, second.rate) and not torch.isclose(first.z, second.z).any()


def test_a_language_models_bound_is_its_likelihood(tiny_tokenizer, tiny_store):
    found = score(tiny(tiny_tokenizer, latent=0), tiny_store)
    assert torch.equal(found.bound, found.reconstruction)
    assert (found.rate, found.rate_kind, found.rate_per_dimension, found.z, found.posterior) == (None,) * 5
    assert bool((found.bound > 0).all())


def test_dropout_is_off_and_the_training_mode_comes_back(tiny_tokenizer, tiny_store):
    model = tiny(tiny_tokenizer, dropout=0.5, word_keep=0.5).train()
    state = torch.get_rng_state()
    first, second = score(model, tiny_store), score(model, tiny_store)
    assert torch.equal(first.bound, second.bound)
    assert model.training and all(part.training for part in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, score(tiny(tiny_tokenizer), tiny_store))  # the same weights without any dropout
    model.eval()
    score(model, tiny_store)
    assert not model.training


def test_evaluation_is_float32_without_gradients_and_ends_well_after_an_error(model):
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(KeyError), evaluating(model):
            assert not model.training and not torch.is_grad_enabled()
            assert not torch.is_autocast_enabled("cpu")
            raise KeyError
        assert torch.is_autocast_enabled("cpu")
    assert model.training and torch.is_grad_enabled()


def test_scores_under_autocast_are_those_without(model, tiny_store):
    expected = score(model, tiny_store)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = score(model, tiny_store)
    assert torch.equal(found.bound, expected.bound)


def test_information_is_that_of_evenly_spaced_sentences(model, tiny_store):
    """A file may be sorted, so the first ones are no sample: 4 of 40 are the 1st, 14th, 27th and 40th."""
    found = score(model, tiny_store)
    assert looked_at(found, 4).tolist() == [0, 13, 26, 39]
    for sentences in (1, 15, 40, 1000):
        some = looked_at(found, sentences)
        z, posterior = found.z[some], mapped(found.posterior, lambda rows, n=some: rows[n])
        expected = mutual_information(posterior.log_prob(z), posterior.mixture_log_prob(z))
        assert information(found, sentences) == expected
        assert expected.sentences == min(sentences, 40)


def test_information_from_below_is_of_a_semi_implicit_posterior_alone(model, tiny_store):
    assert densities(score(model, tiny_store), 40, apart=True) is None
    assert "mutual_information_lower" not in validation(model, tiny_store, 0)
    model.posterior = SemiImplicitPosterior(10, 3, noise=3, components=20)  # the encoder's two directions
    found = score(model, tiny_store)
    some = looked_at(found, 15)
    z, q = found.z[some], mapped(found.posterior, lambda rows: rows[some]).apart
    expected = mutual_information(q.log_prob(z[None])[0], q.mixture_log_prob(z))
    assert information(found, 15, apart=True) == expected
    assert expected.nats < information(found, 15).nats
    logged = validation(model, tiny_store, 0)
    assert logged["mutual_information"] == information(found, 40).nats
    assert logged["mutual_information_lower"] == information(found, 40, apart=True).nats


def test_a_batch_goes_to_a_device_whole(tiny_store):
    moved = collate(tiny_store, np.array([2, 0])).to(torch.device("meta"))
    assert isinstance(moved, Batch) and all(part.device.type == "meta" for part in moved if part is not None)


def test_codes_are_kept_of_evenly_spaced_sentences_and_nats_of_all(model, tiny_store, monkeypatch):
    """So that memory grows by a few numbers a sentence and not by a posterior."""
    every = score(model, tiny_store, seed=2)
    monkeypatch.setattr(module, "KEPT", 5)
    found = score(model, tiny_store, seed=2)
    last = len(tiny_store) - 1
    assert found.kept.tolist() == [0, last // 4, last // 2, 3 * last // 4, last] and len(found) == len(every)
    torch.testing.assert_close(found.reconstruction, every.reconstruction)
    torch.testing.assert_close(found.rate, every.rate)
    torch.testing.assert_close(found.rate_per_dimension, every.rate_per_dimension)
    torch.testing.assert_close(found.z, every.z[found.kept])
    torch.testing.assert_close(found.posterior.std, every.posterior.std[found.kept])
    rows = np.arange(len(tiny_store))[::-1].copy()
    torch.testing.assert_close(score(model, tiny_store, 2, rows=rows).z, every.z[rows[found.kept]])
