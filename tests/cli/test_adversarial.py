import json
import random

import pytest

import textvae
from textvae.evaluation.adversarial import adversarial
from textvae.metrics import adversarial as classifiers

from .conftest import SMALL, _trained, call, refused


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"EMBEDDING": 6, "HIDDEN": 6, "RATE": 0.03, "EPOCHS": 3}.items():
        monkeypatch.setattr(classifiers, name, value)


@pytest.fixture(scope="module")
def other(reviews, tmp_path_factory):
    """A language model trained apart."""
    place = tmp_path_factory.mktemp("runs") / "other"
    return _trained(reviews, place, "language-model", [*SMALL[1:], "train.seed=7"])


@pytest.fixture
def held_out(tmp_path):
    chosen = random.Random(9)
    subjects, verdicts = ["the food", "a phone", "this coffee"], ["is very good", "was not bad", "is so bad"]
    texts = [f"{chosen.choice(subjects)} {chosen.choice(verdicts)} ." for _ in range(24)]
    (tmp_path / "held-out.txt").write_text("\n".join([*texts, "good"]) + "\n")
    return [*texts, "good"]


def test_the_table_and_its_numbers(run, language_model, other, held_out):
    arguments = ["adversarial", run, language_model, "--file", "held-out.txt", "--language-model", other]
    result = call(*arguments, "--seed", 3)
    assert result.exit_code == 0, result.stderr
    models = [textvae.load(folder) for folder in (run, language_model)]
    expected = adversarial(models, held_out, textvae.load(other), seed=3)
    assert json.loads(call(*arguments, "--seed", 3, "--json").stdout) == expected.document()
    blocks = result.stdout.rstrip("\n").split("\n\n")
    assert blocks[0] == "24 sentences; left out: 1 too short" and blocks[-1] == expected.signature
    head, *rows, true, unit = blocks[1].split("\n")
    assert head.split() == ["beam", "unigrams", "LSTM", "NLL", "recovered", "endings"]
    for line, row, beam in zip(rows, expected.models, ("3x5", "1x15"), strict=True):
        cells = line.removeprefix(row.run).split()
        assert cells[0] == beam and cells[1] == f"{100 * row.unigram.error + 0.0:.1f}"
        assert cells[4] == f"{100 * row.lstm.error + 0.0:.1f}" and cells[7] == f"{row.nll:.2f}"
        assert cells[-1] == str(row.endings)
    assert true.startswith("true sentences") and f"{expected.nll:.2f} ± " in true
    assert unit == "adversarial errors in %, NLL in nats/sentence, both ± standard error"
    known = expected.examples()[0]["known"]
    assert blocks[2].startswith(f"{known} …\n  true: {expected.examples()[0]['true']}\n")


def test_what_cannot_be(run, language_model, other, held_out):
    file = ["--file", "held-out.txt"]
    assert refused(call("adversarial", run, *file), "--language-model")
    assert refused(call("adversarial", run, "--language-model", other), "no text given", "--file")
    assert refused(call("adversarial", run, *file, "--language-model", run), "has latent codes")
    assert refused(call("adversarial", other, *file, "--language-model", other), "also the language model")
    assert refused(call("adversarial", run, *file, "--language-model", other, "--last", 0), "last = 0.0")
    assert refused(call("adversarial", run, *file, "--language-model", "nowhere"), "nowhere: no such run folder")
    assert refused(call("adversarial", run, *file, "--language-model", other, "-n", 9), "-n", "10")
