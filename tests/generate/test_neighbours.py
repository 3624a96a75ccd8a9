import numpy as np
import pytest

from textvae.errors import RequestError
from textvae.generate.codes import Piece
from textvae.generate.neighbours import METRICS, ROWS, Neighbour, distances, nearest_others, neighbours


def pieces(codes, size, texts=None):
    for start in range(0, len(codes), size):
        yield Piece(codes[start : start + size], None if texts is None else texts[start : start + size])


def test_distances_by_hand():
    a, b = (
        np.array([[3.0, 4.0]], np.float32),
        np.array([[3.0, 4.0], [-3.0, -4.0], [4.0, -3.0], [0.0, 0.0]], np.float32),
    )
    np.testing.assert_allclose(distances(a, b, "cosine"), [[0, 2, 1, 1]], atol=1e-12)
    np.testing.assert_allclose(distances(a, b, "euclidean"), [[0, 10, 50**0.5, 5]], atol=1e-7)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_nearest_are_those_that_sorting_all_finds_in_any_pieces(metric, size):
    order = np.random.default_rng(0)
    codes = order.integers(-2, 3, size=(200, 3)).astype(np.float32)  # so that many are equally near
    queries = order.normal(size=(4, 3)).astype(np.float32)
    texts = [f"text {row}" for row in range(200)]
    found = neighbours(queries, pieces(codes, size, texts), 9, metric)
    for query, near in zip(queries, found, strict=True):
        far = [distances(query[None], code[None], metric)[0, 0] for code in codes]
        best = sorted(range(200), key=lambda row: (round(far[row], 9), row))[:9]
        assert [one.row for one in near] == best
        np.testing.assert_allclose([one.distance for one in near], [far[row] for row in best], atol=1e-9)
        assert [one.text for one in near] == [texts[row] for row in best]


def test_nearly_equal_codes_far_from_zero_are_told_apart():
    codes = (1000 + 1e-3 * np.arange(5))[:, None].astype(np.float32)
    (near,) = neighbours(codes[2:3], [Piece(codes, None)], 3, "euclidean")
    assert near[0] == Neighbour(2, 0.0, None) and {one.row for one in near} == {1, 2, 3}


def test_fewer_codes_than_are_asked_for():
    (near,) = neighbours(np.ones((1, 2), np.float32), [Piece(np.eye(2, dtype=np.float32), None)], 5)
    assert [one.row for one in near] == [0, 1]


def test_what_cannot_be_asked():
    query = np.ones((1, 2), np.float32)
    with pytest.raises(RequestError, match="metric = 'manhattan': unknown; known: cosine, euclidean"):
        neighbours(query, [], 3, "manhattan")
    with pytest.raises(RequestError, match="n = 0: must be 1 or more"):
        neighbours(query, [], 0)


@pytest.mark.parametrize("metric", METRICS)
def test_the_nearest_others_are_the_neighbours_but_itself(metric):
    codes = np.random.default_rng(0).normal(size=(ROWS + 90, 3)).astype(np.float32)
    near = nearest_others(codes, 4, metric)
    found = neighbours(codes, [Piece(codes, None)], 5, metric)
    assert near.tolist() == [[one.row for one in own if one.row != at] for at, own in enumerate(found)]


def test_there_are_no_more_others_than_there_are():
    codes = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], np.float32)
    assert nearest_others(codes, 5).tolist() == [[1, 2], [0, 2], [1, 0]]
