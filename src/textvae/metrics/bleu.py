"""BLEU of sentences against many references, Self-BLEU, and BLEU of a corpus: from 0 to 1.

Against many references an n-gram counts at most as often as the reference that has it most often. So all that
matters of any number of references is the largest count of each n-gram, and all that matters of "all other
sentences" is its two largest: a sentence that alone has the largest is measured by the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64

from textvae.errors import RequestError
from textvae.metrics.ngrams import ROWS, Counts, Text, Tokens, counts, totals

SMOOTHINGS = ("none", "method1")
# What method1 counts where nothing matches.
EPSILON = 0.1


@dataclass(frozen=True)
class Matches:
    """Statistics of each sentence for BLEU: its matching n-grams, and two lengths.

    Column n - 1 is of n-grams. `closest` is the length of the reference whose length is closest.
    """

    matched: Int32[np.ndarray, "sentence order"]
    length: Int64[np.ndarray, "sentence"]
    closest: Int64[np.ndarray, "sentence"]

    def __len__(self) -> int:
        return len(self.length)

    def total(self, n: int) -> Int64[np.ndarray, "sentence"]:
        """Return the number of n-grams of each sentence, repeated ones counted."""
        return totals(self.length, n)


def matches(sentences: Sequence[Tokens], references: Sequence[Tokens], order: int = 5) -> Matches:
    """Return the sentences against all references at once, for BLEU up to `order`.

    Raises RequestError without a sentence or a reference.
    """
    _require("sentences", sentences, 1)
    _require("references", references, 1)
    sentences, references = Text.of(sentences), Text.of(references, name="references")
    ours = len(sentences)
    matched = np.zeros((ours, order), np.int32)
    for column, parts in enumerate(counts(sentences, references, order=order)):
        for found in parts:
            most = np.zeros(found.different, np.int64)
            theirs = found.sentence >= ours
            np.maximum.at(most, found.gram[theirs], found.often[theirs])
            _add(matched[:, column], found, most[found.gram])
    length = sentences.sizes()
    return Matches(matched, length, _closest(length, np.unique(references.sizes())))


def sampled_matches(
    sentences: Sequence[Tokens], references: Sequence[Tokens], at_most: int, seed: int, order: int = 5
) -> Matches:
    """Return the sentences against `at_most` references, drawn by the seed once for all sentences.

    Raises RequestError as `matches`, and for fewer than one reference.
    """
    _require_one(at_most)
    drawn = np.random.default_rng([seed, 4]).permutation(len(references))[:at_most]
    return matches(sentences, Text.of(references, name="references").chosen(drawn), order)


def paired_matches(sentences: Sequence[Tokens], references: Sequence[Tokens], order: int = 5) -> Matches:
    """Sentence i against reference i alone; summed up over sentences, what corpus BLEU is made of.

    Raises RequestError where there are not as many references as sentences, or none.
    """
    _require_pairs(sentences, references)
    sentences, references = Text.of(sentences), Text.of(references, name="references")
    ours = len(sentences)
    matched = np.zeros((ours, order), np.int32)
    for column, parts in enumerate(counts(sentences, references, order=order)):
        for found in parts:
            key, theirs = found.gram * ours + found.sentence % ours, found.sentence >= ours  # n-gram and pair
            both, own, other = np.intersect1d(key[~theirs], key[theirs], assume_unique=True, return_indices=True)
            clipped = np.minimum(found.often[~theirs][own], found.often[theirs][other])
            np.add.at(matched[:, column], both % ours, clipped.astype(np.int32))
    return Matches(matched, sentences.sizes(), references.sizes())


def self_matches(sentences: Sequence[Tokens], order: int = 5) -> Matches:
    """Each sentence against all others, for Self-BLEU up to `order`; equal sentences are each other's references.

    Raises RequestError with fewer than two sentences: one has no others.
    """
    _require("sentences", sentences, 2)
    text = Text.of(sentences)
    matched = np.zeros((len(text), order), np.int32)
    for column, parts in enumerate(counts(text, order=order)):
        for found in parts:
            _add(matched[:, column], found, _most_of_others(found))
    length = text.sizes()
    return Matches(matched, length, _closest_other(length))


def sampled_self_matches(sentences: Sequence[Tokens], at_most: int, seed: int, order: int = 5) -> Matches:
    """Each sentence against `at_most` of the others, drawn by the seed; or all, if no more are there.

    One sentence more than that is drawn. A sentence among the drawn ones is compared with the others of them, any
    other sentence with all of them but the last, so that all have equally many references.

    Raises RequestError with fewer than two sentences or for fewer than one reference.
    """
    _require("sentences", sentences, 2)
    _require_one(at_most)
    if at_most >= len(sentences) - 1:
        return self_matches(sentences, order)
    shuffled = np.random.default_rng([seed, 3]).permutation(len(sentences))
    drawn, rest = shuffled[: at_most + 1], shuffled[at_most + 1 :]
    text = Text.of(sentences)
    pool = text.chosen(drawn)
    parts = self_matches(pool, order), matches(text.chosen(rest), pool[:-1], order)
    place = np.argsort(shuffled)
    columns = ("matched", "length", "closest")
    return Matches(*(np.concatenate([getattr(part, name) for part in parts])[place] for name in columns))


def sentence_bleu(found: Matches, n: int, smoothing: str = "none") -> Float64[np.ndarray, "sentence"]:
    """BLEU-n of each sentence: exp(min(0, 1 - r / c)) times the geometric mean of the n precisions.

    c is the sentence's length, r that of the reference whose length is closest, the shorter of two as close.
    Without smoothing a sentence that has no matching n-gram, as one of fewer than n tokens, scores 0; with
    `method1` a precision of 0 is 0.1 over the sentence's n-grams (over 1 if it has none). Where not even a token
    matches, the score is 0 with any smoothing.

    Raises RequestError where n is none of the orders that were counted, or for an unknown smoothing.

    Source: Papineni et al. 2002; smoothing: Chen and Cherry 2014, method 1, with an epsilon of 0.1.
    """
    if not 1 <= n <= found.matched.shape[1]:
        raise RequestError(f"BLEU-{n}: n-grams were counted up to n = {found.matched.shape[1]}")
    if smoothing not in SMOOTHINGS:
        raise RequestError(f"smoothing = {smoothing!r}: must be one of {', '.join(SMOOTHINGS)}")
    values = np.empty(len(found))
    for start in range(0, len(found), ROWS):
        rows = slice(start, start + ROWS)
        some = Matches(found.matched[rows], found.length[rows], found.closest[rows])
        values[rows] = _sentence_bleu(some, n, smoothing)
    return values


def _sentence_bleu(found: Matches, n: int, smoothing: str) -> Float64[np.ndarray, "sentence"]:
    """Return `sentence_bleu` of some sentences."""
    logarithms = np.zeros(len(found))
    for order in range(1, n + 1):
        matched = found.matched[:, order - 1].astype(np.float64)
        if smoothing == "method1":
            matched[matched == 0] = EPSILON
        with np.errstate(divide="ignore"):
            logarithms += np.log(matched / np.maximum(found.total(order), 1))
    penalty = np.minimum(0.0, 1 - found.closest / np.maximum(found.length, 1))
    return np.where(found.matched[:, 0] > 0, np.exp(logarithms / n + penalty), 0.0)


def corpus_bleu(
    sentences: Sequence[Tokens], references: Sequence[Tokens], n: int = 4, smoothing: str = "none"
) -> float:
    """BLEU-n of a corpus, sentence i against reference i: summed counts and lengths, then divided.

    Computed by sacreBLEU from the counts of `paired_matches`; `smoothing` has its names, and its own default is
    "exp". Raises RequestError where there are not as many references as sentences, or none.

    Source: Papineni et al. 2002; Post 2018, "A call for clarity in reporting BLEU scores".
    """
    _require_pairs(sentences, references)
    from sacrebleu.metrics.bleu import BLEU

    found = paired_matches(sentences, references, n)
    return (
        BLEU.compute_bleu(
            correct=found.matched.sum(0, np.int64).tolist(),
            total=[int(found.total(order).sum()) for order in range(1, n + 1)],
            sys_len=int(found.length.sum()),
            ref_len=int(found.closest.sum()),
            smooth_method=smoothing,
            max_ngram_order=n,
        ).score
        / 100
    )


def _most_of_others(found: Counts) -> Int64[np.ndarray, "entry"]:
    """Return for each entry the largest count of its n-gram in any other sentence, 0 where no other has it."""
    if not len(found.gram):
        return found.often
    first = np.searchsorted(found.gram, np.arange(found.different))
    most = np.maximum.reduceat(found.often, first)
    holds_most = found.often == most[found.gram]
    holders = np.add.reduceat(holds_most.astype(np.int64), first)
    second = np.maximum.reduceat(np.where(holds_most, 0, found.often), first)
    alone = holds_most & (holders[found.gram] == 1)
    return np.where(alone, second[found.gram], most[found.gram])


def _add(matched: Int32[np.ndarray, "ours"], found: Counts, most: Int64[np.ndarray, "entry"]) -> None:
    """Add how many n-grams of each of the first sentences match, an n-gram at most as often as `most` says."""
    ours = found.sentence < len(matched)
    np.add.at(matched, found.sentence[ours], np.minimum(found.often, most)[ours].astype(np.int32))


def _closest(
    length: Int64[np.ndarray, "sentence"], known: Int64[np.ndarray, "length"]
) -> Int64[np.ndarray, "sentence"]:
    """Return for each length the closest of the ascending lengths `known`, the shorter of two as close."""
    every = np.unique(length)
    above = np.searchsorted(known, every)
    longer = known[np.minimum(above, len(known) - 1)]
    shorter = known[np.maximum(above - 1, 0)]
    of_each = np.where(np.abs(longer - every) < np.abs(every - shorter), longer, shorter)
    return of_each[np.searchsorted(every, length)]


def _closest_other(length: Int64[np.ndarray, "sentence"]) -> Int64[np.ndarray, "sentence"]:
    """Return for each length the closest one among the others."""
    known, often = np.unique(length, return_counts=True)
    if len(known) == 1:
        return length
    # Without itself, a length that only one sentence has leaves its two neighbours.
    below, above = np.append(known[1], known[:-1]), np.append(known[1:], known[-2])
    other = np.where(np.abs(above - known) < np.abs(known - below), above, below)
    return np.where(often > 1, known, other)[np.searchsorted(known, length)]


def _require(name: str, sentences: Sequence[Tokens], least: int) -> None:
    if len(sentences) < least:
        raise RequestError(f"{name}: {len(sentences)} given; at least {least} needed")


def _require_pairs(sentences: Sequence[Tokens], references: Sequence[Tokens]) -> None:
    _require("sentences", sentences, 1)
    if len(sentences) != len(references):
        raise RequestError(f"{len(sentences)} sentences for {len(references)} references; give one for each")


def _require_one(at_most: int) -> None:
    if at_most < 1:
        raise RequestError(f"at_most = {at_most}: must be 1 or more")
