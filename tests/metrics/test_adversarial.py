import copy
import math
import random

import numpy as np
import pytest
import torch

from textvae.errors import RequestError
from textvae.metrics import adversarial
from textvae.metrics.adversarial import Parts, Texts, coded, lstm_error, unigram_error
from textvae.metrics.ngrams import Text
from textvae.text.tokenizers import EOS, UNK

NONE = Text.of([])
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
    """Pairs of which one text, both, and one are right: sums of deviations from 2/3 are -1/3, 2/3 and -1/3."""
    true = [["a", str(number)] for number in range(3)]
    texts = Texts(
        words=NONE,
        true=np.arange(6) < 3,
        parts=Parts(np.arange(0), np.arange(0), np.arange(6)),
        groups=np.array([0, 1, 2, 0, 1, 2]),
    )
    found = texts.error(np.array([True, True, False, False, True, True]), epochs=3)
    assert (found.accuracy, found.texts, found.epochs) == (pytest.approx(4 / 6), 6, 3)
    assert found.error == pytest.approx(1 / 6)
    assert found.standard_error == pytest.approx(math.sqrt(3 / 2 * (1 + 4 + 1) / 9) / 6)
    assert found.document()["reasons"] == {}
    alone = texts._replace(groups=np.zeros(6, dtype=int)).error(np.array([True] * 6), 1)
    assert alone.standard_error is None and "texts in common" in alone.document()["reasons"]["standard_error"]
    assert len(true) == 3


def test_the_standard_error_is_that_of_pairs_not_of_texts():
    """A completion is always "a", a true ending "a" or "b", each half the time: "b" gives a true text away.

    So the best classifier takes "a" for completed and is right about both texts of a pair or about one: 3/4, with a
    deviation of 1/4 between pairs. Binomially it would be sqrt(3/16), of twice as many texts: 22 % more.
    """
    chosen, begun = random.Random(1), texts(400)
    true = [[*text, chosen.choice("ab")] for text in begun]
    found = unigram_error(true, [[*text, "a"] for text in begun])
    assert found.accuracy == pytest.approx(0.75, abs=3 / 4 / math.sqrt(40))
    assert found.standard_error == pytest.approx(1 / 4 / math.sqrt(40), rel=0.1)

    def simulated(pairs, draw):
        """The same classifier on other pairs."""
        both = np.random.default_rng(draw).random(pairs) < 0.5
        parts = Parts(np.arange(0), np.arange(0), np.arange(2 * pairs))
        sample = Texts(NONE, np.arange(2 * pairs) < pairs, parts, np.tile(np.arange(pairs), 2))
        return sample.error(np.concatenate([both, np.ones(pairs, dtype=bool)]), 1)

    errors = [simulated(50, draw) for draw in range(800)]
    spread = np.std([one.accuracy for one in errors], ddof=1)
    assert spread == pytest.approx(1 / 4 / math.sqrt(50), rel=0.08)
    assert np.mean([one.standard_error for one in errors]) == pytest.approx(spread, rel=0.08)


def test_copies_of_a_pair_are_all_learned_from_or_all_tested():
    """Endings that say nothing, each pair eight times, its words in another order: told apart by chance."""
    chosen = random.Random(0)
    begun = [[f"w{chosen.randrange(200)}" for _ in range(6)] for _ in range(60)]
    pairs = [([*text, chosen.choice("ab")], [*text, chosen.choice("ab")]) for text in begun for _ in range(8)]
    for true, made in pairs:
        chosen.shuffle(true)
        chosen.shuffle(made)
    found = coded(*zip(*pairs, strict=True), seed=0)
    sides = [{group for group in found.groups[part].tolist()} for part in found.parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert [len(part) // 2 for part in found.parts] == [384, 48, 48]
    one = unigram_error(*zip(*pairs, strict=True), seed=0)
    assert one.accuracy == pytest.approx(0.5, abs=3 * one.standard_error + 0.1)


def test_pairs_with_a_text_in_common_are_siblings():
    """By a truth, by a completion, by one's truth and another's completion, and over a third pair."""
    true = [["a", "x"], ["a", "x"], ["b", "x"], ["c", "y"], ["d", "y"], ["e", "y"], ["f", "y"], ["g", "z"]]
    made = [["a", "y"], ["a", "z"], ["z", "b"], ["z", "b"], ["e", "y"], ["e", "z"], ["f", "z"], ["g", "x"]]
    found = coded(true * 2, made * 2, seed=1)
    assert found.groups[:8].tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    assert found.groups[:16].tolist() == found.groups[16:].tolist() == found.groups[:8].tolist() * 2


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
    true = [["a", f"only{number}", f"w{number // 4}"] for number in range(40)]
    found = coded(true, [["a", "b", f"w{number // 4}"] for number in range(40)], seed=0)
    learned = {number // 4 for number in found.parts.train.tolist() if number < 40}
    known = {word: place for place, word in enumerate(sorted(["a", "b", *(f"w{one}" for one in learned)]), EOS + 1)}
    assert len(found.words.vocabulary) == EOS + 1 + len(known) and len(learned) < 10
    for number, ids in enumerate(found.words.words.reshape(-1, 3).tolist()):
        assert ids == [known["a"], UNK if number < 40 else known["b"], known.get(f"w{number % 40 // 4}", UNK)]


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


def test_every_epoch_of_the_regression_has_its_own_order(monkeypatch):
    from sklearn import linear_model
    from sklearn.utils import check_random_state

    orders = []

    class Recorder(linear_model.SGDClassifier):
        def partial_fit(self, *given, **options):
            orders.append(int(check_random_state(copy.deepcopy(self.random_state)).randint(2**31 - 1)))
            return super().partial_fit(*given, **options)

    monkeypatch.setattr(linear_model, "SGDClassifier", Recorder)
    true = texts(100)
    made = [[*text, "a"] for text in true]
    found = unigram_error(true, made, seed=3)
    assert len(set(orders)) == len(orders) >= found.epochs > 1
    assert unigram_error(true, made, seed=3) == found


def test_what_cannot_be_evaluated():
    with pytest.raises(RequestError, match="make only 2 independent groups, too few to learn from some"):
        coded([["a"], ["b"]] * 6, [["a", "c"], ["b", "c"]] * 6, seed=0)
    true = texts(9)
    for error in (unigram_error, lstm_error):
        with pytest.raises(RequestError, match="adversarial evaluation: 9 texts; it takes 10 or more"):
            error(true, true)
        with pytest.raises(RequestError, match="adversarial evaluation: 8 completed texts for 9 true ones"):
            error(true, true[:8])
