"""N-grams of sentences as numbers, and how often each sentence has each of them: what all text metrics count."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import Int, Int32, Int64

from textvae.errors import RequestError

# A sentence's tokens; see `words.py`.
Tokens = Sequence[str]
# Tokens that are looked at, and whose n-grams are counted, at once: what bounds the working memory.
PIECE = 2**20
# Sentences or tokens that are walked through at once, likewise.
ROWS = 2**16


class Text(Sequence[Tokens]):
    """Sentences as numbers of tokens: four bytes a token, whatever the tokens, and eight a sentence.

    A sequence like the sentences that it is made from; `words` are the numbers of all tokens one after the other,
    `ends` where in them each sentence ends, and `vocabulary` the tokens by their number. An `array` holds them
    while they are counted, so that no text is ever in memory as strings.

    >>> text = Text.of([["a", "b"], [], ["b"]])
    >>> text.words.tolist(), text.ends.tolist(), text[2]
    ([0, 1, 1], [2, 2, 3], ['b'])
    """

    def __init__(
        self, words: Int32[np.ndarray, "token"], ends: Int64[np.ndarray, "sentence"], vocabulary: Sequence[str]
    ) -> None:
        self.words, self.ends, self.vocabulary = words, ends, vocabulary

    @classmethod
    def of(cls, *parts: Iterable[Tokens], name: str = "sentences") -> "Text":
        """Return the sentences of all parts, one part after the other; a single `Text` is returned as it is.

        Raises RequestError for a sentence that is one string; the message calls it by `name` and its number.
        """
        if len(parts) == 1 and isinstance(parts[0], Text):
            return parts[0]
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        words, ends = array("i"), array("q")
        for part in parts:
            if isinstance(part, Text):
                renumbered = np.array([numbers[token] for token in part.vocabulary], np.int32)
                begin = len(words)
                words.frombytes(renumbered[part.words].tobytes())
                ends.frombytes((part.ends + begin).tobytes())
                continue
            for sentence in part:
                if isinstance(sentence, str):  # a string is a sequence of strings too: its characters
                    raise RequestError(
                        f"{name}[{len(ends)}]: one string given ({sentence[:40]!r}); each sentence is a list of "
                        "tokens"
                    )
                words.extend(map(numbers.__getitem__, sentence))
                ends.append(len(words))
        return cls(np.frombuffer(words, np.int32), np.frombuffer(ends, np.int64), list(numbers))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, row: int) -> list[str]: ...
    @overload
    def __getitem__(self, row: slice) -> "Text": ...
    def __getitem__(self, row: int | slice) -> "list[str] | Text":
        """Return the tokens of one sentence, or the text of some."""
        if isinstance(row, slice):
            return self.chosen(np.arange(len(self))[row])
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        begin = self.ends[row - 1] if row else 0
        return [self.vocabulary[word] for word in self.words[begin : self.ends[row]].tolist()]

    def chosen(self, rows: Int[np.ndarray, "row"] | Sequence[int]) -> "Text":
        """Return some sentences, in the order of `rows`."""
        rows = np.asarray(rows, np.int64)
        ends = np.cumsum(self.sizes()[rows])
        words = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        for first in range(0, len(rows), ROWS):
            some = slice(first, first + ROWS)
            begin = int(ends[first - 1]) if first else 0
            stop = int(ends[some][-1])
            # The place of each token: counted from where its sentence begins here and there.
            place = np.repeat(self.ends[rows[some]] - ends[some], np.diff(ends[some], prepend=begin))
            words[begin:stop] = self.words[place + np.arange(begin, stop)]
        return Text(words, ends, self.vocabulary)

    def sizes(self) -> Int64[np.ndarray, "sentence"]:
        """Return the number of tokens of each sentence."""
        return np.diff(self.ends, prepend=0)


class Counts(NamedTuple):
    """Counts of the n-grams of one order in each sentence: one entry for each pair that occurs.

    N-grams are numbered from 0 to `different` - 1; entries come by n-gram, those of an n-gram by sentence.
    """

    gram: Int64[np.ndarray, "entry"]
    sentence: Int64[np.ndarray, "entry"]
    often: Int64[np.ndarray, "entry"]
    different: int


def totals(sizes: Int64[np.ndarray, "sentence"], n: int) -> Int64[np.ndarray, "sentence"]:
    """Return the number of n-grams of sentences of these lengths in tokens, repeated ones counted."""
    return np.maximum(sizes - n + 1, 0)


class _Part(NamedTuple):
    """One of the texts that are counted together, and where it begins among all tokens and sentences.

    `numbers` has the numbers of its words among those of all texts; the first text's are its own, so it has None.
    """

    text: Text
    numbers: Int32[np.ndarray, "word"] | None
    token: int
    sentence: int


def counts(*texts: Iterable[Tokens], order: int, piece: int | None = None) -> Iterator[Iterator[Counts]]:
    """Count the 1-grams, 2-grams, ... `order`-grams of the texts, one after the other.

    Sentences are numbered through all texts. The counts of one order come in parts, each with some of the n-grams
    and every sentence that has them: so they can be summed up part by part. An n-gram is the number of its first
    n - 1 tokens and that of its last one, so each order costs one sort of as many numbers as there are tokens,
    whatever the order. About `piece` tokens, `PIECE` by default, are worked on at once; beside these and the texts,
    memory is five bytes a token. All parts of an order must be taken before the next.

    >>> [[part.often.tolist() for part in parts] for parts in counts([["a", "b", "a", "b"], ["b", "a"]], order=2)]
    [[[2, 1, 2, 1]], [[2, 1, 1]]]
    """
    first, *others = map(Text.of, texts)
    parts = [_Part(first, None, 0, 0)]
    tokens, sentences, base = len(first.words), len(first), len(first.vocabulary)
    vocabulary = defaultdict(count(base).__next__, zip(first.vocabulary, count()) if others else ())
    for text in others:
        numbers = np.array([vocabulary[token] for token in text.vocabulary], np.int32)
        parts.append(_Part(text, numbers, tokens, sentences))
        tokens, sentences, base = tokens + len(text.words), sentences + len(text), len(vocabulary)
    gram = np.zeros(tokens, np.int32)
    for n in range(1, order + 1):
        yield _counts(parts, gram, n, base, piece or PIECE)


def _counts(
    texts: Sequence[_Part], gram: Int32[np.ndarray, "token"], n: int, base: int, piece: int
) -> Iterator[Counts]:
    """Count n-grams; `gram` has the number of the (n - 1)-gram at each place, and gets the n-gram's."""
    share = max(-(-len(gram) // piece), 1)
    numbered, done = 0, np.zeros(len(gram) if share > 1 else 0, bool)
    for part in range(share):
        counted = _counted(texts, gram, n, base, (part, share), done, numbered)
        numbered += counted.different
        yield counted


def _counted(
    texts: Sequence[_Part],
    gram: Int32[np.ndarray, "token"],
    n: int,
    base: int,
    part: tuple[int, int],
    done: np.ndarray,
    numbered: int,
) -> Counts:
    """Count the n-grams of one part and number them from `numbered` on."""
    code, at, sentence = _begun(texts, gram, n, base, part, done)
    by_gram = np.argsort(code, kind="stable")  # stable: the places of an n-gram stay in order
    code = code[by_gram]
    new_gram = np.ones(len(at), bool)
    np.not_equal(code[1:], code[:-1], out=new_gram[1:])
    del code
    at, sentence = at[by_gram], sentence[by_gram]
    del by_gram
    number = np.cumsum(new_gram) - 1
    gram[at] = numbered + number
    if len(done):
        done[at] = True
    del at
    new_sentence = np.ones(len(sentence), bool)
    np.not_equal(sentence[1:], sentence[:-1], out=new_sentence[1:])
    first = np.flatnonzero(new_gram | new_sentence)
    return Counts(number[first], sentence[first], np.diff(first, append=len(sentence)), int(new_gram.sum()))


def _begun(
    texts: Sequence[_Part],
    gram: Int32[np.ndarray, "token"],
    n: int,
    base: int,
    part: tuple[int, int],
    done: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return code, place and sentence of each n-gram of one part, in the order of the texts.

    The part that an n-gram belongs to depends on its last token and on the (n - 1)-gram before it; that of a place
    which is done has been numbered anew.
    """
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    which, share = part
    for text, numbers, token, first_sentence in texts:
        before, numbered = gram[token:], done[token:]
        for first in range(0, len(text.words), ROWS):
            at = np.arange(first, min(first + ROWS, len(text.words)))
            sentence = np.searchsorted(text.ends, at, side="right")
            inside = at + n <= text.ends[sentence]
            if share > 1:
                inside &= ~numbered[at]
            at, sentence = at[inside], sentence[inside]
            last = text.words[at + n - 1]
            code = before[at].astype(np.int64) * base + (last if numbers is None else numbers[last])
            if share > 1:
                # By the bits of a product that scatters codes: consecutive ones belong to different parts.
                mine = (code.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) % np.uint64(share)
                keep = mine == np.uint64(which)
                code, at, sentence = code[keep], at[keep], sentence[keep]
            at += token
            sentence += first_sentence
            found.append((code, at, sentence))
    if not found:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    if len(found) == 1:
        return found[0]
    code, at, sentence = (np.concatenate(some) for some in zip(*found, strict=True))
    return code, at, sentence
