import math

import numpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from textvae.errors import RequestError
from textvae.metrics.likelihood import (
    bits_per_character,
    cyclic_standard_error,
    importance_weighted_nll,
    log_mean_exp,
    perplexity,
    standard_error,
)

seeds = st.integers(0, 2**31)


def weights(seed: int, samples: int, batch: int, scale: float = 5.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, batch, generator=generator, dtype=torch.float64) * scale - 100


def test_log_mean_exp_by_hand():
    values = torch.tensor([[1.0, 0.5], [3.0, 0.5], [8.0, 0.5]], dtype=torch.float64).log()
    torch.testing.assert_close(log_mean_exp(values).exp(), torch.tensor([4.0, 0.5], dtype=torch.float64))


def test_log_mean_exp_far_outside_the_range_of_exp():
    for offset in (-5000.0, 5000.0):
        value = log_mean_exp(torch.tensor([offset, offset + math.log(3)], dtype=torch.float64)).item()
        assert value == pytest.approx(offset + math.log(2), abs=1e-10)


@settings(deadline=None)
@given(seeds, st.integers(1, 60))
def test_log_mean_exp_against_scipy(seed, samples):
    log_weights = weights(seed, samples, batch=3, scale=30.0)
    reference = special.logsumexp(log_weights.numpy(), axis=0) - math.log(samples)
    numpy.testing.assert_allclose(log_mean_exp(log_weights).numpy(), reference, rtol=0, atol=1e-12)


def test_float32_weights_are_summed_in_float64():
    log_weights = weights(0, samples=2000, batch=2).float()
    torch.testing.assert_close(log_mean_exp(log_weights), log_mean_exp(log_weights.double()), rtol=0, atol=1e-12)


def test_impossible_samples_count_as_zero_weight():
    inf = math.inf
    log_weights = torch.tensor([[-inf, -inf, 0.0], [-inf, 2.0, -inf], [-inf, -inf, inf]])
    assert log_mean_exp(log_weights).tolist() == [-inf, pytest.approx(2 - math.log(3), abs=1e-12), inf]


def test_nan_is_not_hidden():
    assert log_mean_exp(torch.tensor([[0.0], [math.nan], [1.0]])).isnan().all()


@settings(deadline=None)
@given(seeds, st.sampled_from([(1, 24), (2, 12), (3, 8), (6, 4), (12, 2)]))
def test_more_samples_never_raise_the_nll_on_average(seed, shape):
    """Jensen: the mean over groups of equal size is at or above the estimate from all samples at once."""
    size, groups = shape
    log_weights = weights(seed, samples=24, batch=2)
    parts = [importance_weighted_nll(part) for part in log_weights.split(size)]
    assert len(parts) == groups
    assert (torch.stack(parts).mean(0) >= importance_weighted_nll(log_weights) - 1e-12).all()


def test_one_sample_is_the_bound():
    log_weights = weights(0, samples=1, batch=4)
    torch.testing.assert_close(importance_weighted_nll(log_weights), -log_weights[0])


def test_exact_posterior_gives_the_exact_nll_from_any_one_sample():
    """x | z ~ N(z, 1), z ~ N(0, 1): q = N(x / 2, 1 / 2) is exact, all weights equal p(x) = N(x; 0, 2)."""
    normal = torch.distributions.Normal
    x = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
    q = normal(x / 2, math.sqrt(0.5))
    torch.manual_seed(0)
    z = q.sample((7,))
    log_weights = normal(0.0, 1.0).log_prob(z) + normal(z, 1.0).log_prob(x) - q.log_prob(z)
    expected = -normal(0.0, math.sqrt(2.0)).log_prob(x)
    torch.testing.assert_close(importance_weighted_nll(log_weights[:1]), expected)
    torch.testing.assert_close(importance_weighted_nll(log_weights), expected)


