import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.metrics.latent import (
    active_units,
    kl_moment_matched,
    log_det_covariance,
    mean_squared_norm,
    variance_of_means,
)

seeds = st.integers(0, 2**31)


def codes(seed: int, sentences: int, latent: int) -> torch.Tensor:
    """Correlated codes off the origin: a triangular map of normal noise, never near singular."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(sentences, latent, generator=generator, dtype=torch.float64)
    mixing = (torch.randn(latent, latent, generator=generator, dtype=torch.float64) / 2).tril(-1)
    mixing += torch.diag(0.5 + torch.rand(latent, generator=generator, dtype=torch.float64))
    return noise @ mixing + torch.randn(latent, generator=generator, dtype=torch.float64)


def test_variance_of_means_divides_by_the_number_of_sentences():
    means = torch.tensor([[0.0, 1.0, 7.0], [2.0, 1.0, 7.0], [4.0, 4.0, 7.0]])
    torch.testing.assert_close(
        variance_of_means(means), torch.tensor([8 / 3, 2.0, 0.0], dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert variance_of_means(means[:1]).tolist() == [0.0, 0.0, 0.0]


def test_active_units_by_hand():
    means = torch.tensor([[0.3, 0.6, 0.05, 5.0], [-0.3, -0.6, -0.05, 5.0]])  # variances .09, .36, .0025, 0
    assert [active_units(means, threshold) for threshold in (0.0, 0.01, 0.2, 1.0)] == [3, 2, 1, 0]


@settings(deadline=None)
@given(seeds, st.floats(-1000, 1000), st.permutations(range(6)))
def test_active_units_do_not_see_a_shift_or_the_order(seed, shift, order):
    scales = torch.tensor([0.001, 0.02, 0.3, 0.4, 1.0, 0.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (40, 6), generator=generator).double() * 2 - 1
    signs[:20] = -signs[20:]  # each dimension's variance is its scale squared
    moved = (signs * scales + shift)[:, order]
    assert (active_units(moved, 0.01), active_units(moved, 0.2)) == (3, 1)


@settings(deadline=None)
@given(seeds, st.integers(1, 6))
def test_log_det_covariance_against_numpy(seed, latent):
    z = codes(seed, 40, latent)
    _, expected = numpy.linalg.slogdet(numpy.atleast_2d(numpy.cov(z.numpy().T)))
    assert log_det_covariance(z) == pytest.approx(expected, abs=1e-8)


def test_log_det_covariance_by_hand():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])  # variances 2/3 and 8/3, none shared
    assert log_det_covariance(z) == pytest.approx(math.log(16 / 9), rel=1e-12)


def test_log_det_covariance_counts_scale_not_as_dependence():
    """Stretching dimensions by 1e-9 and 1e9 moves ln det by the logarithms alone."""
    z = codes(1, 50, 3)
    stretch = torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)
    assert log_det_covariance(z * stretch) == pytest.approx(log_det_covariance(z), abs=1e-8)
    assert log_det_covariance(z * 1e-9) == pytest.approx(log_det_covariance(z) + 6 * math.log(1e-9), abs=1e-8)


@pytest.mark.parametrize(
    "z",
    [
        codes(0, 4, 4),  # no more sentences than dimensions
        codes(0, 1, 3),
        torch.full((50, 1), 0.1),
        torch.cat([codes(0, 50, 2), torch.full((50, 1), 0.1)], dim=1),  # a dimension that never moves
        torch.cat([codes(0, 50, 2), codes(0, 50, 2)], dim=1),  # dimensions told twice
        torch.cat([codes(0, 50, 2), codes(0, 50, 2).sum(1, keepdim=True) * 1e6 + 3], dim=1),
        torch.tensor([[1e-320], [0.0], [-1e-320]], dtype=torch.float64),  # a variance too small for a number
    ],
    ids=["few", "one", "constant", "constant dimension", "twice", "sum", "underflow"],
)
def test_a_singular_covariance_is_infinitely_far_from_the_prior(z):
    assert log_det_covariance(z) == -math.inf
    assert kl_moment_matched(z) == math.inf


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(2, 5000))
def test_a_dimension_that_never_moves_is_found_at_any_value(value, sentences):
    assert log_det_covariance(torch.full((sentences, 1), value)) == -math.inf
    assert active_units(torch.full((sentences, 1), value), threshold=0.0) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_codes_that_are_not_finite_give_nan(bad):
    z = codes(0, 50, 2)
    z[7, 1] = bad
    assert math.isnan(log_det_covariance(z))
    assert math.isnan(kl_moment_matched(z))


def test_mean_squared_norm_is_the_norm_of_the_mean():
    z = torch.tensor([[3.0, 5.0], [3.0, -5.0], [3.0, 6.0]])
    assert mean_squared_norm(z) == pytest.approx(9 + 4)


@settings(deadline=None)
@given(seeds, st.integers(1, 5))
def test_moment_matched_kl_against_torch(seed, latent):
    z = codes(seed, 60, latent)
    covariance = torch.from_numpy(numpy.atleast_2d(numpy.cov(z.numpy().T)))
    normal = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(
        normal(z.mean(0), covariance_matrix=covariance),
        normal(torch.zeros(latent, dtype=torch.float64), torch.eye(latent, dtype=torch.float64)),
    )
    assert kl_moment_matched(z) == pytest.approx(expected.item(), rel=1e-8)


@settings(deadline=None)
@given(seeds)
def test_moment_matched_kl_does_not_see_a_rotation(seed):
    z = codes(seed, 60, 4)
    rotation, _ = torch.linalg.qr(codes(seed + 1, 4, 4))
    assert kl_moment_matched(z @ rotation) == pytest.approx(kl_moment_matched(z), rel=1e-8)
    assert log_det_covariance(z @ rotation) == pytest.approx(log_det_covariance(z), abs=1e-8)
    assert mean_squared_norm(z @ rotation) == pytest.approx(mean_squared_norm(z), abs=1e-8)


def test_codes_whitened_by_hand_are_at_zero():
    z = codes(0, 100, 3)
    centred = z - z.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T))).T
    assert log_det_covariance(white) == pytest.approx(0.0, abs=1e-10)
    assert kl_moment_matched(white) == pytest.approx(0.0, abs=1e-10)
    assert kl_moment_matched(white + torch.tensor([2.0, 0.0, 0.0])) == pytest.approx(2.0, abs=1e-10)


def test_bias_for_codes_from_the_prior_is_as_documented():
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(500, 8, generator=generator) for _ in range(300)]
    kl = sum(map(kl_moment_matched, draws)) / len(draws)
    norm = sum(map(mean_squared_norm, draws)) / len(draws)
    assert kl == pytest.approx(8 * 11 / (4 * 500), rel=0.05)
    assert norm == pytest.approx(8 / 500, rel=0.1)


@pytest.mark.parametrize("measure", [variance_of_means, log_det_covariance, mean_squared_norm, kl_moment_matched])
def test_no_sentences_are_refused(measure):
    with pytest.raises(RequestError) as caught:
        measure(torch.empty(0, 3))
    assert str(caught.value) == f"{measure.__name__}: 0 sentences given; at least one is needed"


@pytest.mark.parametrize("threshold", [-0.1, math.nan])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(RequestError) as caught:
        active_units(torch.zeros(2, 3), threshold)
    assert str(caught.value) == f"active_units: threshold {threshold} given; it must be 0 or more"
