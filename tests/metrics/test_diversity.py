import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.helpers import extract_word_ngrams

from textvae.errors import RequestError
from textvae.metrics import diversity as d

texts = st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=12)


def grams(sentences, n):
    return [extract_word_ngrams(sentence, n) for sentence in sentences]


def test_distinct_by_hand():
    samples = [list("abab"), list("ba")]
    assert d.distinct_across(samples, 1) == 2 / 6
    assert d.distinct_across(samples, 2) == 2 / 4  # ab ba ab, ba
    assert d.distinct_across(samples, 3) == 1.0  # aba bab
    assert d.distinct_within(samples, 1) == (2 / 4 + 2 / 2) / 2
    assert d.distinct_within(samples, 3) == 1.0  # of the first alone: the other has none


def test_n_grams_do_not_cross_sentences():
    assert d.distinct_across([list("ab"), list("ab")], 2) == 0.5
    assert d.overlap([["a"], ["b"], list("ba")], [list("ab"), list("ba")], 2) == 1.0
    assert d.overlap([list("ab")], [["a"], ["b"]], 2) == 0.0


@given(texts, st.integers(1, 4))
def test_distinct_against_sacrebleus_counts(samples, n):
    per_sentence = [counter for counter in grams(samples, n) if counter]
    if not per_sentence:
        assert math.isnan(d.distinct_across(samples, n)) and math.isnan(d.distinct_within(samples, n))
        return
    pooled = sum(per_sentence, Counter())
    assert d.distinct_across(samples, n) == len(pooled) / pooled.total()
    expected = sum(len(counter) / counter.total() for counter in per_sentence) / len(per_sentence)
    assert d.distinct_within(samples, n) == pytest.approx(expected, abs=1e-12)


@given(texts, st.integers(1, 3), st.integers(1, 3))
def test_groups_are_texts_of_their_own(samples, size, n):
    samples = samples * size
    found = d.distinct_by_group(samples, size, n).tolist()
    apart = [d.distinct_across(samples[i : i + size], n) for i in range(0, len(samples), size)]
    assert found == pytest.approx(apart, nan_ok=True, abs=1e-12)


def test_groups_of_unequal_size_are_refused():
    for size in (0, 2):
        with pytest.raises(RequestError, match=f"^size = {size}: 3 sentences are no whole number of groups; give"):
            d.distinct_by_group([["a"]] * 3, size, 1)


@given(texts, st.integers(1, 3))
def test_saying_everything_twice_halves_distinct_across_and_leaves_within(samples, n):
    if any(len(sample) >= n for sample in samples):
        assert d.distinct_across(samples * 2, n) == d.distinct_across(samples, n) / 2
        assert d.distinct_within(samples * 2, n) == pytest.approx(d.distinct_within(samples, n))


@given(texts, texts, st.integers(1, 4))
def test_overlap_and_copies_against_a_plain_search(samples, training, n):
    known = set().union(*grams(training, n))
    seen = [gram for counter in grams(samples, n) for gram in counter.elements()]
    found = d.overlap(samples, training, n)
    assert found == sum(gram in known for gram in seen) / len(seen) if seen else math.isnan(found)
    assert d.copied(samples, training) == sum(sample in training for sample in samples) / len(samples)
    assert d.repeated(samples) == sum(sample in samples[:i] for i, sample in enumerate(samples)) / len(samples)


def test_unknown_words_are_those_that_tokenizers_take_for_unknown():
    from textvae.metrics.words import UNKNOWN
    from textvae.text.tokenizers import UNK, Tokenizer

    tokenizer = Tokenizer.train("word", ["a b", *UNKNOWN], vocabulary=None, min_count=1)
    spellings = [spelled for token in UNKNOWN for spelled in (token, token.upper())]
    assert tokenizer.encode(spellings) == [[UNK]] * 6
    assert d.unknown_share([["a", spelled] for spelled in spellings]) == 0.5
    assert d.vocabulary([["a", *spellings], ["b", "a", "unk"]]) == 3


def test_length_and_what_is_no_share_of_anything():
    assert d.mean_length([list("abc"), [], ["a"]]) == 4 / 3
    assert math.isnan(d.unknown_share([[], []]))
    assert math.isnan(d.mean_length([])) and math.isnan(d.repeated([])) and math.isnan(d.copied([], [["a"]]))
    assert d.vocabulary([]) == 0


@pytest.mark.parametrize("measure", [d.distinct_across, d.distinct_within])
def test_what_cannot_be_counted(measure):
    with pytest.raises(RequestError, match="^n = 0: must be 1 or more$"):
        measure([["a"]], 0)
    with pytest.raises(RequestError, match=r"sentences\[0\]: one string given \('the food'\)"):
        measure(["the food"], 1)
