"""Texts as a model reads them: their tokens in batches, and how many of them the model hardly sees."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from textvae.batches import Batch, padded
from textvae.tokenizers import EOS, UNK

# Padded tokens encoded at once: on a CPU what fits its caches, on a GPU what keeps it busy.
TOKENS, GPU_TOKENS = 2048, 32_768


@dataclass(frozen=True)
class Seen:
    """How many texts were read, how many of them were cut, and of how many the model knows no word."""

    texts: int = 0
    cut: int = 0
    unknown: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(self.texts + other.texts, self.cut + other.cut, self.unknown + other.unknown)

    def warn(self, length: int, setting: str, level: int) -> None:
        """Warn, `level` calls up, of texts cut to a length by a setting, and of those without a known word."""
        if self.cut:
            limit = f"cut to their first {length} tokens ({setting})"
            warnings.warn(f"{self.cut} of {self.texts} texts {limit}", stacklevel=level)
        if self.unknown:
            warnings.warn(
                f"{self.unknown} of {self.texts} texts have no word that the model knows; "
                "their codes say only how long they are",
                stacklevel=level,
            )


def unknown(ids: Sequence[int]) -> bool:
    """Whether the ids of a text are unknown words alone, end marks and line breaks aside."""
    return UNK in ids and all(token in (UNK, EOS) for token in ids)


def batches(sentences: list[list[int]], tokens: int) -> Iterator[Batch]:
    """Texts' ids, end marks included, the longest first, in batches of at most `tokens` ids, padding among them."""
    order = sorted(range(len(sentences)), key=lambda number: -len(sentences[number]))
    start = 0
    while start < len(order):
        index = order[start : start + max(1, tokens // len(sentences[order[start]]))]
        yield padded([sentences[number] for number in index], index)
        start += len(index)


def encoded_together(sentences: list[list[int]], device: torch.device) -> Iterator[Batch]:
    """Texts' ids as `batches`, in batches of as much as is best encoded at once on a device."""
    return batches(sentences, TOKENS if device.type == "cpu" else GPU_TOKENS)
