import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw

from textvae.parts.posteriors import DeltaPosterior, gaussian_kl
from textvae.parts.posteriors.delta import scale_at
from textvae.parts.priors import StandardNormal


@given(st.floats(1e-6, 300.0))
def test_the_scale_is_lamberts_w(nats):
    """log s^2 - s^2 = -(2 nats + 1), so s^2 = -W(-exp(-2 nats - 1)), the branch below 1."""
    exact = math.sqrt(-lambertw(-math.exp(-2 * nats - 1), 0).real)
    assert scale_at(nats) == pytest.approx(exact, rel=1e-8)


@given(st.floats(1e-4, 100.0))
def test_the_scale_costs_what_it_should(nats):
    s = scale_at(nats)
    assert 0 < s < 1 and (s * s - 1) / 2 - math.log(s) == pytest.approx(nats, rel=1e-9)


@given(st.integers(0, 2**31), st.floats(0.01, 50.0), st.integers(1, 20), st.sampled_from([0.1, 10.0, 1e4]))
def test_every_sentence_pays_the_rate(seed, rate, latent, size):
    module = DeltaPosterior(3, latent, rate).double()
    hidden = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * size
    posterior = module(hidden)
    assert posterior.std.max() <= module.largest and posterior.std.min() >= module.largest / 100 * (1 - 1e-9)
    found = posterior.rate(posterior.mean[None], StandardNormal(latent))
    assert found.kind == "exact" and bool((found.nats >= rate * (1 - 1e-9)).all())


def test_the_least_is_the_rate_itself():
    module = DeltaPosterior(2, 4, rate=3.0)
    with torch.no_grad():
        module.parameters_of.weight.zero_()
        module.parameters_of.bias.copy_(torch.tensor([0.0] * 4 + [50.0] * 4))  # mean 0, the sigmoid at its end
    posterior = module(torch.ones(1, 2))
    rate = posterior.rate_per_dimension(StandardNormal(4)).sum()
    assert float(rate) == pytest.approx(3.0, rel=1e-5)
    beyond = gaussian_kl(torch.zeros(1, 4), posterior.std * 1.01).sum()
    assert float(beyond) < 3.0


def test_half_way_by_hand():
    """At raw 0 the scale is 0.01 + 0.99 / 2 of the largest, here -W(-e^-3) under a root."""
    module = DeltaPosterior(1, 1, rate=1.0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.parameters_of.bias[0] = 2.5
    posterior = module(torch.ones(1, 1))
    largest = math.sqrt(-lambertw(-math.exp(-3)).real)
    assert posterior.mean.item() == 2.5
    assert posterior.std.item() == pytest.approx(0.505 * largest, rel=1e-6)


def test_gradients():
    module = DeltaPosterior(2, 3).double()
    hidden = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tuple(vars(module(x)).values()), hidden)


def test_full_precision_under_autocast():
    module = DeltaPosterior(3, 2)
    hidden = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = module(hidden)
    expected = module(hidden.float())
    assert torch.equal(posterior.mean, expected.mean) and torch.equal(posterior.std, expected.std)
