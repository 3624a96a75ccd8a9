import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.metrics import discrepancy
from textvae.metrics.discrepancy import squared_mmd
from textvae.objective.terms.mmd import discrepancy as trained_on


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact(mean: torch.Tensor, std: float, s: float) -> float:
    """MMD^2(N(m, std^2 I), N(0, I)) of the Gaussian kernel, from the density of a difference of Gaussians at 0."""
    v, d, distance = s**2, len(mean), float(mean.square().sum())

    def expected(variance: float, squared: float) -> float:
        return (v / (v + variance)) ** (d / 2) * math.exp(-squared / (2 * (v + variance)))

    return expected(2 * std**2, 0) - 2 * expected(1 + std**2, distance) + expected(2, 0)


@pytest.mark.parametrize(
    ("mean", "std", "bandwidth"),
    [([1.0], 1.0, None), ([0.5, -0.5, 0.0], 0.7, None), ([0.0] * 8, 0.2, 1.5), ([0.0, 0.0], 2.0, 0.5)],
)
def test_gaussians_of_known_distance(mean, std, bandwidth):
    mean = torch.tensor(mean, dtype=torch.float64)
    found = squared_mmd(mean + std * drawn(0, 3000, len(mean)), bandwidth)
    truth = exact(mean, std, found.bandwidth)
    assert found.value == pytest.approx(truth, abs=4 * found.standard_error)
    assert found.standard_error < 0.1 * truth and found.sentences == 3000
    assert truth > 20 * found.prior_deviation
    assert found.bandwidth == (bandwidth or math.sqrt(len(mean)))


@pytest.mark.parametrize(("shift", "std"), [(0.0, 1.0), (0.5, 1.0), (0.0, 0.5)])
def test_both_errors_are_the_deviations_of_estimates(shift, std):
    """Of 400 sets of 40 codes: of the prior itself, where pairs matter alone, and of others."""
    found = [squared_mmd(shift + std * drawn(seed, 40, 2)) for seed in range(400)]
    values = torch.tensor([one.value for one in found])
    truth = exact(torch.full((2,), shift), std, math.sqrt(2))
    assert values.mean().item() == pytest.approx(truth, abs=4 * values.std().item() / 20)  # no bias
    mean_square = torch.tensor([one.standard_error for one in found]).square().mean().sqrt().item()
    if (shift, std) == (0.0, 1.0):
        assert found[0].prior_deviation == pytest.approx(values.std().item(), rel=0.12)
        assert 1.0 < mean_square / values.std().item() < 1.4  # Var E[h | z] is 0 and its estimate never below
    else:
        assert mean_square == pytest.approx(values.std().item(), rel=0.12)


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 5), st.floats(0.3, 5))
def test_it_is_the_training_terms_and_a_loop_over_pairs(seed, sentences, latent, s):
    z = drawn(seed, sentences, latent)
    found = squared_mmd(z, s)
    assert found.value == pytest.approx(float(trained_on(z[:, None], s)), abs=1e-10)
    v, total = s**2, 0.0
    for i in range(sentences):
        for j in set(range(sentences)) - {i}:
            total += math.exp(-float((z[i] - z[j]).square().sum()) / (2 * v))
    across = sum(math.exp(-float(code @ code) / (2 * (v + 1))) for code in z) * (v / (v + 1)) ** (latent / 2)
    expected = total / (sentences * (sentences - 1)) - 2 * across / sentences + (v / (v + 2)) ** (latent / 2)
    assert found.value == pytest.approx(expected, abs=1e-10)
    assert math.isnan(found.standard_error) == (sentences < 5)


def test_chunks_change_nothing(monkeypatch):
    z = 0.5 * drawn(3, 50, 4)
    whole = squared_mmd(z)
    monkeypatch.setattr(discrepancy, "ROWS", 7)
    part = squared_mmd(z)
    assert part.value == pytest.approx(whole.value, abs=1e-13)
    assert part.standard_error == pytest.approx(whole.standard_error, rel=1e-9)


def test_codes_that_are_not_finite_are_not_hidden():
    z = drawn(0, 10, 2)
    z[3, 1] = math.nan
    found = squared_mmd(z)
    assert math.isnan(found.value) and math.isnan(found.standard_error) and found.prior_deviation > 0


def test_what_cannot_be_is_refused():
    with pytest.raises(RequestError, match="^squared_mmd: 1 codes given; at least two are needed$"):
        squared_mmd(torch.zeros(1, 3))
    for bandwidth in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(RequestError, match="must be above 0 and finite"):
            squared_mmd(torch.zeros(4, 3), bandwidth)
