"""Splits that keep equal texts together, so that no test text was used for training."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from jaxtyping import Int

from textvae.errors import RequestError


def bag(tokens: Iterable[Hashable]) -> Hashable:
    """Return a key that two texts share exactly when they have the same tokens, each as often, in any order.

    >>> bag(["so", "good", "so"]) == bag(["good", "so", "so"])
    True
    """
    return frozenset(Counter(tokens).items())


def groups_of(*columns: Sequence[Hashable]) -> Int[np.ndarray, " row"]:
    """Return numbers of the groups of rows that must stay together: rows that share a value, in any column.

    Groups are the connected components: if rows 0 and 1 share one value and rows 1 and 2 another, all three are in
    one group. They are numbered in the order of their first rows.

    Raises:
        RequestError: For columns of unequal lengths, and without a column.

    >>> groups_of(["a", "b", "c"], ["b", "d", "e"]).tolist()
    [0, 0, 1]
    """
    if len({len(column) for column in columns}) != 1:
        raise RequestError(f"groups_of: columns of {[len(column) for column in columns]} rows; give equally many")
    above = list(range(len(columns[0])))

    def first(row: int) -> int:
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    owners: dict[Hashable, int] = {}
    for row, values in enumerate(zip(*columns, strict=True)):
        for value in values:
            one, other = first(owners.setdefault(value, row)), first(row)
            above[max(one, other)] = min(one, other)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(first(row), len(numbers)) for row in range(len(above))], dtype=np.int64)


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
    starts = np.searchsorted(groups[rows], np.arange(len(order) + 1))
    members = {int(group): rows[starts[group] : starts[group + 1]] for group in order}
    parts: list[list[int]] = [[] for _ in sizes]
    room, rest = list(sizes), []
    for group, own in members.items():
        place = next((place for place, left in enumerate(room) if len(own) <= left), None)
        if place is None:
            rest.append(group)
        else:
            parts[place].append(group)
            room[place] -= len(own)
    for part, size in zip(parts, sizes, strict=True):
        if size and not part and len(rest) > 1:
            part.append(min(rest, key=lambda group: len(members[group])))
            rest.remove(part[0])
    return [np.concatenate([members[group] for group in part] or [rows[:0]]) for part in (*parts, rest)]
