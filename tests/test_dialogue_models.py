"""Models conditioned on dialogues and source texts: trained, evaluated, resumed; with a code and without (HRED)."""

import random

import numpy as np
import pytest
import torch

import textvae
from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.opened import open_run
from textvae.evaluation.responses import responses, scores_of_responses
from textvae.evaluation.suite import evaluate_all
from textvae.generate import conditions
from textvae.generate.trained import load
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.parts.conditioners.dialogue import DialogueConditioner
from textvae.parts.noise import sentence_noise
from textvae.text.batches import collate
from textvae.text.corpus import open_corpus
from textvae.training.loop import resume, train

from .cli.conftest import call

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


def test_a_response_follows_its_context(talker):
    """The word of the context is in the answer, by a model without a code."""
    model = load(talker)
    store = model.corpus.split("test")
    written = model.sample(len(store), condition=store.condition(np.arange(len(store))))
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


@pytest.fixture(scope="module")
def talker(tmp_path_factory, cache_of_its_own):
    folder = tmp_path_factory.mktemp("talker")
    return train(settings_of("dialogue", "hred", folder, epochs=150), folder / "run").folder


def test_responses_are_scored_against_the_true_ones(talker, tmp_path):
    trained = open_run(talker)
    found = responses(trained, "test", contexts=5, number=4)
    assert len(found.references) == 5 and {len(own) for own in found.responses} == {4}
    assert found.contexts[0][0].startswith("say ") and found.decoding.name == "sample"
    assert found == responses(trained, "test", contexts=5, number=4)
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("yes 1 0\ntoo 0 1\n")
    told = scores_of_responses(trained, found, "test", vectors=vectors)
    assert 0 < told["response_bleu_precision"] <= told["response_bleu_recall"]
    assert told["response_embedding_average"] > 0.5 and not told["reasons"]
    assert "|contexts:5|" in told["signature"] and "nltk-3.4" in told["signature"]
    without = scores_of_responses(trained, found, "test")
    assert (
        without["response_embedding_average"] is None
        and "--vectors" in without["reasons"]["response_embedding_average"]
    )


def test_a_context_takes_turns_and_keeps_its_last_utterances(talker):
    model = load(talker)
    context = model.context(["say a", "yes a", "yes a too"])
    assert context.speakers.tolist() == [[0, 1, 0]] and context.counts.tolist() == [3]
    assert model.context(["yes a"] * 12).counts.tolist() == [9]  # a window of ten, the response among them
    assert model.context("say a", [1]).speakers.tolist() == [[1]]
    whole, one = model.respond(["say a"], 3, decoding="greedy"), model.respond("say a", 1, decoding="greedy")
    assert len(whole) == 3 and whole[:1] == one
    assert model.respond("say a", 3) == model.sample(3, 0, "sample", condition=model.context("say a"))
    for given, speakers, message in (
        ([], None, "utterances: is empty"),
        (["say a"], [0, 1], "2 flags for 1 utterances"),
    ):
        with pytest.raises(RequestError, match=message):
            model.context(given, speakers)


def test_a_conversation_goes_on_with_a_response(talker, tmp_path):
    saved = tmp_path / "saved.txt"
    lines = [
        "say a",
        "/2",
        "/again",
        "yes a too",
        "/save",
        f"/save {saved}",
        "/9",
        "/what",
        "/new",
        "/again",
        "/quit",
        "no",
    ]
    done = call("chat", talker, "-n", "2", "--decode", "sample", input="\n".join(lines) + "\n")
    assert done.exit_code == 0
    written = done.stdout.splitlines()
    assert len(written) == 6 and [line[:3] for line in written] == ["1  ", "2  "] * 3
    turns = saved.read_text().splitlines()
    assert turns[0] == "say a" and turns[2] == "yes a too" and len(turns) == 4
    assert turns[1] in (written[2][3:], written[3][3:])  # of /again
    for message in ("name a file", "there are 2 responses", "/what is no key", "no turn yet", "written: "):
        assert message in done.stderr


def test_only_a_model_of_texts_has_a_conversation(tmp_path, cache_of_its_own):
    settings = load_settings(
        data={**sources(tmp_path), "column": "text", "max_length": 8},
        model={**SMALL, "latent": 2},
        train={"epochs": 1},
    )
    run = train(settings, tmp_path / "run").folder
    done = call("chat", run, input="a\n")
    assert done.exit_code == 2 and "is conditioned on no dialogue or source text" in done.stderr
    with pytest.raises(RequestError, match="answers no contexts"):
        evaluate_all(run, iw_samples=2, iw_sentences=2, samples=4, times=1, vectors="v.txt")


@pytest.mark.parametrize("model", ["cvae", "hred"])
def test_contexts_are_read_once_in_a_pass(model, tmp_path, cache_of_its_own, monkeypatch):
    """So that prior, posterior and decoder see one vector, with one dropout, and at one cost."""
    settings = settings_of("dialogue", model, tmp_path)
    corpus = open_corpus(settings.data)
    built = build(settings.model, len(corpus.tokenizer))
    read, inner = [], DialogueConditioner.forward
    monkeypatch.setattr(
        DialogueConditioner, "forward", lambda self, given: read.append(given) or inner(self, given)
    )
    batch = collate(corpus.split("train"), np.arange(4))
    built(batch, sentence_noise(0, batch.index))
    assert len(read) == 1


def test_contexts_of_many_rows_are_read_some_at_a_time(talker, monkeypatch):
    model = load(talker)
    store = model.corpus.split("test")
    condition = store.condition(np.arange(len(store)))
    whole = model.sample(len(store), condition=condition)
    monkeypatch.setattr(conditions, "READ", 3)
    assert model.sample(len(store), condition=condition) == whole


def test_scores_say_that_they_are_given_the_turns(talker):
    assert "|given:turns|" in evaluate(talker, iw_samples=2, iw_sentences=2)["signature"]


def test_a_diagnosis_says_whose_information_it_is(tmp_path, cache_of_its_own):
    run = train(settings_of("dialogue", "cvae", tmp_path), tmp_path / "run")
    assert any("I(x; z) " in sentence for sentence in textvae.diagnose(run).sentences)  # contexts are pooled
