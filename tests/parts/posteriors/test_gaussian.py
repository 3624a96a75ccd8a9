import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from textvae.metrics.information import MutualInformation, mutual_information
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianPosterior, gaussian_kl, joined, mapped
from textvae.parts.posteriors.gaussian import positive
from textvae.parts.priors import Prior, StandardNormal
from textvae.settings.fields import Scale

seeds = st.integers(0, 2**31)


def drawn(seed: int, sentences: int, latent: int, spread: float = 1.0) -> tuple[torch.Tensor, DiagonalGaussian]:
    """Random posteriors and one code from each, in float64."""
    generator = torch.Generator().manual_seed(seed)
    mean, noise, logs = torch.randn(3, sentences, latent, generator=generator, dtype=torch.float64)
    mean, std = mean * spread, (logs / 2).exp()
    return mean + std * noise, DiagonalGaussian(mean, std)


def information(z: torch.Tensor, posterior: DiagonalGaussian) -> MutualInformation:
    return mutual_information(posterior.log_prob(z), posterior.mixture_log_prob(z))


def test_the_kl_by_hand():
    """KL(N(3, 4) || N(0, 1)) = (9 + 4 - 1) / 2 - ln 2; KL(N(0, 1) || N(0, 1)) = 0."""
    found = gaussian_kl(torch.tensor([3.0, 0.0]), torch.tensor([2.0, 1.0]))
    assert found.tolist() == pytest.approx([6 - math.log(2), 0.0], rel=1e-6)


@given(seeds, st.integers(1, 20), st.integers(1, 8), st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_rate_is_torchs_closed_form(seed, sentences, latent, spread):
    z, posterior = drawn(seed, sentences, latent, spread)
    zero, one = torch.zeros(latent).double(), torch.ones(latent).double()
    per_dimension = kl_divergence(Normal(posterior.mean, posterior.std), Normal(zero, one))
    torch.testing.assert_close(posterior.rate_per_dimension(StandardNormal(3)), per_dimension)
    rate = posterior.rate(z[None], StandardNormal(latent))
    assert rate.kind == "exact" and bool((rate.nats >= 0).all())
    torch.testing.assert_close(rate.nats, per_dimension.sum(1))


class Shifted(Prior):
    """N(1, I), a prior without a closed form here."""

    def sample(self, n, noise): ...

    def log_prob(self, z):
        return Normal(1.0, 1.0).log_prob(z).sum(-1)


def test_the_rate_to_another_prior_is_averaged_over_the_codes():
    _, posterior = drawn(0, 3, 2)
    z = posterior.rsample(sentence_noise(0, torch.arange(3)), 20_000)
    rate = posterior.rate(z, Shifted())
    exact = kl_divergence(Normal(posterior.mean, posterior.std), Normal(torch.ones(2).double(), 1.0)).sum(1)
    assert rate.kind == "monte-carlo"
    torch.testing.assert_close(rate.nats, exact, rtol=0, atol=0.05)


@given(seeds, st.integers(1, 10), st.integers(1, 5), st.integers(1, 4))
def test_the_density_is_torchs_for_one_code_or_several(seed, sentences, latent, samples):
    _, posterior = drawn(seed, sentences, latent)
    z = posterior.rsample(sentence_noise(seed, torch.arange(sentences)), samples)
    assert z.shape == (samples, sentences, latent)
    expected = Independent(Normal(posterior.mean, posterior.std), 1).log_prob(z)
    torch.testing.assert_close(posterior.log_prob(z), expected)
    torch.testing.assert_close(posterior.log_prob(z[0]), expected[0])


def test_draws_are_mean_plus_std_times_noise_with_gradients():
    mean = torch.tensor([[1.0, 2.0]], requires_grad=True)
    std = torch.tensor([[0.5, 2.0]], requires_grad=True)
    noise = torch.tensor([[[1.0, -1.0]], [[2.0, 0.0]]])
    z = DiagonalGaussian(mean, std).rsample(lambda samples, size: noise[:samples, :, :size], 2)
    assert z.tolist() == [[[1.5, 0.0]], [[2.0, 2.0]]]
    by_mean, by_std = torch.autograd.grad(z.sum(), [mean, std])
    assert by_mean.tolist() == [[2.0, 2.0]] and by_std.tolist() == [[3.0, -1.0]]


def test_some_of_the_sentences():
    _, posterior = drawn(0, 5, 2)
    some = mapped(posterior, lambda rows: rows[1:3])
    assert torch.equal(some.mean, posterior.mean[1:3])
    assert torch.equal(some.std, posterior.std[1:3])
    whole = joined([mapped(posterior, lambda rows: rows[:2]), mapped(posterior, lambda rows: rows[2:])])
    assert torch.equal(whole.mean, posterior.mean) and torch.equal(whole.std, posterior.std)


def test_mean_and_scale_are_linear_in_the_encoders_vector():
    hidden = torch.tensor([[1.0, 2.0]])
    softplus = [math.log1p(math.exp(1.0)), math.log1p(math.exp(2.0))]
    scales = {
        "log-variance": [math.exp(0.5), math.exp(1.0)],
        "softplus": softplus,
        "softplus-variance": [math.sqrt(variance) for variance in softplus],
    }
    for scale, wanted in scales.items():
        module = GaussianPosterior(2, 2, scale)
        with torch.no_grad():
            module.parameters_of.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]]))
            module.parameters_of.bias.copy_(torch.tensor([10.0, 20.0, 0.0, 0.0]))
        posterior = module(hidden)
        assert posterior.mean.tolist() == [[11.0, 22.0]]
        assert posterior.std[0].tolist() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("scale", get_args(Scale))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scales_rise_from_near_zero_with_finite_gradients(scale, dtype):
    raw = torch.tensor([-150.0, -50.0, -1.0, 0.0, 1.0, 50.0], dtype=dtype, requires_grad=True)
    std = positive(raw, scale)
    (slope,) = torch.autograd.grad(std.sum(), raw)
    assert bool((std.diff()[1:] > 0).all() and (slope[1:] > 0).all() and slope.isfinite().all())
    assert std[0] < 1e-15


