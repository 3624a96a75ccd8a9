import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.special import ive, ndtr
from scipy.stats import vonmises_fisher

from textvae.errors import RequestError
from textvae.metrics.latent import active_units, variance_of_means
from textvae.objective.presets import load_settings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import VmfPosterior, VonMisesFisher, joined, mapped
from textvae.parts.posteriors.vmf import angles, log_bessel, log_normaliser, mean_length, rate_to_uniform
from textvae.parts.priors import StandardNormal, UniformSphere, log_area

seeds = st.integers(0, 2**31)


def drawn(seed: int, batch: int, latent: int, concentration: float) -> VonMisesFisher:
    mean = torch.randn(batch, latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return VonMisesFisher(F.normalize(mean, dim=1), concentration)


def even_noise(count: int, size: int) -> torch.Tensor:
    """`count` points that fill the space of normal numbers evenly (Sobol)."""
    uniform = torch.quasirandom.SobolEngine(size, scramble=True, seed=0).draw(count, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))


@given(st.integers(0, 200).map(lambda n: n / 2), st.floats(-3, 5).map(lambda e: 10**e))
def test_bessel_functions_are_scipys(order, x):
    scaled = ive(order, x)
    if scaled > 1e-290:
        assert log_bessel(order, x) == pytest.approx(math.log(scaled) + x, rel=1e-12, abs=1e-12)


def test_three_dimensions_by_hand():
    """C(k) = k / (4 pi sinh k), E[mean . z] = coth k - 1/k."""
    k = 2.0
    assert log_normaliser(3, k) == pytest.approx(math.log(k / (4 * math.pi * math.sinh(k))), rel=1e-12)
    rate = k / math.tanh(k) - 1 + math.log(k / math.sinh(k))
    assert rate_to_uniform(3, k) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("latent", [2, 3, 8, 32])
@pytest.mark.parametrize("concentration", [0.1, 5.0, 50.0])
def test_density_and_rate_are_scipys(latent, concentration):
    posterior = drawn(latent, 3, latent, concentration)
    z = posterior.rsample(sentence_noise(0, torch.arange(3)), 4)
    rate = posterior.rate(z, UniformSphere(latent))
    assert rate.kind == "exact"
    for n in range(3):
        reference = vonmises_fisher(posterior.mean[n].numpy(), concentration)
        expected = torch.tensor(reference.logpdf(z[:, n].numpy()))
        torch.testing.assert_close(posterior.log_prob(z)[:, n], expected, rtol=1e-9, atol=1e-9)
        assert rate.nats[n].item() == pytest.approx(log_area(latent) - reference.entropy(), abs=1e-9)


@given(st.integers(2, 100), st.floats(-6, 6).map(lambda e: 10**e))
def test_the_rate_is_never_negative_and_grows_with_the_concentration(latent, concentration):
    assert 0 <= rate_to_uniform(latent, concentration) <= rate_to_uniform(latent, concentration * 2) + 1e-6


def test_the_density_integrates_to_one_on_the_circle():
    posterior = drawn(0, 1, 2, 7.0)

    def density(angle: float) -> float:
        return (
            posterior.log_prob(torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)).exp().item()
        )

    assert integrate.quad(density, 0, 2 * math.pi, limit=200)[0] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("latent", [2, 3, 4, 32, 300])
