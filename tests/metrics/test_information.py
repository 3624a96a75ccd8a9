import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from textvae.errors import RequestError
from textvae.metrics.information import MutualInformation, mutual_information

# The Gaussian mixture itself and what the two make together are tested in `parts/test_posteriors.py`.


def test_the_estimator_needs_only_the_two_densities():
    found = mutual_information(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.5, -2.5, -2.0]))
    assert found == MutualInformation(nats=0.0, sentences=3)


def test_the_estimate_is_a_mean_of_differences():
    found = mutual_information(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -2.25]))
    assert found == MutualInformation(nats=0.375, sentences=2) and found.ceiling == math.log(2)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_rounding_never_passes_the_ceiling(log_q):
    """Every sentence alone in its place: each term is ln N, up to what float32 loses."""
    own = torch.tensor(log_q)
    found = mutual_information(own, own - math.log(len(log_q)))
    assert found.nats <= found.ceiling and found.nats == pytest.approx(found.ceiling, abs=1e-5)


def test_nan_is_not_hidden():
    assert math.isnan(mutual_information(torch.tensor([0.0, math.nan]), torch.zeros(2)).nats)


def test_a_mixture_without_the_own_posterior_is_refused():
    means = 100 * torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    densities = Independent(Normal(means, torch.ones_like(means)), 1).log_prob(means[:, None])
    others = densities.clone().fill_diagonal_(-math.inf).logsumexp(1) - math.log(9)
    with pytest.raises(RequestError, match=r"is above ln 10 = 2\.303; log_mixture must average over all post"):
        mutual_information(densities.diagonal(), others)


def test_no_sentence_is_refused():
    with pytest.raises(RequestError) as caught:
        mutual_information(torch.empty(0), torch.empty(0))
    assert str(caught.value) == "mutual_information: 0 sentences given; at least one is needed"
