"""The KL whose weight training raises: its value, and the rule by hand and on whole traces."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.objective.objective import Objective, criterion
from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.kl import Kl
from textvae.objective.terms.selected_kl import SelectedKl
from textvae.parts.posteriors import POSTERIORS
from textvae.parts.settings import ModelSettings


def trace(term: SelectedKl, rates: list[float | None]) -> list[float]:
    """Return the weights after looks that are evenly spaced over a run."""
    weights = [term.multiplier(None, {})]
    for number, rate in enumerate(rates, start=1):
        weights.append(term.after_look(weights[-1], rate, number / len(rates)))
    return weights


def test_its_value_is_the_kl(passed):
    mean = torch.randn(5, 3, requires_grad=True)
    out = passed(mean)
    assert float(SelectedKl()(out, 3).detach()) == float(Kl()(out, 3).detach())
    (pull,) = torch.autograd.grad(SelectedKl()(out, 3), mean)
    torch.testing.assert_close(pull, mean.detach() / 5)


def test_the_rule_by_hand():
    term = SelectedKl(start=0.1, end=0.3, factor=2.0, ready=0.5, until=0.5)
    assert term.after_look(0.1, 0.05, 0.5) == 0.2  # just worth it, at the last look that counts
    assert term.after_look(0.1, 0.049, 0.1) == 0.1
    assert term.after_look(0.1, None, 0.1) == 0.1  # the posteriors are the prior
    assert term.after_look(0.1, -1.0, 0.1) == 0.1
    assert term.after_look(0.2, 5.0, 0.1) == 0.3  # no further than the end
    assert term.after_look(0.1, 5.0, 0.51) == 0.1


def test_traces():
    term = SelectedKl(start=0.1, end=0.4, factor=2.0, until=1.0)
    assert trace(term, [1.0] * 5) == [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]  # a code that is always worth its price
    assert trace(term, [0.0] * 5) == [0.1] * 6  # one that nothing reads
    late = [0.0, 0.02, 0.08, 0.1, 0.3, 0.4]  # one that is read late
    assert trace(term, late) == [0.1, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4]


@given(
    rates=st.lists(st.none() | st.floats(-10, 10), min_size=1, max_size=40),
    start=st.floats(1e-3, 1),
    times=st.floats(1, 100),
)
def test_a_trace_rises_within_its_bounds(rates, start, times):
    term = SelectedKl(start=start, end=start * times)
    weights = trace(term, rates)
    assert weights == sorted(weights) and weights[0] == start
    low, high = term.bounds
    assert all(low <= weight <= high for weight in weights)
    last = int(term.until * len(rates))
    assert len(set(weights[last + 1 :])) <= 2


def test_looks_are_evenly_spaced_and_never_more_than_one_a_step():
    assert [SelectedKl(looks=64).looks_every(planned) for planned in (1, 63, 64, 640, 700)] == [1, 1, 1, 10, 10]
    assert Kl().looks_every(100) is None


def test_it_settles_where_it_no_longer_rises():
    assert SelectedKl(until=0.7).settled(1000, 10) == pytest.approx(700)


def test_the_best_is_judged_by_the_weight_that_it_came_to():
    objective = Objective({"selected-kl": SelectedKl()}, 10)
    record = {"bound": 9.0, "reconstruction": 3.0, "kl": 6.0}
    assert criterion(record, objective, {"selected-kl": 0.5}) == pytest.approx(6.0)
    held = Objective({"lagrangian": TERMS["lagrangian"]()}, 10)
    assert criterion(record, held, {"lagrangian": 0.5}) == 9.0  # its weight holds the KL at a target


def test_what_it_cannot_work_with():
    assert SelectedKl().problems(Settings()) == []
    for name in POSTERIORS:
        model = ModelSettings.model_validate({"posterior": {"name": name}})
        found = SelectedKl().problems(Settings(model=model))
        assert bool(found) == (name != "gaussian"), name
    refined = Settings(model=ModelSettings.model_validate({"inference": {"name": "refined"}}))
    (problem,) = SelectedKl().problems(refined)
    assert "exchange rate" in str(problem)
    (problem,) = SelectedKl(start=0.5, end=0.4).problems(Settings())
    assert str(problem) == "end = 0.4: is below start = 0.5; give that or more"
