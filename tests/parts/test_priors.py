import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from textvae.model import redraw
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianMixture, VonMisesFisher
from textvae.parts.priors import (
    MeanOfPosteriors,
    MixtureOfGaussians,
    Prior,
    StandardNormal,
    UniformSphere,
    VampPrior,
    arc,
    chosen,
    log_area,
)

seeds = st.integers(0, 2**31)


def even_noise(count: int, size: int):
    """Normal numbers that fill the space evenly (Sobol), in portions as they are asked for."""
    uniform = torch.quasirandom.SobolEngine(size, scramble=True, seed=0).draw(count, dtype=torch.float64)
    normal, used = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12)), 0

    def noise(samples: int, wanted: int) -> torch.Tensor:
        nonlocal used
        used += wanted
        assert samples == count and used <= size
        return normal[:, None, used - wanted : used]

    return noise


def test_density_by_hand_and_against_torch():
    prior = StandardNormal(2)
    c = math.log(2 * math.pi)
    assert math.isclose(float(prior.log_prob(torch.tensor([3.0, 4.0]).double())), -12.5 - c, rel_tol=1e-12)
    z = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reference = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)
    torch.testing.assert_close(prior.log_prob(z), reference.log_prob(z))


def test_sample_has_one_code_a_row_by_the_noise():
    found = StandardNormal(3).sample(5, sentence_noise(1, torch.tensor([0])))
    assert torch.equal(found, sentence_noise(1, torch.tensor([0]))(5, 3)[:, 0]) and found.shape == (5, 3)


@given(st.integers(2, 20), st.integers(0, 2**31))
def test_a_path_is_an_even_line_with_both_ends(steps, seed):
    a, b = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    path = StandardNormal(4).path(a, b, steps)
    assert path.shape == (steps, 4)
    torch.testing.assert_close(path[[0, -1]], torch.stack([a, b]), rtol=0, atol=1e-12)
    torch.testing.assert_close(path.diff(dim=0), ((b - a) / (steps - 1)).expand(steps - 1, 4))


def test_it_is_a_prior_without_parameters():
    assert isinstance(StandardNormal(2), Prior) and not list(StandardNormal(2).parameters())


# Which component.


def test_a_number_picks_its_component_by_hand():
    log_weight = torch.tensor([0.2, 0.0, 0.5, 0.3]).log().expand(5, 4)
    normal = torch.special.ndtri(torch.tensor([0.1, 0.21, 0.69, 0.71, 1.0]))
    assert chosen(log_weight, normal).tolist() == [0, 2, 2, 3, 3]
    assert chosen(torch.zeros(1, 1), torch.tensor([9.0])).tolist() == [0]


# A learned mixture.


def learned(
    seed: int, latent: int, components: int, spread: float = 1.0
) -> tuple[MixtureOfGaussians, MixtureSameFamily]:
    """A prior in float64 with random parameters, and torch's distribution with the same ones."""
    prior = MixtureOfGaussians(latent, components).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    parts = Independent(Normal(prior.means.detach(), prior.log_stds.detach().exp()), 1)
    return prior, MixtureSameFamily(Categorical(logits=prior.logits.detach()), parts)


@given(seeds, st.integers(1, 4), st.integers(1, 5))
def test_the_learned_mixture_is_torchs(seed, latent, components):
    prior, reference = learned(seed, latent, components)
    z = torch.randn(3, 2, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(prior.log_prob(z[0, 0]), reference.log_prob(z[0, 0]))


def test_its_draws_follow_its_density():
    prior, reference = learned(1, 2, 4, spread=0.7)
    z = prior.sample(1 << 14, even_noise(1 << 14, 3)).detach()
    torch.testing.assert_close(z.mean(0), reference.mean, rtol=0, atol=5e-3)
    torch.testing.assert_close(z.var(0), reference.variance, rtol=0.01, atol=0)
    entropy = -prior.log_prob(z).mean().item()
    axis = torch.linspace(-15, 15, 401, dtype=torch.float64)
    log = reference.log_prob(torch.cartesian_prod(axis, axis))
    assert entropy == pytest.approx(-(log.exp() * log).sum().item() * (30 / 400) ** 2, abs=5e-3)


def test_it_begins_with_equal_weights_and_unit_scales():
    torch.manual_seed(0)
    prior = MixtureOfGaussians(8, 50)
    redraw(prior, 0.1)
    assert not prior.logits.any() and not prior.log_stds.any()
    assert 0.9 < prior.means.std().item() < 1.1 and abs(prior.means.mean().item()) < 0.15
    assert isinstance(prior, Prior)


def test_all_of_it_is_learned():
    prior, _ = learned(0, 2, 3)
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names = dict(prior.named_parameters())

    def density(*values):
        return torch.func.functional_call(
            _Density(prior), {f"prior.{n}": v for n, v in zip(names, values, strict=True)}, (z,)
        )

    assert torch.autograd.gradcheck(density, tuple(names.values()))


class _Density(torch.nn.Module):
    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, z):
        return self.prior.log_prob(z)


