import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.distributions import Independent, Normal
from torch.func import functional_call

from textvae.metrics.information import mutual_information
from textvae.metrics.latent import active_units, variance_of_means
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import GaussianPosterior, expected, joined, mapped
from textvae.parts.posteriors.iaf import OPEN, Flow, Iaf, IafPosterior
from textvae.parts.priors import StandardNormal

seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 3))  # latent, hidden, context


def network_of(seed: int, latent: int, hidden: int = 6, context: int = 3, flows: int = 2) -> IafPosterior:
    """A network in float64 whose flows are far from the identity."""
    torch.manual_seed(seed)
    network = IafPosterior(4, latent, flows, hidden, context).double()
    for flow in network.flows:
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.8)
    return network


def texts(batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, generator=generator, dtype=torch.float64)


def noise_of(seed: int, batch: int):
    return sentence_noise(seed, torch.arange(batch))


def normal(size: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_one_dimension_by_hand():
    """m = 2 and a gate of s = sigmoid(OPEN - OPEN) = 1/2: z = z0 / 2 + 1, log q(z) = log phi(z0) + ln 2."""
    network = IafPosterior(1, 1, flows=1, hidden=2, context=1).double()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        network.flows[0].outer.bias.copy_(torch.tensor([2.0, -OPEN]))
    q = network(torch.zeros(1, 1).double())
    z = q.rsample(lambda samples, size: torch.full((samples, 1, size), 3.0).double())
    assert z.item() == pytest.approx(2.5) and q.mean.item() == pytest.approx(1.0)
    expected = -0.5 * (9 + math.log(2 * math.pi)) + math.log(2)
    assert q.log_prob(z).item() == pytest.approx(expected)
    assert q.log_prob(z.clone()).item() == pytest.approx(expected)
    rate = q.rate(z, StandardNormal(1))
    assert rate.kind == "monte-carlo"
    assert rate.nats.item() == pytest.approx(expected + 0.5 * (2.5**2 + math.log(2 * math.pi)))
    assert q.rate_per_dimension(StandardNormal(1)) is None


@given(seeds, sizes)
def test_the_jacobian_is_triangular_and_its_determinant_the_product_of_the_gates(seed, dims):
    torch.manual_seed(seed)
    flow = Flow(*dims).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter)
    z, context = normal((dims[0],), seed), normal((1, dims[2]), seed + 1)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow(z[None], context)[0][0], z)
    assert torch.equal(jacobian, jacobian.tril())
    assert bool((jacobian.diagonal() > 0).all())
    _, log_det = flow(z[None], context)
    torch.testing.assert_close(log_det[0], jacobian.slogdet().logabsdet)


def test_every_dimension_sees_all_before_it_and_the_context():
    torch.manual_seed(0)
    flow = Flow(4, 8, 2).double()
    z, context = normal((4,)), normal((1, 2), 1)
    by_z, by_context = torch.autograd.functional.jacobian(lambda z, c: flow(z[None], c)[0][0], (z, context))
    assert bool((by_z[torch.ones(4, 4).tril().bool()] != 0).all())
    assert bool((by_context != 0).all())


