import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.objective.objective import Objective
from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.capacity import Capacity, CapacityMax, ramp
from textvae.objective.terms.free_bits import FreeBitsTotal
from textvae.objective.terms.kl import Kl
from textvae.settings.schedules import Linear

# Targets that settings take: none between 0 and the least normal number of float32.
UP_TO_20 = st.floats(0, 20, width=32, allow_subnormal=False)

BOTH = pytest.mark.parametrize("term", [Capacity, CapacityMax])
OVER = pytest.mark.parametrize("over", ["batch", "sentence"])
MEANS = torch.tensor([[2.0, 1.0], [0.0, 4.0]])  # KLs 2.5 and 8, mean 5.25


def drawn(seed: int, sentences: int, latent: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, logs = torch.randn(2, sentences, latent, generator=generator, dtype=torch.float64)
    return mean.requires_grad_(), logs.exp().requires_grad_()


@pytest.mark.parametrize(
    ("term", "over", "target", "value"),
    [
        (Capacity, "batch", 6.0, 0.75),
        (Capacity, "batch", 5.0, 0.25),
        (Capacity, "sentence", 6.0, (3.5 + 2) / 2),
        (CapacityMax, "batch", 6.0, 6.0),
        (CapacityMax, "batch", 5.0, 5.25),
        (CapacityMax, "sentence", 6.0, (6 + 8) / 2),
    ],
)
def test_by_hand(passed, term, over, target, value):
    assert float(term(target=target, over=over, ramp_epochs=0)(passed(MEANS), 0)) == value


@BOTH
def test_the_ramp_is_a_line_over_its_epochs(passed, term):
    """A collapsed posterior shows the capacity itself: |0 - C_t| = max(0, C_t) = C_t."""
    made, out = term(target=5.0, ramp_epochs=2.0).planned(50), passed(torch.zeros(3, 2))
    assert [float(made(out, step)) for step in (0, 20, 50, 100, 101, 10**6)] == [0.0, 1.0, 2.5, 5.0, 5.0, 5.0]
    assert float(term(target=5.0, ramp_epochs=0).planned(50)(out, 0)) == 5.0


@BOTH
def test_planning_leaves_the_settings_as_they_are(passed, term):
    made, out = term(target=5.0, ramp_epochs=4.0), passed(torch.zeros(1, 1))
    planned = made.planned(10)
    assert float(planned.model_copy()(out, 4)) == float(planned(out, 4)) == 0.5
    assert float(made(out, 4)) == 5.0  # unplanned an epoch is a step
    assert float(made.planned(20)(out, 4)) == 0.25 and float(planned(out, 4)) == 0.5
    fields = {"weight", "target", "over", "ramp_epochs"}
    assert set(planned.model_dump()) == set(made.model_dump()) == fields
    assert term.model_validate(made.model_dump(mode="json")) == made
    for name in ("per_epoch", "_per_epoch"):
        with pytest.raises(ValueError, match="Extra inputs"):
            term.model_validate({name: 3})


@BOTH
def test_an_objective_plans_its_terms(passed, term):
    objective = Objective({"capacity": term(ramp_epochs=2.0)}, total=1000, per_epoch=100)
    _, raw = objective(passed(torch.zeros(3, 2)), 100)
    assert float(raw["capacity"]) == 2.5 and objective.settled() == 200


@BOTH
def test_it_settles_with_the_later_of_ramp_and_weight(term):
    assert term(ramp_epochs=2.0).settled(1000, 100) == 200
    assert term(ramp_epochs=2.0, weight=Linear(steps=150)).settled(1000, 100) == 200
    assert term(ramp_epochs=2.0, weight=Linear(steps=300)).settled(1000, 100) == 300
    assert term(ramp_epochs=0).settled(1000, 100) == 0


@BOTH
@OVER
def test_a_capacity_of_zero_is_the_kl(passed, term, over):
    leaves = drawn(0, 6, 4)
    found, expected = term(target=0.0, over=over)(passed(*leaves), 0), Kl()(passed(*leaves), 0)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, other)


@OVER
def test_below_the_capacity_the_kl_is_pushed_up_as_hard_as_above_it_down(passed, over):
    mean, std = drawn(0, 6, 4)
    above, below = (Capacity(target=c, over=over, ramp_epochs=0)(passed(mean, std), 0) for c in (0.0, 1e3))
    (down,), (up,) = (torch.autograd.grad(value, mean) for value in (above, below))
    torch.testing.assert_close(up, -down)
    torch.testing.assert_close(down, mean.detach() / 6)


def test_at_the_capacity_there_is_no_pull(passed):
    mean = torch.tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True)  # 2 and 8, mean 5
    value = Capacity(target=5.0, ramp_epochs=0)(passed(mean), 0)
    (pull,) = torch.autograd.grad(value, mean)
    assert value.item() == 0.0 and not pull.any()


@OVER
def test_max_has_no_pull_below_and_is_total_free_bits_without_a_ramp(passed, over):
    mean, std = drawn(1, 6, 4)
    (pull,) = torch.autograd.grad(CapacityMax(target=1e3, over=over, ramp_epochs=0)(passed(mean, std), 0), mean)
    assert not pull.any()
    for target in (0.5, 3.0, 6.0):
        found = CapacityMax(target=target, over=over, ramp_epochs=0)(passed(mean, std), 0)
        torch.testing.assert_close(found, FreeBitsTotal(target=target, over=over)(passed(mean, std), 0))


@given(st.integers(0, 2**31), UP_TO_20, st.integers(0, 300))
def test_a_sentence_is_never_nearer_than_the_batch_and_both_keep_to_the_kl(passed, seed, target, step):
    """Jensen: the mean of |x - C| is at least |mean(x) - C|, that of max(C, x) at least max(C, mean(x))."""
    leaves = drawn(seed, 5, 3)
    kl, capacity = float(Kl()(passed(*leaves), 0).detach()), ramp(target, step, 200.0)
    for term, expected in ((Capacity, abs(kl - capacity)), (CapacityMax, max(kl, capacity))):
        made = {over: term(target=target, over=over).planned(100) for over in ("batch", "sentence")}
        values = {over: made[over](passed(*leaves), step).item() for over in made}
        assert values["batch"] == pytest.approx(expected, abs=1e-9)
        assert values["sentence"] >= values["batch"] - 1e-9


@BOTH
@OVER
def test_gradcheck(passed, term, over):
    made = term(target=4.0, over=over, ramp_epochs=0)
    assert torch.autograd.gradcheck(lambda mean, std: made(passed(mean, std), 0), drawn(0, 4, 3))


def test_gradient_descent_on_the_capacity_alone_ends_at_it(passed):
    """From the collapsed posterior, nearly: each step moves the KL towards 5 nats."""
    mean = torch.full((4, 3), 0.1, dtype=torch.float64)
    for _ in range(400):
        mean.requires_grad_()
        (pull,) = torch.autograd.grad(Capacity(ramp_epochs=0)(passed(mean), 0), mean)
        mean = (mean - 0.05 * pull).detach()
    assert float(Kl()(passed(mean), 0)) == pytest.approx(5.0, abs=0.2)


def test_defaults_and_registration():
    assert TERMS["capacity"] is Capacity and TERMS["capacity-max"] is CapacityMax
    for term in (Capacity, CapacityMax):
        assert term.is_rate and term.penalises_kl and not term.learned
        assert (term().target, term().over, term().ramp_epochs) == (5.0, "batch", 2.0)
        assert term().problems(Settings()) == []
