import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from textvae.settings.schedules import Constant, Cyclical, Linear, Schedule, Sigmoid


def floats(most: float) -> st.SearchStrategy[float]:
    """Numbers from 0 that settings take: none between 0 and the least normal one of float32."""
    return st.floats(0, most, width=32, allow_subnormal=False)


weights = floats(100)
steps = st.integers(0, 50_000)
totals = st.integers(1, 40_000)
linears = st.builds(Linear, start=weights, end=weights, steps=st.integers(1, 20_000), delay=st.integers(0, 20_000))
sigmoids = st.builds(
    Sigmoid,
    start=weights,
    end=weights,
    middle=floats(20_000),
    width=st.floats(0.01, 20_000),
)
cyclicals = st.builds(Cyclical, start=weights, end=weights, cycles=st.integers(1, 20), ratio=st.floats(0.01, 1.0))


def test_constant_by_hand():
    assert [Constant(value=0.25)(step, 10) for step in (0, 5, 10, 10**6)] == [0.25] * 4
    assert Constant()(0, 10) == 1.0


def test_linear_by_hand():
    """0.2 to 1 over 8 steps after 4: the published 0 to 1 over 10,000 is the same line."""
    weight = Linear(start=0.2, end=1.0, steps=8, delay=4)
    found = [weight(step, 1000) for step in (0, 4, 5, 8, 12, 13, 999)]
    assert found == pytest.approx([0.2, 0.2, 0.3, 0.6, 1.0, 1.0, 1.0], abs=1e-12)
    published = Linear()
    assert [published(step, 99_999) for step in (0, 1, 5_000, 9_999, 10_000, 10_001)] == pytest.approx(
        [0.0, 1e-4, 0.5, 0.9999, 1.0, 1.0], abs=1e-12
    )


def test_linear_can_fall():
    weight = Linear(start=1.0, end=0.5, steps=2)
    assert [weight(step, 10) for step in range(4)] == [1.0, 0.75, 0.5, 0.5]


def test_sigmoid_by_hand():
    weight = Sigmoid(start=1.0, end=3.0, middle=100.0, width=10.0)
    assert weight(100, 1000) == 2.0
    assert weight(110, 1000) == pytest.approx(1 + 2 / (1 + math.exp(-1)), abs=1e-12)  # 73 % of the way
    assert weight(70, 1000) == pytest.approx(1 + 2 / (1 + math.exp(3)), abs=1e-12)
    assert weight(10**9, 1000) == 3.0 and Sigmoid(middle=1e9, width=1e-3)(0, 1) == 0.0  # nothing overflows


def test_cyclical_by_hand():
    """Two cycles of 8 steps: 4 rising from 0, 4 at 1; at the planned end and after it the end weight."""
    weight = Cyclical(cycles=2, ratio=0.5)
    cycle = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert [weight(step, 16) for step in range(18)] == [*cycle, *cycle, 1.0, 1.0]


def test_cyclical_against_the_papers_equation():
    """Eq. 13 counts t from 1: tau = mod(t - 1, ceil(T/M)) / (T/M), beta = min(tau / R, 1)."""
    total, cycles, ratio = 400, 4, 0.3
    weight = Cyclical(cycles=cycles, ratio=ratio)
    for t in range(1, total + 1):
        tau = ((t - 1) % math.ceil(total / cycles)) / (total / cycles)
        assert weight(t - 1, total) == pytest.approx(tau / ratio if tau <= ratio else 1.0, abs=1e-12)


def test_cyclical_starts_each_cycle_at_its_start_where_the_period_is_no_whole_number():
    """20 steps in 6 cycles: step 10 begins the fourth, though 10 % (20 / 6) is 3.33 in floating point."""
    weight = Cyclical(cycles=6, ratio=0.5)
    assert [weight(step, 20) for step in (0, 10)] == [0.0, 0.0]


@given(cyclicals, totals, steps)
def test_cyclical_against_exact_fractions(weight, total, step):
    period = Fraction(total, weight.cycles)
    tau = step % period / period
    share = min(float(tau) / weight.ratio, 1.0) if step < total else 1.0
    expected = weight.start + (weight.end - weight.start) * share
    assert weight(step, total) == pytest.approx(expected, abs=1e-9)


@given(cyclicals, st.integers(1, 1000), st.integers(0, 999), st.integers(0, 18))
def test_cyclical_repeats(weight, period, step, cycle):
    total = period * weight.cycles
    later = step % period + cycle % weight.cycles * period
    assert weight(later, total) == pytest.approx(weight(step % period, total), abs=1e-9)


@given(linears | sigmoids | cyclicals, totals, steps)
def test_every_weight_lies_between_start_and_end(weight, total, step):
    low, high = sorted((weight.start, weight.end))
    assert low - 1e-9 <= weight(step, total) <= high + 1e-9


@given(linears | sigmoids, totals, steps, steps)
def test_linear_and_sigmoid_go_one_way(weight, total, a, b):
    early, late = (weight(step, total) for step in sorted((a, b)))
    rising = weight.end >= weight.start
    assert late >= early - 1e-9 if rising else late <= early + 1e-9


@given(linears, totals)
def test_linear_begins_and_ends_where_it_says(weight, total):
    assert weight(int(weight.delay), total) == weight.start
    assert weight(int(weight.delay + weight.steps), total) == pytest.approx(weight.end, abs=1e-9)


def test_settings_name_a_schedule_or_give_a_number():
    schedule = TypeAdapter(Schedule)
    assert schedule.validate_python(2) == Constant(value=2.0)
    assert schedule.validate_python({"schedule": "linear", "steps": 3}) == Linear(steps=3)
    assert schedule.validate_python(Sigmoid(width=2.0)) == Sigmoid(width=2.0)
    for cls, name in ((Constant, "constant"), (Linear, "linear"), (Sigmoid, "sigmoid"), (Cyclical, "cyclical")):
        assert isinstance(schedule.validate_python({"schedule": name}), cls)
