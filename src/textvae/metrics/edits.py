"""How far sentences are from each other: edits of words."""

from collections.abc import Hashable, Sequence


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions of tokens that make b of a.

    Source: Levenshtein 1966.

    >>> edit_distance("the food was good".split(), "food was not good".split())
    2
    """
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i  # `before` is what stood one up and one to the left
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[len(b)]
