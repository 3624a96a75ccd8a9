"""The multi-step posterior against Gaussians by hand, PyTorch's GRU, and numerical integrals."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import functional_call

from textvae.errors import RequestError
from textvae.metrics.information import mutual_information
from textvae.objective.presets import load_settings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import MultiStepPosterior, joined, mapped
from textvae.parts.priors import MixtureOfGaussians, StandardNormal


def network_of(seed: int, latent: int, steps: int, hidden: int = 5) -> MultiStepPosterior:
    """A network in float64 whose later steps depend strongly on the earlier ones."""
    torch.manual_seed(seed)
    network = MultiStepPosterior(4, latent, steps, hidden).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return network


def texts(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_of(seed: int, batch: int):
    return sentence_noise(seed, torch.arange(batch))


def test_steps_are_those_of_a_gru():
    """Draws, means and densities part by part, with torch's GRU cell; 5 dimensions in steps of 2, 2 and 1."""
    network = network_of(0, 5, 3)
    cell = torch.nn.GRUCell(2 + 4, 5).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.cat([network.steps.from_part.weight, network.from_text.weight], dim=1))
        cell.bias_ih.copy_(network.from_text.bias)
        cell.weight_hh.copy_(network.steps.from_state.weight)
        cell.bias_hh.copy_(network.steps.from_state.bias)
        hidden, normal = texts(3), noise_of(1, 3)(1, 5)[0].double()
        q = network(hidden)
        z, log_q, kl = q.rsample(noise_of(1, 3)), torch.zeros(3).double(), torch.zeros(3).double()
        state, part, parts = torch.zeros(3, 5).double(), torch.zeros(3, 2).double(), []
        for size, draws in zip((2, 2, 1), normal.split([2, 2, 1], dim=1), strict=True):
            state = cell(torch.cat([part, hidden], dim=1), state)
            mean, raw = network.steps.parameters_of(state).chunk(2, dim=1)
            gaussian = Normal(mean[:, :size], (raw[:, :size] / 2).exp())
            parts.append(gaussian.mean + gaussian.stddev * draws)
            log_q += gaussian.log_prob(parts[-1]).sum(1)
            kl += kl_divergence(gaussian, Normal(0.0, 1.0)).sum(1)
            part = torch.nn.functional.pad(parts[-1], (0, 2 - size))
    torch.testing.assert_close(z[0], torch.cat(parts, dim=1))
    torch.testing.assert_close(q.log_prob(z)[0], log_q)
    rate = q.rate(z, StandardNormal(5))
    assert rate.kind == "monte-carlo" and q.rate_per_dimension(StandardNormal(5)) is None
    torch.testing.assert_close(rate.nats, kl)
    zeros = q.rsample(lambda samples, size: torch.zeros(samples, 3, size).double())
    torch.testing.assert_close(q.mean, zeros[0])


def test_one_step_is_a_gaussian():
    q = network_of(0, 3, 1)(texts(4))
    z = q.rsample(noise_of(0, 4), 5)
    ones = q.rsample(lambda samples, size: torch.ones(samples, 4, size).double())[0]
    gaussian = Independent(Normal(q.mean, ones - q.mean), 1)
    torch.testing.assert_close(q.log_prob(z), gaussian.log_prob(z))
    exact = kl_divergence(gaussian, Independent(Normal(torch.zeros_like(ones), torch.ones_like(ones)), 1))
    torch.testing.assert_close(q.rate(z, StandardNormal(3)).nats, exact)


