import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from textvae.model import redraw
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianMixture, MixturePosterior, joined, mapped
from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.priors import StandardNormal

seeds = st.integers(0, 2**31)


def drawn(seed: int, batch: int, components: int, latent: int, spread: float = 1.0) -> GaussianMixture:
    """Random mixtures in float64."""
    generator = torch.Generator().manual_seed(seed)
    means, logs = torch.randn(2, batch, components, latent, generator=generator, dtype=torch.float64)
    logits = torch.randn(batch, components, generator=generator, dtype=torch.float64)
    return GaussianMixture(logits.log_softmax(1), means * spread, (logs / 2).exp())


def reference(posterior: GaussianMixture) -> MixtureSameFamily:
    parts = Independent(Normal(posterior.means, posterior.stds), 1)
    return MixtureSameFamily(Categorical(logits=posterior.log_weight), parts)


def even_noise(count: int, size: int) -> torch.Tensor:
    """`count` points that fill the space of normal numbers evenly (Sobol), for averages with little error."""
    uniform = torch.quasirandom.SobolEngine(size, scramble=True, seed=0).draw(count, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))


# The density of very many Gaussians.


@given(seeds, st.integers(1, 12), st.integers(1, 6), st.integers(1, 5), st.integers(1, 100), st.booleans())
def test_the_aggregate_is_torchs_for_any_chunking(seed, codes, own, latent, entries, told):
    posterior = drawn(seed, codes, own, latent)
    mean, std = posterior.means.flatten(0, 1), posterior.stds.flatten(0, 1)
    log_weight = torch.randn(codes * own, generator=torch.Generator().manual_seed(seed)).double().log_softmax(0)
    z = mean[::own] + 0.5 * std[::own]
    expected = MixtureSameFamily(Categorical(logits=log_weight), Independent(Normal(mean, std), 1)).log_prob(z)
    found = aggregated_log_prob(z, mean, std, log_weight, own if told else 0, entries)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_aggregate_by_hand_with_weights_as_given():
    """At 0, N(0, 1) three times over and N(1, 1) once: (3 + e^-0.5) / sqrt(2 pi)."""
    found = aggregated_log_prob(
        torch.zeros(1, 1), torch.tensor([[0.0], [1.0]]), torch.ones(2, 1), torch.tensor([math.log(3), 0.0])
    )
    assert found.item() == pytest.approx(math.log((3 + math.exp(-0.5)) / math.sqrt(2 * math.pi)), rel=1e-7)


def test_own_components_are_exact_where_products_are_not():
    mean = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    std, log_weight = torch.full_like(mean, 1e-9), torch.full((60,), -math.log(60)).double()
    z = mean[::3] + std[::3]
    expected = -math.log(60) - 2 * math.log(2 * math.pi) + 4 * 9 * math.log(10) - 2
    for entries in (7, 60, 1 << 20):
        found = aggregated_log_prob(z, mean, std, log_weight, 3, entries)
        # z itself is rounded: 1e-16 of about 1, in units of 1e-9.
        torch.testing.assert_close(found, torch.full((20,), expected).double(), rtol=0, atol=1e-5)


def test_nan_is_not_hidden():
    z, mean = torch.zeros(2, 1), torch.tensor([[0.0], [1.0], [math.nan]])
    assert aggregated_log_prob(z, mean, torch.ones(3, 1), torch.zeros(3)).isnan().all()


# The mixture as posterior.


