import json
import random
import shutil
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch
from nltk.translate.bleu_score import sentence_bleu as nltk_bleu

from textvae.errors import RequestError
from textvae.evaluation import forward
from textvae.evaluation import synthetic as making
from textvae.evaluation.forward import Draw, Row, Text, forward_cross_entropy
from textvae.evaluation.synthetic import Files, Plan
from textvae.files import file_digest
from textvae.generate.decoding import Decoding
from textvae.generate.trained import load
from textvae.objective.presets import load_settings
from textvae.parts.priors import FittedMixture
from textvae.run import Run, model_of
from textvae.run.fitted import write_fitted
from textvae.text.batches import Batch
from textvae.text.corpus import open_corpus
from textvae.text.tokenizers import UNK
from textvae.training.loop import train

SMALL = {"latent": 3, "embedding": 6, "encoder": {"hidden": 8}, "decoder": {"hidden": 8, "word_keep": 0.5}}
PLAN = Plan(Decoding("sample"), n=60, draws=2, epochs=2, batch_size=16)


def text(seed, sentences):
    """Sentences of common and rare words."""
    chosen = random.Random(seed)
    words = ["the", "food", "was", "good", "bad", "so", "very", *(f"rare{number}" for number in range(30))]
    weights = [20] * 7 + [1] * 30
    return [" ".join(chosen.choices(words, weights, k=chosen.randint(2, 6))) for _ in range(sentences)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    parts = {"train": text(0, 80), "valid": text(1, 20), "test": [*text(2, 20), "the zebra was good"]}
    for name, lines in parts.items():
        (place / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return {name: str(place / f"{name}.txt") for name in parts}


def made(folder, data, seed=0, **model):
    trained = {"max_steps": 15, "batch_size": 16, "seed": seed, "optimizer": {"lr": 0.02}}
    settings = load_settings(data=data, model={**SMALL, **model}, train=trained)
    return train(settings, folder).folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("runs")
    return [made(place / f"vae{seed}", data, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def found(runs, out):
    return forward_cross_entropy(runs, out, PLAN)


def models(out):
    """The language models in a folder."""
    return [Run.open(folder) for folder in sorted((out / "models").iterdir())]


def synthetic(runs, plan=PLAN):
    """What is trained on, run by run and draw by draw."""
    held = -(-plan.n // 20)
    return [[load(run).sample(plan.n + held, seed, plan.decoding)[: plan.n] for seed in plan.seeds] for run in runs]


def test_the_vocabulary_is_that_of_all_synthetic_corpora(runs, out, found):
    each = [set(" ".join(texts).split()) for draws in synthetic(runs) for texts in draws]
    common = set.intersection(*each) - {"<unk>"}
    assert found.vocabulary == len(common) < len(set.union(*each))
    for model in models(out):
        assert set(model.tokenizer.tokens[4:]) == common
    assert f"vocabulary:common-{len(common) + 4}" in found.signature


def test_language_models_see_the_synthetic_text_and_the_human_text_with_other_words_unknown(runs, out, found):
    written = [texts for draws in synthetic(runs) for texts in draws]
    seen = []
    for model in models(out):
        corpus = open_corpus(model.settings.data)
        known = set(model.tokenizer.tokens[4:])

        def mapped(texts, known=known):
            return [" ".join(word if word in known else "<unk>" for word in one.split()) for one in texts if one]

        def shown(split, corpus=corpus):
            store = corpus.split(split)
            return corpus.tokenizer.decode_batch([store[row].tolist() for row in range(len(store))])

        assert shown("test")[-1].split()[1] == "<unk>"  # the zebra
        assert shown("test") == mapped([*text(2, 20), "the zebra was good"])
        seen += [number for number, texts in enumerate(written) if shown("train") == mapped(texts)]
    assert sorted(seen) == [0, 1, 2, 3]  # and two of human text


def test_texts_are_sampled_in_pieces(runs, tmp_path, monkeypatch):
    whole = making.synthetic_files(Run.open(runs[0]), PLAN, 0, tmp_path / "whole")
    monkeypatch.setattr(making, "SAMPLED", 7)
    pieces = making.synthetic_files(Run.open(runs[0]), PLAN, 0, tmp_path / "pieces")
    assert [one.read_bytes() for one in pieces] == [one.read_bytes() for one in whole]
    assert [len(one.read_text().splitlines()) for one in pieces] == [PLAN.n, PLAN.n // making.HELD_OUT]


def test_texts_under_a_fitted_prior_are_not_those_under_the_runs_own(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    prior = FittedMixture(SMALL["latent"], 1)
    prior.means += 30.0
    weights = file_digest(folder / "model.safetensors")
    write_fitted(
        folder,
        dict(prior.named_buffers()),
        {"kind": "mixture", "components": 1, "covariance": "full", "weights": weights},
    )
    written = {}
    for name in ("own", "fitted"):
        files = making.synthetic_files(Run.open(folder).under(name), PLAN, 0, tmp_path / "out")
        written[name] = files.train.read_text().splitlines()
        assert written[name] == load(folder, name).sample(PLAN.n, 0, PLAN.decoding)
    assert written["own"] != written["fitted"]


def test_scores_are_those_of_one_sentence_at_a_time(out, found):
    expected = []
    for run in models(out):
        model, store = model_of(run), open_corpus(run.settings.data).split("test")
        total = 0.0
        for row in range(len(store)):
            ids = torch.tensor([store[row].tolist()])
            batch = Batch(ids, torch.tensor([ids.shape[1]]), torch.tensor([row]))
            with torch.no_grad():
                total -= model.log_px(batch, None).double().sum().item()
        expected.append((total / len(store), total / int(store.lengths.sum())))
    draws = [draw for row in (*found.rows, found.human) for draw in row.draws]
    assert sorted(draw[:2] for draw in draws) == [pytest.approx(pair, abs=1e-4) for pair in sorted(expected)]


@pytest.mark.filterwarnings("ignore:\\s*The hypothesis contains 0 counts")
def test_means_deviations_and_statistics(runs, found):
    row = found.rows[0]
    assert row.run == str(runs[0]) and len(row.draws) == 2
    nats = [draw.nats_per_sentence for draw in row.draws]
    document = found.document()
    assert document["runs"][0]["nats_per_sentence"] == fmean(nats)
    assert document["runs"][0]["nats_per_sentence_standard_deviation"] == stdev(nats) > 0
    sentences = [one.split() for one in synthetic(runs)[0][0] if one]
    assert row.draws[0].text.sentences == len(sentences)
    assert row.draws[0].text.length == pytest.approx(fmean(map(len, sentences)))
    human = [*text(2, 20), "the zebra was good"]
    words = [word for one in human for word in one.split()]
    known = set.intersection(*(set(" ".join(texts).split()) for draws in synthetic(runs) for texts in draws))
    assert found.test.unknown == pytest.approx(sum(word not in known for word in words) / len(words))
    assert found.test.words == len(known.intersection(words)) and found.test.sentences == 21
    seen = [[word if word in known else "<unk>" for word in one] for one in sentences]
    expected = sum(nltk_bleu(seen[:i] + seen[i + 1 :], one) for i, one in enumerate(seen)) / len(seen)
    assert row.draws[0].text.self_bleu_4 == pytest.approx(expected, abs=1e-9) and 0 < expected < 1
    assert document["human"]["run"] is None and document["human"]["sentences"] == 60


def test_language_models_are_the_runs_decoders_without_codes_and_without_dropped_words(out, found):
    (settings,) = {model.settings.model.model_dump_json() for model in models(out)}
    model = models(out)[0].settings.model
    assert (model.latent, model.embedding, model.decoder.hidden, model.word_keep) == (0, 6, 8, 1.0)


def test_what_is_done_is_not_done_again(runs, out, found, monkeypatch):
    for module, name in ((forward, "train"), (forward, "resume"), (forward, "model_of"), (making, "model_of")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("done again"))
    assert forward_cross_entropy(runs, out, PLAN) == found


def test_an_interrupted_call_is_gone_on_with(runs, out, found, tmp_path):
    calls = []

    def interrupt(name, step, total):
        calls.append(name)
        if len(calls) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forward_cross_entropy(runs, tmp_path, PLAN, interrupt)
    assert calls[0] == f"{runs[0]}, draw 1" and calls[-1] == f"{runs[0]}, draw 2"
    assert forward_cross_entropy(runs, tmp_path, PLAN) == found


def test_with_the_run_s_vocabulary_language_models_see_the_run_s_ids(runs, tmp_path):
    plan = replace(PLAN, vocabulary="run", draws=1)
    found = forward_cross_entropy(runs[:1], tmp_path, plan)
    run = Run.open(runs[0])
    assert found.vocabulary == len(run.tokenizer) - 4
    ours = open_corpus(run.settings.data).split("test")
    for model in models(tmp_path):
        assert model.tokenizer.tokens == run.tokenizer.tokens
        theirs = open_corpus(model.settings.data).split("test")
        assert theirs.ids.tolist() == ours.ids.tolist() and UNK in ours.ids
    assert found.rows[0].deviation("nats_per_sentence") is None
    document = found.rows[0].document()
    assert document["nats_per_sentence_standard_deviation"] is None
    assert document["reasons"]["nats_per_sentence_standard_deviation"] == "of one draw there is none"
    assert "nats_per_sentence" not in document["reasons"]


def test_what_is_null_has_its_reason():
    text = Text(sentences=1, unknown=0.0, words=3, length=3.0, self_bleu_4=None, reason="one sentence alone")
    assert text.document()["reasons"] == {"self_bleu_4": "one sentence alone"} and "reason" not in text.document()
    row = Row("vae", [Draw(9.0, 3.0, text), Draw(8.0, 2.0, text._replace(self_bleu_4=0.5, reason=None))])
    document = row.document()
    nulls = {name for name, value in document.items() if value is None}
    assert nulls == set(document["reasons"]) == {"self_bleu_4", "self_bleu_4_standard_deviation"}
    assert set(document["reasons"].values()) == {"one sentence alone"}


def test_human_text_teaches_more_about_human_text_than_noise_does(runs, data, out, found, tmp_path):
    plan = replace(PLAN, vocabulary="run", draws=1, epochs=20, decoding=Decoding("sample", temperature=50.0))
    noisy = forward_cross_entropy(runs[:1], tmp_path, plan)
    assert noisy.human.mean("nats_per_sentence") < noisy.rows[0].mean("nats_per_sentence") - 1


@pytest.mark.parametrize("kind", ["words", "character", "bpe"])
def test_other_tokens_than_words_between_white_space(tmp_path, kind):
    data = {"tokenizer": {"name": kind, "vocabulary": 300}}
    for number, name in enumerate(("train", "valid", "test")):
        lines = [f"it's {one}, isn't it?" for one in text(number, 40)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
        data[name] = str(tmp_path / f"{name}.txt")
    run = made(tmp_path / "run", data)
    plan = replace(PLAN, draws=1, epochs=1, vocabulary="run" if kind == "bpe" else "common")
    found = forward_cross_entropy([run], tmp_path / "out", plan)
    own = Run.open(run).tokenizer
    written = [text for draws in synthetic([run], plan) for text in draws[0]]
    for model in models(tmp_path / "out"):
        assert model.tokenizer.name == kind
        if kind == "bpe":
            assert model.tokenizer.tokens == own.tokens
        else:
            pieces = {piece for text in written for piece in own.pieces(text)} - {"<unk>"}
            assert set(model.tokenizer.tokens[4:]) == pieces and found.vocabulary == len(pieces)
    test = (tmp_path / "test.txt").read_text().splitlines()
    if kind == "words":  # it 's ..., is n't it ?
        assert found.test.length == pytest.approx(sum(len(line.split()) + 4 for line in test) / len(test))
    if kind == "character":
        assert found.test.length == pytest.approx(sum(len(line.replace(" ", "")) for line in test) / len(test))
    assert found.test.sentences == 40


def test_the_top_of_a_hybrid_decoder_is_its_language_model(runs, data):
    document = {"data": data, "model": {**SMALL, "decoder": {"name": "hybrid", "top": {"hidden": 7}}}}
    files = Files(*(forward.Path(data[name]) for name in ("train", "valid")))
    run = Run.open(runs[0])
    run.settings = load_settings(**document)
    found = forward._settings(run, files, forward.Path(data["test"]), runs[0] / "tokenizer.json", PLAN, 3)
    assert (found.model.decoder.name, found.model.decoder.hidden, found.model.latent) == ("lstm", 7, 0)
    assert found.train.seed == 3


def test_what_cannot_be_measured_is_refused(runs, data, tmp_path):
    other = made(tmp_path / "other", {**data, "test": data["valid"]})
    with pytest.raises(RequestError, match="was trained on other text or words than .*; give runs"):
        forward_cross_entropy([runs[0], other], tmp_path / "out", PLAN)
    pairs = made(tmp_path / "pairs", {**data, "tokenizer": {"name": "bpe", "vocabulary": 260}})
    with pytest.raises(RequestError, match="pairs: has a tokenizer of byte pairs.*--vocabulary run"):
        forward_cross_entropy([pairs], tmp_path / "out", PLAN)
    windows = made(tmp_path / "windows", {**data, "window": 5})
    with pytest.raises(RequestError, match="is a model of pieces of running text, not of sentences"):
        forward_cross_entropy([windows], tmp_path / "out", PLAN)
    with pytest.raises(RequestError, match="runs: 0 given"):
        forward_cross_entropy([], tmp_path / "out", PLAN)
    untested = made(tmp_path / "untested", {name: data[name] for name in ("train", "valid")})
    with pytest.raises(RequestError, match="--split test: train.txt has only train, valid"):
        forward_cross_entropy([untested], tmp_path / "out", PLAN)


def test_a_run_that_writes_nothing_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("textvae.generate.trained.Trained.sample", lambda self, n, seed, decoding, begin: [""] * n)
    with pytest.raises(RequestError, match="writes only empty sentences by sample,allow_unknown=False decoding"):
        forward_cross_entropy(runs[:1], tmp_path, PLAN)


def test_few_sentences_of_which_those_that_are_held_out_are_empty_are_told(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "textvae.generate.trained.Trained.sample",
        lambda self, n, seed, decoding, begin: ["the food"] * (n - 1) + [""],
    )
    with pytest.raises(RequestError, match=r"with n = 3, 1 further sentences .* empty; draw more, 30 for example"):
        forward_cross_entropy(runs[:1], tmp_path, replace(PLAN, n=3))


def test_nothing_that_is_written_longer_than_the_runs_texts_is_dropped(runs, tmp_path, monkeypatch):
    long = " ".join(["the food was good"] * 30)
    monkeypatch.setattr(
        "textvae.generate.trained.Trained.sample", lambda self, n, seed, decoding, begin: [long] * n
    )
    plan = replace(PLAN, n=3, draws=1, decoding=Decoding("sample", max_length=150))
    found = forward_cross_entropy(runs[:1], tmp_path, plan)
    assert found.rows[0].draws[0].text.sentences == 3 and found.rows[0].draws[0].text.length == 120


def test_runs_without_a_common_word_are_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "textvae.generate.trained.Trained.sample", lambda self, n, seed, decoding, begin: [f"w{seed} <unk>"] * n
    )
    with pytest.raises(RequestError, match="no word is in every synthetic corpus"):
        forward_cross_entropy(runs[:1], tmp_path, PLAN)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n = 0: must be 1 or more"),
        ({"draws": 0}, "draws = 0: must be 1 or more"),
        ({"vocabulary": "all"}, "vocabulary: 'all' is neither 'common' nor 'run'"),
    ],
)
def test_bad_plans_are_refused(wrong, message):
    with pytest.raises(RequestError, match=message):
        Plan(**wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nats_per_sentence": "x"}, "nats_per_sentence: should be a valid number"),
        ({"text": 3}, "text: should be a tuple"),
        ({"text": {"sentences": []}}, r"text\.sentences: should be a valid integer"),
    ],
)
def test_a_damaged_result_of_an_earlier_draw_is_refused(tmp_path, changed, message):
    draw = forward.Draw(1.5, 0.1, forward.Text(3, 0.0, 5, 4.0, None, "few"))
    whole = {**draw._asdict(), "text": draw.text._asdict()}
    path = tmp_path / "forward.json"
    path.write_text(json.dumps(whole))
    assert forward._read(path) == draw
    path.write_text(json.dumps(whole | changed))
    with pytest.raises(RequestError, match=rf"forward\.json: damaged: {message}.*delete it"):
        forward._read(path)
