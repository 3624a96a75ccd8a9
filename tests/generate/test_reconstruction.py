import pytest
from sacrebleu import BLEU

from textvae.errors import RequestError
from textvae.generate.reconstruction import reconstruction_scores, reconstructions
from textvae.generate.trained import load
from textvae.objective import load_settings
from textvae.training import train

SENTENCES = ["a b c d e", "e d c b a", "c a e", "b d b d", "a a b b c c d d e e a b", "b"]
SIZES = {
    "latent": 16,
    "embedding": 16,
    "encoder": {"hidden": 48},
    "decoder": {"hidden": 48, "dropout": 0.0},
    "posterior": {"name": "point"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that has learned its sentences by heart, without a rate; "z" and "y" in test are unknown to it."""
    place = tmp_path_factory.mktemp("reconstruction")
    (place / "train.txt").write_text("\n".join(SENTENCES * 40))
    (place / "valid.txt").write_text("\n".join(SENTENCES))
    (place / "test.txt").write_text("\n".join([*SENTENCES, "z y"]))
    data = {"train": str(place / "train.txt"), "valid": str(place / "valid.txt"), "test": str(place / "test.txt")}
    settings = load_settings(
        data=data,
        model=SIZES,
        objective={"autoencoder": {}},
        train={"epochs": 15, "batch_size": 24, "optimizer": {"lr": 0.01}},
    )
    train(settings, place / "run")
    return place / "run"


def test_a_model_that_knows_its_sentences_by_heart(folder):
    found = reconstructions(load(folder), "valid")
    assert found.references == SENTENCES
    assert found.texts == found.references
    scores = reconstruction_scores(folder, "valid")
    assert {name: one.value for name, one in scores["all"].items()} == {
        "corpus-bleu-2": pytest.approx(1.0),
        "corpus-bleu-4": pytest.approx(1.0),
        "rouge-set-2": pytest.approx(5 / 6),  # one sentence of six has no 2-gram
        "rouge-set-4": pytest.approx(4 / 6),
    }


def test_codes_are_posterior_means_and_decoding_is_greedy(folder):
    trained = load(folder)
    assert reconstructions(trained, "test").texts[:6] == trained.reconstruct(SENTENCES)


def test_unknown_words_stand_in_the_references_as_unknown_words(folder):
    assert reconstructions(load(folder), "test").references[-1] == "<unk> <unk>"


def test_buckets_by_the_length_of_the_sentence(folder):
    scores = reconstruction_scores(folder, "test")
    assert {bucket: row["corpus-bleu-2"].sentences for bucket, row in scores.items()} == {
        "1-10": 6,
        "11-20": 1,
        "21-30": 0,
        "all": 7,
    }
    found = reconstructions(load(folder), "test")
    short = [i for i, text in enumerate(found.references) if len(text.split()) <= 10]
    bleu = BLEU(tokenize="none", smooth_method="none", max_ngram_order=2, force=True)
    texts, references = ([side[i] for i in short] for side in (found.texts, found.references))
    expected = bleu.corpus_score(texts, [references]).score / 100
    assert scores["1-10"]["corpus-bleu-2"].value == pytest.approx(expected, abs=1e-12)
    assert 0.5 < expected < 1


def test_a_model_of_windows_is_refused(folder, tmp_path):
    data = {"train": str(folder.parent / "train.txt"), "valid": str(folder.parent / "test.txt"), "window": 4}
    small = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
    train(load_settings(data=data, model=small, objective={"kl": {}}, train={"max_steps": 1}), tmp_path / "run")
    with pytest.raises(RequestError, match="is a model of pieces of running text, not of sentences$"):
        reconstructions(load(tmp_path / "run"), "valid")
