import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture as Reference
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from textvae.parts.posteriors import DiagonalGaussian
from textvae.parts.priors import FittedMixture, FittedSettings, Gaussians, Prior
from textvae.parts.priors.fitting import centres, fit, gaussians, least_codes, log_densities

seeds = st.integers(0, 2**31)


def prior_of(fitted: Gaussians) -> FittedMixture:
    """The prior with the tensors of a fit."""
    prior = FittedMixture(fitted.means.shape[1], len(fitted.means))
    prior.load_state_dict(fitted._asdict())
    return prior


def random_gaussians(seed: int, components: int, latent: int) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(components, latent, latent, generator=generator, dtype=torch.float64).tril()
    factors.diagonal(dim1=1, dim2=2).abs_().add_(0.3)
    weights = torch.rand(components, generator=generator, dtype=torch.float64) + 0.1
    means = 2 * torch.randn(components, latent, generator=generator, dtype=torch.float64)
    return Gaussians((weights / weights.sum()).log(), means, factors)


def clusters(seed: int = 0, n: int = 600) -> torch.Tensor:
    """Codes of three clusters of different shapes in two dimensions."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(n, 2, generator=generator) * torch.tensor([2.0, 0.3]) + torch.tensor([0.0, 6.0])
    tilted = torch.randn(n, 2, generator=generator) @ torch.tensor([[1.0, 0.8], [0.0, 0.4]]) - 5
    round_ = torch.randn(n // 2, 2, generator=generator) + torch.tensor([6.0, -2.0])
    return torch.cat([wide, tilted, round_])


# The density.


def test_a_density_by_hand():
    """0.25 N(0, 4) + 0.75 N(1, 1) at 1, and one tilted Gaussian in the plane."""
    prior = prior_of(
        Gaussians(
            torch.tensor([0.25, 0.75]).double().log(),
            torch.tensor([[0.0], [1.0]]).double(),
            torch.tensor([[[2.0]], [[1.0]]]).double(),
        )
    )
    expected = 0.25 * math.exp(-1 / 8) / math.sqrt(8 * math.pi) + 0.75 / math.sqrt(2 * math.pi)
    assert prior.log_prob(torch.tensor([1.0]).double()).item() == pytest.approx(math.log(expected), abs=1e-12)
    # L = [[1, 0], [2, 1]]: z = (1, 3) is L (1, 1), |L| = 1
    tilted = prior_of(
        Gaussians(torch.zeros(1).double(), torch.zeros(1, 2).double(), torch.tensor([[[1.0, 0], [2, 1]]]).double())
    )
    found = tilted.log_prob(torch.tensor([1.0, 3.0]).double()).item()
    assert found == pytest.approx(-1 - math.log(2 * math.pi), abs=1e-12)


@given(seeds, st.integers(1, 4), st.integers(1, 5))
def test_the_density_is_torchs(seed, components, latent):
    fitted = random_gaussians(seed, components, latent)
    reference = MixtureSameFamily(
        Categorical(logits=fitted.log_weights), MultivariateNormal(fitted.means, scale_tril=fitted.factors)
    )
    z = torch.randn(3, 2, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(prior_of(fitted).log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(prior_of(fitted).log_prob(z[0, 0]), reference.log_prob(z[0, 0]))
    assert prior_of(fitted).log_prob(z.float()).dtype == torch.float32


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_fitted_densities_integrate_to_one_in_one_and_two_dimensions(covariance):
    codes = clusters()
    line = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    one = prior_of(fit(codes[:, :1], 3, covariance)).log_prob(line[:, None]).exp().sum() * 0.01
    assert one.item() == pytest.approx(1, abs=1e-6)
    axis = torch.linspace(-25, 25, 501, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    two = prior_of(fit(codes, 3, covariance)).log_prob(grid).exp().sum() * 0.1**2
    assert two.item() == pytest.approx(1, abs=1e-4)


def test_draws_follow_the_density():
    fitted = random_gaussians(1, 3, 2)
    uniform = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(1 << 14, dtype=torch.float64)
    noise = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))[:, None]
    z = prior_of(fitted).sample(1 << 14, lambda samples, size: noise)
    weights = fitted.log_weights.exp()
    mean = weights @ fitted.means
    covariance = torch.einsum("k,kij->ij", weights, fitted.factors @ fitted.factors.mT)
    covariance += torch.einsum("k,ki,kj->ij", weights, fitted.means - mean, fitted.means - mean)
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(z.mT.cov(), covariance, rtol=0.02, atol=0.02)


# The rate.


@given(seeds, st.integers(1, 4))
def test_the_kl_of_a_gaussian_is_torchs_and_that_of_a_mixture_is_not_known(seed, latent):
    fitted = random_gaussians(seed, 1, latent)
    mean, log = torch.randn(2, 5, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    posterior = DiagonalGaussian(mean, log.exp())
    rate = posterior.rate(mean[None], prior_of(fitted))
    reference = torch.distributions.kl_divergence(
        MultivariateNormal(mean, scale_tril=log.exp().diag_embed()),
        MultivariateNormal(fitted.means[0], scale_tril=fitted.factors[0]),
    )
    assert rate.kind == "exact"
    torch.testing.assert_close(rate.nats, reference)
    assert prior_of(random_gaussians(seed, 2, latent)).kl_of_gaussian(mean, log.exp()) is None


def test_the_rate_under_a_mixture_is_an_estimate_of_the_integral():
    fitted, posterior = random_gaussians(3, 3, 1), DiagonalGaussian(torch.tensor([[0.5]]), torch.tensor([[0.7]]))
    line = torch.linspace(-20, 20, 40001)[:, None, None]
    log_q, log_p = posterior.log_prob(line), prior_of(fitted).log_prob(line)
    integral = (log_q.double().exp() * (log_q - log_p)).sum() * 1e-3
    generator = torch.Generator().manual_seed(0)
    z = posterior.rsample(lambda samples, size: torch.randn(samples, 1, size, generator=generator), 200_000)
    rate = posterior.rate(z, prior_of(fitted))
    assert rate.kind == "monte-carlo" and rate.nats.item() == pytest.approx(integral.item(), abs=0.01)


# The fit.


def test_one_component_has_the_moments_of_the_codes():
    codes = clusters().double()
    fitted = fit(codes)
    torch.testing.assert_close(fitted.means[0], codes.mean(0))
    covariance = fitted.factors[0] @ fitted.factors[0].mT
    torch.testing.assert_close(covariance, codes.mT.cov(correction=0), rtol=1e-5, atol=1e-5)
    diagonal = fit(codes, 1, "diagonal").factors[0]
    torch.testing.assert_close(diagonal, codes.std(0, correction=0).diag(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_fit_is_scikit_learns(covariance):
    """Its densities of our parameters are ours, and from there it finds nothing better."""
    codes = clusters().double()
    fitted = fit(codes, 3, covariance, seed=1)
    ours = log_densities(fitted, codes).logsumexp(1)
    covariances = fitted.factors @ fitted.factors.mT
    precisions = torch.linalg.inv(covariances)
    if covariance == "diagonal":
        precisions = precisions.diagonal(dim1=1, dim2=2)
    kind = {"full": "full", "diagonal": "diag"}[covariance]
    reference = Reference(
        3,
        covariance_type=kind,
        weights_init=fitted.log_weights.exp().numpy(),
        means_init=fitted.means.numpy(),
        precisions_init=precisions.numpy(),
        tol=1e-9,
        max_iter=500,
    ).fit(codes.numpy())
    assert ours.mean().item() == pytest.approx(reference.score(codes.numpy()), abs=5e-3)
    reference.weights_, reference.means_ = fitted.log_weights.exp().numpy(), fitted.means.numpy()
    reference.precisions_cholesky_ = np.linalg.inv(fitted.factors.numpy()).transpose(0, 2, 1)
    if covariance == "diagonal":
        reference.precisions_cholesky_ = np.stack([np.diag(one) for one in reference.precisions_cholesky_])
    np.testing.assert_allclose(reference.score_samples(codes.numpy()), ours.numpy(), rtol=0, atol=1e-9)


def test_the_fit_finds_the_clusters_and_a_seed_repeats_it():
    codes = clusters()
    fitted, again = fit(codes, 3, seed=5), fit(codes, 3, seed=5)
    assert all(torch.equal(one, other) for one, other in zip(fitted, again, strict=True))
    order = fitted.means[:, 0].argsort()
    torch.testing.assert_close(
        fitted.log_weights.exp()[order], torch.tensor([0.4, 0.4, 0.2]).double(), atol=0.01, rtol=0
    )
    expected = torch.tensor([[-5.0, -5.0], [0.0, 6.0], [6.0, -2.0]]).double()
    torch.testing.assert_close(fitted.means[order], expected, atol=0.25, rtol=0)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_no_step_lowers_the_density_of_the_codes(covariance):
    codes = clusters(3).double()
    shares = torch.rand(len(codes), 3, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    means = []
    for _ in range(30):
        parts = log_densities(gaussians(codes, shares, covariance), codes)
        means.append(parts.logsumexp(1).mean().item())
        shares = parts.softmax(1)
    assert (np.diff(means) > -1e-5).all() and means[-1] - means[0] > 0.5  # the floor may cost what it adds
    assert means[-1] <= log_densities(fit(codes, 3, covariance), codes).logsumexp(1).mean().item() + 0.01


def test_scaling_a_dimension_scales_the_fit():
    codes, scale = clusters().double(), torch.tensor([100.0, 0.01]).double()
    one, other = fit(codes, 3, seed=2), fit(codes * scale, 3, seed=2)
    torch.testing.assert_close(other.means, one.means * scale)
    torch.testing.assert_close(other.factors, one.factors * scale[:, None])


def test_codes_of_few_values_do_not_break_it():
    """A dimension without spread, fewer different codes than components."""
    codes = torch.tensor([[1.0, 7.0], [1.0, 7.0], [2.0, 7.0], [2.0, 7.0]])
    assert centres(codes.double(), 3, 0).shape == (3, 2)
    fitted = fit(codes, 3)
    assert all(tensor.isfinite().all() for tensor in fitted)
    assert prior_of(fitted).log_prob(codes).isfinite().all()


def test_enough_codes_by_hand():
    assert least_codes(10, 32, "full") == 330 and least_codes(10, 32, "diagonal") == 20


def test_it_is_a_prior_without_parameters_that_its_settings_name():
    settings = FittedSettings(name="fitted-mixture", components=10)
    prior = settings.build(3, 8)
    assert isinstance(prior, Prior) and prior.now(lambda *_: None) is prior
    assert not list(prior.parameters()) and not settings.standard and settings.fitted
    assert (
        settings.label == "fitted-mixture-10" and FittedSettings(name="fitted-gaussian").label == "fitted-gaussian"
    )
    z = torch.randn(4, 3)
    torch.testing.assert_close(prior.log_prob(z), torch.distributions.Normal(0, 1).log_prob(z).sum(1))
