"""Similarity of sentences to a reference by the vectors of their words: average, extrema and greedy matching."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from textvae.errors import RequestError
from textvae.metrics.ngrams import Text, Tokens
from textvae.text.vectors import WordVectors


class Similarities(NamedTuple):
    """Similarities of each sentence and its reference, from -1 to 1, and which of them have a word with a vector.

    A sentence without such a word has similarity 0; so has every sentence whose reference has none.
    """

    average: Float64[np.ndarray, "sentence"]
    extrema: Float64[np.ndarray, "sentence"]
    greedy: Float64[np.ndarray, "sentence"]
    known: Bool[np.ndarray, "sentence"]
    known_reference: Bool[np.ndarray, "reference"]


def similarities(sentences: Sequence[Tokens], references: Sequence[Tokens], vectors: WordVectors) -> Similarities:
    """Compare sentences with references by the vectors of their words.

    Words without a vector are left out; a vector of zeros is none. Of the words that remain, repeated ones counted:

    - average: cosine of the means of the vectors;
    - extrema: cosine of the vectors that have in each dimension the value furthest from 0, of two as far the
      positive one;
    - greedy: mean over the sentence's words of the largest cosine with a word of the reference; the mean of that
      and of the same with sentence and reference exchanged.

    Args:
        sentences: The sentences, an equal number for each reference, those of one after those of another.
        references: The references.
        vectors: Vectors of words.

    Raises:
        RequestError: If the sentences are not equally many for each reference.

    References:
        Liu et al. 2016, "How NOT to evaluate your dialogue system", arXiv:1603.08023; Gu et al. 2019, "DialogWAE",
        arXiv:1805.12352, whose program has greedy matching in both directions and similarity 0 of a sentence whose
        vectors are 0.
    """
    if not references or len(sentences) % len(references):
        raise RequestError(
            f"{len(sentences)} sentences for {len(references)} references; give equally many for each"
        )
    norms = np.sqrt(np.einsum("ij,ij->i", vectors.table, vectors.table, dtype=np.float64))
    ours, theirs = (_looked_up(Text.of(text), vectors, norms) for text in (sentences, references))
    each = len(sentences) // len(references)
    values = np.zeros((3, len(sentences)))
    for number in range(len(references)):
        reference, _ = theirs.rows_of(number, number + 1)
        first = number * each
        rows, begins = ours.rows_of(first, first + each)
        full = np.flatnonzero(np.diff(begins, append=len(rows)))
        if len(reference) and len(full):
            begins = begins[full]
            one, other = (vectors.table[part].astype(np.float64) for part in (rows, reference))
            cosines = (one / norms[rows, None]) @ (other / norms[reference, None]).T
            values[:, first + full] = (
                _cosine(np.add.reduceat(one, begins), other.sum(0)),
                _cosine(_extrema(one, begins), _extrema(other, np.zeros(1, np.int64))[0]),
                _greedy(cosines, begins),
            )
    return Similarities(values[0], values[1], values[2], ours.known, theirs.known)


class _Rows(NamedTuple):
    """Rows in the table of the words that have a vector, one sentence after the other, and where each ends."""

    rows: Int64[np.ndarray, "word"]
    ends: Int64[np.ndarray, "sentence"]

    @property
    def known(self) -> Bool[np.ndarray, "sentence"]:
        return np.diff(self.ends, prepend=0) > 0

    def rows_of(self, first: int, stop: int) -> tuple[Int64[np.ndarray, "word"], Int64[np.ndarray, "sentence"]]:
        """Return the rows of consecutive sentences, and where in them each begins."""
        begin = int(self.ends[first - 1]) if first else 0
        begins = np.concatenate([[begin], self.ends[first : stop - 1]]) - begin
        return self.rows[begin : int(self.ends[stop - 1])], begins


def _looked_up(text: Text, vectors: WordVectors, norms: Float64[np.ndarray, "row"]) -> _Rows:
    """Return the rows of a text's words; a word whose vector has norm 0 has none."""
    row = np.array([vectors.rows.get(word, -1) for word in text.vocabulary], np.int64)
    row[row >= 0] = np.where(norms[row[row >= 0]] > 0, row[row >= 0], -1)
    rows = row[text.words]
    before = np.concatenate([[0], np.cumsum(rows >= 0)])
    return _Rows(rows[rows >= 0], before[text.ends])


def _extrema(
    values: Float64[np.ndarray, "word size"], begins: Int64[np.ndarray, "sentence"]
) -> Float64[np.ndarray, "sentence size"]:
    """Return for each sentence and dimension the value furthest from 0."""
    most, least = np.maximum.reduceat(values, begins), np.minimum.reduceat(values, begins)
    return np.where(most >= -least, most, least)


def _greedy(
    cosines: Float64[np.ndarray, "word other"], begins: Int64[np.ndarray, "sentence"]
) -> Float64[np.ndarray, "sentence"]:
    """Return the mean of both directions of greedy matching, by the cosines of all pairs of words."""
    sizes = np.diff(begins, append=len(cosines))
    ours = np.add.reduceat(cosines.max(1), begins) / sizes
    theirs = np.maximum.reduceat(cosines, begins).mean(1)
    return (ours + theirs) / 2


def _cosine(
    ones: Float64[np.ndarray, "sentence size"], other: Float64[np.ndarray, "size"]
) -> Float64[np.ndarray, "sentence"]:
    """Return the cosine of each row and a vector; 0 where one of them is 0."""
    product = np.linalg.norm(ones, axis=1) * np.linalg.norm(other)
    return np.divide(ones @ other, product, out=np.zeros(len(ones)), where=product > 0)