def test_a_discrete_model_against_quadrature():
    """p(x = 1 | z) = sigmoid(2 z - 1), q = N(0.5, 0.8^2): 100,000 samples reach -ln p(x), one does not."""
    normal = torch.distributions.Normal
    exact, _ = integrate.quad(lambda z: special.expit(2 * z - 1) * math.exp(-z * z / 2), -12, 12)
    exact = -math.log(exact / math.sqrt(2 * math.pi))
    q = normal(torch.tensor([0.5], dtype=torch.float64), 0.8)
    torch.manual_seed(0)
    z = q.sample((100_000,))
    log_px = torch.nn.functional.logsigmoid(2 * z - 1)
    log_weights = log_px + normal(0.0, 1.0).log_prob(z) - q.log_prob(z)
    assert importance_weighted_nll(log_weights).item() == pytest.approx(exact, abs=5e-3)
    assert -log_weights.mean().item() > exact + 0.05


def test_standard_error_by_hand_and_by_numpy():
    assert standard_error(torch.tensor([2.0, 4.0, 6.0])) == pytest.approx(2 / math.sqrt(3))
    values = weights(3, samples=1, batch=50)[0]
    assert standard_error(values) == pytest.approx(values.numpy().std(ddof=1) / math.sqrt(50), rel=1e-12)
    assert math.isnan(standard_error(torch.tensor([2.0])))
    # Groups of (3, 1) and (2, 2) values: deviations from 2 sum to 0 in both; of (3, 2) and (1, 2) to 1 and -1.
    four = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert standard_error(four, np.array([7, 7, 1, 1])) == 0.0
    assert standard_error(four, np.array([0, 5, 0, 5])) == pytest.approx(math.sqrt(2 / 1 * 2) / 4)
    assert standard_error(values, np.arange(50)[::-1]) == pytest.approx(standard_error(values), rel=1e-12)
    assert math.isnan(standard_error(four, np.zeros(4, dtype=int)))


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    assert perplexity(total_nats=21 * math.log(10_000), tokens=21) == pytest.approx(10_000)
    assert perplexity(1e6, 1) == math.inf


def test_bits_per_character_of_a_uniform_model():
    assert bits_per_character(total_nats=40 * math.log(32), characters=40) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_mean_exp(torch.empty(0, 2)), "log_mean_exp: 0 samples given; at least one is needed"),
        (
            lambda: importance_weighted_nll(torch.empty(0, 2)),
            "log_mean_exp: 0 samples given; at least one is needed",
        ),
        (lambda: standard_error(torch.empty(0)), "standard_error: 0 values given; at least one is needed"),
        (lambda: perplexity(1.0, 0), "perplexity: 0 tokens given; at least one is needed"),
        (
            lambda: bits_per_character(1.0, 0),
            "bits_per_character: 0 characters given; at least one is needed",
        ),
    ],
)
def test_nothing_to_average_is_refused(call, message):
    with pytest.raises(RequestError) as caught:
        call()
    assert str(caught.value) == message


def test_the_error_of_a_cycle_is_that_of_values_which_depend_on_their_neighbours():
    """x_i + 0.8 x_(i-1) round a ring: the mean's variance is 1.8^2 / N, where independence would say 1 + 0.8^2."""
    draws = torch.randn(4000, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sign, factor in ((0.8, 1.8), (-0.5, 0.5), (0.0, 1.0)):
        values = draws + sign * draws.roll(1, dims=1)
        errors = torch.tensor([cyclic_standard_error(one) for one in values])
        known = errors[errors.isfinite()]
        assert values.mean(1).std().item() == pytest.approx(factor / math.sqrt(40), rel=0.05)
        squares = known.square().sum() / len(errors)
        if sign >= 0:
            assert squares.item() == pytest.approx(factor**2 / 40, rel=0.05)
    assert math.isnan(cyclic_standard_error(torch.arange(3.0)))
    assert math.isnan(cyclic_standard_error(torch.tensor([1.0, -1.0] * 4)))