# A prior made of posteriors.


def gaussians(seed: int, components: int, latent: int) -> DiagonalGaussian:
    mean, logs = torch.randn(
        2, components, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return DiagonalGaussian(2 * mean, (logs / 2).exp())


@given(seeds, st.integers(1, 6), st.integers(1, 4))
def test_posteriors_as_a_prior_are_an_even_mixture(seed, components, latent):
    posterior = gaussians(seed, components, latent)
    prior = MeanOfPosteriors(posterior)
    parts = Independent(Normal(posterior.mean, posterior.std), 1)
    reference = MixtureSameFamily(Categorical(torch.ones(components).double()), parts)
    z = torch.randn(3, 2, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(prior.log_prob(z[0, 0]), reference.log_prob(z[0, 0]))


def test_draws_of_posteriors_follow_the_density():
    posterior = gaussians(0, 3, 2)
    z = MeanOfPosteriors(posterior).sample(1 << 14, even_noise(1 << 14, 1 + 3 * 2))
    parts = Independent(Normal(posterior.mean, posterior.std), 1)
    reference = MixtureSameFamily(Categorical(torch.ones(3).double()), parts)
    torch.testing.assert_close(z.mean(0), reference.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(z.var(0), reference.variance, rtol=0.01, atol=0)


def test_other_posteriors_make_a_prior_too():
    """Two mixtures of two are a mixture of four; two directions on a circle still integrate to one."""
    generator = torch.Generator().manual_seed(0)
    means, logs = torch.randn(2, 2, 2, 1, generator=generator, dtype=torch.float64)
    weights = torch.tensor([[0.3, 0.7], [0.9, 0.1]]).double()
    prior = MeanOfPosteriors(GaussianMixture(weights.log(), means, logs.exp()))
    parts = Independent(Normal(means.flatten(0, 1), logs.exp().flatten(0, 1)), 1)
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    expected = MixtureSameFamily(Categorical(weights.flatten()), parts).log_prob(z)
    torch.testing.assert_close(prior.log_prob(z), expected)
    prior = MeanOfPosteriors(VonMisesFisher(torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double(), 5.0))
    angle = (torch.arange(1000, dtype=torch.float64) + 0.5) * 2 * math.pi / 1000
    around = torch.stack([angle.cos(), angle.sin()], 1)
    assert prior.log_prob(around).exp().mean().item() * 2 * math.pi == pytest.approx(1.0, abs=1e-7)


def test_pseudo_sentences_are_read_and_learned():
    module = VampPrior(4, 3, 2)
    assert not isinstance(module, Prior)
    with torch.no_grad():
        module.pseudo.copy_(torch.arange(24.0).view(4, 3, 2))
    seen = []

    def read(embedded: torch.Tensor, lengths: torch.Tensor) -> DiagonalGaussian:
        seen.append(lengths.tolist())
        mean = embedded.sum(1)
        return DiagonalGaussian(mean, torch.ones_like(mean))

    prior = module.now(read)
    assert seen == [[3, 3, 3, 3]] and isinstance(prior, Prior)
    # The sums of the first pseudo-sentence are 6 and 9; all others are 18 and more away in each dimension.
    found = prior.log_prob(torch.tensor([6.0, 10.0]))
    assert found.item() == pytest.approx(-0.5 - math.log(2 * math.pi) - math.log(4), rel=1e-6)
    found.backward()
    # d/dmean log N(z; mean, 1) = z - mean, the same for each embedding of the sum
    torch.testing.assert_close(module.pseudo.grad[0], torch.tensor([0.0, 1.0]).expand(3, 2))
    assert not module.pseudo.grad[1:].any()


@pytest.mark.parametrize("prior", [MixtureOfGaussians(4, 3), MeanOfPosteriors(gaussians(0, 3, 4))])
def test_paths_of_mixtures_are_lines(prior):
    a, b = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(prior.path(a, b, 7), StandardNormal(4).path(a, b, 7))


# The sphere.


def test_areas_and_density_by_hand():
    assert log_area(2) == pytest.approx(math.log(2 * math.pi)) and log_area(3) == pytest.approx(
        math.log(4 * math.pi)
    )
    assert log_area(4) == pytest.approx(math.log(2 * math.pi**2))
    found = UniformSphere(3).log_prob(torch.zeros(5, 2, 3).double())
    assert found.shape == (5, 2) and found.unique().item() == pytest.approx(-math.log(4 * math.pi), rel=1e-12)


@given(st.integers(2, 40))
def test_areas_by_integrating_over_circles_of_latitude(latent):
    """The sphere one dimension up: its area is the integral of sin^(latent - 1) times this one's."""
    slices, _ = integrate.quad(lambda angle: math.sin(angle) ** (latent - 1), 0, math.pi)
    assert log_area(latent + 1) == pytest.approx(log_area(latent) + math.log(slices), abs=1e-9)


def test_draws_are_uniform_on_the_sphere():
    """In three dimensions each coordinate is uniform in [-1, 1]; the second moments are those of I / 3."""
    z = UniformSphere(3).sample(1 << 14, even_noise(1 << 14, 3))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)).double())
    torch.testing.assert_close(z.mean(0), torch.zeros(3).double(), rtol=0, atol=3e-3)
    torch.testing.assert_close(z.mT @ z / len(z), torch.eye(3).double() / 3, rtol=0, atol=3e-3)
    even = torch.linspace(-1, 1, len(z), dtype=torch.float64)[:, None].expand(-1, 3)
    torch.testing.assert_close(z.sort(dim=0).values, even, rtol=0, atol=0.01)


