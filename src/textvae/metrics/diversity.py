"""How varied generated text is, and how much of it is the training text's. Shares are from 0 to 1.

Where a share has nothing to be a share of, as that of 2-grams in text of single words, it is nan.
"""

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from textvae.errors import RequestError
from textvae.metrics.ngrams import Counts, Tokens, counts
from textvae.metrics.words import unknown


def distinct_across(sentences: Sequence[Tokens], n: int) -> float:
    """Different n-grams over all n-grams, pooled over the sentences. It falls as text is added.

    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models"; the
    inter-distinct of Fu et al. 2020, appendix E, where the sentences are the replies to one context.

    >>> distinct_across([["a", "b", "a"], ["a", "b"]], 2)  # ab, ba, ab
    0.6666666666666666
    """
    found = _counts(sentences, n)
    return _share(found.different, int(found.often.sum()))


def distinct_within(sentences: Sequence[Tokens], n: int) -> float:
    """Different n-grams over all n-grams of each sentence, averaged over the sentences that have n tokens.

    Source: the intra-distinct of Fu et al. 2020, appendix E.

    >>> distinct_within([["a", "a"], ["a", "b"], []], 1)
    0.75
    """
    found = _counts(sentences, n)
    totals = found.totals(len(sentences))
    some = totals > 0
    if not some.any():
        return math.nan
    return float((np.bincount(found.sentence, minlength=len(sentences))[some] / totals[some]).mean())


def repeated(sentences: Sequence[Tokens]) -> float:
    """Share of the sentences that came before in the same text, token by token.

    >>> repeated([["a"], ["b"], ["a"], ["a"]])
    0.5
    """
    return _share(len(sentences) - len(set(map(tuple, sentences))), len(sentences))


def copied(sentences: Sequence[Tokens], training: Sequence[Tokens]) -> float:
    """Share of the sentences that the training text has too, token by token.

    >>> copied([["a"], ["b"], ["a"], ["a"]], [["a"], ["c"]])
    0.75
    """
    known = set(map(tuple, training))
    return _share(sum(tuple(sentence) in known for sentence in sentences), len(sentences))


def overlap(sentences: Sequence[Tokens], training: Sequence[Tokens], n: int) -> float:
    """Share of all n-grams, repeated ones counted, that the training text has too.

    >>> overlap([["a", "b", "c"], ["a", "b"]], [["x", "a", "b"]], 2)  # ab, bc, ab
    0.6666666666666666
    """
    found = _counts([*sentences, *training], n)
    ours = found.sentence < len(sentences)
    known = np.zeros(found.different, bool)
    known[found.gram[~ours]] = True
    often = found.often[ours]
    return _share(int(often[known[found.gram[ours]]].sum()), int(often.sum()))


def unknown_share(sentences: Sequence[Tokens]) -> float:
    """Share of the tokens that stand for an unknown word.

    Source: the %unk of Prokhorov et al. 2019, Table 3.

    >>> unknown_share([["a", "<unk>"], ["b", "_UNK"]])
    0.5
    """
    return _share(sum(map(unknown, chain.from_iterable(sentences))), sum(map(len, sentences)))


def vocabulary(sentences: Sequence[Tokens]) -> int:
    """Number of different tokens, unknown words not among them. It grows with the text.

    >>> vocabulary([["a", "<unk>"], ["b", "a"]])
    2
    """
    return sum(not unknown(token) for token in set(chain.from_iterable(sentences)))


def mean_length(sentences: Sequence[Tokens]) -> float:
    """Tokens a sentence, without end marks.

    >>> mean_length([["a", "b"], ["c"], []])
    1.0
    """
    return _share(sum(map(len, sentences)), len(sentences))


def _counts(sentences: Sequence[Tokens], n: int) -> Counts:
    """Those of n-grams alone."""
    if n < 1:
        raise RequestError(f"n = {n}: must be 1 or more")
    *_, last = counts(sentences, n)
    return last


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