@pytest.mark.parametrize("concentration", [0.01, 1.0, 50.0, 5000.0])
def test_angles_have_the_probability_of_their_numbers(latent, concentration):
    x = torch.linspace(-5.5, 5.5, 23, dtype=torch.float64)
    found = angles(x, latent, concentration)
    assert bool((found.diff() > 0).all()) and 0 < float(found[0]) and float(found[-1]) < math.pi
    cells = 400_000
    grid = (torch.arange(cells, dtype=torch.float64) + 0.5) * math.pi / cells
    log = concentration * grid.cos() + (latent - 2) * grid.sin().log()
    mass = (log - log.max()).exp()
    below = torch.cat([torch.zeros(1), mass.cumsum(0)])  # up to the cells' edges
    at = found / math.pi * cells
    low = at.floor().long()
    level = below[low] + (at - low) * mass[low]
    torch.testing.assert_close(level / mass.sum(), torch.tensor(ndtr(x.numpy())), rtol=0, atol=2e-5)
    tight = slice(6, 17)  # |x| < 3
    torch.testing.assert_close((level / mass.sum())[tight], torch.tensor(ndtr(x.numpy()))[tight], rtol=2e-3, atol=0)


def test_numbers_in_the_far_tails_give_angles_in_range():
    x = torch.tensor([-40.0, 40.0]).double()
    for latent, concentration in ((2, 1e-3), (32, 50.0), (3, 1e6)):
        low, high = angles(x, latent, concentration).tolist()
        assert 0 <= low < high <= math.pi


@pytest.mark.parametrize("latent", [2, 3, 5])
def test_draws_have_the_moments_of_the_density(latent):
    """E[z] = A mean, E[z z'] = a mean mean' + b (I - mean mean'), with A from the Bessel functions."""
    concentration = 4.0
    posterior = drawn(latent, 1, latent, concentration)
    draws = even_noise(1 << 15, latent + 1)[:, None]
    z = posterior.rsample(lambda samples, size: draws, len(draws))[:, 0]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)).double())
    mean = posterior.mean[0]
    cosine = ive(latent / 2, concentration) / ive(latent / 2 - 1, concentration)
    torch.testing.assert_close(z.mean(0), cosine * mean, rtol=0, atol=2e-3)
    along = 1 - (latent - 1) * cosine / concentration
    outer = mean[:, None] * mean
    expected = along * outer + (1 - along) / (latent - 1) * (torch.eye(latent) - outer)
    torch.testing.assert_close(z.mT @ z / len(z), expected, rtol=0, atol=3e-3)


