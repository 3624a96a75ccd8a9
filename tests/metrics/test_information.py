import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm
from torch.distributions import Independent, Normal

from textvae.errors import RequestError
from textvae.metrics.information import (
    MutualInformation,
    gaussian_log_mixture,
    gaussian_mutual_information,
    mutual_information,
)

seeds = st.integers(0, 2**31)


def posteriors(seed: int, sentences: int, latent: int, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Codes drawn from random diagonal posteriors: z, means, standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    means, noise, logs = torch.randn(3, sentences, latent, generator=generator, dtype=torch.float64)
    means, stds = means * spread, (logs / 2).exp()
    return means + stds * noise, means, stds


@settings(deadline=None)
@given(seeds, st.integers(1, 30), st.integers(1, 5), st.integers(1, 200))
def test_densities_against_torch_distributions_for_any_chunking(seed, sentences, latent, entries):
    z, means, stds = posteriors(seed, sentences, latent)
    densities = Independent(Normal(means, stds), 1).log_prob(z[:, None])  # (code, posterior)
    log_q, log_mixture = gaussian_log_mixture(z, means, stds, entries)
    torch.testing.assert_close(log_q, densities.diagonal(), rtol=0, atol=1e-10)
    torch.testing.assert_close(log_mixture, densities.logsumexp(1) - math.log(sentences), rtol=0, atol=1e-10)


def test_chunking_changes_the_estimate_by_less_than_1e_12():
    parts = posteriors(0, 500, 8)
    whole = gaussian_mutual_information(*parts).nats
    for entries in (1, 500, 7 * 500 + 3, 499 * 500):
        assert gaussian_mutual_information(*parts, entries=entries).nats == pytest.approx(whole, abs=1e-12)


def test_two_posteriors_by_hand():
    """Means 0 and 2, deviation 1, each code at its mean: ln q = c, ln mixture = c + ln (1 + e^-2) / 2."""
    means = torch.tensor([[0.0], [2.0]])
    found = gaussian_mutual_information(means, means, torch.ones(2, 1))
    assert found.nats == pytest.approx(math.log(2) - math.log1p(math.exp(-2)), abs=1e-12)
    assert (found.sentences, found.ceiling) == (2, math.log(2))


@settings(deadline=None)
@given(seeds, st.integers(1, 40), st.integers(1, 4), st.sampled_from([0.0, 0.1, 1.0, 30.0, 1e6]))
def test_never_above_ln_n(seed, sentences, latent, spread):
    found = gaussian_mutual_information(*posteriors(seed, sentences, latent, spread))
    assert found.nats <= found.ceiling == math.log(sentences)


def test_saturates_at_ln_n_when_every_sentence_has_its_own_place():
    z, means, stds = posteriors(0, 32, 4, spread=1e4)
    found = gaussian_mutual_information(z, means, stds)
    assert found.nats == pytest.approx(math.log(32), abs=1e-12)
    assert found.ceiling == pytest.approx(3.4657, abs=1e-4)


def test_zero_when_all_posteriors_are_equal():
    z = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 3
    found = gaussian_mutual_information(z, torch.full((300, 16), 3.0), torch.full((300, 16), 0.5))
    assert found.nats == pytest.approx(0.0, abs=1e-12)


def test_a_single_sentence_tells_nothing():
    assert gaussian_mutual_information(*posteriors(0, 1, 3)) == MutualInformation(nats=0.0, sentences=1)


def test_clusters_far_apart_give_their_entropy():
    """A posterior shared by half, a quarter, an eighth, an eighth of the sentences: 1.75 bits."""
    sizes = torch.tensor([512, 256, 128, 128])
    centres = 100 * torch.eye(4, 5)
    means = centres.repeat_interleave(sizes, dim=0)
    z = means + torch.randn(means.shape, generator=torch.Generator().manual_seed(0))
    found = gaussian_mutual_information(z, means, torch.ones_like(means))
    assert found.nats == pytest.approx(1.75 * math.log(2), abs=1e-12)  # the sizes are exact, so is this


def test_overlapping_posteriors_against_quadrature():
    """z = +-1 + 0.8 noise, one dimension: I = h(mixture) - h(noise), integrated numerically."""

    def integrand(z: float) -> float:
        density = (norm.pdf(z, -1, 0.8) + norm.pdf(z, 1, 0.8)) / 2
        return -density * math.log(density)

    entropy, _ = integrate.quad(integrand, -12, 12)
    exact = entropy - norm.entropy(scale=0.8)
    means = torch.tensor([[-1.0], [1.0]]).repeat(2000, 1)
    stds = torch.full_like(means, 0.8)
    generator = torch.Generator().manual_seed(0)
    found = [
        gaussian_mutual_information(
            means + stds * torch.randn(4000, 1, generator=generator), means, stds
        ).nats
        for _ in range(5)
    ]
    assert sum(found) / 5 == pytest.approx(exact, abs=0.01)


def test_a_gaussian_channel_has_its_capacity():
    """Means ~ N(0, I), deviation s: I = D ln(1 + 1 / s^2) / 2."""
    generator = torch.Generator().manual_seed(0)
    means, noise = torch.randn(2, 3000, 2, generator=generator)
    stds = torch.full_like(means, 0.5)
    assert gaussian_mutual_information(means + stds * noise, means, stds).nats == pytest.approx(
        math.log(1 + 1 / 0.25), abs=0.05
    )


def test_far_from_the_origin_and_sharp_is_still_exact():
    """Codes around 1000 with deviation 0.01, against the difference taken before squaring, in float64."""
    z, means, stds = posteriors(3, 60, 3, spread=0.01)
    z, means, stds = 0.01 * z + 1000, 0.01 * means + 1000, 0.01 * stds
    densities = Independent(Normal(means, stds), 1).log_prob(z[:, None])
    _, log_mixture = gaussian_log_mixture(z, means, stds)
    torch.testing.assert_close(log_mixture, densities.logsumexp(1) - math.log(60), rtol=0, atol=1e-9)


def test_sharper_than_the_products_resolve_still_stays_within_its_limits():
    """Deviation 1e-9, where products of squares are wrong by hundreds of nats: own densities are not."""
    means = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stds = torch.full_like(means, 1e-9)
    apart = gaussian_mutual_information(means, means, stds)
    assert apart.nats == pytest.approx(math.log(200), abs=1e-9)
    pairs = gaussian_mutual_information(means.repeat(2, 1), means.repeat(2, 1), stds.repeat(2, 1))
    assert math.log(200) - 1e-9 <= pairs.nats <= math.log(400)
    log_q, log_mixture = gaussian_log_mixture(means, means, stds)
    torch.testing.assert_close(log_mixture, log_q - math.log(200), rtol=0, atol=1e-9)


def test_the_estimator_needs_only_the_two_densities():
    found = mutual_information(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.5, -2.5, -2.0]))
    assert found == MutualInformation(nats=0.0, sentences=3)


