"""The fitted flow: its density by hand, by autograd and by quadrature, its sampler, and its fit."""

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from textvae.parts.priors import FittedFlow, FittedFlowSettings, Prior
from textvae.parts.priors.flow_fitting import fit_flow

pytest.importorskip("zuko")


def ring(n: int, seed: int = 0) -> torch.Tensor:
    """Codes around a circle in the plane, which no Gaussian describes."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    circle = 3 * torch.stack([angle.cos(), angle.sin()], dim=1) + torch.tensor([5.0, -2.0])
    return circle + 0.4 * torch.randn(n, 2, generator=generator)


def random_flow(latent: int, transforms: int = 2) -> FittedFlow:
    """A flow of drawn weights, moments too."""
    torch.manual_seed(latent)
    flow = FittedFlow(latent, transforms, 16, 5)
    for parameter in flow.splines.parameters():
        parameter.normal_(std=0.7)
    flow.mean.normal_()
    flow.factor.normal_().tril_().diagonal().abs_().add_(0.3)
    return flow


@pytest.fixture(scope="module")
def fitted() -> dict[int, FittedFlow]:
    """A flow fitted to one dimension of a ring, and one fitted to both."""
    codes, others = ring(1000), ring(300, 1)
    return {size: fit_flow(codes[:, :size], others[:, :size], FittedFlowSettings())[0] for size in (1, 2)}


# The density.


def test_a_density_by_hand():
    """Two bins of width and height 5 with derivatives 1, 2, 1 at -5, 0, 5: eqs. 4 and 5 of Durkan et al. 2019.

    At 2.5, in the middle of the second bin, f = 5 (1/4 + 2/4) / (1 + 1/4) = 3, and
    df/du = (1/4 + 2/4 + 2/4) / (1 + 1/4)^2 = 0.8. At 0 f = 0 and df/du = 2. At 6 f is the identity.
    """
    flow = FittedFlow(1, 1, 4, 2)
    log = math.log(2)
    derivatives = list(flow.splines.parameters())[2]
    derivatives.fill_(log / (1 + log / math.log(1e-3)))  # the library bounds the logarithms of slopes
    flow.mean.fill_(1.0)
    flow.factor.fill_(2.0)
    z = 1 + 2 * torch.tensor([[2.5], [0.0], [6.0]], dtype=torch.float64)
    normal = Normal(0.0, 1.0)
    base, slope = torch.tensor([3.0, 0.0, 6.0], dtype=torch.float64), torch.tensor([0.8, 2.0, 1.0]).double()
    torch.testing.assert_close(flow.log_prob(z), normal.log_prob(base) + slope.log() - log)


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_the_density_is_that_of_the_change_of_variables(latent):
    """Against the determinant of the Jacobian by autograd, whichever sizes z has."""
    flow = random_flow(latent)
    z = flow.mean + torch.randn(2, 3, latent, dtype=torch.float64) @ flow.factor.mT

    def base(one: torch.Tensor) -> torch.Tensor:
        return flow.splines(None)(flow.scaled(one[None]))[0]

    for i, j in ((0, 0), (1, 2)):
        jacobian = torch.autograd.functional.jacobian(base, z[i, j])
        expected = Normal(0.0, 1.0).log_prob(base(z[i, j])).sum() + torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(flow.log_prob(z)[i, j], expected)
    torch.testing.assert_close(flow.log_prob(z[0, 1]), flow.log_prob(z)[0, 1])
    assert flow.log_prob(z.float()).dtype == torch.float32 and flow.log_prob(z).shape == (2, 3)


def test_fitted_densities_integrate_to_one_in_one_and_two_dimensions(fitted):
    line = torch.linspace(-15, 25, 8001, dtype=torch.float64)
    assert fitted[1].log_prob(line[:, None]).exp().sum().item() * 0.005 == pytest.approx(1, abs=1e-4)
    across, up = torch.linspace(-6, 16, 441).double(), torch.linspace(-13, 9, 441).double()
    grid = torch.cartesian_prod(across, up)
    assert fitted[2].log_prob(grid).exp().sum().item() * 0.05**2 == pytest.approx(1, abs=1e-3)


def test_it_starts_as_the_gaussian_of_its_moments():
    prior = FittedFlowSettings().build(3, 8)
    z = torch.randn(4, 3)
    torch.testing.assert_close(prior.log_prob(z), Independent(Normal(torch.zeros(3), 1.0), 1).log_prob(z))
    flow = random_flow(3)
    flow.begin()
    reference = MultivariateNormal(flow.mean, scale_tril=flow.factor)
    torch.testing.assert_close(flow.log_prob(z.double()), reference.log_prob(z.double()))


# The sampler.


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_a_code_is_the_inverse_of_its_noise(latent):
    flow, noise = random_flow(latent), torch.randn(40, 1, latent, dtype=torch.float64)
    z = flow.sample(40, lambda samples, size: noise)
    torch.testing.assert_close(flow.splines(None)(flow.scaled(z)), noise[:, 0])
    assert flow.sample(40, lambda samples, size: noise.float()).dtype == torch.float32


def test_draws_follow_the_density(fitted):
    """The probability integral transform in one dimension, moments by quadrature in two."""
    noise = torch.tensor([-2.0, -0.5, 0.0, 1.0, 2.5], dtype=torch.float64)
    z = fitted[1].sample(5, lambda samples, size: noise[:, None, None])[:, 0]
    line = torch.linspace(-15, 25, 40_001, dtype=torch.float64)
    distribution = fitted[1].log_prob(line[:, None]).exp().cumsum(0) * 1e-3
    below = distribution[torch.searchsorted(line, z)]
    torch.testing.assert_close(below, torch.special.ndtr(noise), rtol=0, atol=1e-3)

    across, up = torch.linspace(-6, 16, 441).double(), torch.linspace(-13, 9, 441).double()
    grid = torch.cartesian_prod(across, up)
    weight = fitted[2].log_prob(grid).exp() * 0.05**2
    mean = weight @ grid
    covariance = (grid - mean).mT @ (weight[:, None] * (grid - mean))
    uniform = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(1 << 13, dtype=torch.float64)
    normal = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))[:, None]
    drawn = fitted[2].sample(1 << 13, lambda samples, size: normal)
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.mT.cov(), covariance, rtol=0.02, atol=0.02)


# The fit.


def test_the_fit_finds_the_ring(fitted):
    """By hand: 2 pi r times the width of a Gaussian of standard deviation 0.4 is about the ring's volume."""
    others = ring(2000, 2)
    moments = MultivariateNormal(ring(2000).mean(0), ring(2000).mT.cov())
    density = fitted[2].log_prob(others).mean()
    assert density > moments.log_prob(others).mean() + 0.3
    entropy = math.log(2 * math.pi * 3) + 0.5 * math.log(2 * math.pi * math.e * 0.4**2)
    assert -entropy - 0.3 < density < -entropy + 0.05


