import numpy as np
import pytest
import torch

from textvae.errors import RequestError
from textvae.generate.sources import posterior_draws, tail_draws, tail_map, volume_preserving_bound
from textvae.parts.noise import sentence_noise
from textvae.text.batches import padded

TEXTS = ["great food", "the staff was nice .", "we"]


def test_posterior_draws_are_the_posteriors_and_fewer_are_the_first_of_more(vae):
    posterior = vae.posterior(TEXTS)
    draws = posterior_draws(vae, TEXTS, 600, seed=1)
    assert draws.shape == (3, 600, 4)
    np.testing.assert_allclose(draws.mean(axis=1), posterior.mean, atol=5 * posterior.std.max().item() / 600**0.5)
    np.testing.assert_allclose(draws.std(axis=1), posterior.std, rtol=0.15)
    np.testing.assert_array_equal(posterior_draws(vae, TEXTS, 3, seed=1), draws[:, :3])
    np.testing.assert_array_equal(posterior_draws(vae, TEXTS[:2], 3, seed=1), draws[:2, :3])
    assert not np.array_equal(posterior_draws(vae, TEXTS, 3, seed=2), draws[:, :3])
    assert posterior_draws(vae, [], 3).shape == (0, 3, 4)
    with pytest.raises(RequestError, match="samples = 0: must be 1 or more"):
        posterior_draws(vae, TEXTS, 0)


def test_all_draws_of_an_autoencoder_are_its_code(autoencoder):
    draws = posterior_draws(autoencoder, TEXTS, 3)
    np.testing.assert_array_equal(draws, np.repeat(autoencoder.encode(TEXTS)[:, None], 3, axis=1))


def test_tail_draws_are_the_priors_draws_through_one_map(vae):
    codes = tail_draws(vae, 50, seed=3, bound=0.1)
    there = tail_map(4, 3, 0.1).numpy()
    assert codes.dtype == np.float32 and np.abs(there).max() <= 0.1
    np.testing.assert_allclose(codes, [there @ z for z in vae.draw(50, seed=3)], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tail_draws(vae, 10, seed=3, bound=0.1), codes[:10])
    assert np.linalg.matrix_rank(codes) == 4 and not np.array_equal(there, tail_map(4, 4, 0.1))


def test_the_map_into_the_tails_is_independent_of_every_draw_that_it_maps():
    """Over seeds, the codes of one number have a mean of 0 and the deviation c root(latent / 3)."""
    latent, codes = 32, []
    for seed in range(200):
        codes.append(sentence_noise(seed, torch.arange(5))(1, latent)[0] @ tail_map(latent, seed, 1.0).T)
    standard = torch.stack(codes) / (latent / 3) ** 0.5
    assert standard.mean(0).abs().max() < 5 / 200**0.5
    torch.testing.assert_close(standard.std(0), torch.ones(5, latent), rtol=0, atol=0.25)


@pytest.mark.parametrize("latent", [2, 16, 64])
def test_the_chosen_bound_keeps_volumes_on_average_and_stretches_some_directions(latent):
    """The paper: approximately volume-preserving, some eigenspaces stretched by up to a factor of 4."""
    maps = [tail_map(latent, seed) for seed in range(100)]
    per_dimension = torch.stack([torch.linalg.slogdet(one.double())[1] for one in maps]) / latent
    assert per_dimension.mean().abs() < 5 * per_dimension.std() / 300**0.5 + 0.3 / latent  # elements are not normal
    assert max(one.abs().max() for one in maps) <= volume_preserving_bound(latent)
    stretch = torch.stack([torch.linalg.matrix_norm(one, 2) for one in maps]).mean()
    assert 2 < stretch < 4


def test_tails_that_there_are_not(vae, sphere, lm):
    with pytest.raises(
        RequestError, match="tail draws are of a standard normal prior, and this one is uniform-sphere"
    ):
        tail_draws(sphere, 2)
    with pytest.raises(RequestError, match="is a language model"):
        tail_draws(lm, 2)
    for bound in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RequestError, match=f"bound = {bound}: must be above 0, and finite"):
            tail_draws(vae, 2, bound=bound)


@pytest.mark.parametrize("name", ["semi-implicit", "refined", "iaf", "gaussian-mixture", "vmf"])
def test_draws_have_the_moments_of_the_posterior_and_are_independent(model_with, name):
    """Those of a long run, in which everything random is drawn anew for every code."""
    model, text = model_with(name), "the staff was nice ."
    ids, _ = model.token_ids([text])
    many = padded(ids * 2000, range(2000))
    with torch.no_grad():
        noise = sentence_noise(7, many.index)
        reference = model.model.encode(many, noise).rsample(noise)[0].double()
    draws = torch.from_numpy(posterior_draws(model, [text] * 300, 4, seed=1)).double()
    every, deviation = draws.flatten(0, 1), reference.std(0)
    assert ((every.mean(0) - reference.mean(0)).abs() < 4 * deviation * (1 / 1200 + 1 / 2000) ** 0.5).all()
    torch.testing.assert_close(every.std(0), deviation, rtol=0.12, atol=1e-3)
    torch.testing.assert_close(every.T.corrcoef(), reference.T.corrcoef(), rtol=0, atol=0.15)
    between = torch.cat([draws[:, 0], draws[:, 1]], dim=1).T.corrcoef()[:4, 4:]  # of two draws of each text
    torch.testing.assert_close(between, torch.zeros(4, 4).double(), rtol=0, atol=0.25)
    again = posterior_draws(model, [text] * 3, 1, seed=5)[:, 0]
    assert model.reconstruct([text] * 3, sample_posterior=True, seed=5) == model.decode(again, seed=5)


def test_every_draw_of_a_semi_implicit_posterior_has_a_component_of_its_own(model_with):
    model = model_with("semi-implicit")
    last = model.model.posterior.rest[1]
    with torch.no_grad():
        last.weight[4:], last.bias[4:] = 0.0, -20.0  # scales of 5e-5: a code is its component's mean
    draws = posterior_draws(model, ["we"] * 40, 5).reshape(200, 4)
    nearest = np.linalg.norm(draws[:, None] - draws, axis=2) + 9 * np.eye(200)
    assert nearest.min() > 1e-3
