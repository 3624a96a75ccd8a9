import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.func import functional_call

from textvae.metrics.information import mutual_information
from textvae.metrics.latent import active_units
from textvae.objective.terms.mu_forcing import MuForcing
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import GaussianPosterior, joined, mapped
from textvae.parts.posteriors.semi_implicit import SemiImplicit, SemiImplicitPosterior
from textvae.parts.priors import StandardNormal

seeds = st.integers(0, 2**31)


def of(seed: int, batch: int, components: int, latent: int, own: int) -> SemiImplicit:
    """Random components in float64."""
    generator = torch.Generator().manual_seed(seed)
    means, logs = torch.randn(2, batch, components, latent, generator=generator, dtype=torch.float64)
    return SemiImplicit(means, (logs / 2).exp(), own)


def noise_of(seed: int, batch: int):
    return sentence_noise(seed, torch.arange(batch))


def mixture(means: torch.Tensor, stds: torch.Tensor) -> MixtureSameFamily:
    """Torch's mixture of equal weights over the first axis."""
    return MixtureSameFamily(Categorical(torch.ones(len(means)).double()), Independent(Normal(means, stds), 1))


def test_two_components_by_hand():
    """At z = 0 under N(0, 1) and N(2, 1): log q~ = log phi(0) + ln (1 + e^-2) / 2, and log p(0) = log phi(0)."""
    q = SemiImplicit(torch.tensor([[[0.0], [2.0]]]), torch.ones(1, 2, 1), 1)
    z = torch.zeros(1, 1, 1)
    expected = math.log1p(math.exp(-2)) - math.log(2)
    assert q.log_prob(z).item() == pytest.approx(-0.5 * math.log(2 * math.pi) + expected, rel=1e-6)
    rate = q.rate(z, StandardNormal(1))
    assert rate.kind == "upper" and rate.nats.tolist() == pytest.approx([expected], rel=1e-5)
    assert q.mean.tolist() == [[1.0]]
    assert q.rate_per_dimension(StandardNormal(1)) is None


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(0, 4), st.integers(1, 3), st.integers(1, 9))
def test_the_density_is_that_of_its_own_component_and_those_beside(seed, batch, own, beside, latent, samples):
    """Code j is of component j mod (J + K); one that is of the K has the first of the J beside it."""
    q = of(seed, batch, own + beside, latent, own)
    z = q.rsample(noise_of(seed, batch), samples)
    drawn = noise_of(seed, batch)(samples, latent)
    for j in range(samples):
        number = j % (own + beside)
        expected = q.means[:, number] + q.stds[:, number] * drawn[j]
        torch.testing.assert_close(z[j], expected)
        members = [number if number < own else 0, *range(own, own + beside)]
        for n in range(batch):
            wanted = mixture(q.means[n, members], q.stds[n, members]).log_prob(z[j, n])
            torch.testing.assert_close(q.log_prob(z)[j, n], wanted)


