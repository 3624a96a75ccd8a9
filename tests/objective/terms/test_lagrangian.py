import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.kl import Kl
from textvae.objective.terms.lagrangian import DISTORTION_BOUNDS, RATE_BOUNDS, Lagrangian

numbers = st.floats(0, 1e6)


def raw(reconstruction: float, rate: float) -> dict[str, float]:
    return {"reconstruction": reconstruction, "lagrangian": rate}


def test_its_value_is_the_kl(passed):
    mean = torch.randn(5, 3, requires_grad=True)
    out = passed(mean)
    assert float(Lagrangian()(out, 3).detach()) == float(Kl()(out, 3).detach())
    (pull,) = torch.autograd.grad(Lagrangian()(out, 3), mean)
    torch.testing.assert_close(pull, mean.detach() / 5)


def test_gradcheck(passed):
    mean = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda mean: Lagrangian()(passed(mean), 0), (mean,))


def test_the_rate_step_by_hand():
    term = Lagrangian(target=5.0, rate=0.1, start=2.0)
    assert term.multiplier(1.0, raw(90.0, 7.0)) == pytest.approx(1.2)
    assert term.multiplier(1.0, raw(90.0, 4.0)) == pytest.approx(0.9)
    assert term.multiplier(-0.5, raw(90.0, 5.0)) == -0.5
    assert term.multiplier(None, raw(90.0, 6.0)) == pytest.approx(2.1)  # the first step had `start`


def test_the_distortion_step_by_hand():
    term = Lagrangian(constraint="distortion", target=90.0, rate=0.1, start=2.0)
    assert term.multiplier(1.0, raw(92.0, 7.0)) == pytest.approx(math.exp(-0.2))
    assert term.multiplier(0.5, raw(89.0, 7.0)) == pytest.approx(0.5 * math.exp(0.1))
    assert term.multiplier(0.5, raw(90.0, 7.0)) == pytest.approx(0.5)
    assert term.multiplier(None, raw(91.0, 7.0)) == pytest.approx(2 * math.exp(-0.1))


@pytest.mark.parametrize("constraint", ["rate", "distortion"])
def test_without_a_step_it_is_the_start_or_what_it_was(constraint):
    term = Lagrangian(constraint=constraint, start=0.25)
    assert term.multiplier(None, {}) == 0.25 and term.multiplier(0.7, {}) == 0.7


@pytest.mark.parametrize(("constraint", "bounds"), [("rate", RATE_BOUNDS), ("distortion", DISTORTION_BOUNDS)])
@given(data=st.data())
def test_it_keeps_to_its_bounds_and_knows_its_direction(constraint, bounds, data):
    term = Lagrangian(constraint=constraint, target=data.draw(st.floats(1e-3, 1e6)))
    before = data.draw(st.floats(*bounds))
    d, kl = data.draw(numbers), data.draw(numbers)
    after = term.multiplier(before, raw(d, kl))
    assert bounds[0] <= after <= bounds[1]
    up = kl > term.target if constraint == "rate" else d < term.target
    assert after >= before * (1 - 1e-12) - 1e-12 if up else after <= before + 1e-9 * abs(before)
    assert after == term.multiplier(before, raw(d, kl))  # nothing is remembered


# A toy model: D(R) = 100 - 8 R + R^2 / 4 for a rate R from 0 to 16 is convex, and D'(R) = -w at the optimum of
# D + w R: R = 16 - 2 w. A rate of 12 wants w = 2; D = 40 is at R = 16 - 2 w = 10.2, w = 2.9.
def distortion(rate: float) -> float:
    return 100 - 8 * rate + rate**2 / 4


def trained(term: Lagrangian, steps: int, rate: float = 0.0, lr: float = 0.1) -> tuple[float, float]:
    """The rate and the multiplier after gradient descent on D + w R, w learned along the way."""
    weight = term.multiplier(None, {})
    for _ in range(steps):
        parts = raw(distortion(rate), rate)
        rate = max(0.0, rate - lr * (-8 + rate / 2 + weight))
        weight = term.multiplier(weight, parts)
    return rate, weight


@pytest.mark.parametrize("start", [0.1, 1.0, 10.0])
def test_a_rate_comes_to_its_target_and_the_weight_to_the_slope_there(start):
    rate, weight = trained(Lagrangian(target=12.0, rate=0.01, start=start), 4_000)
    assert rate == pytest.approx(12.0, abs=1e-3) and weight == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("start", [0.1, 1.0, 10.0])
def test_a_distortion_comes_to_its_target(start):
    rate, weight = trained(Lagrangian(constraint="distortion", target=40.0, rate=0.002, start=start), 4_000)
    assert distortion(rate) == pytest.approx(40.0, abs=1e-3)
    assert weight == pytest.approx(8 - rate / 2, abs=1e-3)


def test_a_rate_above_what_reconstruction_wants_needs_a_weight_below_zero():
    rate, weight = trained(Lagrangian(target=17.0, rate=0.01), 6_000)
    assert rate == pytest.approx(17.0, abs=1e-3) and weight == pytest.approx(-0.5, abs=1e-3)


def test_what_cannot_be_reached_ends_at_a_bound():
    assert trained(Lagrangian(target=30.0, rate=0.01), 6_000)[1] == RATE_BOUNDS[0]
    unreachable = Lagrangian(constraint="distortion", target=10.0, rate=0.01)  # D is 36 at least
    assert trained(unreachable, 6_000)[1] == DISTORTION_BOUNDS[0]
    idle = Lagrangian(constraint="distortion", target=500.0, rate=0.01)  # D is 100 at most
    assert trained(idle, 6_000)[1] == DISTORTION_BOUNDS[1]


def test_defaults_registration_and_that_it_never_settles():
    term = Lagrangian()
    assert TERMS["lagrangian"] is Lagrangian and term.is_rate and term.learned and term.penalises_kl
    assert (term.constraint, term.target, term.rate, term.start) == ("rate", 5.0, 1e-3, 1.0)
    assert term.settled(1000, 10) == 1000 and term.problems(Settings()) == []
    for start in (0.0, 10.5):
        with pytest.raises(ValueError, match="start"):
            Lagrangian(start=start)


def test_damping_adds_half_the_square_of_the_distance_by_hand():
    raw = {"reconstruction": torch.tensor(90.0), "lagrangian": torch.tensor(7.0)}
    term = Lagrangian(target=5.0, damping=0.5)
    assert term.loss(raw, "lagrangian", 2.0).item() == 2.0 * 7.0 + 0.25 * 4.0
    assert Lagrangian(target=5.0, damping=0.0).loss(raw, "lagrangian", 2.0).item() == 14.0
    far = Lagrangian(constraint="distortion", target=80.0, damping=0.5)
    assert far.loss(raw, "lagrangian", 2.0).item() == 14.0 + 0.25 * 100.0


def test_a_kl_that_explodes_counts_no_more_than_its_target():
    term = Lagrangian(target=5.0, rate=0.01)
    found = term.multiplier(1.0, {"reconstruction": 9.0, "lagrangian": 500.0})
    assert found == pytest.approx(1.0 + 0.01 * 5.0)
