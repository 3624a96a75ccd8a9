import os
import random
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from textvae.cli import app

SMALL = [
    "model.latent=3",
    "model.embedding=6",
    "model.encoder.hidden=6",
    "model.decoder.hidden=6",
    "train.batch_size=16",
    "train.max_steps=12",
    "train.log_every=4",
    "data.split.valid=0.2",
    "data.split.test=0.2",
]


def assigned(settings):
    """The settings as arguments of the command line."""
    return [part for setting in settings for part in ("--set", setting)]


def call(*arguments, **options):
    """The command in this process: exit code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, **options)


def beside_columns(result):
    """What stands on stderr beside which columns of a table were read."""
    lines = result.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not re.search("; first (sentence|pair): ", line))


def refused(result, *fragments, code=2):
    """The command must have ended with one plain message that has the fragments, and nothing on stdout.

    Before it may stand which columns of a table were read.
    """
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    lines = beside_columns(result).splitlines()
    assert lines and all(line.startswith("error: ") for line in lines), result.stderr
    assert "Traceback" not in result.stderr
    for fragment in fragments:
        assert str(fragment) in result.stderr, result.stderr
    return True


@pytest.fixture(autouse=True)
def quiet_place(tmp_path, monkeypatch):
    """Every test works in an empty folder, with a cache of the session and no corpora."""
    monkeypatch.chdir(tmp_path)
    for name in ("TEXTVAE_DATA", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("TEXTVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    """A file of about 200 different short sentences."""
    chosen = random.Random(0)
    words = [
        ["the", "a", "this"],
        ["food", "coffee", "phone"],
        ["is", "was"],
        ["very", "not", "so"],
        ["good", "bad"],
    ]
    lines = [" ".join([*map(chosen.choice, words), "."] * chosen.choice([1, 1, 2])) for _ in range(1000)]
    path = tmp_path_factory.mktemp("text") / "reviews.txt"
    path.write_text("\n".join(list(dict.fromkeys(lines))[:200]) + "\n")
    return path


@pytest.fixture(scope="session")
def run(reviews, tmp_path_factory):
    """A finished run of a tiny VAE; to be read only."""
    return _trained(reviews, tmp_path_factory.mktemp("runs") / "vae", "vanilla", SMALL)


@pytest.fixture(scope="session")
def other_run(reviews, tmp_path_factory):
    """A finished run like `run` from another seed; to be read only."""
    return _trained(reviews, tmp_path_factory.mktemp("runs") / "other", "vanilla", [*SMALL, "train.seed=1"])


@pytest.fixture(scope="session")
def language_model(reviews, tmp_path_factory):
    """A finished run of a tiny language model; to be read only."""
    return _trained(reviews, tmp_path_factory.mktemp("runs") / "lm", "language-model", SMALL[1:])


def _trained(reviews, out: Path, method: str, settings) -> Path:
    assert "TEXTVAE_CACHE" in os.environ
    result = call("train", "--data", reviews, "--method", method, "--out", out, *assigned(settings))
    assert result.exit_code == 0, result.stderr
    return out
