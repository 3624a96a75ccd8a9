from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.free_bits import FreeBits, FreeBitsTotal
from textvae.objective.terms.kl import Kl
from textvae.parts.posteriors.posterior import Rate
from textvae.parts.priors import StandardNormal
from textvae.settings.problems import Problem

# Targets that settings take: none between 0 and the least normal number of float32.
UP_TO_2 = st.floats(0, 2, width=32, allow_subnormal=False)
UP_TO_3 = st.floats(0, 3, width=32, allow_subnormal=False)
UP_TO_6 = st.floats(0, 6, width=32, allow_subnormal=False)

KINDS = [(form, over) for form in ("clamp", "mask") for over in ("batch", "sentence")]
# Unit posteriors with means that give KLs (mu^2 / 2) of 2, 1/2, 0 and 0, 1/2, 8: batch means 1, 1/2, 4.
MEANS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 4.0]])


def drawn(seed: int, sentences: int, latent: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, logs = torch.randn(2, sentences, latent, generator=generator, dtype=torch.float64)
    return mean.requires_grad_(), logs.exp().requires_grad_()


def settled(posterior: str, prior: str = "standard-normal") -> Settings:
    """Settings with a posterior and a prior, whether or not they fit each other."""
    return Settings.model_validate({"model": {"posterior": {"name": posterior}, "prior": {"name": prior}}})


def estimated(nats: torch.Tensor) -> Pass:
    """A pass whose posterior has a total rate alone."""
    posterior = SimpleNamespace(rate=lambda z, prior: Rate(nats, "monte-carlo"), rate_per_dimension=lambda p: None)
    return Pass(nats.new_zeros(1, len(nats), 1), nats.new_zeros(1, len(nats), 1), posterior, StandardNormal(1), {})


@pytest.mark.parametrize(
    ("form", "over", "value"),
    [
        ("clamp", "batch", 1 + 0.75 + 4),
        ("mask", "batch", 1 + 4),
        ("clamp", "sentence", ((2 + 0.75 + 0.75) + (0.75 + 0.75 + 8)) / 2),
        ("mask", "sentence", (2 + 8) / 2),
    ],
)
def test_per_dimension_by_hand(passed, form, over, value):
    assert float(FreeBits(target=0.75, form=form, over=over)(passed(MEANS), 0)) == value


@pytest.mark.parametrize(
    ("form", "over", "target", "value"),
    [
        ("clamp", "batch", 5.0, 5.5),  # totals 2.5 and 8.5
        ("clamp", "batch", 6.0, 6.0),
        ("mask", "batch", 5.0, 5.5),
        ("mask", "batch", 6.0, 0.0),
        ("clamp", "sentence", 3.0, (3 + 8.5) / 2),
        ("mask", "sentence", 3.0, 8.5 / 2),
    ],
)
def test_total_by_hand(passed, form, over, target, value):
    assert float(FreeBitsTotal(target=target, form=form, over=over)(passed(MEANS), 0)) == value


@pytest.mark.parametrize("term", [FreeBits, FreeBitsTotal])
@pytest.mark.parametrize(("form", "over"), KINDS)
def test_a_target_of_zero_is_the_kl(passed, term, form, over):
    leaves = drawn(0, 6, 4)
    found, expected = term(target=0.0, form=form, over=over)(passed(*leaves), 0), Kl()(passed(*leaves), 0)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("term", [FreeBits, FreeBitsTotal])
@pytest.mark.parametrize(("form", "over"), KINDS)
def test_below_the_target_there_is_no_pull(passed, term, form, over):
    leaves = drawn(0, 6, 4)
    value = term(target=1e3, form=form, over=over)(passed(*leaves), 0)
    assert not any(pull.any() for pull in torch.autograd.grad(value, leaves))
    clamped = 1e3 * (4 if term is FreeBits else 1)
    assert value.item() == (clamped if form == "clamp" else 0.0)


@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 4),
    UP_TO_3,
    st.sampled_from(KINDS),
)
def test_against_the_formula_with_the_gradient_of_the_kl_above_the_target(passed, seed, n, latent, target, kind):
    form, over = kind
    mean, std = drawn(seed, n, latent)
    kl = (mean.detach() ** 2 + std.detach() ** 2 - 1) / 2 - std.detach().log()
    compared = kl.mean(0).expand(n, latent) if over == "batch" else kl
    paid = compared >= target
    below = target if form == "clamp" else 0.0
    expected = compared.where(paid, torch.tensor(below).double()).sum(1).mean()
    found = FreeBits(target=target, form=form, over=over)(passed(mean, std), 0)
    torch.testing.assert_close(found, expected)
    pull, spread = torch.autograd.grad(found, [mean, std])
    torch.testing.assert_close(pull, mean.detach() * paid / n)
    torch.testing.assert_close(spread, (std.detach() - 1 / std.detach()) * paid / n)


