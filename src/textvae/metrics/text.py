"""Number of different sentences, compared as they are written; counts of words are in `diversity.py`."""

from collections.abc import Iterable

from textvae.text.readers import require_texts


def distinct(sentences: Iterable[str]) -> int:
    """Return the number of different sentences.

    >>> distinct(["good food", "bad food", "good food"])
    2
    """
    return len(set(require_texts(sentences, "sentences")))
