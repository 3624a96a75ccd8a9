"""Texts and codes in the form that a model takes: batches of tokens, codes of its shape, counts for warnings."""

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

# Padded tokens encoded at once: on a CPU, a batch that fits its caches; on a GPU, one that keeps it busy.
TOKENS, GPU_TOKENS = 2048, 32_768
# A line break with all white space around it, since lines of training text have no outer white space and are never
# blank. The pattern starts at the first white space, so that long runs of it take no longer than other text.
_LINE_BREAK = re.compile(r"(?<!\s)\s*[\r\n]\s*")


@dataclass(frozen=True)
class Seen:
    """Counts of texts read, of texts cut, and of texts without a known word."""

    texts: int = 0
    cut: int = 0
    unknown: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(self.texts + other.texts, self.cut + other.cut, self.unknown + other.unknown)

    def warn(self, length: int, setting: str, level: int) -> None:
        """Warn, `level` calls up, about texts cut to a length by a setting, and texts without a known word."""
        if self.cut:
            limit = f"cut to their first {length} tokens ({setting})"
            warnings.warn(f"{self.cut} of {self.texts} texts {limit}", stacklevel=level)
        if self.unknown:
            warnings.warn(
                f"{self.unknown} of {self.texts} texts have no word that the model knows; "
                "their codes encode only the lengths",
                stacklevel=level,
            )


@dataclass(frozen=True)
class Reader:
    """Converter of texts to tokens in the form of the training text: lines, or with `windows` running text.

    Lines have at most `max_length` tokens and an end mark; running text has at most `max_length` ids in all.
    """

    tokenizer: Tokenizer
    max_length: int
    windows: bool

    def read(self, texts: Iterable[str]) -> tuple[list[list[int]], Seen]:
        """Return the tokens of texts, end marks included, and the counts of cut and unknown texts.

        Raises:
            RequestError: For an empty text, and for an element that is not a text.
        """
        texts = require_texts(texts)
        sentences = self._running(texts) if self.windows else self.lines(texts)
        for number, ids in enumerate(sentences):
            if not ids:
                raise RequestError(f"texts[{number}]: is empty; remove it")
        cut = sum(len(ids) > self.max_length for ids in sentences)
        seen = Seen(len(sentences), cut, sum(map(unknown, sentences)))
        if self.windows:
            return [ids[: self.max_length] for ids in sentences], seen
        return [[*self.tokenizer.beginning(ids, self.max_length), EOS] for ids in sentences], seen

    def lines(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of whole texts, each as one line without an end mark; an empty one has none."""
        return self.tokenizer.encode([one_line(text) for text in texts])

    def _running(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer.encode_lines([_LINE_BREAK.sub("\n", text) for text in texts])


def unknown(ids: Sequence[int]) -> bool:
    """Return True if the ids of a text are unknown words alone, end marks and line breaks aside."""
    return UNK in ids and all(token in (UNK, EOS) for token in ids)


def batches(sentences: list[list[int]], tokens: int) -> Iterator[Batch]:
    """Yield texts' ids with end marks, longest first, in batches of at most `tokens` ids, padding included."""
    order = sorted(range(len(sentences)), key=lambda number: -len(sentences[number]))
    start = 0
    while start < len(order):
        index = order[start : start + max(1, tokens // len(sentences[order[start]]))]
        yield padded([sentences[number] for number in index], index)
        start += len(index)


def encoded_together(sentences: list[list[int]], device: torch.device) -> Iterator[Batch]:
    """Yield texts' ids as `batches`, in the batch size that encodes fastest on a device."""
    return batches(sentences, TOKENS if device.type == "cpu" else GPU_TOKENS)


def codes_of(z: ArrayLike | Tensor, latent: int, name: str = "z") -> Float32[Tensor, "n latent"]:
    """Return codes as a new tensor, after checking their shape.

    Raises:
        RequestError: For codes of another shape or not finite, with their `name` in the message.
    """
    codes = _array(z, name)
    if codes.ndim != 2 or codes.shape[1] != latent:
        raise RequestError(f"{name}: has shape {codes.shape}; codes of shape (n, {latent}) are expected")
    bad = np.flatnonzero(~np.isfinite(codes).all(axis=1))
    if len(bad):
        raise RequestError(f"{name}[{bad[0]}]: holds a number that is not finite")
    return torch.tensor(codes)


def one_code(z: ArrayLike | Tensor, latent: int, name: str) -> Float32[Tensor, " latent"]:
    """Return a code, alone or as the only row of an array, as a new tensor.

    Raises:
        RequestError: As `codes_of`.
    """
    code = _array(z, name)
    if code.shape not in ((latent,), (1, latent)):
        raise RequestError(f"{name}: has shape {code.shape}; a text or one code of {latent} is expected")
    return codes_of(code.reshape(1, -1), latent, name)[0]


def _array(value: ArrayLike | Tensor, name: str) -> Float32[np.ndarray, "..."]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy lacks some types of torch
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise RequestError(f"{name}: is not an array of numbers") from None
    if array.dtype.kind not in "fiu":  # text, times and complex numbers would be converted silently
        raise RequestError(f"{name}: is not an array of numbers: its type is {array.dtype}")
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused
        return array.astype(np.float32)
