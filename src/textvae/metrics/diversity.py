"""Diversity of generated text, and its overlap with the training text. Shares are from 0 to 1.

Where a share has nothing to be a share of, as that of 2-grams in text of single words, it is nan. Self-BLEU is in
`bleu`.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64

from textvae.errors import RequestError
from textvae.metrics.ngrams import ROWS, Counts, Text, Tokens, counts, totals
from textvae.metrics.words import unknown


def distinct_across(sentences: Sequence[Tokens], n: int) -> float:
    """Different n-grams over all n-grams, pooled over the sentences. It falls as text is added.

    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models"; the
    inter-distinct of Fu et al. 2020, appendix E, where the sentences are the replies to one context.

    >>> distinct_across([["a", "b", "a"], ["a", "b"]], 2)  # ab, ba, ab
    0.6666666666666666
    """
    different = whole = 0
    for found in _parts(sentences, n=n):
        different, whole = different + found.different, whole + int(found.often.sum())
    return _share(different, whole)


def distinct_within(sentences: Sequence[Tokens], n: int) -> float:
    """Different n-grams over all n-grams of each sentence, averaged over the sentences that have n tokens.

    Source: the intra-distinct of Fu et al. 2020, appendix E.

    >>> distinct_within([["a", "a"], ["a", "b"], []], 1)
    0.75
    """
    shares = distinct_by_group(sentences, 1, n)
    some = ~np.isnan(shares)
    return float(shares[some].mean()) if some.any() else math.nan


def distinct_by_group(sentences: Sequence[Tokens], size: int, n: int) -> Float64[np.ndarray, "group"]:
    """Different n-grams over all n-grams of each group of `size` consecutive sentences; nan where there are none.

    Raises RequestError where the sentences are no whole number of groups.

    Source: as `distinct_across`, of which this is the value for each group.

    >>> distinct_by_group([["a", "b"], ["a"], ["c"], []], 2, 1).tolist()  # a b a, c
    [0.6666666666666666, 1.0]
    """
    text = Text.of(sentences)
    if size < 1 or len(text) % size:
        raise RequestError(f"size = {size}: {len(text)} sentences are no whole number of groups; give equal groups")
    different = np.zeros(len(text) // size, np.int64)
    for found in _parts(text, n=n):
        group = found.sentence // size
        new = np.ones(len(group), bool)
        new[1:] = (found.gram[1:] != found.gram[:-1]) | (group[1:] != group[:-1])
        np.add.at(different, group[new], 1)
    whole = totals(text.sizes(), n).reshape(-1, size).sum(1)
    return np.divide(different, whole, out=np.full(len(different), math.nan), where=whole > 0)


def repeated(sentences: Sequence[Tokens]) -> float:
    """Share of the sentences that came before in the same text, token by token.

    >>> repeated([["a"], ["b"], ["a"], ["a"]])
    0.5
    """
    whole = len(sentences)
    digests = _digests(Text.of(sentences))
    digests.sort()
    return _share(int((digests[1:] == digests[:-1]).sum()), whole)


def copied(sentences: Sequence[Tokens], training: Sequence[Tokens]) -> float:
    """Share of the sentences that the training text has too, token by token.

    >>> copied([["a"], ["b"], ["a"], ["a"]], [["a"], ["c"]])
    0.75
    """
    known, ours = _digests(Text.of(training)), _digests(Text.of(sentences))
    known.sort()
    held = 0
    for first in range(0, len(ours) if len(known) else 0, ROWS):
        some = ours[first : first + ROWS]
        held += int((known[np.minimum(np.searchsorted(known, some), len(known) - 1)] == some).sum())
    return _share(held, len(sentences))


def overlap(sentences: Sequence[Tokens], training: Sequence[Tokens], n: int) -> float:
    """Share of all n-grams, repeated ones counted, that the training text has too.

    >>> overlap([["a", "b", "c"], ["a", "b"]], [["x", "a", "b"]], 2)  # ab, bc, ab
    0.6666666666666666
    """
    shared = whole = 0
    for found in _parts(sentences, training, n=n):
        ours = found.sentence < len(sentences)
        known = np.zeros(found.different, bool)
        known[found.gram[~ours]] = True
        often = found.often[ours]
        shared, whole = shared + int(often[known[found.gram[ours]]].sum()), whole + int(often.sum())
    return _share(shared, whole)


def unknown_share(sentences: Sequence[Tokens]) -> float:
    """Share of the tokens that stand for an unknown word.

    Source: the %unk of Prokhorov et al. 2019, Table 3.

    >>> unknown_share([["a", "<unk>"], ["b", "_UNK"]])
    0.5
    """
    text = Text.of(sentences)
    stands_for_one = np.fromiter(map(unknown, text.vocabulary), bool, len(text.vocabulary))
    return _share(int(stands_for_one[text.words].sum()), len(text.words))


def vocabulary(sentences: Sequence[Tokens]) -> int:
    """Return the number of different tokens, without unknown words. It grows with the text.

    >>> vocabulary([["a", "<unk>"], ["b", "a"]])
    2
    """
    text = Text.of(sentences)
    return sum(not unknown(text.vocabulary[word]) for word in np.unique(text.words).tolist())


def mean_length(sentences: Sequence[Tokens]) -> float:
    """Tokens a sentence, without end marks.

    >>> mean_length([["a", "b"], ["c"], []])
    1.0
    """
    return _share(len(Text.of(sentences).words), len(sentences))


def _parts(*texts: Sequence[Tokens], n: int) -> Iterator[Counts]:
    """Return the counts of n-grams alone, part by part."""
    if n < 1:
        raise RequestError(f"n = {n}: must be 1 or more")
    for order, parts in enumerate(counts(*texts, order=n), 1):
        for found in parts:
            if order == n:
                yield found


def _digests(text: Text) -> np.ndarray:
    """Return a number of 128 bits for each sentence, the same for equal sentences of any two texts."""
    digests = np.empty((len(text), 16), np.uint8)
    for row, sentence in enumerate(text):
        joined = "".join(f"{len(token)} {token}" for token in sentence).encode("utf-8", "surrogatepass")
        digests[row] = np.frombuffer(hashlib.blake2b(joined, digest_size=16).digest(), np.uint8)
    return digests.view("V16")[:, 0]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
