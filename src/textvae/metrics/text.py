"""How varied sentences are. Sentences are compared as they are written; words are what whitespace parts."""

from collections.abc import Sequence

from textvae.errors import RequestError


def distinct(sentences: Sequence[str]) -> int:
    """Number of different sentences.

    >>> distinct(["good food", "bad food", "good food"])
    2
    """
    _require_list("distinct", sentences)
    return len(set(sentences))


def repeats(sentences: Sequence[str]) -> int:
    """Number of sentences that came before: all of them less the different ones.

    >>> repeats(["good food", "bad food", "good food"])
    1
    """
    return len(sentences) - distinct(sentences)


def distinct_n(sentences: Sequence[str], n: int) -> float:
    """Different n-grams of words over all n-grams, pooled over the sentences: from near 0 to 1.

    0 where no sentence has n words. For text without spaces, give the tokens parted by spaces.
    Raises RequestError if n is below 1.

    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models".

    >>> distinct_n(["a b a", "a b"], n=2)  # ab, ba, ab
    0.6666666666666666
    """
    _require_list("distinct_n", sentences)
    if n < 1:
        raise RequestError(f"distinct_n: n = {n} given; it must be 1 or more")
    total = 0
    different: set[tuple[str, ...]] = set()
    for sentence in sentences:
        words = sentence.split()
        grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        total += len(grams)
        different.update(grams)
    return len(different) / total if total else 0.0


def _require_list(place: str, sentences: Sequence[str]) -> None:
    if isinstance(sentences, str):  # a string is a sequence of strings too: its characters
        raise RequestError(f"{place}: one string given ({sentences[:40]!r}); a list of sentences is needed")
