"""ROUGE-N of sentences, each against its own reference: the F1 of n-grams, from 0 to 1, in two forms."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from textvae.errors import RequestError
from textvae.metrics.ngrams import Tokens


def rouge(sentences: Sequence[Tokens], references: Sequence[Tokens], n: int) -> Float64[np.ndarray, "sentence"]:
    """Return the F1 of the n-grams of sentence i and reference i, as multisets.

    It is 2 |S ∩ R| / (|S| + |R|), which equals the F1 of precision and recall; 0 if neither has an n-gram. Tokens
    are compared as they are: no stemming, no case folding, punctuation counts.

    Raises:
        RequestError: If sentences and references differ in number, or n is below 1.

    References:
        Lin 2004, "ROUGE: a package for automatic evaluation of summaries".
    """
    _check(sentences, references, n)
    return _f1(
        (Counter(_grams(sentence, n)), Counter(_grams(reference, n)))
        for sentence, reference in zip(sentences, references, strict=True)
    )


def rouge_set(sentences: Sequence[Tokens], references: Sequence[Tokens], n: int) -> Float64[np.ndarray, "sentence"]:
    """Return the F1 of the sets of n-grams of sentence i and reference i: a repeated n-gram counts once.

    Raises:
        RequestError: As `rouge`.

    References:
        Prokhorov et al. 2019, Table 1, as the released program computes it.
    """
    _check(sentences, references, n)
    return _f1(
        (Counter(set(_grams(sentence, n))), Counter(set(_grams(reference, n))))
        for sentence, reference in zip(sentences, references, strict=True)
    )


def _grams(tokens: Tokens, n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def _f1(pairs: Iterable[tuple[Counter[Any], Counter[Any]]]) -> Float64[np.ndarray, "sentence"]:
    return np.fromiter(
        (2 * (ours & theirs).total() / ((ours.total() + theirs.total()) or 1) for ours, theirs in pairs),
        np.float64,
    )


def _check(sentences: Sequence[Tokens], references: Sequence[Tokens], n: int) -> None:
    if len(sentences) != len(references):
        raise RequestError(f"{len(sentences)} sentences for {len(references)} references; give one for each")
    if n < 1:
        raise RequestError(f"ROUGE-{n}: n must be 1 or more")
