"""One gradient step: the optimizers against their formulas, both kinds of clipping by hand."""

import math

import pytest
import torch
from torch import nn

from textvae import settings as s
from textvae.model import TextVAE
from textvae.objective.objective import Objective
from textvae.parts.noise import step_noise
from textvae.text.batches import Batch
from textvae.training.job import Job
from textvae.training.updates import JointUpdate, StepInput, optimizer_for

# The loss is the inner product with this, so this is the gradient.
GRADIENT = torch.tensor([3.0, -4.0, 0.0, 12.0])
START = torch.tensor([1.0, 2.0, 3.0, 4.0])


class Point(TextVAE):
    """A model that is one vector, and one that no loss reaches."""

    def __init__(self):
        nn.Module.__init__(self)
        self.at = nn.Parameter(START.clone())
        self.unreached = nn.Parameter(torch.ones(2))

    def forward(self, batch, noise, samples, components, beta):
        return self.at


class Slope(Objective):
    """A loss whose gradient at step t is t + 1 times a given one."""

    def __init__(self):
        super().__init__({}, total=10)

    def __call__(self, out, step, multipliers=None):
        loss = (out * GRADIENT).sum() * (step + 1)
        return loss, {"term": loss.detach() / 2}


BATCH = Batch(torch.tensor([[4, 3]]), torch.tensor([2]), torch.tensor([0]))


def stepped(settings, steps=1, **clipping):
    model = Point()
    optimizer = optimizer_for(model.parameters(), settings)
    update = JointUpdate(Job(torch.device("cpu")), model, Slope(), optimizer, **clipping)
    for step in range(steps):
        raw = update.step(StepInput(BATCH, step_noise(0, step, 1, slice(1)), step))
    return model, raw


def test_a_plain_step_goes_down_the_gradient():
    model, raw = stepped(s.Sgd(lr=0.1))
    torch.testing.assert_close(model.at.detach(), START - 0.1 * GRADIENT)
    assert torch.equal(model.unreached, torch.ones(2))
    assert raw.keys() == {"term", "loss"}
    assert raw["loss"] == (START * GRADIENT).sum() and raw["term"] == raw["loss"] / 2
    assert not raw["loss"].requires_grad


def test_the_step_reaches_the_objective_and_gradients_do_not_pile_up():
    model, _ = stepped(s.Sgd(lr=0.1), steps=3)
    torch.testing.assert_close(model.at.detach(), START - 0.1 * (1 + 2 + 3) * GRADIENT)


def test_momentum():
    model, _ = stepped(s.Sgd(lr=0.1, momentum=0.5), steps=2)
    torch.testing.assert_close(model.at.detach(), START - 0.1 * (1 + (0.5 + 2)) * GRADIENT)


def test_the_norm_is_clipped_by_hand():
    model, raw = stepped(s.Sgd(lr=1.0), clip_norm=1.3)
    torch.testing.assert_close(model.at.detach(), START - GRADIENT / 10, rtol=1e-5, atol=1e-5)  # of norm 13
    assert raw["gradient_norm"] == 13
    model, raw = stepped(s.Sgd(lr=1.0), clip_norm=14.0)
    torch.testing.assert_close(model.at.detach(), START - GRADIENT)


def test_elements_are_clipped_by_hand():
    model, raw = stepped(s.Sgd(lr=1.0), clip_value=3.5)
    torch.testing.assert_close(model.at.detach(), START - torch.tensor([3.0, -3.5, 0.0, 3.5]))
    assert "gradient_norm" not in raw


def test_elements_are_clipped_before_the_norm():
    model, raw = stepped(s.Sgd(lr=1.0), clip_value=3.0, clip_norm=1.0)
    assert raw["gradient_norm"] == pytest.approx(math.sqrt(27))
    torch.testing.assert_close(
        model.at.detach(), START - torch.tensor([3.0, -3.0, 0.0, 3.0]) / math.sqrt(27), rtol=1e-5, atol=1e-5
    )


def test_adam_against_its_formula():
    """Kingma and Ba 2015, algorithm 1, two steps with gradients g and 2 g."""
    model, _ = stepped(s.Adam(lr=0.01, betas=(0.8, 0.9), eps=1e-3), steps=2)
    mean = variance = torch.zeros(4)
    expected = START.clone()
    for t in (1, 2):
        mean = 0.8 * mean + 0.2 * t * GRADIENT
        variance = 0.9 * variance + 0.1 * (t * GRADIENT) ** 2
        expected -= 0.01 * (mean / (1 - 0.8**t)) / ((variance / (1 - 0.9**t)).sqrt() + 1e-3)
    torch.testing.assert_close(model.at.detach(), expected)


def test_adamw_decays_apart_from_the_gradient():
    adam, _ = stepped(s.Adam(lr=0.01))
    decayed, _ = stepped(s.AdamW(lr=0.01, weight_decay=0.1))
    torch.testing.assert_close(decayed.at.detach(), adam.at.detach() - 0.01 * 0.1 * START)


@pytest.mark.parametrize(
    ("settings", "kind"), [(s.Adam(), torch.optim.Adam), (s.AdamW(), torch.optim.AdamW), (s.Sgd(), torch.optim.SGD)]
)
def test_every_setting_reaches_the_optimizer(settings, kind):
    optimizer = optimizer_for(Point().parameters(), settings)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["fused"]
    for name, value in settings.model_dump(exclude={"name"}).items():
        assert group[name] == value
