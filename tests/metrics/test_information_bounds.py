"""H - D <= I <= R of a source, a posterior and a decoder that are known."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal

from textvae.errors import RequestError
from textvae.metrics.information import information_bounds, mutual_information


def source(spread: float, sentences: int = 3000):
    """Eight equally likely sentences with codes at 0, `spread`, 2 `spread`, ... and the decoder q(x|z) itself."""
    torch.manual_seed(0)
    x = torch.randint(8, (sentences,))
    places = spread * torch.arange(8.0).double()
    z = places[x] + torch.randn(sentences).double()
    log_q = Normal(places[x], 1.0).log_prob(z)
    log_mixture = Normal(places[x], 1.0).log_prob(z[:, None]).logsumexp(1) - math.log(sentences)
    log_px = Categorical(logits=Normal(places, 1.0).log_prob(z[:, None])).log_prob(x)
    rate = log_q - Normal(places.mean(), places.std(correction=0) + 1).log_prob(z)
    return -log_px, rate, log_q, log_mixture


def test_between_two_estimates_the_lower_one_is_held_against_h_minus_d():
    reconstruction, rate, log_q, log_mixture = source(0.7)
    for shift in (0.0, 0.4):  # how far apart they are; the truth is H - D itself
        below = (log_q - shift, log_mixture)
        found = information_bounds(math.log(8), reconstruction + 0.2, rate + 1, log_q, log_mixture, below)
        assert found.mutual_information == mutual_information(log_q, log_mixture).nats
        assert found.mutual_information_lower == pytest.approx(found.mutual_information - shift)
        assert found.above_lower == pytest.approx(0.2 - shift, abs=0.01)
        assert found.below_upper == pytest.approx(found.rate - found.mutual_information)
        assert found.holds is (None if shift else True)
    assert f"between {found.mutual_information_lower:.2f} and {found.mutual_information:.2f}" in found.reason
    failing = information_bounds(math.log(8), reconstruction, rate - 3.0, log_q, log_mixture, (log_q, log_mixture))
    assert failing.holds is False
    # What is more than the estimate from above cannot be, however loose that from below is.
    failing = information_bounds(
        math.log(8), reconstruction - 0.5, rate, log_q, log_mixture, (log_q - 0.1, log_mixture)
    )
    assert failing.holds is False and failing.reason is None


@pytest.mark.parametrize("spread", [0.0, 0.7, 20.0])
def test_the_best_decoder_has_h_minus_d_equal_to_i(spread):
    reconstruction, rate, log_q, log_mixture = source(spread)
    found = information_bounds(math.log(8), reconstruction, rate, log_q, log_mixture)
    assert found.holds is True and found.reason is None and found.sentences == 3000
    assert found.mutual_information == mutual_information(log_q, log_mixture).nats
    assert found.ceiling == math.log(3000) and found.lower == math.log(8) - found.distortion
    # All sentences are drawn anew: what is left is that of their frequencies.
    assert found.above_lower == pytest.approx(0.0, abs=0.01)
    assert found.above_lower == pytest.approx(found.mutual_information - found.lower)
    assert found.below_upper == pytest.approx(found.rate - found.mutual_information)
    if spread == 20.0:
        assert found.mutual_information == pytest.approx(math.log(8), abs=0.01)


def test_a_worse_decoder_leaves_room_below_and_a_far_prior_above():
    reconstruction, rate, log_q, log_mixture = source(0.7)
    found = information_bounds(math.log(8), reconstruction + 1.5, rate + 2.0, log_q, log_mixture)
    assert found.holds is True and found.above_lower == pytest.approx(1.5, abs=0.01)
    assert found.below_upper > 2.0


def test_impossible_numbers_do_not_hold():
    reconstruction, rate, log_q, log_mixture = source(0.7)
    below = information_bounds(math.log(8), reconstruction - 0.5, rate, log_q, log_mixture)
    assert below.holds is False and below.above_lower == pytest.approx(-0.5, abs=0.01) and below.reason is None
    above = information_bounds(math.log(8), reconstruction, rate - 3.0, log_q, log_mixture)
    assert above.holds is False and above.below_upper < -2


def test_near_the_ceiling_it_cannot_be_told():
    """40 sentences tell themselves apart, and the true I is far above ln 40."""
    n = 40
    z = 100 * torch.arange(n).double()
    log_q = Normal(z, 1.0).log_prob(z)
    log_mixture = Normal(z, 1.0).log_prob(z[:, None]).logsumexp(1) - math.log(n)
    found = information_bounds(10.0, torch.linspace(0, 0.1, n), torch.full((n,), 12.0), log_q, log_mixture)
    assert found.holds is None and found.above_lower < -5
    assert found.reason == "H - D = 9.95, and the estimate of I cannot pass ln N = 3.69"


def test_numbers_that_are_not_finite_tell_nothing():
    nan = torch.tensor([0.0, math.nan])
    found = information_bounds(1.0, nan, torch.ones(2), torch.zeros(2), torch.zeros(2))
    assert found.holds is None and found.reason == "a gap or its standard error is not finite"
    one = torch.zeros(1)
    assert information_bounds(1.0, one, one, one, one).holds is None  # no standard error
    with pytest.raises(RequestError, match="0 sentences given"):
        information_bounds(1.0, one[:0], one[:0], one[:0], one[:0])