@given(seeds, st.integers(1, 40))
def test_chunks_of_codes_change_nothing(seed, entries):
    q = of(seed, 3, 6, 2, 2)
    z = q.rsample(noise_of(seed, 3), 7)
    torch.testing.assert_close(q.log_prob(z, entries), q.log_prob(z), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", ["log-variance", "softplus", "softplus-variance"])
@pytest.mark.parametrize("codes", [1, 3])
def test_without_noise_and_components_it_is_the_gaussian(scale, codes):
    gaussian = GaussianPosterior(5, 3, scale).double()
    network = SemiImplicitPosterior(5, 3, noise=0, layers=0, scale=scale, components=0).double()
    network.from_text.load_state_dict(gaussian.parameters_of.state_dict())
    hidden = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise, same = noise_of(0, 4), noise_of(0, 4)
    q, reference = network(hidden, noise, codes), gaussian(hidden)
    z = q.rsample(noise, codes)
    torch.testing.assert_close(z, reference.rsample(same, codes), rtol=0, atol=1e-12)
    torch.testing.assert_close(q.log_prob(z), reference.log_prob(z), rtol=0, atol=1e-12)
    prior = StandardNormal(3)
    expected = (reference.log_prob(z) - prior.log_prob(z)).mean(0)
    torch.testing.assert_close(q.rate(z, prior).nats, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(q.mean, reference.mean, rtol=0, atol=1e-12)
    with torch.no_grad():
        log_mixture = reference.mixture_log_prob(z[0])
    torch.testing.assert_close(q.mixture_log_prob(z[0]), log_mixture, rtol=0, atol=1e-10)


def test_components_beside_change_nothing_where_there_is_no_noise():
    network = SemiImplicitPosterior(5, 3, noise=0, layers=2, hidden=4).double()
    hidden = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, many = network(hidden, None, 2, 0), network(hidden, None, 2, 9)
    z = one.rsample(noise_of(0, 4), 2)
    torch.testing.assert_close(one.log_prob(z), many.log_prob(z), rtol=0, atol=1e-12)


def test_the_network_is_one_of_text_and_noise_side_by_side_and_reads_the_text_once():
    network = SemiImplicitPosterior(5, 3, noise=4, hidden=7, layers=2).double()
    hidden = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    read = []
    network.from_text.register_forward_hook(lambda module, given, result: read.append(result.shape))
    q = network(hidden, noise_of(1, 6), 2, 3)
    assert read == [(6, 7)]
    assert q.own == 2 and q.means.shape == q.stds.shape == (6, 5, 3)
    weight = torch.cat([network.from_text.weight, network.from_noise.weight], dim=1)
    for number, drawn in enumerate(noise_of(1, 6)(5, 4).double()):
        first = torch.cat([hidden, drawn], dim=1) @ weight.mT + network.from_text.bias
        second = network.rest[1](first.tanh())
        mean, raw = network.rest[3](second.tanh()).chunk(2, dim=1)
        torch.testing.assert_close(q.means[:, number], mean)
        torch.testing.assert_close(q.stds[:, number], (raw / 2).exp())


@pytest.mark.parametrize(("samples", "beside"), [(1, 50), (1, 0), (5, 0)])
def test_noise_alone_makes_no_unit_active(samples, beside):
    """Components N(b epsilon, 1 - b^2) whatever the text is: E[z|x] is 0, and its estimates scatter by b^2 / n."""
    network = SemiImplicitPosterior(1, 8, noise=8, layers=0, components=beside).double().eval()
    with torch.no_grad():
        for weights in (network.from_text.weight, network.from_text.bias, network.from_noise.weight):
            weights.zero_()
        network.from_noise.weight[:8] = 0.9 * torch.eye(8)
        q = network(torch.randn(4000, 1).double(), noise_of(0, 4000), samples)
    n = q.means.shape[1]
    assert n == (51 if beside else 50)
    noise = q.expectation.noise
    torch.testing.assert_close(noise.mean(0), torch.full((8,), 0.81 / n).double(), rtol=0.1, atol=0)
    assert active_units(q.mean, 0.01) == 8
    assert active_units(q.mean, 0.01, noise) == 0
    moved = dataclasses.replace(q, means=q.means + torch.linspace(-1, 1, 4000)[:, None, None])  # by the text: 1/3
    assert active_units(moved.mean, 0.2, moved.expectation.noise) == 8


@pytest.mark.parametrize("reading", ["paper", "per-dimension"])
def test_noise_alone_is_no_spread_for_mu_forcing(passed, reading):
    """Texts at -1 and 1 in each of 2 dimensions, and noise: variance 1 each, on average, by both readings."""
    generator = torch.Generator().manual_seed(0)
    text = torch.tensor([-1.0, 1.0]).double().repeat(4)[:, None, None]
    out, found = passed(torch.zeros(8, 2).double()), []
    for _ in range(4000):
        means = text + torch.randn(8, 3, 2, dtype=torch.float64, generator=generator)
        q = SemiImplicit(means, torch.ones_like(means), 3)
        found.append(float(MuForcing(margin=10, reading=reading)(out._replace(posterior=q), 0)))
    assert sum(found) / len(found) == pytest.approx(10 - 1, abs=0.03)


def test_without_components_beside_there_are_enough_to_tell_how_the_mean_scatters():
    network = SemiImplicitPosterior(5, 3, noise=2, components=0)
    hidden = torch.zeros(4, 5)
    assert network.train()(hidden, noise_of(0, 4)).means.shape[1] == 2
    assert network.eval()(hidden, noise_of(0, 4)).means.shape[1] == 50
    assert network(hidden, noise_of(0, 4), 60).means.shape[1] == 60


def linear_toy(b: float, log_variance: float) -> SemiImplicitPosterior:
    """mean = 0.5 x + b epsilon and a fixed scale: q(z|x) = N(0.5 x, b^2 + exp(log_variance)), known exactly."""
    network = SemiImplicitPosterior(1, 1, noise=1, layers=0).double()
    with torch.no_grad():
        network.from_text.weight.copy_(torch.tensor([[0.5], [0.0]]))
        network.from_text.bias.copy_(torch.tensor([0.0, log_variance]))
        network.from_noise.weight.copy_(torch.tensor([[b], [0.0]]))
    return network


def test_the_bound_falls_to_the_kl_as_components_are_added():
    network = linear_toy(b=1.2, log_variance=math.log(0.09))
    exact = kl_divergence(Normal(0.4, math.sqrt(1.44 + 0.09)), Normal(0.0, 1.0)).item()
    generator = torch.Generator().manual_seed(0)

    def noise(samples: int, size: int) -> torch.Tensor:
        return torch.randn(samples, 10_000, size, generator=generator, dtype=torch.float64)

    found = []
    with torch.no_grad():
        for beside in (0, 1, 4, 16, 64, 256):
            q = network(torch.full((10_000, 1), 0.8).double(), noise, 1, beside)
            found.append(q.rate(q.rsample(noise), StandardNormal(1)).nats.mean().item())
    assert all(b < a - 0.01 for a, b in zip(found, found[1:], strict=False)), found
    assert exact - 0.02 < found[-1] < exact + 0.05
    # With K = 0: the mean over lambda of the Gaussians' KL, (0.4^2 + 1.2^2 + 0.09 - 1 - ln 0.09) / 2.
    assert found[0] == pytest.approx((0.16 + 1.44 + 0.09 - 1 - math.log(0.09)) / 2, abs=0.07)


@pytest.mark.parametrize(("own", "beside", "codes"), [(1, 0, 1), (1, 1, 1), (2, 3, 2), (2, 3, 5)])
def test_importance_weights_are_unbiased(own, beside, codes):
    """z ~ N(0, 1), x|z ~ N(z, 1): p(x) = N(0, 2). Also where codes are drawn from the components beside."""
    network = linear_toy(b=0.7, log_variance=math.log(0.4))
    sentences, x = 40_000, 0.8
    generator = torch.Generator().manual_seed(3)

    def noise(samples: int, size: int) -> torch.Tensor:
        return torch.randn(samples, sentences, size, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        q = network(torch.full((sentences, 1), x).double(), noise, own, beside)
        z = q.rsample(noise, codes)
        log_joint = Normal(0.0, 1.0).log_prob(z).sum(-1) + Normal(z[..., 0], 1.0).log_prob(torch.tensor(x))
        weights = (log_joint - q.log_prob(z)).exp()
    exact = Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(x)).exp().item()
    for code in weights:
        error = code.std().item() / math.sqrt(sentences)
        assert error < 0.01 * exact
        assert code.mean().item() == pytest.approx(exact, abs=4 * error)


@pytest.mark.parametrize(("layers", "beside"), [(0, 2), (1, 3), (2, 0)])
def test_gradients_of_the_bound_in_all_weights(layers, beside):
    torch.manual_seed(0)
    network = SemiImplicitPosterior(3, 2, noise=2, hidden=3, layers=layers, scale="softplus").double()
    hidden = torch.randn(2, 3, dtype=torch.float64)
    names, values = zip(
        *[(n, p.detach().clone().requires_grad_()) for n, p in network.named_parameters()], strict=True
    )

    def bound(hidden, *values):
        noise = noise_of(0, 2)
        q = functional_call(network, dict(zip(names, values, strict=True)), (hidden, noise, 2, beside))
        return q.rate(q.rsample(lambda s, size: noise(s, size).double(), 2), StandardNormal(2)).nats

    assert torch.autograd.gradcheck(bound, (hidden.requires_grad_(), *values))


def test_without_noise_given_a_code_is_of_its_text_alone():
    torch.manual_seed(0)
    network = SemiImplicitPosterior(4, 2, noise=3, components=6)
    hidden = torch.randn(5, 4)
    whole, again = network(hidden).mean, network(hidden).mean
    assert torch.equal(whole, again)
    assert network(hidden).means.shape == (5, 7, 2)  # J = 1 and its own number beside
    for n in range(5):
        torch.testing.assert_close(network(hidden[n : n + 1]).mean[0], whole[n], rtol=1e-5, atol=1e-6)


@given(seeds, st.integers(1, 5), st.integers(1, 3), st.integers(0, 4), st.integers(1, 60))
def test_the_mixture_is_torchs_for_any_chunking(seed, batch, own, beside, entries):
    q = of(seed, batch, own + beside, 2, own)
    z = q.rsample(noise_of(seed, batch))[0]
    members = [0, *range(own, own + beside)]
    everyone = mixture(q.means[:, members].flatten(0, 1), q.stds[:, members].flatten(0, 1))
    torch.testing.assert_close(q.mixture_log_prob(z, entries), everyone.log_prob(z), rtol=0, atol=1e-9)


@examples(max_examples=20)
@given(seeds, st.integers(1, 12), st.integers(1, 4), st.sampled_from([0.01, 1.0, 100.0]))
def test_the_information_is_never_above_ln_n(seed, batch, own, spread):
    q = of(seed, batch, own + 3, 2, own)
    q = SemiImplicit(q.means * spread, q.stds, own)
    z = q.rsample(noise_of(seed, batch))
    found = mutual_information(q.log_prob(z)[0], q.mixture_log_prob(z[0]))
    assert found.nats <= math.log(batch)


@pytest.mark.parametrize(("own", "beside", "members"), [(1, 3, [1, 2, 3]), (2, 2, [2, 3]), (4, 0, [1, 2, 3])])
def test_apart_has_every_component_that_no_first_code_is_from(own, beside, members):
    q = of(0, 5, own + beside, 2, own)
    z = q.rsample(noise_of(1, 5))
    expected = torch.stack([mixture(q.means[n, members], q.stds[n, members]).log_prob(z[0, n]) for n in range(5)])
    torch.testing.assert_close(q.apart.log_prob(z)[0], expected, rtol=0, atol=1e-9)
    everyone = mixture(q.means[:, members].flatten(0, 1), q.stds[:, members].flatten(0, 1))
    torch.testing.assert_close(q.apart.mixture_log_prob(z[0]), everyone.log_prob(z[0]), rtol=0, atol=1e-9)


def test_the_information_lies_between_that_by_its_component_and_that_without():
    """Places 0 and 3, each with components around it: q(z|x) is N(place, 1 + 0.3^2), whose I is an integral."""
    std = math.sqrt(1 + 0.3**2)
    z = torch.linspace(-12, 15, 20_001).double()
    densities = torch.stack([torch.distributions.Normal(place, std).log_prob(z) for place in (0.0, 3.0)])
    ratio = densities - (densities.logsumexp(0) - math.log(2))
    exact = float(torch.trapezoid((densities.exp() * ratio).mean(0), z))
    assert 0.4 < exact < math.log(2)
    gaps = []
    for own, beside in ((1, 2), (1, 10), (1, 100), (100, 0)):
        torch.manual_seed(0)
        above, below = [], []
        for _ in range(20):
            places = torch.tensor([0.0, 3.0]).double().repeat(50)[:, None, None]
            means = places + torch.randn(100, own + beside, 1).double()
            q = SemiImplicit(means, torch.full_like(means, 0.3), own)
            z = q.rsample(noise_of(len(above), 100))
            above.append(mutual_information(q.log_prob(z)[0], q.mixture_log_prob(z[0])).nats)
            below.append(mutual_information(q.apart.log_prob(z)[0], q.apart.mixture_log_prob(z[0])).nats)
        above, below = torch.tensor(above).mean(), torch.tensor(below).mean()
        assert below < exact + 0.02 and above > exact - 0.02
        gaps.append(float(above - below))
    assert gaps[0] > gaps[1] > gaps[2] > 0 and gaps[2] < 0.1
    # K = 0: a code by its own component alone tells far too much, by the 99 others what it does.
    assert float(below) == pytest.approx(exact, abs=0.05) and float(above) > exact + 0.5


def test_batches_are_joined_and_picked_from():
    q = of(0, 5, 4, 2, 3)
    parts = [mapped(q, lambda rows: rows[:2]), mapped(q, lambda rows: rows[2:])]
    whole = joined(parts)
    assert whole.own == 3 and torch.equal(whole.means, q.means) and torch.equal(whole.stds, q.stds)


def test_it_computes_in_full_precision_under_autocast():
    torch.manual_seed(0)
    network = SemiImplicitPosterior(3, 2, noise=4)
    hidden = torch.randn(4, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = network(hidden, noise_of(0, 4), 2, 3)
        z = q.rsample(noise_of(1, 4), 2)
        log_q = q.log_prob(z)
    assert log_q.dtype == z.dtype == torch.float32
    exact = network(hidden.float(), noise_of(0, 4), 2, 3)
    assert torch.equal(q.means, exact.means) and torch.equal(log_q, exact.log_prob(z))


def test_a_diverged_posterior_gives_nan_and_no_exception():
    q = of(0, 3, 4, 2, 1)
    q.means[1, 2, 0] = math.nan
    assert q.log_prob(q.rsample(noise_of(0, 3)))[0].isnan().tolist() == [False, True, False]
