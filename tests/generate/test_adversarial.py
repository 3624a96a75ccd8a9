import random
import shutil

import numpy as np
import pytest

from textvae.errors import RequestError
from textvae.evaluation import adversarial as module
from textvae.evaluation.adversarial import adversarial, usable
from textvae.generate.imputation import impute
from textvae.generate.trained import load
from textvae.metrics import adversarial as classifiers
from textvae.metrics.signature import parse
from textvae.objective.presets import load_settings
from textvae.text.tokenizers import Tokenizer
from textvae.training.loop import train

SIZES = {"latent": 3, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8, "dropout": 0.0}}


def sentences(count, seed):
    chosen = random.Random(seed)
    things, ends = ["cat", "dog", "bird"], ["slept", "ran away", "sat down ."]
    return [
        f"the {chosen.choice(things)} and a {chosen.choice(things)} {chosen.choice(ends)}" for _ in range(count)
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A VAE and a language model from right to left, and a language model that measures."""
    place = tmp_path_factory.mktemp("adversarial")
    for name, seed in (("train", 1), ("valid", 2)):
        (place / f"{name}.txt").write_text("\n".join(sentences(100, seed)) + "\n")
    data = {name: str(place / f"{name}.txt") for name in ("train", "valid")}
    found = {}
    for name, latent, turned in (("vae", 3, "true"), ("lm", 0, "true"), ("scorer", 0, "false")):
        assigned = [f"model.latent={latent}", f"data.right_to_left={turned}"]
        learned = {"batch_size": 20, "max_steps": 60, "optimizer": {"lr": 0.02}}
        settings = load_settings(
            None, "language-model" if not latent else "vanilla", assigned, data=data, model=SIZES, train=learned
        )
        found[name] = load(train(settings, place / name).folder)
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"EMBEDDING": 6, "HIDDEN": 6, "RATE": 0.03, "EPOCHS": 4}.items():
        monkeypatch.setattr(classifiers, name, value)


def test_every_number_is_what_its_own_function_gives(runs):
    texts = [*sentences(40, 3), "the zebra and a dog slept", "cat", "the cat and a zebra", " ".join(["the"] * 101)]
    found = adversarial([runs["vae"], runs["lm"]], texts, runs["scorer"], last=0.4, seed=2)
    used = [*texts[:40], texts[40]]
    assert found.texts == used
    assert found.left_out == {
        "too short": 1,
        "longer than 100 tokens": 1,
        "with an unknown word at the end": 1,
    }
    for row, run, beam, rounds in zip(found.models, (runs["vae"], runs["lm"]), (5, 15), (3, 1), strict=True):
        made = [one.text for one in impute(run, used, last=0.4)]
        assert (row.run, row.beam, row.rounds, row.texts) == (str(run.run.folder), beam, rounds, made)
        split = [text.split() for text in made]
        assert row.unigram == classifiers.unigram_error([text.split() for text in used], split, 2)
        assert row.lstm == classifiers.lstm_error([text.split() for text in used], split, 2)
        assert row.nll == pytest.approx(runs["scorer"].nll(made).mean())
        assert row.recovered == np.mean([a == b for a, b in zip(made, used, strict=True)])
        for known, old, new in zip(found.known, used, made, strict=True):
            assert old.startswith(known) and new.startswith(known) and known
        assert row.endings == len({new[len(known) :] for known, new in zip(found.known, made, strict=True)})
    assert found.nll == pytest.approx(runs["scorer"].nll(used).mean())
    name, parts = parse(found.signature)
    assert parts["nll"] == runs["scorer"].identity[:6] and parts["by"].startswith("unigrams-shuffled-sklearn-")
    assert name == "adversarial" and (parts["sentences"], parts["last"], parts["seed"]) == ("41", "0.4", "2")


def test_the_first_that_can_be_used_are(runs):
    texts = ["zebra", *sentences(40, 3)]
    found = adversarial([runs["lm"]], texts, runs["scorer"], beam=2, sentences=12)
    assert found.texts == texts[1:13] and found.models[0].beam == 2


def test_progress_and_examples(runs):
    told = []
    found = adversarial([runs["lm"]], sentences(20, 3), runs["scorer"], progress=lambda *what: told.append(what))
    name = str(runs["lm"].run.folder)
    assert told[0] == (f"{name}: imputing", 20, 20)
    assert told[1:] == [(f"{name}: classifiers", done, 2) for done in range(3)]
    document = found.document()
    assert len(document["examples"]) == module.EXAMPLES
    for example, text in zip(document["examples"], found.texts, strict=False):
        assert f"{example['known']} {example['true']}" == text and example[name]
    assert "texts" not in document["models"][0]
    lstm = document["models"][0]["lstm"]
    assert lstm["error"] == pytest.approx(lstm["accuracy"] - 0.5) and lstm["texts"] == 4


@pytest.mark.parametrize("name", ["word", "words", "character", "bpe"])
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_known_is_the_beginning(name, turned):
    tokenizer = Tokenizer.train(name, sentences(50, 1), 300 if name == "bpe" else None, 1, right_to_left=turned)
    texts = sentences(20, 5)
    true, known, left_out, given = usable(tokenizer, (f" {text}\n" for text in texts), 1000, 0.3)
    assert (true, left_out, given) == (texts, {}, 20)
    for text, begin in zip(texts, known, strict=True):
        (ids,), (some,) = tokenizer.encode([text]), tokenizer.encode([begin])
        assert text.startswith(begin)
        assert len(some) == len(ids) - -(-3 * len(ids) // 10) or name == "bpe"


def test_what_cannot_be_evaluated(runs, tmp_path):
    vae, lm, scorer = runs["vae"], runs["lm"], runs["scorer"]
    texts = sentences(20, 3)
    copied = load(shutil.copytree(lm.run.folder, tmp_path / "copied"))
    for wrong, message in [
        (lambda: adversarial([], texts, scorer), "no run given"),
        (lambda: adversarial([vae, lm], texts, lm), "lm: is also the language model that measures likelihood"),
        (lambda: adversarial([lm], texts, copied), "lm: is also the language model that measures likelihood"),
        (
            lambda: adversarial([lm], texts, vae),
            "vae: has latent codes, so the exact likelihood of a text is unknown",
        ),
        (lambda: adversarial([vae], texts, scorer, last=1.2), r"last = 1\.2: must be a share between 0 and 1"),
        (lambda: adversarial([vae], texts, scorer, rounds=0), "rounds = 0: must be 1 or more"),
        (
            lambda: adversarial([vae], ["zebra", "the", *texts[:9]], scorer),
            r"9 texts of 11 can be used \(2 too short\); it takes 10 or more",
        ),
    ]:
        with pytest.raises(RequestError, match=message):
            wrong()


def test_models_of_other_words_are_not_compared(runs, tmp_path):
    (tmp_path / "other.txt").write_text("\n".join(sentences(100, 1)).replace("cat", "fox") + "\n")
    data = {name: str(tmp_path / "other.txt") for name in ("train", "valid")}
    learned = {"batch_size": 20, "max_steps": 1}
    settings = load_settings(None, "language-model", ["model.latent=0"], data=data, model=SIZES, train=learned)
    other = load(train(settings, tmp_path / "other").folder)
    with pytest.raises(RequestError, match="other: has another vocabulary than .*vae"):
        adversarial([runs["vae"], other], sentences(20, 3), runs["scorer"])
