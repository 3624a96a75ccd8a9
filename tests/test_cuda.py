"""On a CUDA device everything comes out as on the CPU, and a run that was interrupted as one that never was."""

import math
import warnings

import numpy as np
import pytest
import torch

from textvae.evaluation.evaluate import evaluate
from textvae.files import read_tensors
from textvae.generate.decoding import Decoding
from textvae.generate.trained import load
from textvae.objective.presets import load_settings, methods
from textvae.parts.kernels.products import exactly
from textvae.training.loop import resume, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SENTENCES = ["the cat sat", "a dog ran off", "birds sing songs", "no one came", "we saw it here", "they left early"]
MODEL = {"latent": 3, "embedding": 6, "encoder": {"hidden": 8}, "decoder": {"hidden": 10, "dropout": 0.0}}
TRAIN = {"batch_size": 6, "max_steps": 4, "log_every": 1, "precision": "fp32"}
# Adam would make much of tiny differences between devices: it divides a gradient by its own size.
TRAIN["optimizer"] = {"name": "sgd", "lr": 0.1}
PARTS = {
    "lstm": {},
    "layer norm": {
        "encoder": {"hidden": 8, "norm": "layer"},
        "decoder": {"hidden": 10, "norm": "layer-per-gate", "dropout": 0.0},
    },
    "gru": {
        "encoder": {"name": "gru", "hidden": 6, "bidirectional": True},
        "decoder": {"name": "gru", "hidden": 7, "layers": 2, "dropout": 0.0},
    },
    "convolutional": {
        "encoder": {"name": "convolutional", "maps": [4, 5]},
        "decoder": {"name": "bytenet", "hidden": 6},
    },
    "gated": {"decoder": {"name": "gated-convolutional", "hidden": 6, "bottleneck": 4, "width": 3, "dropout": 0.0}},
    "transformer": {
        "encoder": {"name": "transformer", "hidden": 8, "heads": 2, "dropout": 0.0},
        "decoder": {"name": "transformer", "hidden": 8, "heads": 2, "dropout": 0.0},
    },
    "hybrid": {"decoder": {"name": "hybrid", "maps": [5, 4], "top": {"name": "lstm", "hidden": 6}}},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join(SENTENCES * 4) + "\n")
    (folder / "valid.txt").write_text("\n".join(SENTENCES) + "\n")
    return {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt"), "max_length": 6}


def settings_of(text, method="vanilla", device="cuda", parts="lstm", **changed):
    """Of random numbers only those for z are drawn, which are the same on every device."""
    model = {**MODEL, **PARTS[parts]} | ({"latent": 0} if method == "language-model" else {})
    keep = ["model.word_keep=1.0"] if method == "word-dropout" else []
    return load_settings(None, method, keep, data=text, model=model, train={**TRAIN, "device": device, **changed})


def losses(run):
    return [record["loss"] for record in run.log() if record["split"] == "train"]


def weights(run):
    tensors, _ = read_tensors(run.folder / "checkpoint" / "last.safetensors")
    return tensors


@pytest.mark.parametrize("method", sorted(set(methods()) - {"hybrid"}))  # which is among the parts
def test_every_method_takes_the_steps_of_the_cpu(method, text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there, here = (train(settings_of(text, method, on), tmp_path / on) for on in ("cuda", "cpu"))
    assert losses(there) == pytest.approx(losses(here), rel=2e-4)


@pytest.mark.parametrize("parts", PARTS)
def test_every_architecture_takes_the_steps_of_the_cpu_and_scores_and_writes_like_it(parts, text, tmp_path):
    there, here = (
        train(settings_of(text, device=device, parts=parts), tmp_path / device) for device in ("cuda", "cpu")
    )
    assert losses(there) == pytest.approx(losses(here), rel=2e-4)
    scores = [evaluate(run.folder, "valid", iw_samples=8, iw_sentences=None) for run in (there, here)]
    for name in ("reconstruction", "kl", "nll_iw", "mutual_information"):
        assert scores[0][name] == pytest.approx(scores[1][name], rel=2e-3, abs=2e-3), name
    model, other = load(there.folder), load(here.folder)
    assert (model.model.device.type, other.model.device.type) == ("cuda", "cpu")
    np.testing.assert_allclose(model.encode(SENTENCES), other.encode(SENTENCES), atol=2e-3)
    z = model.draw(6, seed=1)
    np.testing.assert_allclose(z, other.draw(6, seed=1), atol=1e-5)
    for decoding in (Decoding(), Decoding("beam", beam=3), Decoding("nucleus", top_p=0.9)):
        texts = model.decode(z, decoding, seed=2)
        assert texts == model.decode(z, decoding, seed=2)
        assert texts[:2] == model.decode(z[:2], decoding, seed=2)
    assert len(model.interpolate(SENTENCES[0], SENTENCES[1], steps=4)) == 4
    assert "___" not in model.impute("the ___ sat")[0]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_ends_as_one_that_was_not(parts, precision, text, tmp_path):
    changed = {"precision": precision, "max_steps": 6, "validate_every": 3}

    def interrupt(step, total, record):
        if step == 4:
            raise KeyboardInterrupt

    whole = train(settings_of(text, parts=parts, **changed), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings_of(text, parts=parts, **changed), tmp_path / "cut", interrupt)  # validated after 3 steps
    cut = resume(tmp_path / "cut")
    expected, found = weights(whole), weights(cut)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_auto_takes_bfloat16_where_the_device_has_it(text, tmp_path):
    run = train(settings_of(text, precision="auto"), tmp_path / "run")
    assert run.settings.train.precision == ("bf16" if torch.cuda.is_bf16_supported() else "fp32")
    assert all(math.isfinite(loss) for loss in losses(run))


def test_float32_is_float32():
    """cuDNN would multiply in TF32, whose results differ from the fourth digit on."""
    torch.manual_seed(0)
    network = torch.nn.LSTM(256, 256, batch_first=True)
    inputs = torch.randn(4, 20, 256)
    expected = network(inputs)[0]
    with exactly():
        found = network.cuda()(inputs.cuda())[0].cpu()
    assert (found - expected).abs().max() < 1e-5
