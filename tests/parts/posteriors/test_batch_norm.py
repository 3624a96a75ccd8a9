import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from textvae.model import redraw
from textvae.parts.posteriors import BatchNormPosterior, batch_norm
from textvae.parts.priors import StandardNormal


def network(seed: int, size: int = 3, latent: int = 2, **settings) -> BatchNormPosterior:
    """In float64, with random weights and shift."""
    module = BatchNormPosterior(size, latent, **settings).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def rows(seed: int, batch: int, size: int = 3) -> torch.Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_sentences_by_hand():
    """Means 1 and 3: centre 2, variance 1, so -+gamma around the shift; 2 and 6 in evaluation: 4 and 4."""
    module = BatchNormPosterior(1, 1, gamma=0.6)
    with torch.no_grad():
        module.mean_of.weight.fill_(1.0)
        module.scale_of.weight.fill_(2.0)
        module.scale_of.bias.fill_(0.0)
        module.shift.fill_(5.0)
    posterior = module(torch.tensor([[1.0], [3.0]]))
    assert posterior.mean.flatten().tolist() == pytest.approx([4.4, 5.6], abs=1e-5)
    assert posterior.std.flatten().tolist() == pytest.approx([math.e, math.exp(3)], rel=1e-6)
    assert module.centre.tolist() == [0.0] and module.variance.tolist() == [1.0]  # training moves nothing
    module.restate(torch.tensor([[2.0], [6.0]]))
    assert module.centre.tolist() == pytest.approx([4.0]) and module.variance.tolist() == pytest.approx([4.0])
    module.eval()
    alone = module(torch.tensor([[1.2]]))
    assert alone.mean.item() == pytest.approx(5.0 + 0.6 * (1.2 - 4.0) / 2, abs=1e-5)


@given(st.integers(0, 2**31), st.integers(2, 30), st.floats(0.1, 3.0))
def test_the_kl_cannot_vanish(seed, batch, gamma):
    module = network(seed, gamma=gamma)
    hidden = rows(seed + 1, batch)
    variance = module.mean_of(hidden).var(0, correction=0)
    least = (gamma**2 * variance / (variance + 1e-14) + module.shift.square()).sum() / 2
    rate = module(hidden).rate_per_dimension(StandardNormal(2)).sum(1).mean()
    assert rate.item() >= least.item() * (1 - 1e-9)


def test_the_bound_is_reached_with_the_priors_scale():
    module = network(0, gamma=0.5)
    with torch.no_grad():
        module.scale_of.weight.zero_()
        module.scale_of.bias.zero_()
        module.shift.zero_()
    rate = module(rows(1, 50) * 100).rate_per_dimension(StandardNormal(2)).mean(0)
    assert rate.tolist() == pytest.approx([0.125, 0.125], rel=1e-6)


def test_means_are_torchs_batch_norm_in_training_and_after():
    module = network(3, gamma=0.7)
    reference = nn.BatchNorm1d(2, eps=1e-14).double()
    with torch.no_grad():
        reference.weight.fill_(0.7)
        reference.bias.copy_(module.shift)
    hidden = rows(0, 7)
    torch.testing.assert_close(module(hidden).mean, reference(module.mean_of(hidden)))
    training = rows(1, 40)
    module.restate(training)
    means = module.mean_of(training).detach()
    reference.running_mean, reference.running_var = means.mean(0), means.var(0, correction=0)  # torch's is unbiased
    module.eval(), reference.eval()
    whole = module(hidden)
    torch.testing.assert_close(whole.mean, reference(module.mean_of(hidden)))
    torch.testing.assert_close(module(hidden[2:3]).mean, whole.mean[2:3])
    torch.testing.assert_close(module(hidden[2:3]).std, whole.std[2:3])


def test_statistics_are_those_of_all_processes(monkeypatch):
    """Each half of a batch, when it sees the other, gives the means that the whole batch gives."""
    hidden = rows(0, 8)
    whole, one, two = network(1), network(1), network(1)
    expected = whole(hidden).mean
    other = {}
    for module, own, theirs in ((one, slice(0, 3), slice(3, 8)), (two, slice(3, 8), slice(0, 3))):
        other["rows"] = module.mean_of(hidden[theirs])
        monkeypatch.setattr(batch_norm, "gathered", lambda mean: torch.cat([mean, other["rows"]]))
        torch.testing.assert_close(module(hidden[own]).mean, expected[own])


def test_gradients_go_through_the_statistics():
    module = network(2)
    assert torch.autograd.gradcheck(
        lambda hidden: tuple(vars(module(hidden)).values()), rows(3, 5).requires_grad_()
    )


def test_a_batch_of_one_is_the_shift():
    module = network(4)
    torch.testing.assert_close(module(rows(0, 1)).mean, module.shift[None])


def test_it_begins_without_shift_and_memory():
    module = network(5)
    module.restate(rows(0, 9))
    redraw(module, 0.1)
    assert module.shift.tolist() == module.centre.tolist() == [0.0, 0.0]
    assert module.variance.tolist() == [1.0, 1.0]
    assert 0 < module.mean_of.weight.abs().max().item() <= 0.1


def test_full_precision_under_autocast():
    module = BatchNormPosterior(3, 2)
    hidden = rows(0, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = module(hidden)
    expected = module(hidden.float())
    assert torch.equal(posterior.mean, expected.mean) and torch.equal(posterior.std, expected.std)


def test_means_that_hardly_differ_are_spread_all_the_same():
    """An encoder of small first weights gives a variance far below the 1e-5 of other batch normalisations."""
    module = BatchNormPosterior(4, 3, gamma=0.6)
    module.begin()
    hidden = 1e-4 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) + 0.01
    with torch.no_grad():
        assert bool((module.mean_of(hidden).var(0, correction=0) < 1e-8).all())
        spread = module(hidden).mean.std(0, correction=0)
    torch.testing.assert_close(spread, torch.full((3,), 0.6), rtol=1e-2, atol=0)
