import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.kl import Kl
from textvae.settings.schedules import Constant


def test_by_hand(passed):
    """Sentence 1: (9 + 4 - 1) / 2 - ln 2 + 0; sentence 2: (1 + 1 - 1) / 2 + (1 + 1 - 1) / 2 = 1; then the mean."""
    mean, std = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    assert float(Kl()(passed(mean, std), 0)) == pytest.approx((6 - math.log(2) + 1) / 2, rel=1e-6)


def test_against_torch_summed_over_dimensions_and_averaged_over_sentences(passed):
    mean, logs = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = kl_divergence(Normal(mean, logs.exp()), Normal(torch.zeros_like(mean), 1.0)).sum(1).mean()
    torch.testing.assert_close(Kl()(passed(mean, logs.exp()), 0), expected)


def test_its_gradient_is_the_mean_over_the_batch(passed):
    """The paper's grad_mu KL = mu, shared among N sentences."""
    mean = torch.randn(4, 3, requires_grad=True)
    (pull,) = torch.autograd.grad(Kl()(passed(mean), 0), mean)
    torch.testing.assert_close(pull, mean.detach() / 4)


def test_gradcheck(passed):
    mean, logs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaves = (mean.requires_grad_(), logs.exp().requires_grad_())
    assert torch.autograd.gradcheck(lambda mean, std: Kl()(passed(mean, std), 0), leaves)


def test_it_is_the_rate_with_weight_one():
    assert TERMS["kl"] is Kl and Kl.is_rate and Kl.needs_posterior and Kl().weight == Constant(value=1.0)
    assert Kl().problems(Settings()) == []
