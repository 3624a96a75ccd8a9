"""Gates by the KL weight: their values, what training draws, and whom a gradient reaches."""

import math

import numpy as np
import pytest
import torch

from textvae.model import build
from textvae.objective.objective import Objective
from textvae.objective.presets import load_settings
from textvae.objective.terms.multi_rate import MultiRate
from textvae.parts.multi_rate import BetaGates, MultiRateSettings
from textvae.parts.noise import step_noise
from textvae.settings.schedules import Linear
from textvae.text.batches import collate

FOUR = MultiRateSettings(low=0.01, high=10.0, knots=4)  # knots at 0.01, 0.1, 1 and 10


@pytest.fixture
def gates() -> BetaGates:
    """Gates of four knots for vectors of two numbers, drawn at random."""
    gates = BetaGates({"z": 2}, FOUR)
    for parameter in gates.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(parameter)))
    return gates


@pytest.fixture
def model(tiny_tokenizer):
    """A tiny model with gates of four knots."""
    torch.manual_seed(0)
    sizes = ["model.latent=3", "model.embedding=4", "model.encoder.hidden=5", "model.decoder.hidden=5"]
    settings = load_settings(None, "multi-rate", [*sizes, "model.multi_rate.knots=4", "model.init=0.5"])
    return build(settings.model, len(tiny_tokenizer))


def test_scales_and_shifts_are_those_of_a_knot_and_halfway_in_log_beta_their_mean(gates):
    v = torch.tensor([[2.0, -1.0]])
    scale, shift = gates.scales["z"], gates.shifts["z"]
    with gates.at(0.1):
        torch.testing.assert_close(gates("z", v), scale[1] * v + shift[1])
    with gates.at(math.sqrt(0.1)):  # halfway between 0.1 and 1
        torch.testing.assert_close(gates("z", v), (scale[1] + scale[2]) / 2 * v + (shift[1] + shift[2]) / 2)
    torch.testing.assert_close(gates("z", v), scale[2] * v + shift[2])  # the beta of the settings is 1


def test_each_sentence_is_answered_at_its_own_beta(gates):
    v = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))  # sample, batch, size
    with gates.at(torch.tensor([0.02, 7.0])):
        both = gates("z", v)
    for place, beta in enumerate((0.02, 7.0)):
        with gates.at(beta):
            torch.testing.assert_close(both[:, place], gates("z", v[:, place]))


def test_outside_its_block_a_beta_is_forgotten_even_after_an_error(gates):
    with pytest.raises(ZeroDivisionError), gates.at(5.0):
        raise ZeroDivisionError
    assert gates.log_beta.item() == 0


def test_a_new_model_is_the_one_without_gates(tiny_tokenizer, tiny_store):
    """Gates begin at 1 and shifts at 0, whatever `init` is."""
    plain, gated = (load_settings(None, name, ["model.latent=3"]).model for name in ("vanilla", "multi-rate"))
    torch.manual_seed(0)
    without = build(plain, len(tiny_tokenizer)).eval()
    torch.manual_seed(0)
    with_gates = build(gated, len(tiny_tokenizer)).eval()
    with_gates.load_state_dict(without.state_dict(), strict=False)
    batch, noise = collate(tiny_store, np.arange(4)), lambda samples, size: torch.ones(samples, 4, size)
    torch.testing.assert_close(with_gates(batch, noise).log_px, without(batch, noise).log_px)


def test_what_is_drawn_is_uniform_in_log_beta_and_reaches_further_from_step_to_step():
    settings = MultiRateSettings(reach=Linear(steps=100))
    noise = step_noise(0, 0, 20_000, slice(None))
    share = (settings.drawn(noise, 100, 200, 10).double().log() - math.log(0.01)) / math.log(1000)
    assert share.mean().item() == pytest.approx(1 / 2, abs=0.01)
    assert share.var().item() == pytest.approx(1 / 12, abs=0.005)
    assert 0 <= share.min() and share.max() <= 1 + 1e-6
    assert settings.drawn(noise, 0, 200, 10).unique().tolist() == [pytest.approx(0.01)]
    half = settings.drawn(noise, 50, 200, 10)
    assert 0.3 < half.max().item() <= math.sqrt(0.01 * 10) + 1e-6


def test_two_processes_draw_the_betas_of_one():
    whole, first, second = (
        FOUR.drawn(step_noise(3, 7, 10, rows), 1, 1, 1) for rows in (slice(None), slice(0, 4), slice(4, 10))
    )
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=0)


def test_the_betas_of_validation_fill_the_interval_evenly():
    share = (FOUR.spread(1000).double().log() - math.log(0.01)) / math.log(1000)
    assert torch.histc(share, 10, 0, 1).tolist() == pytest.approx([100] * 10, abs=2)


def test_the_loss_is_reconstruction_plus_the_mean_of_beta_kl(passed):
    """KL of unit variance is |mean|^2 / 2: 0.5 and 2 nats; with beta 10 and 0.1 the mean is (5 + 0.2) / 2."""
    out = passed(torch.tensor([[1.0], [2.0]]), log_px=torch.tensor([[[-3.0], [-5.0]]]))
    out = out._replace(beta=torch.tensor([10.0, 0.1]))
    loss, raw = Objective({"multi-rate": MultiRate()}, 10)(out, 0)
    assert float(raw["multi-rate"]) == pytest.approx(2.6, rel=1e-6)
    assert float(loss) == pytest.approx(4 + 2.6, rel=1e-6)
    assert float(raw["kl"]) == pytest.approx(1.25, rel=1e-6)  # the KL itself, for the log


def test_gradients_reach_the_knots_beside_the_drawn_beta_alone(model, tiny_store):
    batch = collate(tiny_store, np.arange(2))
    noise = step_noise(0, 0, 2, slice(None))
    out = model(batch, noise, beta=torch.tensor([0.05, 0.2]))  # between knots 0 and 1, and 1 and 2
    Objective({"multi-rate": MultiRate()}, 10)(out, 0)[0].backward()
    for parameters in (model.gates.scales, model.gates.shifts):
        for name in ("hidden", "z"):
            reached = parameters[name].grad.abs().sum(1) > 0
            assert reached.tolist() == [True, True, True, False], name


def test_a_pass_at_one_beta_is_that_of_the_model_set_to_it(model, tiny_store):
    model.eval()
    for parameter in model.gates.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    batch = collate(tiny_store, np.arange(3))

    def noise(samples: int, size: int) -> torch.Tensor:
        return torch.ones(samples, 3, size)

    of_each = model(batch, noise, beta=torch.full((3,), 4.0))
    with model.gates.at(4.0):
        of_all = model(batch, noise)
    torch.testing.assert_close(of_each.log_px, of_all.log_px)
    torch.testing.assert_close(of_each.posterior.mean, of_all.posterior.mean)
    assert not torch.allclose(of_all.log_px, model(batch, noise).log_px)


def test_gates_of_the_code_belong_to_the_decoder_and_those_of_the_vector_to_the_encoder(model):
    generative = {id(parameter) for parameter in model.generative()}
    assert all(id(parameter) in generative for parameter in model.gates.of("z"))
    assert not any(id(parameter) in generative for parameter in model.gates.of("hidden"))
