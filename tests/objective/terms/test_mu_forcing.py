import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.objective.settings import parse
from textvae.objective.terms import TERMS
from textvae.objective.terms.kl import Kl
from textvae.objective.terms.mu_forcing import MuForcing
from textvae.parts.posteriors import IafPosterior, VonMisesFisher
from textvae.settings.strict import LEAST

PER_DIMENSION = "per-dimension"
# Means (0, 0), (2, 0), (4, 6), (2, 2): each dimension has mean 2; variances (4+0+4+0)/4 = 2, (4+4+16+0)/4 = 6.
MEANS = [[0.0, 0.0], [2.0, 0.0], [4.0, 6.0], [2.0, 2.0]]


def means(seed: int, sentences: int, latent: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sentences, latent, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("reading", "margin", "value"),
    [
        ("paper", 10.0, 10 - (2 + 6) / 2),
        ("paper", 5.0, 1.0),
        ("paper", 4.0, 0.0),
        ("paper", 3.0, 0.0),
        (PER_DIMENSION, 10.0, 10 - (2 + 6) / 2),
        (PER_DIMENSION, 3.0, 0.0),
    ],
)
def test_by_hand(passed, reading, margin, value):
    assert float(MuForcing(margin=margin, reading=reading)(passed(torch.tensor(MEANS)), 0)) == value


def test_the_readings_by_hand_in_three_dimensions(passed):
    """Two dimensions hide the difference: with variances 1, 4, 9 it is 7 against 14 / 3."""
    mean = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    assert float(MuForcing(margin=20)(passed(mean), 0)) == 20 - 7
    found = MuForcing(margin=20, reading=PER_DIMENSION)(passed(mean), 0)
    assert float(found) == pytest.approx(20 - 14 / 3)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 5), st.just(0.0) | st.floats(LEAST, 10))
def test_against_the_papers_equation(passed, seed, sentences, latent, margin):
    mu = means(seed, sentences, latent)
    total = sum(float((row - mu.mean(0)) @ (row - mu.mean(0))) for row in mu)
    expected = max(0.0, margin - total / (2 * sentences))
    assert float(MuForcing(margin=margin)(passed(mu), 0)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("reading", ["paper", PER_DIMENSION])
def test_a_batch_of_one_gives_the_margin_and_no_pull(passed, reading):
    mu = means(0, 1, 3).requires_grad_()
    loss = MuForcing(margin=1.5, reading=reading)(passed(mu), 0)
    assert loss.item() == 1.5
    (pull,) = torch.autograd.grad(loss, mu)
    assert not pull.any()


@pytest.mark.parametrize("reading", ["paper", PER_DIMENSION])
@pytest.mark.parametrize("sentences", [1, 2, 8])
def test_a_margin_of_zero_is_the_plain_objective(passed, reading, sentences):
    """Liu et al. 2019, section 5.3: with beta = 0 the model degenerates into the baseline."""
    for mu in (means(0, sentences, 3), torch.zeros(sentences, 3).double()):  # apart, and all in one place
        mu = mu.requires_grad_()
        loss = MuForcing(margin=0.0, reading=reading)(passed(mu), 0)
        (pull,) = torch.autograd.grad(loss, mu)
        assert loss.item() == 0.0 and not pull.any()


def test_below_the_margin_mu_forcing_cancels_the_pull_of_kl(passed):
    """The paper's own argument, section 4: the gradient of both is the mean of mu, over N."""
    mu = means(0, 8, 3).requires_grad_()
    out = passed(mu)
    loss = Kl()(out, step=0) + MuForcing(margin=1e3)(out, step=0)
    (pull,) = torch.autograd.grad(loss, mu)
    torch.testing.assert_close(pull, mu.detach().mean(0).expand(8, 3) / 8)


@pytest.mark.parametrize(("reading", "latent", "balance"), [("paper", 32, 0.5), (PER_DIMENSION, 32, 8.0)])
def test_at_its_balance_the_hinge_cancels_the_pull_of_kl(passed, reading, latent, balance):
    """A KL of weight 0.5: half its pull, so half a hinge; averaged over 32 dimensions 16 times as much."""
    mu = means(2, 8, latent)
    mu = (mu - mu.mean(0)).requires_grad_()
    term = MuForcing(margin=1e3, reading=reading)
    assert term.balance(latent, 0.5) == balance
    out = passed(mu)
    (pull,) = torch.autograd.grad(0.5 * Kl()(out, 0) + balance * term(out, 0), mu)
    torch.testing.assert_close(pull, torch.zeros_like(pull), atol=1e-12, rtol=0)


def test_the_pull_of_the_hinge_alone(passed):
    """Below the margin -(mu - mean(mu)) / N, 2 / K of that when averaged over dimensions; above it nothing."""
    mu = means(1, 8, 5).requires_grad_()
    away = -(mu - mu.mean(0)).detach() / 8
    (paper,) = torch.autograd.grad(MuForcing(margin=1e3)(passed(mu), 0), mu)
    torch.testing.assert_close(paper, away)
    (averaged,) = torch.autograd.grad(MuForcing(margin=1e3, reading=PER_DIMENSION)(passed(mu), 0), mu)
    torch.testing.assert_close(averaged, away * 2 / 5)
    (above,) = torch.autograd.grad(MuForcing(margin=0.01)(passed(mu), 0), mu)
    assert not above.any()


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 20), st.floats(0.1, 10), st.floats(0.5, 1.5))
def test_a_margin_per_dimension_is_one_of_half_k_times_it_in_the_papers_reading(
    passed, seed, sentences, latent, margin, scale
):
    """Both hinges open at the same spread, and one is K / 2 times the other: for a K of 16, 2 stands for 16."""
    mu = means(seed, sentences, latent)
    mu = mu * (scale * margin / mu.var(0, correction=0).mean()).sqrt()
    per_dimension = MuForcing(margin=margin, reading=PER_DIMENSION)(passed(mu), 0)
    paper = MuForcing(margin=margin * latent / 2)(passed(mu), 0)
    torch.testing.assert_close(paper, per_dimension * latent / 2, rtol=1e-9, atol=1e-9)


