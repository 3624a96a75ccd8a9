"""Exact nearest neighbours of codes, among any number of them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int

from textvae.errors import RequestError
from textvae.generate.codes import Piece

METRICS = ("cosine", "euclidean")
# Codes whose distances to all others are held at once.
ROWS = 512


class Neighbour(NamedTuple):
    """A near code: its position among all codes, from 0, its distance, and its text if known."""

    row: int
    distance: float
    text: str | None


def neighbours(
    queries: Float32[np.ndarray, "query latent"], pieces: Iterable[Piece], n: int, metric: str = "cosine"
) -> list[list[Neighbour]]:
    """Return the `n` codes nearest to each query, nearest first; ties in order of position.

    `pieces` are read once, and only the nearest codes are kept. The `cosine` distance is 1 - cos of the angle, from
    0 to 2 (1 if either code is zero); the `euclidean` one is the length of the difference.

    Raises:
        RequestError: For an unknown metric, or n below 1.
    """
    if metric not in METRICS:
        raise RequestError(f"metric = {metric!r}: unknown; known: {', '.join(METRICS)}")
    if n < 1:
        raise RequestError(f"n = {n}: must be 1 or more")
    nearest: list[list[Neighbour]] = [[] for _ in queries]
    first = 0
    for piece in pieces:
        for query, distance in enumerate(distances(queries, piece.codes, metric)):
            # All codes as near as the n-th, so that ties are resolved by position and not by the sort.
            limit = np.partition(distance, n - 1)[n - 1] if n < len(distance) else np.inf
            near = np.flatnonzero(distance <= limit)
            nearby = [
                Neighbour(first + int(at), float(distance[at]), None if piece.texts is None else piece.texts[at])
                for at in near
            ]
            nearest[query] = sorted(nearest[query] + nearby, key=lambda one: (one.distance, one.row))[:n]
        first += len(piece.codes)
    return nearest


def nearest_others(
    codes: Float32[np.ndarray, "code latent"], n: int, metric: str = "cosine"
) -> Int[np.ndarray, "code near"]:
    """Return the positions of the `n` codes nearest to each code, nearest first, itself left out; ties by position.

    There are fewer if there are no more other codes.
    """
    near = np.empty((len(codes), min(n, len(codes) - 1)), dtype=np.int64)
    for first in range(0, len(codes), ROWS):
        rows = np.arange(first, min(first + ROWS, len(codes)))
        away = distances(codes[rows], codes, metric)
        away[np.arange(len(rows)), rows] = np.inf
        near[rows] = np.argsort(away, axis=1, kind="stable")[:, : near.shape[1]]
    return near


def distances(
    a: Float32[np.ndarray, "query latent"], b: Float32[np.ndarray, "code latent"], metric: str
) -> Float64[np.ndarray, "query code"]:
    """Return the distance of each code of `b` from each of `a`.

    It is one product in float64, because squared lengths cancel.
    """
    left, right = a.astype(np.float64), b.astype(np.float64)
    squares, others = (left**2).sum(1)[:, None], (right**2).sum(1)[None]
    products = left @ right.T
    if metric == "euclidean":
        return np.sqrt(np.maximum(squares + others - 2 * products, 0.0))
    lengths = np.sqrt(squares * others)
    return 1 - np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
