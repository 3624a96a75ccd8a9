from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from textvae.metrics.edits import edit_distance

words = st.lists(st.sampled_from("abc"), max_size=7)


def naive(a, b):
    """By its definition: all ways to end."""

    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return distance(len(a), len(b))


@given(words, words)
def test_edits_are_those_of_the_definition(a, b):
    assert edit_distance(a, b) == naive(tuple(a), tuple(b)) == edit_distance(b, a)


@given(words, words, words)
def test_no_way_round_is_shorter(a, b, c):
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)


def test_by_hand():
    assert edit_distance("i went home".split(), "we went to the home".split()) == 3
    assert edit_distance([], ["a"]) == 1 and edit_distance("kitten", "sitting") == 3