def test_the_scale_of_old_runs_is_what_it_was():
    """`softplus` in their settings is of sigma, number by number."""
    raw = torch.linspace(-30, 30, 101)
    assert torch.equal(positive(raw, "softplus"), torch.nn.functional.softplus(raw))
    assert torch.equal(positive(raw, "log-variance"), (0.5 * raw).exp())
    raw = torch.tensor(math.log(math.e**4 - 1), dtype=torch.float64)  # whose softplus is 4
    assert positive(raw, "softplus-variance").item() == pytest.approx(2.0)


def test_parameters_are_float32_under_autocast():
    module = GaussianPosterior(3, 2)
    hidden = torch.randn(4, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = module(hidden)
        assert posterior.rate_per_dimension(StandardNormal(2)).dtype == torch.float32
    expected = module(hidden.float())
    assert torch.equal(posterior.mean, expected.mean) and torch.equal(posterior.std, expected.std)


@given(seeds, st.integers(1, 30), st.integers(1, 5), st.integers(1, 200))
def test_the_mixture_is_torchs_for_any_chunking(seed, sentences, latent, entries):
    z, posterior = drawn(seed, sentences, latent)
    parts = Independent(Normal(posterior.mean, posterior.std), 1)
    expected = MixtureSameFamily(Categorical(torch.ones(sentences).double()), parts).log_prob(z)
    torch.testing.assert_close(posterior.mixture_log_prob(z, entries), expected, rtol=0, atol=1e-10)


def test_chunking_changes_the_mixture_by_less_than_1e_12():
    z, posterior = drawn(0, 60, 8)
    whole = posterior.mixture_log_prob(z).mean()
    for entries in (1, 60, 7 * 60 + 3, 59 * 60):
        assert abs(float(posterior.mixture_log_prob(z, entries).mean() - whole)) < 1e-12


def test_two_posteriors_by_hand():
    """Means 0 and 2, deviation 1, each code at its mean: ln q = c, ln mixture = c + ln (1 + e^-2) / 2."""
    mean = torch.tensor([[0.0], [2.0]])
    found = information(mean, DiagonalGaussian(mean, torch.ones(2, 1)))
    # The codes' own densities are float32.
    assert found.nats == pytest.approx(math.log(2) - math.log1p(math.exp(-2)), abs=1e-6)
    assert (found.sentences, found.ceiling) == (2, math.log(2))


@given(seeds, st.integers(1, 40), st.integers(1, 4), st.sampled_from([0.0, 0.1, 1.0, 30.0, 1e6]))
def test_the_information_is_never_above_ln_n(seed, sentences, latent, spread):
    found = information(*drawn(seed, sentences, latent, spread))
    assert found.nats <= found.ceiling == math.log(sentences)


def test_it_saturates_at_ln_n_when_every_sentence_has_its_own_place():
    found = information(*drawn(0, 32, 4, spread=1e4))
    assert found.nats == pytest.approx(math.log(32), abs=1e-12)
    assert found.ceiling == pytest.approx(3.4657, abs=1e-4)


def test_it_is_zero_when_all_posteriors_are_equal():
    z = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)).double() * 0.5 + 3
    posterior = DiagonalGaussian(torch.full((300, 16), 3.0).double(), torch.full((300, 16), 0.5).double())
    assert information(z, posterior).nats == pytest.approx(0.0, abs=1e-12)


