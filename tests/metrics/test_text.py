from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.helpers import extract_word_ngrams

from textvae.errors import RequestError
from textvae.metrics.text import distinct, distinct_n, repeats

sentences = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=12)


def test_distinct_and_repeats_by_hand():
    samples = ["the food was great .", "the food was bad .", "the food was great .", "the food was great ."]
    assert (distinct(samples), repeats(samples)) == (2, 2)
    assert (distinct([]), repeats([])) == (0, 0)


def test_sentences_are_compared_as_written():
    assert distinct(["a b", "A b", "a  b", "a b "]) == 4


@settings(deadline=None)
@given(sentences)
def test_distinct_and_repeats_share_the_sentences_between_them(samples):
    counts = Counter(samples)
    assert distinct(samples) == len(counts)
    assert repeats(samples) == sum(count - 1 for count in counts.values())


def test_distinct_n_by_hand():
    samples = ["a b a b", "b a"]
    assert distinct_n(samples, 1) == pytest.approx(2 / 6)
    assert distinct_n(samples, 2) == pytest.approx(2 / 4)  # ab ba ab, ba
    assert distinct_n(samples, 3) == pytest.approx(2 / 2)  # aba bab
    assert distinct_n(samples, 4) == 1.0


def test_n_grams_do_not_cross_sentences():
    assert distinct_n(["a b", "a b"], 2) == 0.5
    assert distinct_n(["a", "b"], 2) == 0.0


def test_no_n_gram_at_all_is_zero():
    assert distinct_n([], 1) == 0.0
    assert distinct_n(["", "  "], 1) == 0.0


@settings(deadline=None)
@given(sentences, st.integers(1, 4))
def test_distinct_n_against_sacrebleus_counts(samples, n):
    counts: Counter[tuple[str, ...]] = Counter()
    for sample in samples:
        counts.update(extract_word_ngrams(sample.split(), n))
    total = sum(counts.values())
    assert distinct_n(samples, n) == (len(counts) / total if total else 0.0)


@settings(deadline=None)
@given(sentences, st.integers(1, 3))
def test_saying_everything_twice_halves_distinct_n(samples, n):
    assert distinct_n(samples * 2, n) == distinct_n(samples, n) / 2


def test_n_below_one_is_refused():
    with pytest.raises(RequestError) as caught:
        distinct_n(["a"], 0)
    assert str(caught.value) == "distinct_n: n = 0 given; it must be 1 or more"


@pytest.mark.parametrize("measure", [distinct, repeats, lambda text: distinct_n(text, 1)])
def test_one_string_is_not_a_list_of_sentences(measure):
    with pytest.raises(RequestError, match=r"one string given \('the food'\); a list of sentences is needed"):
        measure("the food")
