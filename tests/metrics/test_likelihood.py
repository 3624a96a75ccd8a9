import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from textvae.errors import RequestError
from textvae.metrics.likelihood import (
    Likelihood,
    LogMeanExp,
    bits_per_character,
    importance_weighted_nll,
    log_mean_exp,
    perplexity,
    standard_error,
)

seeds = st.integers(0, 2**31)


def weights(seed: int, samples: int, batch: int, scale: float = 5.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, batch, generator=generator, dtype=torch.float64) * scale - 100


def running(log_weights: torch.Tensor, sizes: list[int]) -> LogMeanExp:
    state = LogMeanExp.empty(log_weights.shape[1])
    for chunk in log_weights.split(sizes):
        state = state.add(chunk)
    return state


def test_log_mean_exp_by_hand():
    values = torch.tensor([[1.0, 0.5], [3.0, 0.5], [8.0, 0.5]], dtype=torch.float64).log()
    torch.testing.assert_close(log_mean_exp(values).exp(), torch.tensor([4.0, 0.5], dtype=torch.float64))


def test_log_mean_exp_far_outside_the_range_of_exp():
    for offset in (-5000.0, 5000.0):
        value = log_mean_exp(torch.tensor([offset, offset + math.log(3)], dtype=torch.float64)).item()
        assert value == pytest.approx(offset + math.log(2), abs=1e-10)


@settings(deadline=None)
@given(seeds, st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any))
def test_any_chunking_gives_the_same_value(seed, sizes):
    samples = sum(sizes)
    log_weights = weights(seed, samples, batch=3, scale=30.0)
    state = running(log_weights, sizes)
    assert state.samples == samples
    reference = special.logsumexp(log_weights.numpy(), axis=0) - math.log(samples)
    numpy.testing.assert_allclose(state.value().numpy(), reference, rtol=0, atol=1e-12)
    numpy.testing.assert_allclose(log_mean_exp(log_weights).numpy(), reference, rtol=0, atol=1e-12)


def test_float32_weights_one_at_a_time_are_summed_in_float64():
    log_weights = weights(0, samples=2000, batch=2).float()
    one_by_one = running(log_weights, [1] * 2000).value()
    torch.testing.assert_close(one_by_one, log_mean_exp(log_weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [[3], [1, 1, 1], [2, 1]])
def test_impossible_samples_count_as_zero_weight(sizes):
    inf = math.inf
    log_weights = torch.tensor([[-inf, -inf, 0.0], [-inf, 2.0, -inf], [-inf, -inf, inf]])
    value = running(log_weights, sizes).value()
    assert value.tolist() == [-inf, pytest.approx(2 - math.log(3), abs=1e-12), inf]
    assert value.tolist() == log_mean_exp(log_weights).tolist()


def test_nan_is_not_hidden():
    log_weights = torch.tensor([[0.0], [math.nan], [1.0]])
    assert running(log_weights, [1, 1, 1]).value().isnan().all()


def test_adding_leaves_the_earlier_state_as_it_was():
    first = LogMeanExp.empty(1).add(torch.zeros(1, 1))
    first.add(torch.ones(4, 1))
    assert (first.samples, first.value().item()) == (1, 0.0)


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


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    assert perplexity(total_nats=21 * math.log(10_000), tokens=21) == pytest.approx(10_000)
    assert perplexity(1e6, 1) == math.inf


def test_bits_per_character_of_a_uniform_model():
    assert bits_per_character(total_nats=40 * math.log(32), characters=40) == pytest.approx(5.0)


def test_likelihood_by_hand():
    """Two sentences of 1 and 3 words with their end marks: 2 + 4 tokens."""
    part = Likelihood.of(torch.tensor([4.0, 10.0]), torch.tensor([1.0, 3.0]), torch.tensor([2, 4]))
    assert (part.sentences, part.tokens, part.tokens_without_end) == (2, 6, 4)
    assert (part.reconstruction, part.rate, part.bound, part.total_bound) == (7.0, 2.0, 9.0, 18.0)
    assert part.perplexity == pytest.approx(math.exp(18 / 6))
    assert part.perplexity_without_end == pytest.approx(math.exp(18 / 4))


@settings(deadline=None)
@given(seeds, st.integers(1, 20), st.integers(0, 20))
def test_batches_add_up_to_the_whole_whatever_their_sizes(seed, sentences, cut):
    generator = torch.Generator().manual_seed(seed)
    reconstruction, rate = torch.rand(2, sentences, generator=generator, dtype=torch.float64) * 100
    tokens = torch.randint(1, 30, (sentences,), generator=generator)
    whole = Likelihood.of(reconstruction, rate, tokens)
    first, second = (
        Likelihood.of(reconstruction[part], rate[part], tokens[part]) for part in (slice(cut), slice(cut, None))
    )
    total = first + second
    assert (total.sentences, total.tokens) == (whole.sentences, whole.tokens)
    assert total.bound == pytest.approx(whole.bound, rel=1e-14)
    assert total.perplexity == pytest.approx(whole.perplexity, rel=1e-12)
    assert whole.bound == pytest.approx((reconstruction + rate).mean().item(), rel=1e-14)


def test_float32_sums_keep_every_sentence():
    """In float32 a sum of 2^24 stands still when ones are added to it."""
    ones = torch.ones(1000)
    ones[0] = 2.0**24
    part = Likelihood.of(ones, torch.zeros(1000), torch.ones(1000, dtype=torch.int64))
    assert part.total_reconstruction == 2.0**24 + 999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_mean_exp(torch.empty(0, 2)), "log_mean_exp: 0 samples given; at least one is needed"),
        (
            lambda: importance_weighted_nll(torch.empty(0, 2)),
            "log_mean_exp: 0 samples given; at least one is needed",
        ),
        (
            lambda: LogMeanExp.empty(2).add(torch.empty(0, 2)).value(),
            "LogMeanExp.value: 0 samples added; at least one is needed",
        ),
        (lambda: standard_error(torch.empty(0)), "standard_error: 0 values given; at least one is needed"),
        (lambda: perplexity(1.0, 0), "perplexity: 0 tokens given; at least one is needed"),
        (
            lambda: bits_per_character(1.0, 0),
            "bits_per_character: 0 characters given; at least one is needed",
        ),
        (
            lambda: Likelihood(0.0, 0.0, sentences=0, tokens=0).bound,
            "Likelihood: 0 sentences given; at least one is needed",
        ),
        (
            lambda: Likelihood(1.0, 0.0, sentences=3, tokens=3).perplexity_without_end,
            "perplexity: 0 tokens given; at least one is needed",
        ),
    ],
)
def test_nothing_to_average_is_refused(call, message):
    with pytest.raises(RequestError) as caught:
        call()
    assert str(caught.value) == message
