"""Splits that keep equal texts together, so that no test text was used for training."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b
from itertools import count

import numpy as np
from jaxtyping import Int

from textvae.errors import RequestError

# Rows that are turned into Python's numbers at once.
ROWS = 2**16


def bag(tokens: Iterable[Hashable]) -> Hashable:
    """Return a key that two texts share exactly when they have the same tokens, each as often, in any order.

    >>> bag(["so", "good", "so"]) == bag(["good", "so", "so"])
    True
    """
    return frozenset(Counter(tokens).items())


def numbered(keys: Iterable[bytes]) -> Int[np.ndarray, " key"]:
    """Return 64 bits of a hash for each key: equal for equal keys, and for others all but never.

    Among a million keys two different ones share a number with a probability of 3e-8. A number takes eight bytes,
    the key itself may take hundreds.
    """
    hashes = bytearray()
    for key in keys:
        hashes += blake2b(key, digest_size=8).digest()
    return np.frombuffer(hashes, np.int64)


def groups_of(*columns: Sequence[Hashable] | Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Return numbers of the groups of rows that must stay together: rows that share a value, in any column.

    Groups are the connected components: if rows 0 and 1 share one value and rows 1 and 2 another, all three are in
    one group. They are numbered in the order of their first rows. Columns of millions of rows are best given as
    arrays of integers, see `numbered`.

    Raises:
        RequestError: For columns of unequal lengths, and without a column.

    >>> groups_of(["a", "b", "c"], ["b", "d", "e"]).tolist()
    [0, 0, 1]
    """
    if len({len(column) for column in columns}) != 1:
        raise RequestError(f"groups_of: columns of {[len(column) for column in columns]} rows; give equally many")
    rows, above = len(columns[0]), array("q", range(len(columns[0])))

    def first(row: int) -> int:
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    values = _values(columns)
    owners = array("q", [-1]) * (int(values.max()) + 1 if rows else 0)
    for column in values:
        for begin in range(0, rows, ROWS):
            for row, value in enumerate(column[begin : begin + ROWS].tolist(), begin):
                if owners[value] < 0:
                    owners[value] = row
                one, other = first(owners[value]), first(row)
                above[max(one, other)] = min(one, other)
    roots = np.fromiter(map(first, range(rows)), np.int64, rows)
    return (np.cumsum(roots == np.arange(rows)) - 1)[roots]


def _values(columns: Sequence[Sequence[Hashable] | np.ndarray]) -> Int[np.ndarray, "column row"]:
    """Return the values of columns as numbers from 0: equal numbers for equal values."""
    if all(isinstance(column, np.ndarray) for column in columns):
        found = np.unique(np.stack([np.asarray(column) for column in columns]), return_inverse=True)[1]
        return found.reshape(len(columns), -1)
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    return np.array([[numbers[value] for value in column] for column in columns], dtype=np.int64)


def held_out(
    groups: Int[np.ndarray, " row"], order: Sequence[int] | Int[np.ndarray, " group"], sizes: Sequence[int]
) -> list[Int[np.ndarray, " part"]]:
    """Split rows into held-out parts of about `sizes` rows, and the rest, without dividing a group.

    Groups come in the given order. Each goes to the first part that has room for all of it, or else to the rest, so
    parts never exceed their sizes, with one exception: a part that would stay empty takes the smallest group of the
    rest, unless that is the only one. A part may be empty if there are too few groups. If every row is its own
    group, parts are consecutive stretches of the order.

    Returns:
        The row numbers of each part and then those of the rest, group by group.
    """
    rows = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=len(order)))
    members = np.diff(ends, prepend=0)
    parts = [array("q") for _ in sizes]
    room, rest = list(sizes), array("q")
    for group in map(int, order):
        own = int(members[group])
        place = next((place for place, left in enumerate(room) if own <= left), None)
        if place is None:
            rest.append(group)
        else:
            parts[place].append(group)
            room[place] -= own
    for part, size in zip(parts, sizes, strict=True):
        if size and not part and len(rest) > 1:
            part.append(min(rest, key=lambda group: int(members[group])))
            rest.remove(part[0])
    return [_rows_of(np.array(part, dtype=np.int64), rows, ends, members) for part in (*parts, rest)]


def _rows_of(groups: np.ndarray, rows: np.ndarray, ends: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the rows of some groups, group by group; `rows` has those of group g before `ends[g]`."""
    sizes = members[groups]
    begin = np.repeat(ends[groups] - np.cumsum(sizes), sizes)
    return rows[begin + np.arange(len(begin))]