@pytest.mark.parametrize("seed", range(3))
def test_the_density_integrates_to_one_and_is_that_of_the_draws(seed):
    q = network_of(seed, 2, 2)(texts(1, seed))
    side = torch.linspace(-14, 14, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[:, None]
    with torch.no_grad():
        density = q.log_prob(grid).exp()[:, 0] * (side[1] - side[0]).item() ** 2
        draws = q.rsample(noise_of(seed, 1), 20_000)[:, 0]
        assert density.sum().item() == pytest.approx(1, abs=2e-3)
        for moment in (lambda z: z, torch.square, lambda z: z.prod(1, keepdim=True)):
            expected = (density[:, None] * moment(grid[:, 0])).sum(0)
            error = 5 * moment(draws).std(0) / math.sqrt(len(draws)) + 2e-3
            assert bool(((moment(draws).mean(0) - expected).abs() < error).all())


def test_the_rate_is_without_bias_and_varies_less_than_log_ratios():
    with torch.no_grad():
        q, prior = network_of(2, 4, 4)(texts(2)), StandardNormal(4)
        z = q.rsample(noise_of(0, 2), 20_000)
        ratios = q.log_prob(z) - prior.log_prob(z)
        parts = torch.stack([q.rate(one[None], prior).nats for one in z[:300]])
    error = 5 * (ratios.var(0) / len(z) + parts.var(0) / len(parts)).sqrt()
    assert bool(((ratios.mean(0) - parts.mean(0)).abs() < error).all())
    assert bool((parts.var(0) < ratios.var(0)).all())


def test_other_priors_pay_log_ratios():
    torch.manual_seed(0)
    prior, q = MixtureOfGaussians(3, 2).double(), network_of(0, 3, 3)(texts(2))
    z = q.rsample(noise_of(0, 2), 2)
    torch.testing.assert_close(q.rate(z, prior).nats, (q.log_prob(z) - prior.log_prob(z)).mean(0))


def test_gradients_of_the_rate_in_all_weights():
    network = network_of(0, 3, 3, hidden=3)
    names, values = zip(
        *[(n, p.detach().clone().requires_grad_()) for n, p in network.named_parameters()], strict=True
    )

    def nats(hidden, *values):
        q = functional_call(network, dict(zip(names, values, strict=True)), (hidden,))
        z = q.rsample(noise_of(0, 2))
        return q.rate(z, StandardNormal(3)).nats, q.log_prob(z)

    assert torch.autograd.gradcheck(nats, (texts(2).requires_grad_(), *values))


@pytest.mark.parametrize("pairs", [1, 10, 1000])
def test_the_mixture_is_the_mean_of_the_densities_for_any_blocks(pairs):
    q = network_of(0, 3, 2)(texts(7))
    with torch.no_grad():
        z = q.rsample(noise_of(0, 7))
        every = q.log_prob(z[0][:, None].expand(-1, 7, -1))  # code n under posterior m
        found = q.mixture_log_prob(z[0], pairs)
        torch.testing.assert_close(found, every.logsumexp(1) - math.log(7))
        assert mutual_information(q.log_prob(z)[0], found).nats <= math.log(7)


def test_float32_codes_of_sharp_posteriors_stay_below_the_ceiling():
    network = network_of(0, 4, 2).float()
    with torch.no_grad():
        network.steps.parameters_of.bias[2:] = 2 * math.log(1e-3)
        q = network(texts(50).float())
        z = q.rsample(noise_of(0, 50))[0]
        found = mutual_information(q.log_prob(z[None])[0], q.mixture_log_prob(z))
    assert found.nats == pytest.approx(math.log(50), abs=0.05)


def test_batches_are_joined_and_precision_is_kept_under_autocast():
    network = network_of(0, 3, 2).float()
    hidden = texts(4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = network(hidden)
        z = q.rsample(noise_of(0, 4), 2)
        mean, rate = q.mean, q.rate(z, StandardNormal(3)).nats
    exact = network(hidden.float())
    assert z.dtype == mean.dtype == rate.dtype == torch.float32
    assert torch.equal(z, exact.rsample(noise_of(0, 4), 2)) and torch.equal(mean, exact.mean)
    assert torch.equal(rate, exact.rate(z, StandardNormal(3)).nats)
    whole = joined([mapped(exact, lambda rows: rows[:2]), mapped(exact, lambda rows: rows[2:])])
    torch.testing.assert_close(whole.mean, exact.mean)


def test_a_diverged_posterior_gives_nan_and_no_exception():
    q = mapped(network_of(0, 2, 2)(texts(3)), lambda rows: rows.detach().clone())
    q.seen[1] = math.nan
    assert q.log_prob(q.rsample(noise_of(0, 3)))[0].isnan().tolist() == [False, True, False]


def test_more_steps_than_dimensions_are_refused():
    with pytest.raises(RequestError, match="has only model.latent = 3 dimensions; give 3 or less"):
        load_settings(method="multi-step", model={"latent": 3})
    assert load_settings(method="multi-step", model={"latent": 4}).model.posterior.steps == 4
