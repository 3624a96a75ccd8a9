import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.mmd import Mmd, discrepancy
from textvae.settings.problems import Problem
from textvae.settings.schedules import Constant


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel(x: torch.Tensor, y: torch.Tensor, s: float) -> torch.Tensor:
    return (-(x[:, None] - y).square().sum(-1) / (2 * s**2)).exp()


def test_by_hand():
    """d = 1, s = 1, codes 1 and -1: e^-2 - 2 sqrt(1/2) e^(-1/4) + sqrt(1/3)."""
    found = discrepancy(torch.tensor([[[1.0]], [[-1.0]]]).double(), 1.0)
    expected = math.exp(-2) - 2 * math.sqrt(1 / 2) * math.exp(-1 / 4) + math.sqrt(1 / 3)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_one_code_by_hand():
    """d = 2, s^2 = 3, one code (1, 2), its kernel with itself 1: 1 - 2 (3/4) e^(-5/8) + 3/5."""
    found = discrepancy(torch.tensor([[[1.0, 2.0]]]).double(), math.sqrt(3))
    assert float(found) == pytest.approx(1 - 1.5 * math.exp(-5 / 8) + 0.6, abs=1e-12)


@pytest.mark.parametrize(("latent", "scale", "shift"), [(1, 1.0, 0.0), (2, 0.5, 0.3), (3, 1.5, -0.5)])
def test_against_draws_from_the_prior(latent, scale, shift):
    """The prior's part by Monte Carlo, where the term has it exactly."""
    codes, prior = scale * drawn(0, 60, latent) + shift, drawn(1, 4_000, latent)
    s = math.sqrt(latent)
    within = (kernel(codes, codes, s).sum() - 60) / (60 * 59)
    between = (kernel(prior, prior, s).sum() - 4_000) / (4_000 * 3_999)
    expected = within - 2 * kernel(codes, prior, s).mean() + between
    assert float(discrepancy(codes[:, None], s)) == pytest.approx(float(expected), abs=0.01)


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 3), st.integers(1, 5), st.floats(0.3, 5))
def test_against_loops_over_pairs_of_different_sentences(seed, batch, samples, latent, s):
    codes, v = drawn(seed, batch, samples, latent), s**2
    within, pairs, across = 0.0, 0, 0.0
    for n in range(batch):
        for i in range(samples):
            z = codes[n, i]
            across += (v / (v + 1)) ** (latent / 2) * math.exp(-float(z @ z) / (2 * (v + 1))) / batch / samples
            for m in set(range(batch)) - {n}:
                for j in range(samples):
                    within += math.exp(-float((z - codes[m, j]).square().sum()) / (2 * v))
                    pairs += 1
    expected = within / pairs - 2 * across + (v / (v + 2)) ** (latent / 2)
    assert float(discrepancy(codes, s)) == pytest.approx(expected, abs=1e-10)


def test_it_has_no_bias_at_the_prior_and_knows_wider_narrower_and_shifted_codes():
    """Means over 300 batches of 16 codes: 0 within 4 standard errors at the prior, far from it elsewhere."""
    z = drawn(0, 300, 16, 1, 4)
    at = torch.stack([discrepancy(codes, 2.0) for codes in z])
    error = float(at.std()) / math.sqrt(300)
    assert abs(float(at.mean())) < 4 * error and bool((at < 0).any())
    for changed in (2 * z, 0.3 * z, z + 1):
        assert float(torch.stack([discrepancy(codes, 2.0) for codes in changed]).mean()) > 20 * error


def test_several_codes_of_a_sentence_add_no_bias():
    """q(z|x) = N(x, 1/4) with x from N(0, 3/4): together the prior. Pairs within a sentence are nearer."""
    centres = math.sqrt(0.75) * drawn(0, 400, 8, 1, 2)
    codes = centres + 0.5 * drawn(1, 400, 8, 5, 2)
    found = torch.stack([discrepancy(batch, math.sqrt(2)) for batch in codes])
    assert abs(float(found.mean())) < 4 * float(found.std()) / 20


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 40))
def test_a_single_sentence_is_never_below_zero(seed, samples, latent):
    assert float(discrepancy(drawn(seed, 1, samples, latent), math.sqrt(latent))) >= -1e-12


def test_the_term_takes_every_code_and_the_default_bandwidth(passed):
    z = drawn(2, 2, 5, 3)
    out = passed(drawn(3, 5, 3))._replace(z=z)
    torch.testing.assert_close(Mmd()(out, 0), discrepancy(z.transpose(0, 1), math.sqrt(3)))
    torch.testing.assert_close(Mmd(bandwidth=0.7)(out, 0), discrepancy(z.transpose(0, 1), 0.7))


def test_descent_on_the_term_alone_brings_codes_from_afar_to_the_priors_moments(passed):
    """Sixty-four codes at (2, 2): nearly, as without pairs of a code with itself they settle a little wider."""
    z = 0.1 * drawn(0, 1, 64, 2) + 2
    for _ in range(600):
        z.requires_grad_()
        (pull,) = torch.autograd.grad(Mmd()(passed(z[0])._replace(z=z), 0), z)
        z = (z - 64 * pull).detach()
    torch.testing.assert_close(z.mean(1), torch.zeros(1, 2).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(z[0].T.cov(), torch.eye(2).double(), atol=0.15, rtol=0)


@pytest.mark.parametrize("shape", [(1, 4, 3), (2, 3, 2), (2, 1, 2)])
def test_gradcheck(passed, shape):
    out = passed(torch.zeros(shape[1], shape[2]).double())
    z = drawn(0, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: Mmd()(out._replace(z=z), 0), (z,))


def test_equal_codes_give_finite_gradients(passed):
    z = torch.ones(1, 4, 3, requires_grad=True)
    (pull,) = torch.autograd.grad(Mmd()(passed(z[0])._replace(z=z), 0), z)
    assert pull.isfinite().all()


def test_in_float32_and_within_autocast_it_is_as_in_float64(passed):
    z = drawn(4, 1, 64, 32)
    exact = float(Mmd()(passed(z[0])._replace(z=z), 0))
    with torch.autocast("cpu", torch.bfloat16):
        found = Mmd()(passed(z[0].float())._replace(z=z.float()), 0)
    assert found.dtype == torch.float32 and float(found) == pytest.approx(exact, abs=1e-6)


def test_defaults_registration_and_what_it_refuses():
    assert TERMS["mmd"] is Mmd and Mmd.is_rate and not Mmd.penalises_kl
    assert Mmd().weight == Constant(value=100.0) and Mmd().bandwidth is None
    assert Mmd().problems(Settings()) == []
    assert Mmd().problems(Settings.model_validate({"model": {"prior": {"name": "vamp"}}})) == [
        Problem(
            "",
            "compares codes with the standard normal prior only, not with the vamp prior",
            "set model.prior.name = 'standard-normal', or use objective.kl",
        )
    ]
