import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.metrics.splits import groups_of, held_out


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25))
def test_groups_are_the_connected_components(pairs):
    """Against the plain closure: of row and row by a shared value, as often as it takes."""
    found = groups_of([one for one, _ in pairs], [other for _, other in pairs])
    near = np.array([[bool({*a} & {*b}) for b in pairs] for a in pairs], dtype=int).reshape(len(pairs), len(pairs))
    together = np.linalg.matrix_power(near.astype(object), max(1, len(pairs))) > 0 if pairs else near
    assert np.array_equal(found[:, None] == found, together)
    assert list(dict.fromkeys(found.tolist())) == list(range(len(set(found.tolist()))))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 9), st.integers(0, 9), st.integers())
def test_no_group_is_divided_and_every_row_is_somewhere(numbers, one, other, seed):
    groups = groups_of(numbers)
    order = np.random.default_rng(seed % 100).permutation(groups.max() + 1)
    parts = held_out(groups, order, [one, other])
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(numbers)))
    sides = [{numbers[row] for row in part} for part in parts]
    assert sum(map(len, sides)) == len(set(numbers))
    for part, side, size in zip(parts, sides, (one, other), strict=False):
        assert len(part) <= size or len(side) == 1
        assert size or not len(part)
    assert len(parts[2]) or one + other >= len(set(numbers))


def test_rows_that_differ_are_split_where_the_order_is_cut():
    order = [3, 0, 4, 1, 2]
    assert [part.tolist() for part in held_out(np.arange(5), order, [1, 2])] == [[3], [0, 4], [1, 2]]


def test_a_part_that_nothing_fits_in_takes_the_smallest_group_of_several():
    assert [part.tolist() for part in held_out(np.array([0, 0, 0, 1, 1]), [0, 1], [1])] == [[3, 4], [0, 1, 2]]
    assert [part.tolist() for part in held_out(np.zeros(5, dtype=int), [0], [1])] == [[], [0, 1, 2, 3, 4]]


def test_columns_of_unequal_lengths_are_refused():
    with pytest.raises(RequestError, match=r"columns of \[2, 1\] rows"):
        groups_of(["a", "b"], ["c"])