@given(seeds, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_density_and_mean_are_torchs(seed, batch, components, latent, samples):
    posterior = drawn(seed, batch, components, latent)
    z = posterior.rsample(sentence_noise(seed, torch.arange(batch)), samples)
    assert z.shape == (samples, batch, latent) and z.dtype == torch.float64
    torch.testing.assert_close(posterior.log_prob(z), reference(posterior).log_prob(z))
    torch.testing.assert_close(posterior.log_prob(z[0]), reference(posterior).log_prob(z[0]))
    torch.testing.assert_close(posterior.mean, reference(posterior).mean)


def test_the_density_integrates_to_one():
    posterior = drawn(0, 1, 3, 1)
    total, _ = integrate.quad(
        lambda z: posterior.log_prob(torch.tensor([[z]], dtype=torch.float64)).exp().item(), -15, 15
    )
    assert total == pytest.approx(1.0, abs=1e-7)


def test_a_draw_by_hand():
    """Weights 0.3 and 0.7: the first number, as a probability, is below 0.3 or above it."""
    posterior = GaussianMixture(
        torch.tensor([[0.3, 0.7]]).log(), torch.tensor([[[0.0], [10.0]]]), torch.tensor([[[1.0], [2.0]]])
    )
    uniform = torch.tensor([0.01, 0.29, 0.31, 0.99])
    noise = torch.stack([torch.special.ndtri(uniform), torch.tensor([1.0, -1.0, 0.5, 2.0])], 1)[:, None]
    z = posterior.rsample(lambda samples, size: noise, 4)
    assert z.flatten().tolist() == pytest.approx([1.0, -1.0, 11.0, 14.0])
    with torch.no_grad():
        assert torch.equal(posterior.rsample(lambda samples, size: noise, 4), z)


def test_draws_follow_the_density():
    posterior = drawn(1, 1, 3, 2, spread=2.0)
    draws = even_noise(1 << 15, 3)[:, None]
    z = posterior.rsample(lambda samples, size: draws, len(draws))
    weights = posterior.log_weight[0].exp()
    for d in range(2):
        for at in (-2.0, -0.5, 0.0, 1.0, 3.0):
            below = (
                weights * Normal(posterior.means[0, :, d], posterior.stds[0, :, d]).cdf(torch.tensor(at))
            ).sum()
            assert (z[:, 0, d] < at).double().mean().item() == pytest.approx(below.item(), abs=2e-3)


def leaves(posterior: GaussianMixture) -> tuple[GaussianMixture, list[torch.Tensor]]:
    """The mixture as a function of logits, means and scales that gradients are asked of."""
    logits, means, stds = (
        value.clone().requires_grad_() for value in (posterior.log_weight, posterior.means, posterior.stds)
    )
    return GaussianMixture(logits.log_softmax(1), means, stds), [logits, means, stds]


@pytest.mark.parametrize("latent", [1, 2])
def test_gradients_of_an_expectation_against_quadrature(latent):
    """E f(z) on a grid, differentiated there, and draws, differentiated through them: f mixes dimensions."""

    def f(z: torch.Tensor) -> torch.Tensor:
        return (z[..., 0] + 0.5).sin() * (1 + z[..., -1].square()) + z[..., -1]

    posterior, parameters = leaves(drawn(4, 1, 3, latent))
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latent).view(-1, 1, latent)
    exact = (f(grid) * posterior.log_prob(grid).exp()).sum() * (axis[1] - axis[0]) ** latent
    expected = torch.autograd.grad(exact, parameters, retain_graph=True)
    draws = even_noise(1 << 16, 1 + latent)[:, None]
    sampled = f(posterior.rsample(lambda samples, size: draws, len(draws))).mean()
    assert sampled.item() == pytest.approx(exact.item(), abs=2e-3)
    for found, wanted in zip(torch.autograd.grad(sampled, parameters), expected, strict=True):
        assert float(wanted.abs().max()) > 0.05
        torch.testing.assert_close(found, wanted, rtol=0, atol=5e-3)


def test_gradients_follow_the_conditional_distribution_functions():
    """A second way: solve F_d(z_d | z_<d) = u_d by bisection for changed parameters, and take differences."""
    posterior, parameters = leaves(drawn(7, 1, 3, 3))
    noise = sentence_noise(0, torch.arange(1))(1, 4).double()
    z = posterior.rsample(lambda samples, size: noise)
    direction = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(i)).double() for i, p in enumerate(parameters)
    ]
    weights = torch.tensor([1.0, -2.0, 0.5]).double()
    gradients = torch.autograd.grad((z[0, 0] * weights).sum(), parameters)
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))

    def levels(step: float, code: torch.Tensor | None, u: list[float] | None) -> list[float]:
        """u of a code, or the code of u, with the parameters moved by `step`."""
        logits, means, stds = (p.detach()[0] + step * d[0] for p, d in zip(parameters, direction, strict=True))
        log_share, found = logits.log_softmax(0), []
        for dimension in range(3):
            part = Normal(means[:, dimension], stds[:, dimension])

            def level(at, part=part, log_share=log_share):
                return float((log_share.softmax(0) * part.cdf(at)).sum())

            if code is not None:
                at = code[dimension]
                found.append(level(at))
            else:
                low, high = -50.0, 50.0
                for _ in range(80):
                    middle = (low + high) / 2
                    low, high = (
                        (middle, high)
                        if level(torch.tensor(middle, dtype=torch.float64)) < u[dimension]
                        else (low, middle)
                    )
                at = torch.tensor(low, dtype=torch.float64)
                found.append(low)
            log_share = log_share + part.log_prob(at)
        return found

    u = levels(0.0, z.detach()[0, 0], None)
    ahead, behind = (torch.tensor(levels(step, None, u), dtype=torch.float64) for step in (1e-5, -1e-5))
    assert float(slope) == pytest.approx(float(((ahead - behind) / 2e-5 * weights).sum()), rel=1e-5)


