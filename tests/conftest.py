"""What all tests share: one thread, a cache of their own, the corpora mirror, a tiny corpus, a hand-made Pass."""

import importlib.util
import os
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from textvae.model import Pass
from textvae.parts.posteriors import DiagonalGaussian
from textvae.parts.priors import StandardNormal
from textvae.text.batches import TokenStore, build
from textvae.text.tokenizers import Tokenizer

# No deadline: a first call of torch is slow, which says nothing. The same examples each time, so that what passed
# passes again; `make explore` looks for new ones.
settings.register_profile("textvae", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("textvae")
torch.set_num_threads(1)  # results do not depend on the machine, and workers do not fight over cores


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Token stores go to a temporary folder, those of subprocesses too."""
    before = os.environ.get("TEXTVAE_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TEXTVAE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["TEXTVAE_CACHE"]
    else:
        os.environ["TEXTVAE_CACHE"] = before


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The mirror of real corpora; a test that asks for it is also marked `corpora`."""
    named = os.environ.get("TEXTVAE_DATA")
    if not named:
        pytest.skip("TEXTVAE_DATA names no folder of corpora")
    if not Path(named).is_dir():
        pytest.skip(f"TEXTVAE_DATA names {named}, which is no folder")
    return Path(named)


@pytest.fixture(scope="session")
def tiny_sentences() -> list[str]:
    """60 different sentences of 1 to 12 words out of 20."""
    generator = torch.Generator().manual_seed(0)
    words = [f"w{i}" for i in range(20)]
    found: dict[str, None] = {}
    while len(found) < 60:
        length = int(torch.randint(1, 13, (), generator=generator))
        found[" ".join(words[i] for i in torch.randint(0, 20, (length,), generator=generator))] = None
    return list(found)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tiny_sentences) -> Path:
    """A finished store folder: 40 sentences to train on, 10 to validate, 10 to test."""
    folder = tmp_path_factory.mktemp("tiny") / "store"
    parts = {"train": tiny_sentences[:40], "valid": tiny_sentences[40:50], "test": tiny_sentences[50:]}
    build(folder, parts)
    return folder


@pytest.fixture(scope="session")
def tiny_store(tiny_folder) -> TokenStore:
    """The training split of the tiny corpus."""
    return TokenStore.open(tiny_folder, "train")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_folder) -> Tokenizer:
    """The tiny corpus's word tokenizer."""
    return Tokenizer.load(tiny_folder / "tokenizer.json")


@pytest.fixture(scope="session")
def passed():
    """A function that makes a Pass from posterior means, of unit variance unless it is told otherwise."""

    def make(mean: torch.Tensor, std: torch.Tensor | None = None, log_px: torch.Tensor | None = None) -> Pass:
        posterior = DiagonalGaussian(mean, torch.ones_like(mean) if std is None else std)
        if log_px is None:
            log_px = mean.new_zeros(1, len(mean), 1)
        return Pass(log_px, mean[None], posterior, StandardNormal(mean.shape[1]), {})

    return make


@pytest.fixture(scope="session")
def pages():
    """The recipe that renders tables into the documentation."""
    spec = importlib.util.spec_from_file_location(
        "pages_recipe", Path(__file__).parents[1] / "recipes" / "pages.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def every_sentence(tmp_path_factory) -> tuple[TokenStore, Tokenizer]:
    """All sentences of one to three words out of two."""
    texts = [" ".join(words) for n in (1, 2, 3) for words in product("ab", repeat=n)]
    folder = tmp_path_factory.mktemp("all") / "store"
    stores = build(folder, {"train": texts, "valid": texts})
    return stores["train"], Tokenizer.load(folder / "tokenizer.json")
