"""What a nat of KL is worth: the exchange rate by hand and against derivatives, and the looks of a training run."""

import json
import signal

import numpy as np
import pytest
import torch

from textvae import inference
from textvae.inference import look
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.parts.decoders import RecurrentDecoderSettings
from textvae.parts.encoders import RecurrentEncoderSettings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian
from textvae.parts.settings import ModelSettings
from textvae.text.batches import collate
from textvae.training.loop import resume, train

WEIGHT = 0.4


@pytest.fixture(scope="module")
def model(every_sentence):
    """A model whose decoder has the code alone, trained on D + 0.4 KL."""
    store = every_sentence[0]
    torch.manual_seed(1)
    settings = ModelSettings(
        latent=2,
        embedding=4,
        encoder=RecurrentEncoderSettings(hidden=8),
        decoder=RecurrentDecoderSettings(hidden=8, dropout=0.0),
        word_keep=0.0,
        init=0.5,
    )
    model = build(settings, len(every_sentence[1])).eval()
    batch = collate(store, np.arange(len(store)))
    noise = sentence_noise(0, batch.index)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(100):
        out = model(batch, noise)
        weight = WEIGHT * min(1, step / 50)
        loss = -out.log_px.sum(-1).mean() + weight * out.posterior.rate(out.z, out.prior).nats.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def nothing(out) -> torch.Tensor:
    return torch.zeros(())


def test_a_loss_that_falls_by_a_third_of_a_nat_for_each_nat_of_kl_is_worth_that_much(model, every_sentence):
    def third(out):
        return -out.posterior.rate(out.z, out.prior).nats.mean() / 3

    plain, more = (look(model, every_sentence[0], others) for others in (nothing, third))
    assert plain.exchange_rate == plain.exchange_rate_reconstruction
    assert more.exchange_rate - plain.exchange_rate == pytest.approx(1 / 3, rel=1e-4)
    assert more.exchange_rate_reconstruction == plain.exchange_rate_reconstruction


def test_the_rate_is_the_quotient_of_derivatives_by_the_width(model, every_sentence):
    """As automatic differentiation has them, at the same noise."""
    store = every_sentence[0]
    batch = collate(store, np.arange(len(store)))
    noise = sentence_noise(0, batch.index)
    posterior, width = model.encode(batch, noise), torch.ones((), requires_grad=True)
    widened = DiagonalGaussian(posterior.mean.detach(), posterior.std.detach() * width)
    out = model.scored(batch, widened.rsample(noise), widened)
    (loss,) = torch.autograd.grad(-out.log_px.sum(-1).mean(), width, retain_graph=True)
    (rate,) = torch.autograd.grad(widened.rate(out.z, out.prior).nats.mean(), width)
    assert look(model, store, nothing).exchange_rate == pytest.approx(-(loss / rate).item(), rel=0.02)
    assert abs(loss.item()) > 0.01


def test_where_posteriors_are_optimal_the_rate_is_the_weight(model, every_sentence, monkeypatch):
    """Means and deviations of each sentence found by L-BFGS on D + 0.4 KL, at the noise of the look."""
    store = every_sentence[0]
    batch = collate(store, np.arange(len(store)))
    start, drawn = model.encode(batch), sentence_noise(0, batch.index)(1, 2)
    mean, logs = (value.detach().clone().requires_grad_() for value in (start.mean, start.std.log()))
    optimizer = torch.optim.LBFGS([mean, logs], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        posterior = DiagonalGaussian(mean, logs.exp())
        out = model.scored(batch, posterior.rsample(lambda samples, size: drawn), posterior)
        total = (-out.log_px.sum(-1)[0] + WEIGHT * posterior.rate(out.z, out.prior).nats).mean()
        total.backward()
        return total

    optimizer.step(loss)
    optimal = DiagonalGaussian(mean.detach(), logs.detach().exp())

    def encode(asked, *rest):
        return DiagonalGaussian(optimal.mean[asked.index], optimal.std[asked.index])

    monkeypatch.setattr(model, "encode", encode)
    seen = look(model, store, nothing)
    assert seen.exchange_rate == pytest.approx(WEIGHT, abs=0.03)  # of a difference, not a derivative
    assert seen.kl > 0.5 and seen.shuffle_gap > 1


def test_a_code_that_nothing_reads_is_worth_nothing(model, every_sentence):
    class Deaf(torch.nn.Module):
        def forward(self, z):
            return torch.zeros_like(z)

    model.entering = Deaf()
    try:
        seen = look(model, every_sentence[0], nothing)
    finally:
        model.entering = None
    assert seen.exchange_rate == seen.exchange_rate_reconstruction == 0 and seen.shuffle_gap == 0
    assert seen.kl > 0


def test_without_a_change_of_the_kl_there_is_no_rate(model, every_sentence, monkeypatch):
    monkeypatch.setattr(inference, "LEAST_CHANGE", 1e9)
    seen = look(model, every_sentence[0], nothing)
    assert seen.exchange_rate is None and seen.exchange_rate_reconstruction is None


def test_a_look_leaves_the_model_training(model, every_sentence):
    model.train()
    look(model, every_sentence[0], nothing)
    assert model.training
    model.eval()


# In training.


RAISED = {"start": 0.1, "end": 0.4, "factor": 2.0, "ready": 0.0, "looks": 8, "until": 1.0}


def settings(text, **train_settings):
    return load_settings(
        data={"corpus": str(text)},
        model={"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}},
        objective={
            "selected-kl": {"start": 0.1, "end": 0.4, "factor": 2.0, "looks": 8, "ready": 0.0, "until": 1.0},
            "bow": {},
        },
        train={"batch_size": 16, "max_steps": 16, "device": "cpu", "validate_every": 8, **train_settings},
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"{kind * 2} w{i} {kind} w{j}" for kind in "ab" for i in range(12) for j in range(12)]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_log_has_every_look_and_the_weight_follows_them(text, tmp_path):
    run = train(settings(text), tmp_path / "run")
    looks = [record for record in run.log() if record["split"] == "look"]
    assert [record["step"] for record in looks] == list(range(2, 17, 2))
    term, weight = run.settings.objective["selected-kl"], 0.1
    for record in looks:
        assert record["weights"]["selected-kl"] == weight and record["weights"]["bow"] == 1.0
        weight = term.after_look(weight, record["exchange_rate"], record["step"] / 16)
    assert {record["exchange_rate"] for record in looks} != {None}
    last = [record for record in run.log() if record["split"] == "train"][-1]
    assert last["weights"]["selected-kl"] == weight


@pytest.mark.parametrize("stop", [3, 4, 11])
def test_a_run_that_is_stopped_around_a_look_ends_as_one_that_was_not(text, tmp_path, stop):
    whole = train(settings(text), tmp_path / "whole")

    def interrupt(step, total, record):
        if step == stop:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(settings(text), tmp_path / "stopped", interrupt)
    run = resume(tmp_path / "stopped")
    for name, weight in whole.model().state_dict().items():
        assert torch.equal(weight, run.model().state_dict()[name]), name
    speeds = ("tokens_per_second",)
    logs = [[{k: v for k, v in one.items() if k not in speeds} for one in each.log()] for each in (whole, run)]
    assert json.dumps(logs[0]) == json.dumps(logs[1])
