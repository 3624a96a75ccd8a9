import math

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from textvae.errors import RequestError
from textvae.metrics.likelihood import log_mean_exp
from textvae.metrics.weights import caveat, effective_samples, heavy, pareto_shape


def test_effective_samples_by_hand_and_whatever_their_scale():
    weights = torch.tensor([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], dtype=torch.float64)
    found = effective_samples(weights.log() - 1000.0)
    assert found.tolist() == pytest.approx([3.0, 36 / 14])
    assert effective_samples(torch.tensor([[5.0]])).item() == 1.0
    with pytest.raises(RequestError, match="effective_samples: 0 samples"):
        effective_samples(torch.empty(0, 2))


@pytest.mark.parametrize("shape", [0.1, 0.3, 0.7, 1.2])
def test_the_shape_of_a_generalised_pareto_distribution_is_found(shape):
    drawn = genpareto(shape).rvs((2000, 60), random_state=0)
    found = pareto_shape(torch.from_numpy(drawn).log())
    # The prior of ten observations at 1/2, of 135 in the tail, pulls towards it.
    expected = (135 * shape + 5) / 145
    assert found.mean().item() == pytest.approx(expected, abs=0.06)
    alike = pareto_shape(torch.from_numpy(drawn).log() + 300.0)
    torch.testing.assert_close(alike, found, rtol=0, atol=1e-6)


def test_the_shape_is_that_of_an_independent_fit():
    """Against the plain loop over sentences and the grid of the paper's own description."""
    log_weights = 1.5 * torch.randn(500, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = pareto_shape(log_weights)
    for at in range(5):
        w = np.sort(np.exp(log_weights[:, at].numpy()))
        m = math.ceil(min(100, 3 * math.sqrt(500)))
        x = w[-m:] - w[-m - 1]
        points = 30 + int(math.sqrt(m))
        quartile = x[int(m / 4 + 0.5) - 1]
        grid = [(1 - math.sqrt(points / (j - 0.5))) / (3 * quartile) + 1 / x[-1] for j in range(1, points + 1)]
        k = [np.mean(np.log1p(-b * x)) for b in grid]
        fits = [m * (math.log(-b / own) - own - 1) for b, own in zip(grid, k, strict=True)]
        weights = [1 / sum(math.exp(other - own) for other in fits) for own in fits]
        b = sum(w * own for w, own in zip(weights, grid, strict=True))
        assert found[at].item() == pytest.approx((m * np.mean(np.log1p(-b * x)) + 5) / (m + 10), rel=1e-9)


def test_equal_weights_have_no_tail_and_few_have_no_shape():
    rounding = 1e-6 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert pareto_shape(torch.zeros(500, 2)).tolist() == [-math.inf] * 2
    assert pareto_shape(rounding).tolist() == [-math.inf] * 2
    assert pareto_shape(torch.zeros(24, 2)) is None and pareto_shape(torch.zeros(25, 2)) is not None


def test_weights_that_lose_much_of_the_likelihood_are_called_uneven_and_others_are_not():
    """Log-normal weights, whose mean is known: the bias of the estimate grows with their deviation."""
    for deviation, uneven in ((0.5, False), (1.0, False), (2.0, True), (3.0, True)):
        log_weights = deviation * torch.randn(500, 800, generator=torch.Generator().manual_seed(1)).double()
        lost = deviation**2 / 2 - log_mean_exp(log_weights).mean().item()
        effective, shape = effective_samples(log_weights), pareto_shape(log_weights)
        scores = {
            "iw_samples": 500,
            "iw_effective_samples_low": effective.quantile(0.05).item(),
            "iw_heavy_tailed": (shape > heavy(500)).double().mean().item(),
        }
        assert (caveat(scores) is not None) == uneven == (lost > 0.015)
    assert "one sentence in 20 has at most 1.9 effective samples of 500" in caveat(scores)
    assert "have a heavy tail (Pareto k above 0.63), so the NLL can be too high" in caveat(scores)


def test_old_and_exact_evaluations_have_no_caveat():
    assert caveat({}) is None
    assert caveat({"iw_effective_samples_low": None, "iw_heavy_tailed": None, "iw_samples": 0}) is None