def test_one_component_has_the_gaussians_gradients():
    mean, logs, noise = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, std = mean.requires_grad_(), logs.exp().requires_grad_()
    other, draws = DiagonalGaussian(mean, std), torch.cat([noise[:, :1], noise], 1)[None]
    posterior = GaussianMixture(torch.zeros(4, 1).double(), mean[:, None], std[:, None])
    z, expected = posterior.rsample(lambda samples, size: draws), other.rsample(lambda samples, size: noise[None])
    torch.testing.assert_close(z, expected)
    found, wanted = (torch.autograd.grad((codes**3).sum(), [mean, std]) for codes in (z, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


def test_float32_keeps_to_float64():
    """Sharp components far apart, 32 dimensions: values and gradients are those of float64."""
    exact = drawn(2, 6, 5, 32, spread=20.0)
    exact = GaussianMixture(exact.log_weight, exact.means, exact.stds * 1e-3)
    single = mapped(exact, lambda t: t.float())
    exact = mapped(single, lambda t: t.double())
    found = []
    for posterior in (single, exact):
        changed, parameters = leaves(posterior)
        z = changed.rsample(sentence_noise(0, torch.arange(6)), 2)
        assert z.dtype == posterior.means.dtype
        gradients = torch.autograd.grad(z.square().sum(), parameters)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        found.append([z, *gradients[1:]])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_the_rate_against_quadrature():
    posterior = drawn(3, 1, 2, 1)
    prior, draws = StandardNormal(1), even_noise(1 << 14, 2)[:, None]
    rate = posterior.rate(posterior.rsample(lambda samples, size: draws, len(draws)), prior)

    def integrand(z: float) -> float:
        code = torch.tensor([[z]], dtype=torch.float64)
        log_q = posterior.log_prob(code)
        return (log_q.exp() * (log_q - prior.log_prob(code))).item()

    assert rate.kind == "monte-carlo" and rate.nats.shape == (1,)
    assert rate.nats.item() == pytest.approx(integrate.quad(integrand, -15, 15)[0], abs=1e-3)
    assert posterior.rate_per_dimension(prior) is None


@given(seeds, st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 100))
def test_the_mixture_over_the_batch(seed, batch, components, latent, entries):
    posterior = drawn(seed, batch, components, latent)
    z = posterior.rsample(sentence_noise(seed, torch.arange(batch)))[0]
    each = torch.stack([posterior.log_prob(code.expand(batch, latent)) for code in z])
    expected = each.logsumexp(1) - math.log(batch)
    torch.testing.assert_close(posterior.mixture_log_prob(z, entries), expected, rtol=0, atol=1e-9)


def test_several_batches_together():
    whole = drawn(0, 5, 3, 2)
    again = joined([mapped(whole, lambda t: t[:2]), mapped(whole, lambda t: t[2:])])
    assert all(
        torch.equal(one, other) for one, other in zip(vars(again).values(), vars(whole).values(), strict=True)
    )


# The network.


def test_the_network_by_hand():
    module = MixturePosterior(1, 1, components=2)
    with torch.no_grad():
        module.parameters_of.weight.zero_()
        module.parameters_of.bias.copy_(torch.tensor([math.log(3), 0.0, 5.0, 6.0, 0.0, 2.0]))
        module.parameters_of.weight[2, 0] = 1.0
    posterior = module(torch.tensor([[2.0]]))
    assert posterior.log_weight.exp()[0].tolist() == pytest.approx([0.75, 0.25])
    assert posterior.means.flatten().tolist() == [7.0, 6.0]
    assert posterior.stds.flatten().tolist() == pytest.approx([1.0, math.e])


def test_components_begin_apart_and_one_alone_where_it_was():
    torch.manual_seed(0)
    module = MixturePosterior(3, 8, components=4)
    redraw(module, 0.01)
    means = module(torch.zeros(1, 3)).means[0]
    assert 0.2 < means.std(0).mean().item() < 0.4
    assert means.mean(0).abs().max().item() <= 0.01
    alone = MixturePosterior(3, 8, components=1)
    redraw(alone, 0.01)
    assert alone(torch.zeros(1, 3)).means.abs().max().item() <= 0.01


def test_full_precision_under_autocast():
    module = MixturePosterior(3, 2)
    hidden = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = module(hidden)
        z = posterior.rsample(sentence_noise(0, torch.arange(4)))
        z.sum().backward()
    expected = module(hidden.float())
    assert torch.equal(posterior.means, expected.means) and torch.equal(posterior.log_weight, expected.log_weight)
    assert torch.equal(z, expected.rsample(sentence_noise(0, torch.arange(4))))