def test_nan_is_not_hidden():
    z, means, stds = posteriors(0, 10, 2)
    z[3, 0] = math.nan
    assert math.isnan(gaussian_mutual_information(z, means, stds).nats)


def test_a_mixture_without_the_own_posterior_is_refused():
    z, means, stds = posteriors(0, 10, 2, spread=100.0)
    densities = Independent(Normal(means, stds), 1).log_prob(z[:, None])
    others = densities.clone().fill_diagonal_(-math.inf).logsumexp(1) - math.log(9)
    with pytest.raises(
        RequestError, match=r"is above ln 10 = 2\.303; log_mixture must average over all post"
    ):
        mutual_information(densities.diagonal(), others)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mutual_information(torch.empty(0), torch.empty(0)),
            "mutual_information: 0 sentences given; at least one is needed",
        ),
        (
            lambda: gaussian_mutual_information(*torch.empty(3, 0, 2)),
            "gaussian_log_mixture: 0 sentences given; at least one is needed",
        ),
        (
            lambda: gaussian_mutual_information(
                torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([[1.0], [-0.5]])
            ),
            "gaussian_log_mixture: a standard deviation of -0.5 given; all must be above 0",
        ),
        (
            lambda: gaussian_mutual_information(*torch.ones(3, 2, 1), entries=0),
            "gaussian_log_mixture: entries = 0 given; it must be 1 or more",
        ),
    ],
)
def test_wrong_requests_are_refused(call, message):
    with pytest.raises(RequestError) as caught:
        call()
    assert str(caught.value) == message
