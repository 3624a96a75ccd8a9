"""Planar and radial flows: determinants, inverses and densities against what is computed otherwise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch.distributions import Independent, Normal
from torch.func import functional_call

from textvae.metrics.information import mutual_information
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import Flowed, PlanarPosterior, RadialPosterior, joined, mapped
from textvae.parts.posteriors.planar import PlanarMap, _root
from textvae.parts.posteriors.radial import RadialMap
from textvae.parts.priors import StandardNormal

POSTERIORS = {"planar": PlanarPosterior, "radial": RadialPosterior}
MAPS = {"planar": PlanarMap, "radial": RadialMap}
kinds = pytest.mark.parametrize("kind", POSTERIORS)
seeds = st.integers(0, 2**31)
INVERSE_SOFTPLUS_1 = math.log(math.e - 1)


def parameters(kind: str, latent: int) -> int:
    return 2 * latent + 1 if kind == "planar" else latent + 2


def network_of(kind: str, seed: int, latent: int, flows: int = 3) -> torch.nn.Module:
    """A network in float64 whose maps are far from the identity."""
    torch.manual_seed(seed)
    network = POSTERIORS[kind](4, latent, flows).double()
    torch.nn.init.normal_(network.maps_of.weight, std=0.7)
    torch.nn.init.normal_(network.maps_of.bias, std=0.7)
    return network


def normal(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def texts(batch: int, seed: int = 0) -> torch.Tensor:
    return normal(batch, 4, seed=seed)


def noise_of(seed: int, batch: int):
    return sentence_noise(seed, torch.arange(batch))


def test_a_planar_map_by_hand():
    """u = (3, 1), w = (0, 2), b = 1: w . u = 2, so u's part along w becomes (softplus(2) - 1) / 2."""
    context = torch.tensor([[3.0, 1, 0, 2, 1]]).double()
    z, log_det = PlanarMap(2, slice(0, 5))(torch.tensor([[5.0, 0.25]]).double(), context)
    m, bend = math.log1p(math.exp(2)) - 1, math.tanh(1.5)
    assert z[0].tolist() == pytest.approx([5 + 3 * bend, 0.25 + m / 2 * bend])
    assert log_det.item() == pytest.approx(math.log(1 + m * (1 - bend**2)))


def test_a_radial_map_by_hand():
    """Centre (1, 1), alpha = softplus(0) = ln 2, s = 1, r = 5 for (4, 5): beta = 1 - ln 2."""
    context = torch.tensor([[1.0, 1, 0, INVERSE_SOFTPLUS_1]]).double()
    z, log_det = RadialMap(2, slice(0, 4))(torch.tensor([[4.0, 5.0]]).double(), context)
    alpha, beta = math.log(2), 1 - math.log(2)
    h = 1 / (alpha + 5)
    assert z[0].tolist() == pytest.approx([4 + 3 * beta * h, 5 + 4 * beta * h])
    assert log_det.item() == pytest.approx(math.log((1 + beta * h) * (1 + beta * h - 5 * beta * h**2)))


@kinds
@examples(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), st.sampled_from([0.3, 1.0, 5.0]))
def test_the_determinant_is_that_of_the_jacobian(kind, seed, latent, spread):
    map_, size = MAPS[kind](latent, slice(1, 1 + parameters(kind, latent))), parameters(kind, latent)
    context = spread * normal(1, 1 + size, seed=seed)
    z = 2 * normal(latent, seed=seed + 1)
    jacobian = torch.autograd.functional.jacobian(lambda z: map_(z[None], context)[0][0], z)
    sign, expected = jacobian.slogdet()
    assert sign > 0  # a map that is invertible everywhere keeps the orientation
    torch.testing.assert_close(map_(z[None], context)[1][0], expected, rtol=1e-6, atol=1e-6)


@kinds
@examples(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), st.sampled_from([0.3, 1.0, 5.0]))
def test_there_and_back(kind, seed, latent, spread):
    map_, size = MAPS[kind](latent, slice(0, parameters(kind, latent))), parameters(kind, latent)
    context, z = spread * normal(3, size, seed=seed), 3 * normal(7, 3, latent, seed=seed + 1)
    sent, log_det = map_(z, context)
    back, same = map_.inverse(sent.movedim(-1, 0), context)
    again, _ = map_(back.movedim(0, -1), context)
    torch.testing.assert_close(again, sent, rtol=1e-12, atol=1e-11)
    well = log_det > -8  # where the map is nearly flat rounding is magnified on the way back
    torch.testing.assert_close(back.movedim(0, -1)[well], z[well], rtol=0, atol=1e-8)
    torch.testing.assert_close(same[well], log_det[well], rtol=0, atol=1e-6)


@examples(max_examples=40, deadline=None)
@given(st.floats(-1 + 1e-9, 60), st.floats(-80, 80))
def test_the_root_of_a_planar_map_is_the_one_that_bisection_finds(m, y):
    found = _root(torch.tensor([[y]], dtype=torch.float64), torch.tensor([m], dtype=torch.float64)).item()
    expected = brentq(lambda a: a + m * math.tanh(a) - y, -200, 200, xtol=1e-14, rtol=1e-14)
    slope = 1 + m * (1 - math.tanh(expected) ** 2)
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-13 * (1 + abs(y)) / slope + 1e-12)


