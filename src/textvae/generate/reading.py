"""Texts and codes as a model takes them: tokens in batches, how many the model hardly sees, codes of its shape."""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike
from torch import Tensor

from textvae.errors import RequestError
from textvae.text.batches import Batch, padded
from textvae.text.readers import one_line, require_texts
from textvae.text.tokenizers import EOS, UNK, Tokenizer

# Padded tokens encoded at once: on a CPU what fits its caches, on a GPU what keeps it busy.
TOKENS, GPU_TOKENS = 2048, 32_768
# A line break with all white space around it, since lines of training text have none outside and are never blank.
# It begins where the white space does, so that long stretches of it take no longer than other text.
_LINE_BREAK = re.compile(r"(?<!\s)\s*[\r\n]\s*")


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


@dataclass(frozen=True)
class Reader:
    """Texts to tokens, in the form that the training text had: lines of words, or with `windows` running text.

    Lines have at most `max_length` tokens and an end mark; running text has at most `max_length` ids in all.
    """

    tokenizer: Tokenizer
    max_length: int
    windows: bool

    def read(self, texts: Iterable[str]) -> tuple[list[list[int]], Seen]:
        """The tokens of texts, end marks among them; then how many were cut, and how many have no known word.

        Raises:
            RequestError: for an empty text, and one that is no text.
        """
        texts = require_texts(texts)
        sentences = self._running(texts) if self.windows else self.lines(texts)
        for number, ids in enumerate(sentences):
            if not ids:
                raise RequestError(f"texts[{number}]: is empty; leave it out")
        cut = sum(len(ids) > self.max_length for ids in sentences)
        seen = Seen(len(sentences), cut, sum(map(unknown, sentences)))
        if self.windows:
            return [ids[: self.max_length] for ids in sentences], seen
        return [[*self.tokenizer.beginning(ids, self.max_length), EOS] for ids in sentences], seen

    def lines(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of whole texts, each as one line and without an end mark; an empty one has none."""
        return self.tokenizer.encode([one_line(text) for text in texts])

    def _running(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer.encode_lines([_LINE_BREAK.sub("\n", text) for text in texts])


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


def codes_of(z: ArrayLike | Tensor, latent: int, name: str = "z") -> Float32[Tensor, "n latent"]:
    """Codes as a tensor of their own, once they are found to be codes of so many dimensions.

    Raises:
        RequestError: for codes of another shape or not finite, calling them by their `name`.
    """
    codes = _array(z, name)
    if codes.ndim != 2 or codes.shape[1] != latent:
        raise RequestError(f"{name}: has shape {codes.shape}; codes of shape (n, {latent}) are expected")
    bad = np.flatnonzero(~np.isfinite(codes).all(axis=1))
    if len(bad):
        raise RequestError(f"{name}[{bad[0]}]: holds a number that is not finite")
    return torch.tensor(codes)


def one_code(z: ArrayLike | Tensor, latent: int, name: str) -> Float32[Tensor, " latent"]:
    """A code, alone or as the only one of an array, as a tensor of its own.

    Raises:
        RequestError: as `codes_of`.
    """
    code = _array(z, name)
    if code.shape not in ((latent,), (1, latent)):
        raise RequestError(f"{name}: has shape {code.shape}; a text or one code of {latent} is expected")
    return codes_of(code.reshape(1, -1), latent, name)[0]


def _array(value: ArrayLike | Tensor, name: str) -> Float32[np.ndarray, "..."]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has not all types of torch
    try:
        found = np.asarray(value)
    except (TypeError, ValueError):
        raise RequestError(f"{name}: is not an array of numbers") from None
    if found.dtype.kind not in "fiu":  # text, times and complex numbers would be converted without a word
        raise RequestError(f"{name}: is not an array of numbers: its type is {found.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        return found.astype(np.float32)
