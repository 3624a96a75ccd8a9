import random

import numpy as np
import pytest
import torch

from textvae.errors import RequestError
from textvae.metrics import adversarial
from textvae.metrics.adversarial import AdversarialError, Parts, coded, lstm_error, unigram_error
from textvae.tokenizers import EOS, UNK

WORDS = [f"w{number}" for number in range(30)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A reader of a size for tests, that learns fast."""
    for name, value in {"EMBEDDING": 12, "HIDDEN": 12, "DROPOUT": 0.0, "RATE": 0.03, "EPOCHS": 12}.items():
        monkeypatch.setattr(adversarial, name, value)


def texts(pairs, seed=0):
    """Pairs of texts of three to eight words, of which only what stands at the end may differ."""
    chosen = random.Random(seed)
    return [[chosen.choice(WORDS) for _ in range(chosen.randint(3, 8))] for _ in range(pairs)]


def test_accuracy_error_and_standard_error_by_hand():
    found = AdversarialError(accuracy=0.8, texts=400, epochs=3)
    assert found.error == pytest.approx(0.3)
    assert found.standard_error == pytest.approx(0.02)
    assert AdversarialError(1.0, 10, 1).standard_error == 0.0


@pytest.mark.parametrize("pairs", [10, 19, 105])
def test_a_true_text_and_its_completion_are_in_the_same_part(pairs):
    true = texts(pairs)
    found = coded(true, [[*text[:-1], "x"] for text in true], seed=1)
    sizes = {"train": pairs - 2 * (pairs // 10), "valid": pairs // 10, "test": pairs // 10}
    seen = []
    for name, part in zip(Parts._fields, found.parts, strict=True):
        half = sizes[name]
        assert len(part) == 2 * half and part[:half].tolist() == (part[half:] - pairs).tolist()
        assert found.true[part].tolist() == [True] * half + [False] * half
        seen += part.tolist()
    assert sorted(seen) == list(range(2 * pairs))
    again, other = (coded(true, true, seed).parts for seed in (1, 2))
    assert again.test.tolist() == found.parts.test.tolist() and other.test.tolist() != again.test.tolist()


def test_words_are_those_of_the_training_part():
    """Rare ones, and those that only other parts have, are the unknown word."""
    true = [["a", f"only{number}"] for number in range(20)]
    found = coded(true, [["a", "b"]] * 20, seed=0)
    assert found.vocabulary == EOS + 3
    assert found.ids == [[4, UNK]] * 20 + [[4, 5]] * 20


@pytest.mark.parametrize("error", [unigram_error, lstm_error])
def test_texts_that_are_the_same_cannot_be_told_apart(error):
    true = texts(200)
    found = error(true, true)
    assert found.accuracy == 0.5 and found.error == 0.0 and found.texts == 40


@pytest.mark.parametrize("error", [unigram_error, lstm_error])
def test_a_word_that_gives_completions_away_is_found(error):
    true = texts(200)
    found = error(true, [[*text[:-1], "he"] for text in true])
    assert found.accuracy == 1.0 and found.standard_error == 0.0


def test_only_the_lstm_sees_the_order_of_words():
    chosen = random.Random(0)
    true = [[*[chosen.choice(WORDS[:6]) for _ in range(3)], "yes", "no"] for _ in range(600)]
    turned = [[*text[:-2], "no", "yes"] for text in true]
    assert unigram_error(true, turned).accuracy == 0.5
    assert lstm_error(true, turned).accuracy > 0.95


@pytest.mark.parametrize("error", [unigram_error, lstm_error])
def test_the_seed_decides_on_everything(error):
    true = texts(150)
    made = [[*text[:-1], random.Random(number).choice(WORDS[:12])] for number, text in enumerate(true)]
    state = torch.get_rng_state()
    assert error(true, made, seed=3) == error(true, made, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert len({error(true, made, seed=seed).accuracy for seed in range(6)}) > 1


def test_unigrams_reach_what_an_independent_logistic_regression_reaches():
    """Words drawn with other frequencies at the end: the best accuracy that there is follows from them by hand.

    A true ending is "a" with probability 0.8 and else "b", a completed one the other way round: 80 % are right.
    What else is in a text says nothing.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    chosen = random.Random(1)
    begun = texts(4000)
    true = [[*text, "a" if chosen.random() < 0.8 else "b"] for text in begun]
    made = [[*text, "b" if chosen.random() < 0.8 else "a"] for text in begun]
    found = unigram_error(true, made, seed=5)
    assert found.accuracy == pytest.approx(0.8, abs=3 * found.standard_error)
    parts, both = coded(true, made, 5).parts, np.array([" ".join(text) for text in (*true, *made)])
    labels = np.arange(8000) < 4000
    counts = CountVectorizer(token_pattern=r"\S+").fit(both)
    regression = LogisticRegression().fit(counts.transform(both[parts.train]), labels[parts.train])
    other = regression.score(counts.transform(both[parts.test]), labels[parts.test])
    assert found.accuracy == pytest.approx(other, abs=0.01)
    assert lstm_error(true[:1000], made[:1000]).accuracy == pytest.approx(0.8, abs=0.1)


def test_what_cannot_be_evaluated():
    true = texts(9)
    for error in (unigram_error, lstm_error):
        with pytest.raises(RequestError, match="adversarial evaluation: 9 texts; it takes 10 or more"):
            error(true, true)
        with pytest.raises(RequestError, match="adversarial evaluation: 8 completed texts for 9 true ones"):
            error(true, true[:8])
