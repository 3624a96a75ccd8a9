import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from textvae.parts.noise import sentence_noise
from textvae.parts.priors import Prior, StandardNormal


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