def test_a_draw_by_hand():
    """With mean (1, 0, 0) the angle is all that the first number decides, the others' part across the direction."""
    posterior = VonMisesFisher(torch.tensor([[1.0, 0.0, 0.0]]), 3.0)
    draws = torch.tensor([[[0.7, 9.0, 3.0, 4.0]]])
    angle = angles(torch.tensor([0.7]).double(), 3, 3.0).item()
    # In three dimensions the cosine is uniform in exp(k cos): its inverse is in closed form.
    u = ndtr(0.7)
    assert math.cos(angle) == pytest.approx(math.log(math.exp(3) * (1 - u) + math.exp(-3) * u) / 3, abs=1e-7)
    expected = [math.cos(angle), 0.6 * math.sin(angle), 0.8 * math.sin(angle)]
    assert posterior.rsample(lambda samples, size: draws)[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_gradients_of_an_expectation():
    """E[w . z] = A w . mean, so its gradient is A times that of w . mean, whatever led to the mean."""
    raw = torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.3, 1.0, -0.7]).double()
    posterior = VonMisesFisher(F.normalize(raw, dim=1), 4.0)
    draws = even_noise(1 << 14, 4)[:, None]
    sampled = (posterior.rsample(lambda samples, size: draws, len(draws)) @ weights).mean()
    (found,) = torch.autograd.grad(sampled, raw, retain_graph=True)
    (expected,) = torch.autograd.grad((1 / math.tanh(4) - 1 / 4) * (posterior.mean @ weights).sum(), raw)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_gradients_by_differences():
    noise = sentence_noise(0, torch.arange(2))(2, 4).double()

    def draw(raw: torch.Tensor) -> torch.Tensor:
        return VonMisesFisher(F.normalize(raw, dim=1), 4.0).rsample(lambda samples, size: noise, 2)

    raw = torch.tensor([[1.0, -0.5, 2.0], [0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(draw, raw)


@given(seeds, st.integers(1, 12), st.integers(2, 6), st.floats(0.1, 200), st.integers(1, 100))
def test_the_mixture_over_the_batch(seed, batch, latent, concentration, entries):
    posterior = drawn(seed, batch, latent, concentration)
    z = posterior.rsample(sentence_noise(seed, torch.arange(batch)))[0]
    each = torch.stack([posterior.log_prob(code.expand(batch, latent)) for code in z])
    expected = each.logsumexp(1) - math.log(batch)
    torch.testing.assert_close(posterior.mixture_log_prob(z, entries), expected, rtol=0, atol=1e-9)


def test_off_the_sphere_there_is_no_rate():
    posterior = drawn(0, 2, 3, 1.0)
    assert posterior.rate(posterior.mean[None], StandardNormal(3)) is None
    assert posterior.rate_per_dimension(UniformSphere(3)) is None


def test_several_batches_together():
    whole = drawn(0, 5, 3, 2.0)
    again = joined([mapped(whole, lambda t: t[:2]), mapped(whole, lambda t: t[2:])])
    assert torch.equal(again.mean, whole.mean) and again.concentration == 2.0


def test_float32_draws_are_those_of_float64():
    exact = drawn(1, 4, 32, 50.0)
    single = mapped(exact, lambda t: t.float())
    one, other = (q.rsample(sentence_noise(0, torch.arange(4)), 3) for q in (single, exact))
    assert one.dtype == torch.float32 and other.dtype == torch.float64
    torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5)


def test_the_network_gives_directions():
    module = VmfPosterior(2, 2, concentration=7.0)
    with torch.no_grad():
        module.direction_of.weight.copy_(torch.eye(2))
        module.direction_of.bias.zero_()
    posterior = module(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
    assert posterior.mean.flatten().tolist() == pytest.approx([0.6, 0.8, 0.0, -1.0])
    assert posterior.concentration == 7.0


def test_full_precision_under_autocast():
    module = VmfPosterior(3, 2)
    hidden = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(hidden).mean
    assert torch.equal(found, module(hidden.float()).mean)


def test_a_concentration_beyond_what_float64_can_tell_is_refused():
    with pytest.raises(RequestError, match=r"model\.posterior"):
        load_settings(None, "vmf", ["model.posterior.concentration=1e7"])


@pytest.mark.parametrize("latent", [2, 3, 16, 64, 200])
@pytest.mark.parametrize("concentration", [0.01, 1.0, 20.0, 50.0, 2000.0])
def test_the_length_of_the_expectation_is_scipys_ratio(latent, concentration):
    order = latent / 2 - 1
    if concentration == 0.01:  # to second order, where scipy's functions underflow
        expected = concentration / latent * (1 - concentration**2 / (latent * (latent + 2)))
    else:
        expected = ive(order + 1, concentration) / ive(order, concentration)
    assert mean_length(latent, concentration) == pytest.approx(expected, rel=1e-9)


def test_the_expectation_is_that_of_the_draws_and_not_the_direction():
    """At 64 dimensions and a concentration of 50 it is .549 long, and uniform directions make no unit active."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(4000, 64, generator=generator, dtype=torch.float64)
    q = VonMisesFisher(F.normalize(directions, dim=1), 50.0)
    value, noise = q.expectation
    assert noise is None
    torch.testing.assert_close(value.norm(dim=1), torch.full((4000,), 0.549).double(), rtol=0, atol=5e-4)
    few = VonMisesFisher(q.mean[:3], 50.0)
    draws = few.rsample(sentence_noise(0, torch.arange(3)), 4000)
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - few.expectation.value).abs() < 4.5 * error).all()
    assert active_units(q.mean, 0.01) == 64  # the directions: 1/64 in each dimension
    assert active_units(value, 0.01) == 0
    assert variance_of_means(value).mean().item() == pytest.approx(0.549**2 / 64, rel=0.01)