@kinds
@pytest.mark.parametrize("latent", [1, 3])
def test_the_density_of_a_draw_is_by_change_of_variables(kind, latent):
    network = network_of(kind, 0, latent)
    q, drawn = network(texts(2)), noise_of(0, 2)(1, latent).double()
    z = q.rsample(noise_of(0, 2))
    for n in range(2):
        one = mapped(q, lambda rows, n=n: rows[n : n + 1])

        def sent(start, one=one):
            standard = (start - one.base_mean[0]) / one.base_std[0]
            return one.rsample(lambda samples, size: standard[None, None])[0, 0]

        start = q.base_mean[n].detach() + q.base_std[n].detach() * drawn[0, n]
        jacobian = torch.autograd.functional.jacobian(sent, start)
        base = Independent(Normal(q.base_mean[n], q.base_std[n]), 1).log_prob(start)
        expected = base - jacobian.slogdet().logabsdet
        torch.testing.assert_close(z[0, n], sent(start))
        torch.testing.assert_close(q.log_prob(z)[0, n], expected)
        torch.testing.assert_close(q.log_prob(z.clone())[0, n], expected)


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_the_density_integrates_to_one(kind, seed):
    q = network_of(kind, seed, 2)(0.5 * texts(1, seed))
    side = torch.linspace(-16, 16, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[:, None]
    with torch.no_grad():
        density = q.log_prob(grid).exp()[:, 0] * (side[1] - side[0]).item() ** 2
        draws = q.rsample(noise_of(seed, 1), 20_000)[:, 0]
    assert density.sum().item() == pytest.approx(1, abs=5e-3)
    # The draws are of that density: its first two moments are theirs.
    for power in (1, 2):
        expected = (density[:, None] * grid[:, 0] ** power).sum(0) / density.sum()
        error = 5 * (draws**power).std(0) / math.sqrt(20_000) + 5e-3
        assert bool((((draws**power).mean(0) - expected).abs() < error).all())


@kinds
@pytest.mark.parametrize("kept", [True, False])
def test_gradients_of_the_rate_in_all_weights(kind, kept):
    """Through what a draw keeps and through the inverse."""
    network = network_of(kind, 1, 3, flows=2)
    names, values = zip(
        *[(n, p.detach().clone().requires_grad_()) for n, p in network.named_parameters()], strict=True
    )

    def nats(hidden, *values):
        q = functional_call(network, dict(zip(names, values, strict=True)), (hidden,))
        z = q.rsample(noise_of(0, 2), 2)
        return q.rate(z if kept else z.clone(), StandardNormal(3)).nats

    assert torch.autograd.gradcheck(nats, (0.5 * texts(2).requires_grad_(), *values))


@kinds
def test_gradients_of_a_codes_density(kind):
    network = network_of(kind, 1, 3, flows=2)
    hidden, z = (0.5 * texts(2)).requires_grad_(), normal(2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda hidden, z: network(hidden).log_prob(z), (hidden, z))


@kinds
@examples(max_examples=25)
@given(seeds, st.integers(1, 9), st.integers(1, 3), st.integers(1, 30))
def test_the_mixture_is_the_mean_of_the_densities_for_any_blocks(kind, seed, batch, latent, pairs):
    q = network_of(kind, seed, latent)(texts(batch, seed))
    z = q.rsample(noise_of(seed, batch))
    with torch.no_grad():
        every = q.log_prob(z[0][:, None].expand(-1, batch, -1))  # code n under posterior m
    found = q.mixture_log_prob(z[0], pairs)
    torch.testing.assert_close(found, every.logsumexp(1) - math.log(batch))
    own = q.log_prob(z[0][None])[0].detach()
    assert mutual_information(own, found).nats <= math.log(batch)


@kinds
def test_float32_codes_of_sharp_posteriors_stay_below_the_ceiling(kind):
    network = network_of(kind, 0, 4).float()
    with torch.no_grad():
        network.parameters_of.bias[4:] = 2 * math.log(1e-3)
    q = network(texts(50).float())
    z = q.rsample(noise_of(0, 50))[0]
    found = mutual_information(q.log_prob(z[None])[0].detach(), q.mixture_log_prob(z))
    assert found.nats == pytest.approx(math.log(50), abs=0.02)


@kinds
def test_batches_are_joined_and_precision_is_kept_under_autocast(kind):
    network = network_of(kind, 0, 3).float()
    hidden = texts(4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = network(hidden)
        z = q.rsample(noise_of(0, 4), 2)
        kept, inverted = q.log_prob(z), q.log_prob(z.clone())
    exact = network(hidden.float())
    assert isinstance(q, Flowed) and z.dtype == kept.dtype == inverted.dtype == torch.float32
    assert torch.equal(z, exact.rsample(noise_of(0, 4), 2))
    torch.testing.assert_close(kept, inverted, rtol=1e-3, atol=2e-3)
    whole = joined([mapped(exact, lambda rows: rows[:2]), mapped(exact, lambda rows: rows[2:])])
    assert whole.flows is exact.flows
    torch.testing.assert_close(whole.log_prob(z), exact.log_prob(z.clone()))


@kinds
def test_a_diverged_posterior_gives_nan_and_no_exception(kind):
    q = mapped(network_of(kind, 0, 2)(texts(3)), lambda rows: rows.detach().clone())
    q.base_mean[1] = math.nan
    z = q.rsample(noise_of(0, 3))
    for codes in (z, z.clone()):
        assert q.log_prob(codes)[0].isnan().tolist() == [False, True, False]
