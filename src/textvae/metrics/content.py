"""Content of texts: words that say what a text is about, how many of them come back, and loops."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from textvae.errors import RequestError
from textvae.metrics.ngrams import Tokens
from textvae.metrics.words import unknown

# The most frequent words that together make this share of a text carry little content.
COMMON = 0.5
# A loop: a block of at most `LOOP_BLOCK` tokens at least `LOOP_TIMES` times in immediate succession.
LOOP_BLOCK, LOOP_TIMES = 4, 3


class ContentKept(NamedTuple):
    """Content words of references that their texts have, as shares of all content words from 0 to 1.

    Attributes:
        kept: Share in the text of the same number.
        by_chance: Share in the text of another number: what any text of this kind has in common with a reference.
        standard_error: Standard error of `kept - by_chance` over references.
        words: Number of content words of all references.
    """

    kept: float
    by_chance: float
    standard_error: float
    words: int


def common_words(sentences: Iterable[Tokens], share: float = COMMON) -> frozenset[str]:
    """Return the most frequent tokens that together make at least `share` of all tokens.

    Tokens that stand for unknown words are among them. Ties are resolved by the order of strings.

    >>> sorted(common_words([["the", "cat", "."], ["the", "dog", "."]]))
    ['.', 'the']
    """
    counts = Counter(token for sentence in sentences for token in sentence)
    most, taken, common = share * counts.total(), 0, set[str]()
    for token, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if taken >= most:
            break
        common.add(token)
        taken += count
    return frozenset(common) | {token for token in counts if unknown(token)}


def content_words_kept(
    texts: Sequence[Tokens], references: Sequence[Tokens], common: Collection[str]
) -> ContentKept:
    """Return the share of the content words of references that their texts have.

    A content word is a token with a letter or a digit that is neither in `common` nor unknown. It is kept as often
    as the text has it. Chance is measured with the text of another reference, half the list away or the next one
    from there that differs, since a copy is the same one. Shares are pooled over all references; they are nan
    without content words.

    Raises:
        RequestError: For numbers of texts and references that differ, and fewer than two.

    >>> content_words_kept([["the", "cat"], ["the", "cat"]], [["the", "cat"], ["the", "dog"]], {"the"})[:2]
    (0.5, 0.5)
    """
    if len(texts) != len(references) or len(texts) < 2:
        numbers = f"{len(texts):,} texts and {len(references):,} references"
        raise RequestError(f"content words: {numbers}; give 2 or more of each, and as many of both")
    bags = [Counter(token for token in own if _has_content(token, common)) for own in references]
    held = [Counter(own) for own in texts]
    sizes = np.array([own.total() for own in bags], dtype=np.int64)
    kept = np.array([(own & text).total() for own, text in zip(bags, held, strict=True)])
    chance = np.array([(own & held[at]).total() for own, at in zip(bags, _others(references), strict=True)])
    words = int(sizes.sum())
    if not words:
        return ContentKept(math.nan, math.nan, math.nan, 0)
    difference = (kept - chance).sum() / words
    residual = kept - chance - difference * sizes  # a ratio of sums: linearised
    error = math.sqrt((residual**2).sum() * len(bags) / (len(bags) - 1)) / words
    return ContentKept(float(kept.sum() / words), float(chance.sum() / words), error, words)


def _others(references: Sequence[Tokens]) -> Iterator[int]:
    """Yield the position of another reference for each: half the list away, or the next one that differs."""
    size, texts = len(references), [tuple(own) for own in references]
    for at, text in enumerate(texts):
        order = ((at + size // 2 + step) % size for step in range(size))
        yield next((other for other in order if texts[other] != text), (at + size // 2) % size)


def _has_content(token: str, common: Collection[str]) -> bool:
    """Return True for a word that is neither common nor unknown."""
    return token not in common and not unknown(token) and any(map(str.isalnum, token))


def loops(tokens: Tokens) -> bool:
    """Return True if a block of one to four tokens comes three times or more in immediate succession.

    >>> loops("it was very very very good".split()), loops("and so and so on".split())
    (True, False)
    """
    words = list(tokens)
    for size in range(1, LOOP_BLOCK + 1):
        equal = 0
        for one, other in zip(words, words[size:], strict=False):
            equal = equal + 1 if one == other else 0
            if equal == size * (LOOP_TIMES - 1):
                return True
    return False


def label_agreement(nearest: Int[np.ndarray, "code near"], labels: Sequence[str]) -> tuple[float, float]:
    """Return the share of a code's nearest neighbours that have its label, and the share by chance.

    Args:
        nearest: Positions of the nearest other codes of each code.
        labels: Label of each code.

    Returns:
        The mean share over codes, and the share of ordered pairs of different codes with the same label.

    Raises:
        RequestError: For fewer than two codes, and another number of labels.

    >>> label_agreement(np.array([[1], [0], [1]]), ["a", "a", "b"])
    (0.6666666666666666, 0.3333333333333333)
    """
    if len(nearest) != len(labels) or len(labels) < 2:
        raise RequestError(f"label agreement: {len(nearest):,} codes with {len(labels):,} labels; give 2 or more")
    numbers = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
    sizes = np.bincount(numbers)
    same = int((sizes * (sizes - 1)).sum())
    agreement = (numbers[nearest] == numbers[:, None]).mean()
    return float(agreement), same / (len(labels) * (len(labels) - 1))