def test_a_seed_repeats_the_fit_and_nothing_global_changes():
    codes, others, settings = ring(300), ring(200, 1), FittedFlowSettings(hidden=8)
    checked = Distribution._validate_args
    state = torch.get_rng_state()
    one, epoch = fit_flow(codes, others, settings, 3)
    again, epoch_again = fit_flow(codes, others, settings, 3)
    assert torch.equal(torch.get_rng_state(), state) and Distribution._validate_args is checked
    assert epoch == epoch_again > 0
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in one.state_dict().items())
    other = fit_flow(codes, others, settings, 4)[0]
    assert not torch.equal(one.log_prob(others), other.log_prob(others))


def test_other_codes_stop_the_fit():
    """Codes of a Gaussian: what a flow learns of so few is not true of others."""
    generator = torch.Generator().manual_seed(0)
    codes, others = torch.randn(60, 3, generator=generator), torch.randn(2000, 3, generator=generator)
    epochs = []
    flow, epoch = fit_flow(codes, others, FittedFlowSettings(), progress=lambda done, total: epochs.append(done))
    gaussian = MultivariateNormal(codes.mean(0), codes.mT.cov(correction=0))
    assert flow.log_prob(others).mean() >= gaussian.log_prob(others).mean() - 1e-4
    assert epochs == [*range(1, len(epochs) + 1)] and epoch < len(epochs) < 40


def test_units_of_the_codes_make_no_difference():
    codes, others, settings = ring(400), ring(200, 1), FittedFlowSettings(hidden=8)
    scale = torch.tensor([100.0, 0.01])
    one, other = (fit_flow(codes * by, others * by, settings)[0] for by in (torch.ones(2), scale))
    expected = one.log_prob(others) - scale.log().sum()
    torch.testing.assert_close(other.log_prob(others * scale), expected, rtol=0, atol=0.02)


def test_a_dimension_without_spread_does_not_break_it():
    codes = torch.cat([ring(100), torch.full((100, 1), 7.0)], dim=1)
    flow, _ = fit_flow(codes, codes, FittedFlowSettings(hidden=8))
    assert flow.log_prob(codes).isfinite().all()


def test_it_is_a_prior_whose_weights_alone_are_kept():
    settings = FittedFlowSettings()
    prior = settings.build(3, 8)
    assert isinstance(prior, Prior) and prior.now(lambda *_: None) is prior
    assert settings.label == "fitted-flow" and settings.fitted and not settings.standard
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    state = prior.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float64}
    assert not [name for name in state if "mask" in name or "order" in name]
