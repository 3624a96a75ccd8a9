from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.metrics.text import distinct

sentences = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=12)


def test_distinct_by_hand():
    samples = ["the food was great .", "the food was bad .", "the food was great .", "the food was great ."]
    assert distinct(samples) == 2
    assert distinct([]) == 0


def test_sentences_are_compared_as_written():
    assert distinct(["a b", "A b", "a  b", "a b "]) == 4


@settings(deadline=None)
@given(sentences)
def test_each_different_sentence_counts_once(samples):
    assert distinct(samples) == len(Counter(samples))


def test_one_string_is_not_a_list_of_sentences():
    with pytest.raises(
        RequestError, match=r"sentences = 'the food': a list of texts is expected; wrap a single one"
    ):
        distinct("the food")
