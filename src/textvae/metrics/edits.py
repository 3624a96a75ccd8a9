"""Edit distance between sentences, in words."""

from collections.abc import Hashable, Sequence


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the least number of insertions, deletions and substitutions of tokens that turn a into b.

    References:
        Levenshtein 1966.

    >>> edit_distance("the food was good".split(), "food was not good".split())
    2
    """
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i  # `before` is the value one up and one to the left
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[len(b)]
