import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from textvae.errors import RequestError
from textvae.metrics.probe import bags, majority, probe, standardised

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.choice(["a", "b", "c"], 600, p=[0.5, 0.3, 0.2]).tolist()
TRAIN, TEST = LABELS[:400], LABELS[400:]


def test_codes_that_say_all_and_codes_that_say_nothing():
    told = np.array([[label == "a", label == "b"] for label in LABELS], dtype=float)
    for labels in (30, None):
        found = probe(told[:400], TRAIN, told[400:], TEST, labels, draws=3)
        assert (found.accuracy, found.standard_error) == (1.0, 0.0)
        assert (found.labels, found.draws) == ((400, 1) if labels is None else (30, 3))
        assert found.standard_deviation == (None if labels is None else 0.0)
    silent = np.zeros((600, 2))
    found = probe(silent[:400], TRAIN, silent[400:], TEST)
    assert found == majority(TRAIN, TEST)
    share = TEST.count("a") / 200
    assert found.accuracy == share
    assert found.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 199))


def test_of_one_test_sentence_there_is_no_standard_error():
    found = probe(np.arange(400.0)[:, None], TRAIN, np.zeros((1, 1)), TEST[:1])
    for one in (found, majority(TRAIN, TEST[:1])):
        assert one.standard_error is None and one.accuracy in (0.0, 1.0)
        assert one.document()["reasons"] == {
            "standard_error": "there is one test sentence, or copies of one: no deviation between sentences",
            "standard_deviation": "of one draw there is none",
        }
    assert majority(TRAIN, TEST).document()["reasons"] == {"standard_deviation": "of one draw there is none"}


def test_the_standard_error_counts_copies_of_a_sentence_as_one():
    silent, copies = np.zeros((600, 2)), np.arange(200) // 2
    own = [label for label in TEST[:100] for _ in range(2)]
    for found in (
        probe(silent[:400], TRAIN, silent[400:], own, groups=copies),
        majority(TRAIN, own, copies),
    ):
        alone = majority(TRAIN, TEST[:100])
        assert found.accuracy == alone.accuracy
        assert found.standard_error == pytest.approx(alone.standard_error, rel=1e-12)
    assert majority(TRAIN, own, np.zeros(200, dtype=int)).standard_error is None


def test_draws_are_those_of_the_seed_and_their_spread_is_theirs():
    noisy = np.array([[label == "a", label == "b"] for label in LABELS]) + RANDOM.normal(size=(600, 2))
    found = probe(noisy[:400], TRAIN, noisy[400:], TEST, 40, draws=4, seed=3)
    shares, right = [], []
    for draw in range(4):
        rows = np.sort(np.random.default_rng([3, 40, draw]).permutation(400)[:40])
        model = LogisticRegression(max_iter=1000).fit(noisy[rows], np.array(TRAIN)[rows])
        right.append(model.predict(noisy[400:]) == np.array(TEST))
        shares.append(right[-1].mean())
    assert found.accuracy == pytest.approx(np.mean(shares)) and 0.4 < found.accuracy < 0.95
    assert found.standard_deviation == pytest.approx(np.std(shares, ddof=1))
    assert found.standard_error == pytest.approx(np.std(np.mean(right, 0), ddof=1) / math.sqrt(200))
    assert probe(noisy[:400], TRAIN, noisy[400:], TEST, 40, draws=4, seed=4) != found


def test_a_draw_with_one_label_answers_that_one():
    told = np.arange(600.0)[:, None]
    found = probe(told[:400], TRAIN, told[400:], TEST, 1, draws=8)
    # The mean over draws of the share that the drawn label has among the test labels.
    drawn = [TRAIN[np.random.default_rng([0, 1, draw]).permutation(400)[0]] for draw in range(8)]
    assert len(set(drawn)) > 1
    assert found.accuracy == pytest.approx(np.mean([TEST.count(label) / 200 for label in drawn]))


def test_codes_are_standardised_by_those_learned_from():
    train, test = RANDOM.normal(3, 1e-4, (50, 3)), RANDOM.normal(3, 1e-4, (9, 3))
    train[:, 1] = test[:, 1] = 7.0
    scaled, other = standardised(train, test)
    assert scaled[:, [0, 2]].std(0) == pytest.approx([1.0, 1.0])
    assert scaled.mean(0) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6) and not scaled[:, 1].any()
    assert other[:, 0] == pytest.approx((test[:, 0] - train[:, 0].mean()) / train[:, 0].std())
    again = standardised(5 * train - 2, 5 * test - 2)
    assert again[0] == pytest.approx(scaled, abs=1e-6) and again[1] == pytest.approx(other, abs=1e-6)


def test_bags_count_the_tokens_that_were_learned_from():
    train, test = bags([["good", "good", "food"], [], [7]], [["bad", "food", 7, 7]])
    assert train.toarray().tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert test.toarray().tolist() == [[0, 1, 2]]
    assert bags([[]], [["a"]])[1].toarray().tolist() == [[0]]


def test_of_equally_common_labels_the_first_is_the_majority():
    found = majority(["b", "a", "b", "a"], ["a", "b", "b", "c"])
    assert (found.accuracy, found.labels, found.draws) == (0.25, 4, 1)


@pytest.mark.parametrize(
    ("labels", "size", "test", "expected"),
    [
        (["a", "a"], None, ["a"], "probe: only 'a' among the labels to learn from; two different ones are needed"),
        ([], None, ["a"], "probe: none among the labels to learn from; two different ones are needed"),
        (["a", "b"], 3, ["a"], "probe: 3 labels asked for, and there are 2; ask for 1 or more of them"),
        (["a", "b"], 0, ["a"], "probe: 0 labels asked for, and there are 2; ask for 1 or more of them"),
        (["a", "b"], None, [], "probe: 0 test sentences given; at least one is needed"),
    ],
)
def test_what_cannot_be_is_refused(labels, size, test, expected):
    with pytest.raises(RequestError) as error:
        probe(np.zeros((len(labels), 1)), labels, np.zeros((len(test), 1)), test, size)
    assert str(error.value) == expected
