"""N-grams of sentences as numbers, and how often each sentence has each of them: what all text metrics count."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from textvae.errors import RequestError

# A sentence's tokens; see `words.py`.
Tokens = Sequence[str]


class Counts(NamedTuple):
    """How often each sentence has each n-gram of one order: one entry for each pair that occurs.

    N-grams are numbered from 0 to `different` - 1; entries come by n-gram, those of an n-gram by sentence.
    """

    gram: Int64[np.ndarray, "entry"]
    sentence: Int64[np.ndarray, "entry"]
    often: Int64[np.ndarray, "entry"]
    different: int

    def totals(self, sentences: int) -> Int64[np.ndarray, "sentence"]:
        """How many n-grams each of the sentences has, repeated ones counted."""
        return np.bincount(self.sentence, self.often, sentences).astype(np.int64)


def lengths(sentences: Sequence[Tokens]) -> Int64[np.ndarray, "sentence"]:
    """Number of tokens of each sentence."""
    return np.fromiter(map(len, sentences), np.int64, len(sentences))


def counts(sentences: Sequence[Tokens], order: int) -> Iterator[Counts]:
    """The counts of 1-grams, 2-grams, ... `order`-grams, one after the other.

    An n-gram is the number of its first n - 1 tokens and that of its last one, so each order costs one sort of as
    many numbers as there are tokens, whatever the order, and memory is linear in the text.

    >>> [found.often.tolist() for found in counts([["a", "b", "a", "b"], ["b", "a"]], 2)]  # a b; ab ba
    [[2, 1, 2, 1], [2, 1, 1]]
    """
    _require_tokens(sentences)
    size = lengths(sentences)
    words = _numbered(chain.from_iterable(sentences), int(size.sum()))
    sentence = np.repeat(np.arange(len(sentences)), size)
    end = np.repeat(np.cumsum(size), size)  # where the token's sentence ends
    different = int(words.max(initial=-1)) + 1
    at, gram, base = np.arange(len(words)), np.zeros_like(words), different
    for n in range(1, order + 1):
        at = at[at + n <= end[at]]  # where an n-gram begins
        code = gram[at] * base + words[at + n - 1]
        by_gram = np.argsort(code, kind="stable")  # stable: the places of an n-gram stay in order
        at_sorted, code = at[by_gram], code[by_gram]
        new_gram, new_sentence = np.ones(len(at), bool), np.ones(len(at), bool)
        new_gram[1:] = code[1:] != code[:-1]
        new_sentence[1:] = sentence[at_sorted[1:]] != sentence[at_sorted[:-1]]
        number = np.cumsum(new_gram) - 1
        gram[at_sorted] = number
        first = np.flatnonzero(new_gram | new_sentence)
        repeated = np.diff(first, append=len(at))
        yield Counts(number[first], sentence[at_sorted[first]], repeated, int(new_gram.sum()))


def _numbered(tokens: Iterable[str], total: int) -> Int64[np.ndarray, "token"]:
    """Each token as a number, equal ones as the same."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    return np.fromiter(map(numbers.__getitem__, tokens), np.int64, total)


def _require_tokens(sentences: Sequence[Tokens]) -> None:
    for number, sentence in enumerate(sentences):
        if isinstance(sentence, str):  # a string is a sequence of strings too: its characters
            raise RequestError(
                f"sentences[{number}]: one string given ({sentence[:40]!r}); each sentence is a list of tokens"
            )
