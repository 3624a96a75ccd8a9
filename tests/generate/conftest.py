"""Models that were never trained, for what is asked of any model."""

import pytest
import torch
from torch import nn

from textvae.files import write_tensors
from textvae.generate.trained import load
from textvae.model import build
from textvae.objective.presets import TERMS
from textvae.objective.settings import parse
from textvae.run import Run
from textvae.text.tokenizers import EOS, Tokenizer

LINES = [
    "the food was great .",
    "the staff was nice .",
    "we liked the food",
    "i will never come back",
    "great place",
]

POSTERIORS = {
    "point": {"posterior": {"name": "point"}},
    "vmf": {"posterior": {"name": "vmf", "concentration": 50.0}, "prior": {"name": "uniform-sphere"}},
    "semi-implicit": {"posterior": {"name": "semi-implicit", "noise": 6, "hidden": 8, "components": 3}},
    "iaf": {"posterior": {"name": "iaf", "hidden": 8, "context": 4}},
    "refined": {"inference": {"name": "refined", "steps": 2, "lr": 0.5}},
    "gaussian-mixture": {"posterior": {"name": "gaussian-mixture"}, "prior": {"name": "gaussian-mixture"}},
    "vamp": {"prior": {"name": "vamp", "components": 3}},
    "iaf-vamp": {"posterior": {"name": "iaf", "hidden": 8}, "prior": {"name": "vamp", "components": 3}},
}


def made(folder, latent=4, tokenizer="word", right_to_left=False, posterior=None):
    """A run folder with a model that was never trained, its weights large enough for varied sentences."""
    sizes = {"hidden": 8}
    document = {
        "data": {
            "corpus": "somewhere.txt",
            "max_length": 7,
            "tokenizer": {"name": tokenizer},
            "right_to_left": right_to_left,
        },
        "model": {
            "latent": latent,
            "embedding": 6,
            "encoder": {**sizes, "bidirectional": True},
            "decoder": {**sizes, "word_keep": 0.5},
            "init": 1.0,
            **({} if posterior is None else POSTERIORS[posterior]),
        },
    }
    settings = parse(document, TERMS)
    words = Tokenizer.train(tokenizer, LINES, None, 1, right_to_left=right_to_left)
    Run.create(folder, settings, words, {})
    torch.manual_seed(1)
    model = build(settings.model, len(words))
    nn.init.constant_(model.decoder.words.bias[EOS], 1.5)
    write_tensors(folder / "model.safetensors", model.state_dict())
    return folder


@pytest.fixture(scope="session")
def vae(tmp_path_factory):
    """A VAE with codes of four numbers."""
    return load(made(tmp_path_factory.mktemp("runs") / "vae"))


@pytest.fixture(scope="session")
def lm(tmp_path_factory):
    """A language model."""
    return load(made(tmp_path_factory.mktemp("runs") / "lm", latent=0))


@pytest.fixture(scope="session")
def sphere(tmp_path_factory):
    """A model whose codes lie on the unit sphere."""
    return load(made(tmp_path_factory.mktemp("runs") / "vmf", posterior="vmf"))


@pytest.fixture(scope="session")
def autoencoder(tmp_path_factory):
    """A model whose posterior is a point."""
    return load(made(tmp_path_factory.mktemp("runs") / "point", posterior="point"))


@pytest.fixture
def model_with(tmp_path):
    """A function that makes a model with one of the `POSTERIORS`, to be changed at will."""
    return lambda name: load(made(tmp_path / name, posterior=name))
