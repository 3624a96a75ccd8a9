"""Vocabularies learned from sentences: their most frequent words or characters, or their byte pairs."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Thread

from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import pre_tokenizers, trainers

from textvae.text.cutting import SPECIALS

# Bytes, all of which are in a vocabulary of byte pairs.
BYTES = 256


def most_frequent(
    inner: HuggingFaceTokenizer, sentences: Iterable[str], vocabulary: int | None, min_count: int
) -> list[str]:
    """Return the most frequent words of sentences that a tokenizer splits."""
    # The library counts, so that the counted words are exactly those that will be looked up. One entry more than
    # requested, since the unknown word may be among them.
    room = sys.maxsize if vocabulary is None else vocabulary + 1
    trainer = trainers.WordLevelTrainer(vocab_size=room, min_frequency=min_count, show_progress=False)
    inner.train_from_iterator(sentences, trainer)
    ids = inner.get_vocab()
    learned = [word for word in sorted(ids, key=ids.__getitem__) if word not in SPECIALS]
    return learned[:vocabulary]


def characters(
    inner: HuggingFaceTokenizer, sentences: Iterable[str], vocabulary: int | None, min_count: int
) -> list[str]:
    """Return the most frequent characters of sentences."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(inner.normalizer.normalize_str(sentence) if inner.normalizer else sentence)
    ranked = sorted((-n, character) for character, n in counts.items() if n >= min_count)
    return [character for _, character in ranked[:vocabulary]]


def byte_pairs(
    inner: HuggingFaceTokenizer, sentences: Iterable[str], vocabulary: int, min_count: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the bytes and the learned byte pairs of sentences, and how the pairs are merged."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=min_count,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    _interruptible(lambda: inner.train_from_iterator(sentences, trainer))
    learned = json.loads(inner.to_str())["model"]
    ids: dict[str, int] = learned["vocab"]
    return sorted(ids, key=ids.__getitem__), [(left, right) for left, right in learned["merges"]]


def _interruptible(work: Callable[[], None]) -> None:
    """Run work that does not notice Ctrl-C in a thread of its own, which ends with the program."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