@given(seeds, st.integers(2, 20), st.integers(2, 9))
def test_a_path_stays_on_the_sphere_at_an_even_pace(seed, steps, latent):
    a, b = torch.randn(2, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    path = UniformSphere(latent).path(3 * a, b, steps)
    assert path.shape == (steps, latent)
    torch.testing.assert_close(path.norm(dim=1), torch.ones(steps).double())
    torch.testing.assert_close(path[[0, -1]], torch.stack([a / a.norm(), b / b.norm()]), rtol=0, atol=1e-7)
    chords = path.diff(dim=0).norm(dim=1)
    angle = torch.arccos((path[0] @ path[-1]).clamp(-1, 1))
    torch.testing.assert_close(chords, (2 * (angle / (steps - 1) / 2).sin()).expand(steps - 1), rtol=0, atol=1e-6)


def test_an_arc_turns_evenly_and_its_length_changes_evenly():
    a, b = torch.tensor([4.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    path = arc(a, b, 4)
    torch.testing.assert_close(path.norm(dim=1), torch.tensor([4.0, 10 / 3, 8 / 3, 2.0]))
    turn = torch.atan2(path[:, 2], path[:, 0])
    torch.testing.assert_close(turn, torch.linspace(0, math.pi / 2, 4))
    torch.testing.assert_close(arc(a, 3 * a, 3), torch.stack([a, 2 * a, 3 * a]))


def test_a_path_by_hand_and_between_equal_and_opposite_ends():
    sphere = UniformSphere(2)
    half = math.sqrt(0.5)
    quarter = sphere.path(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 5.0]), 3)
    torch.testing.assert_close(quarter, torch.tensor([[1.0, 0.0], [half, half], [0.0, 1.0]]))
    a = torch.tensor([0.6, 0.8])
    torch.testing.assert_close(sphere.path(a, 2 * a, 4), a.expand(4, 2))
    across = sphere.path(a, -a, 5)
    torch.testing.assert_close(across.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(across[[0, -1]], torch.stack([a, -a]))
    torch.testing.assert_close((across[2] @ a).abs(), torch.tensor(0.0), rtol=0, atol=1e-6)