def test_a_single_sentence_tells_nothing():
    found = information(*drawn(0, 1, 3))
    assert found.sentences == 1 and found.nats == pytest.approx(0.0, abs=1e-12)


def test_clusters_far_apart_give_their_entropy():
    """A posterior shared by half, a quarter, an eighth, an eighth of the sentences: 1.75 bits."""
    sizes = torch.tensor([512, 256, 128, 128])
    mean = (100 * torch.eye(4, 5)).double().repeat_interleave(sizes, dim=0)
    z = mean + torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)).double()
    found = information(z, DiagonalGaussian(mean, torch.ones_like(mean)))
    assert found.nats == pytest.approx(1.75 * math.log(2), abs=1e-9)  # the sizes are exact, so is this


def test_overlapping_posteriors_against_quadrature():
    """z = +-1 + 0.8 noise, one dimension: I = h(mixture) - h(noise), integrated numerically."""

    def integrand(z: float) -> float:
        density = (norm.pdf(z, -1, 0.8) + norm.pdf(z, 1, 0.8)) / 2
        return -density * math.log(density)

    entropy, _ = integrate.quad(integrand, -12, 12)
    exact = entropy - norm.entropy(scale=0.8)
    mean = torch.tensor([[-1.0], [1.0]]).repeat(2000, 1)
    posterior = DiagonalGaussian(mean, torch.full_like(mean, 0.8))
    generator = torch.Generator().manual_seed(0)
    found = [
        information(posterior.mean + posterior.std * torch.randn(4000, 1, generator=generator), posterior).nats
        for _ in range(5)
    ]
    assert sum(found) / 5 == pytest.approx(exact, abs=0.01)


def test_a_gaussian_channel_has_its_capacity():
    """Means ~ N(0, I), deviation s: I = D ln(1 + 1 / s^2) / 2."""
    mean, noise = torch.randn(2, 3000, 2, generator=torch.Generator().manual_seed(0))
    posterior = DiagonalGaussian(mean, torch.full_like(mean, 0.5))
    found = information(posterior.mean + posterior.std * noise, posterior)
    assert found.nats == pytest.approx(math.log(1 + 1 / 0.25), abs=0.05)


def test_far_from_the_origin_and_sharp_is_still_exact():
    """Codes around 1000 with deviation 0.01, against the difference taken before squaring, in float64."""
    z, posterior = drawn(3, 60, 3, spread=0.01)
    z, posterior = 0.01 * z + 1000, DiagonalGaussian(0.01 * posterior.mean + 1000, 0.01 * posterior.std)
    densities = Independent(Normal(posterior.mean, posterior.std), 1).log_prob(z[:, None])
    expected = densities.logsumexp(1) - math.log(60)
    torch.testing.assert_close(posterior.mixture_log_prob(z), expected, rtol=0, atol=1e-9)


def test_sharper_than_the_products_resolve_still_stays_within_its_limits():
    """Deviation 1e-9, where products of squares are wrong by hundreds of nats: own densities are not."""
    mean = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior = DiagonalGaussian(mean, torch.full_like(mean, 1e-9))
    assert information(mean, posterior).nats == pytest.approx(math.log(200), abs=1e-9)
    twice = DiagonalGaussian(mean.repeat(2, 1), posterior.std.repeat(2, 1))
    assert math.log(200) - 1e-9 <= information(twice.mean, twice).nats <= math.log(400)
    expected = posterior.log_prob(mean) - math.log(200)
    torch.testing.assert_close(posterior.mixture_log_prob(mean), expected, rtol=0, atol=1e-9)


def test_nan_is_not_hidden():
    z, posterior = drawn(0, 10, 2)
    z[3, 0] = math.nan
    assert math.isnan(information(z, posterior).nats)


def test_a_diverged_posterior_gives_nan_and_no_exception():
    """Training reports it with the step and a remedy; torch's own check of arguments would come first."""
    z, posterior = drawn(0, 10, 2)
    posterior.mean[0, 0] = math.nan
    posterior.std[1, 0] = -1.0
    assert posterior.log_prob(z).isnan().tolist() == [True, True] + [False] * 8
    assert math.isnan(information(z, posterior).nats)
