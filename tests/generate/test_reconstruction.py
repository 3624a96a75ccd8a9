import math

import numpy as np
import pytest
from sacrebleu import BLEU

from textvae.errors import RequestError
from textvae.evaluation.reconstruction import reconstruction_scores, reconstructions
from textvae.generate.trained import Trained, load
from textvae.objective.presets import load_settings
from textvae.text.corpus import open_corpus
from textvae.training.loop import train

SENTENCES = ["a b c d", "d c b a", "c a e", "b b b b", "e e e e e e e e e e e", "b"]
SIZES = {
    "latent": 16,
    "embedding": 16,
    "encoder": {"hidden": 48},
    "decoder": {"hidden": 48, "dropout": 0.0},
    "posterior": {"name": "point"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that has learned its sentences, without a rate; "z" and "y" in test are unknown to it."""
    place = tmp_path_factory.mktemp("reconstruction")
    (place / "train.txt").write_text("\n".join(SENTENCES * 40))
    (place / "valid.txt").write_text("\n".join(SENTENCES))
    (place / "test.txt").write_text("\n".join([*SENTENCES, "z y"]))
    data = {"train": str(place / "train.txt"), "valid": str(place / "valid.txt"), "test": str(place / "test.txt")}
    settings = load_settings(
        data=data,
        model=SIZES,
        objective={"autoencoder": {}},
        train={"epochs": 12, "batch_size": 24, "optimizer": {"lr": 0.02}},
    )
    train(settings, place / "run")
    return place / "run"


def test_scores_by_hand(folder, monkeypatch):
    written = ["a b c d", "d c b", "c a e", "b b b b", "e e e e e e e e e e e", ""]
    monkeypatch.setattr(Trained, "decode", lambda *_, **__: written)
    scores = reconstruction_scores(folder, "valid")
    assert {name: one.value for name, one in scores["1-10"].items()} == {
        # 14 of 16 words, all that is written: brevity; 10 of 10 2-grams; 2 of 2 4-grams.
        "corpus-bleu-2": pytest.approx(math.exp(1 - 16 / 14)),
        "corpus-bleu-4": pytest.approx(math.exp(1 - 16 / 14)),
        "rouge-set-2": pytest.approx((1 + 2 * 2 / (2 + 3) + 1 + 1 + 0) / 5),  # a word alone has no 2-gram
        "rouge-set-4": pytest.approx((1 + 0 + 0 + 1 + 0) / 5),
    }
    assert scores["11-20"]["corpus-bleu-4"].value == pytest.approx(1.0)
    assert scores["all"]["rouge-set-4"].value == pytest.approx(3 / 6)


def split_of(trained, split):
    return open_corpus(trained.run.settings.data).split(split)


def test_some_rows_are_those_of_all(folder):
    trained = load(folder)
    whole, some = (reconstructions(trained, split_of(trained, "valid"), rows) for rows in (None, np.array([3, 1])))
    assert some.references == [whole.references[3], whole.references[1]]
    assert some.texts == [whole.texts[3], whole.texts[1]]


def test_codes_are_posterior_means_and_decoding_is_greedy(folder):
    trained = load(folder)
    found = reconstructions(trained, split_of(trained, "valid"))
    assert found.references == SENTENCES
    assert found.texts == trained.reconstruct(SENTENCES) and len(set(found.texts)) >= 4


def test_unknown_words_stand_in_the_references_as_unknown_words(folder):
    trained = load(folder)
    assert reconstructions(trained, split_of(trained, "test")).references[-1] == "<unk> <unk>"


def test_buckets_by_the_length_of_the_sentence(folder):
    scores = reconstruction_scores(folder, "test")
    assert {bucket: row["corpus-bleu-2"].sentences for bucket, row in scores.items()} == {
        "1-10": 6,
        "11-20": 1,
        "21-30": 0,
        "all": 7,
    }
    trained = load(folder)
    found = reconstructions(trained, split_of(trained, "test"))
    short = [i for i, text in enumerate(found.references) if len(text.split()) <= 10]
    bleu = BLEU(tokenize="none", smooth_method="none", max_ngram_order=2, force=True)
    texts, references = ([side[i] for i in short] for side in (found.texts, found.references))
    expected = bleu.corpus_score(texts, [references]).score / 100
    assert scores["1-10"]["corpus-bleu-2"].value == pytest.approx(expected, abs=1e-12)
    assert 0.2 < expected < 1


def test_a_model_of_windows_is_refused(folder, tmp_path):
    data = {"train": str(folder.parent / "train.txt"), "valid": str(folder.parent / "test.txt"), "window": 4}
    small = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
    train(load_settings(data=data, model=small, objective={"kl": {}}, train={"max_steps": 1}), tmp_path / "run")
    with pytest.raises(RequestError, match="is a model of pieces of running text, not of sentences$"):
        reconstruction_scores(tmp_path / "run", "valid")