@given(st.integers(0, 2**31), UP_TO_6, st.sampled_from(KINDS))
def test_total_against_the_formula(seed, target, kind):
    form, over = kind
    nats = 4 * torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    nats = nats.requires_grad_()
    found = FreeBitsTotal(target=target, form=form, over=over)(estimated(nats), 0)
    each = [nats.mean().item()] if over == "batch" else nats.tolist()
    expected = [x if x >= target else (target if form == "clamp" else 0.0) for x in each]
    assert found.item() == pytest.approx(sum(expected) / len(expected))
    (pull,) = torch.autograd.grad(found, nats)
    torch.testing.assert_close(pull, torch.tensor([x >= target for x in each]).double().expand(5) / 5)


@given(st.integers(0, 2**31), UP_TO_2, st.sampled_from(["batch", "sentence"]))
def test_it_lies_between_the_kl_and_the_kl_and_all_targets(passed, seed, target, over):
    leaves = drawn(seed, 4, 3)
    kl = float(Kl()(passed(*leaves), 0).detach())
    for term, most in ((FreeBits, 3 * target), (FreeBitsTotal, target)):
        clamp = term(target=target, over=over)(passed(*leaves), 0).item()
        mask = term(target=target, over=over, form="mask")(passed(*leaves), 0).item()
        assert mask - 1e-9 <= kl <= clamp + 1e-9 and clamp <= mask + most + 1e-9


@pytest.mark.parametrize("term", [FreeBits, FreeBitsTotal])
@pytest.mark.parametrize(("form", "over"), KINDS)
def test_gradcheck(passed, term, form, over):
    made = term(target=0.3, form=form, over=over)
    assert torch.autograd.gradcheck(lambda mean, std: made(passed(mean, std), 0), drawn(0, 4, 3))


@pytest.mark.parametrize("term", [FreeBits, FreeBitsTotal])
@pytest.mark.parametrize(("form", "over"), KINDS)
def test_what_is_not_a_number_is_not_hidden(passed, term, form, over):
    assert term(form=form, over=over)(passed(torch.full((2, 2), float("nan"))), 0).isnan()


def test_defaults_and_registration():
    assert TERMS["free-bits"] is FreeBits and TERMS["free-bits-total"] is FreeBitsTotal
    assert FreeBits.is_rate and FreeBits.penalises_kl and FreeBitsTotal.is_rate and FreeBitsTotal.penalises_kl
    assert (FreeBits().target, FreeBits().form, FreeBits().over) == (0.1, "clamp", "batch")
    assert (FreeBitsTotal().target, FreeBitsTotal().form, FreeBitsTotal().over) == (3.0, "clamp", "batch")


def test_free_bits_refuses_what_has_no_kl_per_dimension():
    for name in ("gaussian", "batch-norm", "delta"):
        assert FreeBits(target=1).problems(settled(name)) == []
    for name in ("gaussian-mixture", "semi-implicit", "iaf", "planar", "radial", "multi-step", "vmf"):
        assert FreeBits().problems(settled(name)) == [
            Problem(
                "",
                f"the {name} posterior has no KL per dimension",
                "use objective.free-bits-total, or model.posterior.name = 'gaussian'",
            )
        ]
    for name in ("gaussian-mixture", "vamp"):
        assert FreeBits().problems(settled("gaussian", name)) == [
            Problem(
                "",
                f"the {name} prior leaves no KL per dimension",
                "use objective.free-bits-total, or model.prior.name = 'standard-normal'",
            )
        ]


def test_free_bits_total_works_with_any_kl_but_masks_only_one_of_dimensions():
    for name in ("gaussian-mixture", "semi-implicit", "iaf", "planar", "radial", "multi-step", "vmf"):
        assert FreeBitsTotal().problems(settled(name)) == []
        assert FreeBitsTotal(form="mask").problems(settled(name)) == [
            Problem(
                "form",
                f"the {name} posterior has no KL per dimension to mask",
                "use form = 'clamp', or model.posterior.name = 'gaussian'",
                value="mask",
            )
        ]
    for name in ("gaussian", "batch-norm", "delta"):
        assert FreeBitsTotal(form="mask", target=4.0).problems(settled(name)) == []
