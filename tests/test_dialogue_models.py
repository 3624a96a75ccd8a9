"""Models conditioned on dialogues and source texts: trained, evaluated, resumed; with a code and without (HRED)."""

import random

import numpy as np
import pytest
import torch

import textvae
from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.suite import evaluate_all
from textvae.generate.trained import load
from textvae.objective.presets import load_settings
from textvae.training.loop import resume, train

SMALL = {
    "embedding": 6,
    "encoder": {"name": "gru", "hidden": 5, "bidirectional": True},
    "decoder": {"name": "gru", "hidden": 12, "dropout": 0.0},
}
PRIOR = {"name": "conditional-gaussian", "hidden": 4}
MODELS = {
    "cvae": {"latent": 2, "prior": PRIOR},
    "semi-implicit": {
        "latent": 2,
        "prior": PRIOR,
        "posterior": {"name": "semi-implicit", "samples": 2, "components": 3, "hidden": 6, "noise": 3},
    },
    "hred": {"latent": 0},
}


def dialogues(folder):
    """Every answer repeats the word before it."""
    choose = random.Random(0)
    for split, count in (("train", 40), ("valid", 8), ("test", 8)):
        lines = ["dialogue\tturn\tspeaker\ttext"]
        for number in range(count):
            word = choose.choice("abcdef")
            lines += [
                f"{number}\t0\tA\tsay {word}",
                f"{number}\t1\tB\tyes {word}",
                f"{number}\t2\tA\tyes {word} too",
            ]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return {split: str(folder / f"{split}.tsv") for split in ("train", "valid", "test")}


def sources(folder):
    choose = random.Random(0)
    for split, count in (("train", 60), ("valid", 12), ("test", 12)):
        rows = [" ".join(choose.choices("abcd", k=2)) for _ in range(count)]
        lines = ["text\tfrom", *(f"{row} !\t{row}" for row in rows)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return {split: str(folder / f"{split}.tsv") for split in ("train", "valid", "test")}


def settings_of(kind, model, folder, **train_table):
    if kind == "dialogue":
        data = {**dialogues(folder), "column": "text", "dialogue": {}, "max_length": 8}
        conditioner = {"name": "dialogue", "hidden": 8, "shared": model != "hred"}
    else:
        data = {**sources(folder), "column": "text", "source": "from", "max_length": 8}
        conditioner = {"name": "text"}
    table = {"batch_size": 10, "epochs": 2, "precision": "fp32", "optimizer": {"name": "adam", "lr": 0.02}}
    tables = {**SMALL, **MODELS[model], "conditioner": conditioner}
    return load_settings(data=data, model=tables, train={**table, **train_table})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["dialogue", "text"])
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_trained_and_evaluated(kind, model, tmp_path, cache_of_its_own):
    run = train(settings_of(kind, model, tmp_path), tmp_path / "run")
    found = evaluate(run.folder, "test", iw_samples=4, iw_sentences=4)
    assert np.isfinite(found["nll_iw"])
    assert (found["kl"] is None) == (model == "hred")
    if model != "hred":
        assert found["bound"] == pytest.approx(found["reconstruction"] + found["kl"])
        assert textvae.diagnose(run).sentences
    everything = evaluate_all(run.folder, "test", iw_samples=4, iw_sentences=4, samples=6, times=1)
    assert everything["generated"]
    with pytest.raises(RequestError, match="conditional, and none is given"):
        load(run.folder).sample(2)


def test_a_response_follows_its_context(tmp_path, cache_of_its_own):
    """The word of the context is in the answer, by a model without a code."""
    settings = settings_of("dialogue", "hred", tmp_path, epochs=150)
    model = load(train(settings, tmp_path / "run"))
    store = model.corpus.split("test")
    rows = np.arange(len(store))
    written = model.sample(len(store), condition=store.condition(rows))
    pairs = zip(written, model.corpus.texts("test"), strict=True)
    right = sum(text.split()[1:2] == own.split()[1:2] for text, own in pairs)
    assert right >= 0.8 * len(store)


def test_a_dialogue_run_resumes_exactly(tmp_path, cache_of_its_own):
    settings = settings_of("dialogue", "cvae", tmp_path)

    def stop(step, total, record):
        if step == 5:
            raise KeyboardInterrupt

    train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", stop)
    resume(tmp_path / "parts", None)
    one, other = (load(tmp_path / name).model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "tables, message",
    [
        ({"data": {"dialogue": {}}}, "data.dialogue.*is a condition that the model does not read"),
        ({"model": {"conditioner": {"name": "dialogue"}}}, "data.dialogue names, and it names none"),
        ({"model": {"conditioner": {"name": "text"}}}, "data.source names, and it names none"),
    ],
)
def test_settings_that_do_not_fit_together(tables, message):
    with pytest.raises(RequestError, match=message):
        load_settings(**tables)