@given(seeds, sizes, st.integers(0, 3))
def test_the_density_of_a_draw_is_by_change_of_variables(seed, dims, flows):
    latent, hidden, context = dims
    network = network_of(seed, latent, hidden, context, flows)
    q = network(texts(2, seed))
    drawn = noise_of(seed, 2)(1, latent).double()
    z = q.rsample(noise_of(seed, 2))
    for n in range(2):
        one = mapped(q, lambda rows, n=n: rows[n : n + 1])

        def sent(start, one=one):
            return one.rsample(lambda samples, size: ((start - one.base_mean[0]) / one.base_std[0])[None, None])[
                0, 0
            ]

        start = q.base_mean[n].detach() + q.base_std[n].detach() * drawn[0, n]
        jacobian = torch.autograd.functional.jacobian(sent, start)
        base = Independent(Normal(q.base_mean[n], q.base_std[n]), 1).log_prob(start)
        expected = base - jacobian.slogdet().logabsdet
        torch.testing.assert_close(z[0, n], sent(start))
        torch.testing.assert_close(q.log_prob(z)[0, n], expected)
        torch.testing.assert_close(q.log_prob(z.clone())[0, n], expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("latent", [1, 2, 32])
def test_there_and_back(dtype, tolerance, latent):
    torch.manual_seed(0)
    flow = Flow(latent, 64, 5).to(dtype)
    z, context = normal((7, 3, latent), 1, dtype), normal((3, 5), 2, dtype)
    with torch.no_grad():
        sent, log_det = flow(z, context)
        back, same = flow.inverse(sent.movedim(-1, 0), context)
    torch.testing.assert_close(back.movedim(0, -1), z, rtol=0, atol=tolerance)
    torch.testing.assert_close(same, log_det, rtol=0, atol=latent * tolerance)


def test_no_flows_are_the_gaussian():
    network = IafPosterior(4, 3, flows=0).double()
    gaussian = GaussianPosterior(4, 3).double()
    gaussian.parameters_of.load_state_dict(network.parameters_of.state_dict())
    q, expected = network(texts(5)), gaussian(texts(5))
    z = q.rsample(noise_of(0, 5), 2)
    torch.testing.assert_close(z, expected.rsample(noise_of(0, 5), 2))
    torch.testing.assert_close(q.mean, expected.mean)
    for codes in (z, z.clone(), z[0], z[None]):
        torch.testing.assert_close(q.log_prob(codes), expected.log_prob(codes))
    with torch.no_grad():
        torch.testing.assert_close(q.mixture_log_prob(z[0]), expected.mixture_log_prob(z[0]))


@pytest.mark.parametrize("seed", range(3))
def test_the_density_integrates_to_one(seed):
    q = network_of(seed, 2)(texts(1, seed))
    side = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[:, None]
    with torch.no_grad():
        mass = q.log_prob(grid).exp().sum().item() * (side[1] - side[0]).item() ** 2
        draws = q.rsample(noise_of(seed, 1), 20_000)[:, 0]
        density = q.log_prob(grid).exp()[:, 0]
    assert mass == pytest.approx(1, abs=2e-3)
    # The draws are of that density: its mean is theirs.
    mean = (density[:, None] * grid[:, 0]).sum(0) / density.sum()
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=5 * float(draws.std(0).max()) / math.sqrt(20_000))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("latent", [1, 3])
def test_gradients_of_the_rate_in_all_weights(kept, latent):
    """Through what a draw keeps and through the inverse."""
    network = network_of(0, latent, hidden=4)
    names, values = zip(
        *[(n, p.detach().clone().requires_grad_()) for n, p in network.named_parameters()], strict=True
    )

    def nats(hidden, *values):
        q = functional_call(network, dict(zip(names, values, strict=True)), (hidden,))
        z = q.rsample(noise_of(0, 2), 2)
        return q.rate(z if kept else z.clone(), StandardNormal(latent)).nats

    given = (texts(2).requires_grad_(), *values)
    assert torch.autograd.gradcheck(nats, given)


def test_gradients_of_a_codes_density():
    network = network_of(1, 3)
    hidden, z = texts(2).requires_grad_(), normal((2, 2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda hidden, z: network(hidden).log_prob(z), (hidden, z))


def test_what_a_draw_keeps_is_used_for_that_draw_alone():
    q = network_of(0, 3)(texts(4))
    z = q.rsample(noise_of(0, 4), 2)
    known = q.log_prob(z)
    torch.testing.assert_close(known, q.log_prob(z.clone()))
    order = torch.tensor([2, 0, 3, 1])
    other = mapped(q, lambda rows: rows[order])
    assert not torch.allclose(other.log_prob(z), known)
    torch.testing.assert_close(other.log_prob(z[:, order]), known[:, order])
    with torch.no_grad():
        z += 1
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()))
    assert not torch.allclose(q.log_prob(z), known)
    q.rsample(noise_of(1, 4))
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()))
    with torch.no_grad():
        z = q.rsample(noise_of(0, 4))
    assert q.log_prob(z).requires_grad  # drawn without gradients, asked for with them
    with torch.inference_mode():
        z = q.rsample(noise_of(0, 4))
        torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()))


@examples(max_examples=25)
@given(seeds, st.integers(1, 9), st.integers(1, 3), st.integers(1, 30))
def test_the_mixture_is_the_mean_of_the_densities_for_any_blocks(seed, batch, latent, pairs):
    q = network_of(seed, latent)(texts(batch, seed))
    z = q.rsample(noise_of(seed, batch))
    with torch.no_grad():
        every = q.log_prob(z[0][:, None].expand(-1, batch, -1))  # code n under posterior m
    found = q.mixture_log_prob(z[0], pairs)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, every.logsumexp(1) - math.log(batch))
    assert mutual_information(q.log_prob(z)[0].detach(), found).nats <= math.log(batch)


