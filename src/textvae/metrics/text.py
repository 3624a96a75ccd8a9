"""How many sentences are different, compared as they are written; what counts words is in `diversity.py`."""

from collections.abc import Iterable

from textvae.text.readers import require_texts


def distinct(sentences: Iterable[str]) -> int:
    """Number of different sentences.

    >>> distinct(["good food", "bad food", "good food"])
    2
    """
    return len(set(require_texts(sentences, "sentences")))
