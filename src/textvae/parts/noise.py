"""Random numbers of latent codes, never from a global state.

In training, noise is drawn for the whole global batch from (seed, step) and each process takes its rows, so that
N processes equal one and a resumed run equals an uninterrupted one. In evaluation it is drawn for each sentence
from (seed, index), so that no batching or chunking changes a number.
"""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

# noise(samples, size) gives standard normal numbers of shape (sample, batch, size).
Noise = Callable[[int, int], Tensor]


def mixed(*numbers: int) -> int:
    """Return a seed in [0, 2^63) from several numbers, such that nearby numbers give unrelated seeds.

    >>> mixed(0, 1) == mixed(0, 1) != mixed(1, 0)
    True
    """
    packed = b"".join(int(number).to_bytes(16, "little", signed=True) for number in numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1


def step_noise(
    seed: int, step: int, total: int, rows: slice, device: torch.device | str = "cpu", *stream: int
) -> Noise:
    """Noise of one training step: drawn for `total` sentences, of which this process has `rows`.

    Other steps than those of the decoder have a `stream` of their own.
    """
    generator = torch.Generator().manual_seed(mixed(seed, step, *stream))

    def noise(samples: int, size: int) -> Float[Tensor, "sample batch size"]:
        return torch.randn(samples, total, size, generator=generator)[:, rows].to(device)

    return noise


def sentence_noise(seed: int, index: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Noise:
    """Noise of given sentences: what a sentence gets depends on the seed and its number in the split alone."""
    generators = [torch.Generator().manual_seed(mixed(seed, number)) for number in index.tolist()]

    def noise(samples: int, size: int) -> Float[Tensor, "sample batch size"]:
        drawn = [torch.randn(samples, size, generator=generator) for generator in generators]
        return torch.stack(drawn, dim=1).to(device)

    return noise


def same_noise(like: Float[Tensor, "batch *any"]) -> Noise:
    """Return a noise that is the same for every sentence, so that a code depends on its text alone."""
    generator = torch.Generator().manual_seed(0)

    def noise(samples: int, size: int) -> Float[Tensor, "sample batch size"]:
        drawn = torch.randn(samples, 1, size, generator=generator)
        return drawn.to(like).expand(samples, len(like), size)

    return noise


def uniform(keys: Int[Tensor, " row"], time: int, attempt: int) -> Float[Tensor, " row"]:
    """Return a number in [0, 1) for each row, which depends on the row's key, the time and the attempt alone.

    A counter-based generator gives any number of a row's stream directly, whichever rows are left in the batch.

    References:
        SplitMix64: Steele, Lea and Flood 2014; the high 24 bits are used.
    """
    bits = keys + _signed((1 + time + (attempt << 32)) * 0x9E3779B97F4A7C15)
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(bits ^ _shifted(bits, 31), 40).float() * 2**-24


def _signed(number: int) -> int:
    """Return the low 64 bits of a number as a signed integer of torch."""
    low = number % 2**64
    return low - 2**64 if low >= 2**63 else low


def _shifted(bits: Int[Tensor, " row"], places: int) -> Int[Tensor, " row"]:
    """Return bits shifted to the right with zeros shifted in, where torch shifts in copies of the sign."""
    return (bits >> places) & (2 ** (64 - places) - 1)
