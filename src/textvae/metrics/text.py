"""How many sentences are different, compared as they are written; what counts words is in `diversity.py`."""

from collections.abc import Sequence

from textvae.errors import RequestError


def distinct(sentences: Sequence[str]) -> int:
    """Number of different sentences.

    >>> distinct(["good food", "bad food", "good food"])
    2
    """
    _require_list("distinct", sentences)
    return len(set(sentences))


def _require_list(place: str, sentences: Sequence[str]) -> None:
    if isinstance(sentences, str):  # a string is a sequence of strings too: its characters
        raise RequestError(f"{place}: one string given ({sentences[:40]!r}); a list of sentences is needed")