def test_float32_codes_of_sharp_posteriors_stay_below_the_ceiling():
    """In float32 an inverse is wrong by 1e-6 and more, which deviations of 1e-3 make 1e-2 nats: so float64."""
    network = network_of(0, 4).float()
    with torch.no_grad():
        network.parameters_of.bias[4:] = 2 * math.log(1e-3)
    q = network(texts(50).float())
    z = q.rsample(noise_of(0, 50))[0]
    found = mutual_information(q.log_prob(z[None])[0].detach(), q.mixture_log_prob(z))
    assert found.nats == pytest.approx(math.log(50), abs=0.02)


def test_batches_are_joined_and_picked_from():
    q = network_of(0, 3)(texts(5))
    whole = joined([mapped(q, lambda rows: rows[:2]), mapped(q, lambda rows: rows[2:])])
    assert isinstance(whole, Iaf) and whole.flows is q.flows
    torch.testing.assert_close(whole.mean, q.mean)
    z = q.rsample(noise_of(0, 5))
    torch.testing.assert_close(whole.log_prob(z), q.log_prob(z))


def test_it_computes_in_full_precision_under_autocast():
    network = network_of(0, 3).float()
    hidden = texts(4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = network(hidden)
        z = q.rsample(noise_of(0, 4), 2)
        kept, inverted, mean = q.log_prob(z), q.log_prob(z.clone()), q.mean
    exact = network(hidden.float())
    assert z.dtype == kept.dtype == inverted.dtype == torch.float32
    assert torch.equal(z, exact.rsample(noise_of(0, 4), 2)) and torch.equal(mean, exact.mean)
    torch.testing.assert_close(kept, inverted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inverted, exact.log_prob(z.clone()))


def test_a_diverged_posterior_gives_nan_and_no_exception():
    q = network_of(0, 2)(texts(3))
    q = mapped(q, lambda rows: rows.detach().clone())
    q.base_mean[1] = math.nan
    z = q.rsample(noise_of(0, 3))
    for codes in (z, z.clone()):
        assert q.log_prob(codes)[0].isnan().tolist() == [False, True, False]


def test_its_expectation_is_estimated_by_codes_without_their_noise():
    """Strong flows: the mean code is not where the mean of the base goes; noise alone makes no unit active."""
    q = strong_flow(1000)
    assert q.expectation is None
    value, noise = expected(q, 3, torch.arange(1000))
    with torch.no_grad():
        codes = q.rsample(sentence_noise(8, torch.arange(1000)), 400)
    exact = codes.double().mean(0)
    apart = value - exact
    assert (apart.mean(0).abs() < 4.5 * (noise.mean(0) * (1 + 50 / 400) / 1000) ** 0.5).all()
    torch.testing.assert_close(apart.square().mean(0), noise.mean(0) * (1 + 50 / 400), rtol=0.1, atol=1e-4)
    assert (q.mean - exact).square().mean().sqrt() > 0.1
    true = variance_of_means(exact, codes.double().var(0) / 400)
    torch.testing.assert_close(variance_of_means(value, noise), true, rtol=0.05, atol=2e-3)
    some = mapped(q, lambda rows: rows[700:720])
    parts = expected(some, 3, torch.arange(700, 720), entries=50 * 3 * 7)  # whichever are drawn together
    torch.testing.assert_close(parts.value, value[700:720], rtol=0, atol=1e-5)


def test_a_flow_that_does_not_see_the_text_has_no_active_unit():
    q = strong_flow(3000)
    alike = Iaf(*(part[:1].expand(len(part), -1) for part in (q.base_mean, q.base_std, q.context)), q.flows)
    value, noise = expected(alike, 0, torch.arange(3000))
    assert active_units(value, 0.01) > 0 and active_units(value, 0.01, noise) == 0


def strong_flow(batch: int) -> Iaf:
    """Posteriors of two flows with large weights."""
    torch.manual_seed(0)
    module = IafPosterior(4, 3, flows=2, hidden=16, context=4)
    with torch.no_grad():
        for weight in module.flows.parameters():
            weight.mul_(6)
        return module(torch.randn(batch, 4))
