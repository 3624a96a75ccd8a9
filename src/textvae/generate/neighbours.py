"""Which codes are nearest to a code, exactly, among any number of them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from textvae.errors import RequestError
from textvae.generate.codes import Piece

METRICS = ("cosine", "euclidean")


class Neighbour(NamedTuple):
    """A code that is near: its place among all codes, from 0, how far it is, and its text if that is known."""

    row: int
    distance: float
    text: str | None


def neighbours(
    queries: Float32[np.ndarray, "query latent"], pieces: Iterable[Piece], n: int, metric: str = "cosine"
) -> list[list[Neighbour]]:
    """The `n` codes nearest to each query, the nearest first; of equally near ones those that come first.

    `pieces` are gone through once, and only what is nearest is kept. The `cosine` distance is 1 - cos of the angle,
    from 0 to 2 (1 from and to a code of zeros), the `euclidean` one the length of the difference.

    Raises:
        RequestError: for an unknown metric, or n below 1.
    """
    if metric not in METRICS:
        raise RequestError(f"metric = {metric!r}: unknown; known: {', '.join(METRICS)}")
    if n < 1:
        raise RequestError(f"n = {n}: must be 1 or more")
    nearest: list[list[Neighbour]] = [[] for _ in queries]
    first = 0
    for piece in pieces:
        for query, distance in enumerate(distances(queries, piece.codes, metric)):
            # All that are as near as the n-th, so that equals are told apart by their place and not by a sort.
            limit = np.partition(distance, n - 1)[n - 1] if n < len(distance) else np.inf
            near = np.flatnonzero(distance <= limit)
            found = [
                Neighbour(first + int(at), float(distance[at]), None if piece.texts is None else piece.texts[at])
                for at in near
            ]
            nearest[query] = sorted(nearest[query] + found, key=lambda one: (one.distance, one.row))[:n]
        first += len(piece.codes)
    return nearest


def distances(
    a: Float32[np.ndarray, "query latent"], b: Float32[np.ndarray, "code latent"], metric: str
) -> Float64[np.ndarray, "query code"]:
    """How far each code of `b` is from each of `a`: one product, in float64, since squares of lengths cancel."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    squares, others = (left**2).sum(1)[:, None], (right**2).sum(1)[None]
    products = left @ right.T
    if metric == "euclidean":
        return np.sqrt(np.maximum(squares + others - 2 * products, 0.0))
    lengths = np.sqrt(squares * others)
    return 1 - np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