def test_equal_variances_at_a_per_dimension_margin_hold_a_rate_of_half_k_times_it(passed):
    """Unit posteriors centred at zero whose means have variance 2 in each of 16 dimensions: KL = 16."""
    mu = torch.tensor([[1.0], [-1.0]]).double().expand(2, 16) * 2**0.5
    out = passed(mu)
    assert float(MuForcing(margin=2.0, reading=PER_DIMENSION)(out, 0)) == pytest.approx(0, abs=1e-12)
    assert float(Kl()(out, 0)) == pytest.approx(16.0)


@pytest.mark.parametrize("reading", ["paper", PER_DIMENSION])
def test_gradcheck(passed, reading):
    mu = means(0, 4, 3).requires_grad_()
    term = MuForcing(margin=50.0, reading=reading)
    assert torch.autograd.gradcheck(lambda mu: term(passed(mu), 0), (mu,))


def test_it_adds_to_a_rate_and_needs_a_posterior():
    assert TERMS["mu-forcing"] is MuForcing and not MuForcing.is_rate and MuForcing.needs_posterior
    assert (MuForcing().margin, MuForcing().reading, MuForcing().weight(0, 1)) == (2.0, "paper", 1.0)


def test_the_spread_of_vmf_is_that_of_its_expectation_inside_the_sphere(passed):
    """Two opposite directions: a variance of A^2 along one axis, and half of that is the most there can be."""
    directions = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    out = passed(directions)._replace(posterior=VonMisesFisher(directions, 2.0))
    length = 1 / math.tanh(2) - 1 / 2
    assert MuForcing(margin=1)(out, 0).item() == pytest.approx(1 - length**2 / 2, rel=1e-5)
    model = {"latent": 3, "posterior": {"name": "vmf", "concentration": 2.0}, "prior": {"name": "uniform-sphere"}}
    for margin, fits in ((0.99 * length**2 / 2, True), (1.01 * length**2 / 2, False)):
        settings = parse({"model": model, "objective": {"kl": {}, "mu-forcing": {"margin": margin}}}, TERMS)
        assert (not MuForcing(margin=margin).problems(settings)) == fits


def test_the_means_of_a_flow_are_where_the_base_goes(passed):
    torch.manual_seed(0)
    with torch.no_grad():
        flow = IafPosterior(4, 3)(3 * torch.randn(6, 4))
    out = passed(flow.mean)
    assert torch.equal(MuForcing(margin=9)(out._replace(posterior=flow), 0), MuForcing(margin=9)(out, 0))
