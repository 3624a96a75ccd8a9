"""From codes to token ids: greedy, beam, temperature, top-k and nucleus decoding, many sentences at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import partial
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.errors import RequestError
from textvae.generate.beam import Hypothesis, Search, beam
from textvae.parts.noise import mixed
from textvae.text.tokenizers import BOS, EOS, PAD, UNK

ROWS = 1000  # sentences decoded side by side; with 10,000 words their logits take 40 MB
GPU_ROWS = 16_000  # the same on a GPU, whose work is worth starting only in large pieces
# Rows leave the batch once this share of it has ended: less often, and time goes into rows that nobody reads.
ENDED = 1 / 8
# Keeps the random numbers of decoding apart from those of the codes, which are drawn from (seed, row).
_STREAM = 1

# What a way of decoding has of its own: the value that means nothing, and the ways that have a use for others.
USED_BY: dict[str, tuple[float, tuple[str, ...]]] = {
    "temperature": (1.0, ("sample", "top-k", "nucleus")),
    "top_k": (0, ("top-k",)),
    "top_p": (1.0, ("nucleus",)),
    "beam": (0, ("beam",)),
    "normalisation": (0.0, ("beam",)),
}

# uniform(attempt) -> one number in [0, 1) for each row, a new one at every attempt.
Uniform = Callable[[int], Tensor]
# choose(logits, uniform) -> token of each row.
Choose = Callable[[Tensor, Uniform], Tensor]


@runtime_checkable
class Decoder(Protocol):
    """What generation needs of a decoder; use it in evaluation mode."""

    max_length: int | None

    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102

    def start(self, z: Any, rows: int) -> Any: ...  # noqa: D102

    def step(self, token: Any, state: Any) -> tuple[Any, Any]: ...  # noqa: D102

    def select(self, state: Any, rows: Any) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Decoding:
    """How the next word is picked.

    `greedy`: the likeliest. `sample`: from the model's own distribution. `top-k`: from its `top_k` likeliest words.
    `nucleus`: from the smallest set of likeliest words that holds a mass of `top_p`, so the word that crosses the
    threshold is kept, and with it those that are exactly as likely. `temperature` divides the logits, before any
    truncation. `beam`: the likeliest text that a search with `beam` texts side by side finds, by log p(text|z) over
    its number of tokens to the power of `normalisation`.

    The padding and the begin mark are never picked, and the unknown word, to the model a word like any other, only
    if `allow_unknown`. No text ends before it has `min_length` words, and each is cut at `max_length`; 0 stands for
    the length of the model's own texts.

    Source: nucleus, Holtzman et al. 2020, section 3.1 (Prokhorov et al. 2019 sample so, but their program drops the
    word that crosses).

    Raises:
        RequestError: for an unknown name, a number out of range, or one that the named way has no use for.
    """

    name: str = "greedy"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    allow_unknown: bool = True
    beam: int = 0
    normalisation: float = 0.0
    min_length: int = 0
    max_length: int = 0

    @property
    def brief(self) -> str:
        """The name with what is not as usual, such as `nucleus,top_p=0.9`, for signatures."""
        options = [(one.name, getattr(self, one.name), one.default) for one in fields(self)[1:]]
        return ",".join([self.name, *(f"{name}={value}" for name, value, usual in options if value != usual)])

    @property
    def certain(self) -> bool:
        """Whether the text of a code is the same at every seed: nothing is drawn."""
        return self.name in ("greedy", "beam") or (self.name == "top-k" and self.top_k == 1)

    def __post_init__(self) -> None:
        known = ("beam", *CHOICES)
        if self.name not in known:
            close = get_close_matches(str(self.name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise RequestError(f"decoding {self.name!r}: unknown; {hint}")
        if self.temperature == math.inf:
            raise RequestError("temperature = inf: must be finite")
        if not self.temperature >= 0.001:
            raise RequestError(
                f"temperature = {self.temperature}: must be 0.001 or more; the limit at 0 is greedy decoding"
            )
        if self.name == "top-k" and self.top_k < 1:
            raise RequestError(f"top_k = {self.top_k}: top-k decoding needs 1 or more")
        if not 0.0 < self.top_p <= 1.0:
            raise RequestError(f"top_p = {self.top_p}: must be in (0, 1]")
        if self.name == "beam" and self.beam < 1:
            raise RequestError(f"beam = {self.beam}: beam decoding needs 1 or more")
        if not 0.0 <= self.normalisation < math.inf:
            raise RequestError(f"normalisation = {self.normalisation}: must be 0 or more, and finite")
        for name, value in (("min_length", self.min_length), ("max_length", self.max_length)):
            if value < 0:
                raise RequestError(f"{name} = {value}: must be 0 or more")
        for option, (usual, ways) in USED_BY.items():
            if getattr(self, option) != usual and self.name not in ways:
                given = f"{option} = {getattr(self, option)}"
                raise RequestError(f"{given}: {self.name} decoding has none; decode by {ways[0]!r}")


def greedy(
    decoder: Decoder,
    z: Float[Tensor, "row latent"] | None,
    max_length: int,
    *,
    rows: int = 1,
    allow_unknown: bool = True,
    chunk: int = ROWS,
) -> list[list[int]]:
    """The sentence of each code, the likeliest word at each step; ids without the end mark.

    See `generate` for the arguments.
    """
    return generate(decoder, z, Decoding(allow_unknown=allow_unknown), max_length, rows=rows, chunk=chunk)


def sample(
    decoder: Decoder,
    z: Float[Tensor, "row latent"] | None,
    max_length: int,
    seed: int,
    *,
    temperature: float = 1.0,
    rows: int = 1,
    allow_unknown: bool = True,
    chunk: int = ROWS,
) -> list[list[int]]:
    """A sentence drawn from p(x|z) of each code, sharper or flatter by `temperature`; ids without the end mark.

    See `generate` for the arguments.
    """
    decoding = Decoding("sample", temperature, allow_unknown=allow_unknown)
    return generate(decoder, z, decoding, max_length, seed, rows=rows, chunk=chunk)


@torch.no_grad()
def generate(
    decoder: Decoder,
    z: Float[Tensor, "row latent"] | None,
    decoding: Decoding,
    max_length: int,
    seed: int = 0,
    *,
    rows: int = 1,
    chunk: int = ROWS,
    code: Callable[[Tensor], Tensor] = lambda z: z,
    end: bool = True,
    begin: int = 0,
) -> list[list[int]]:
    """The ids of one sentence for each code, or of `rows` sentences without codes, end marks left out.

    A sentence has at most `max_length` words, or as many as the decoder declares if that is fewer; what has not
    ended then is cut. The random numbers of a sentence depend on the seed and its row alone, so neither `chunk`,
    how many are decoded side by side, nor the other rows change it (but for the last bit of the decoder's own
    arithmetic, which may differ with the size of a batch). Rows are numbered from `begin`, so that what is
    decoded in several calls has the texts that it has in one. `code` makes of each chunk of `z` what the decoder
    sees of it. Without `end` the end mark is a token like any other and ends nothing: every text has exactly
    `max_length` tokens, end marks among them. Put the decoder into evaluation mode first.

    Raises:
        RequestError: for a length or a number of rows that makes no sense, and where `decoding` asks for longer
            texts than the decoder has.
    """
    rows = rows if z is None else len(z)
    limits = (("max_length", max_length, 1), ("rows", rows, 0), ("chunk", chunk, 1))
    for name, value, least in (*limits, ("max_length", max_length, decoding.min_length)):
        if value < least:
            if least == decoding.min_length and name == "max_length" and value > 0:
                raise RequestError(f"min_length = {least}: no text has more than {value} words; give that or less")
            raise RequestError(f"{name} = {value}: must be {least} or more")
    if decoding.name == "beam":
        return [texts[0].ids for texts in beams(decoder, z, decoding, max_length, rows=rows, code=code, end=end)]
    max_length = _within(decoder, decoding, max_length)
    device = next(decoder.parameters()).device
    choose = CHOICES[decoding.name](decoding)
    banned = (PAD, BOS) if decoding.allow_unknown else (PAD, BOS, UNK)
    least = decoding.min_length if end else 0
    sentences: list[list[int]] = []
    for first in range(0, rows, chunk):
        part = range(first, min(first + chunk, rows))
        keys = torch.tensor([mixed(seed, begin + row, _STREAM) for row in part], device=device)
        seen = None if z is None else code(z[part.start : part.stop].to(device))
        state = decoder.start(seen, len(part))
        ids = _decoded(decoder, state, choose, keys, banned, max_length, end, least).tolist()
        sentences += [row[: row.index(EOS)] if end else row[:-1] for row in ids]
    return sentences


def side_by_side(device: torch.device, beam: int) -> int:
    """How many codes are searched with a beam of that size at once."""
    return max(1, (ROWS if device.type == "cpu" else GPU_ROWS) // beam)


@torch.no_grad()
def beams(
    decoder: Decoder,
    z: Float[Tensor, "row latent"] | None,
    decoding: Decoding,
    max_length: int,
    *,
    rows: int = 1,
    code: Callable[[Tensor], Tensor] = lambda z: z,
    end: bool = True,
    templates: Int[Tensor, "row time"] | None = None,
) -> list[list[Hypothesis]]:
    """Up to `decoding.beam` texts of each code with their log-probabilities, the best first.

    See `generate` for the arguments and errors, and `beam.beam` for `templates`, words that are given.
    """
    rows = rows if z is None else len(z)
    max_length = _within(decoder, decoding, max_length)
    device = next(decoder.parameters()).device
    banned = (PAD, BOS) if decoding.allow_unknown else (PAD, BOS, UNK)
    search = Search(
        decoding.beam, max_length, decoding.normalisation, decoding.min_length if end else 0, banned, end
    )
    chunk = side_by_side(device, decoding.beam)
    found: list[list[Hypothesis]] = []
    for first in range(0, rows, chunk):
        last = min(first + chunk, rows)
        seen = None if z is None else code(z[first:last].to(device))
        given = None if templates is None else templates[first:last].to(device)
        found += beam(decoder, seen, last - first, search, given)
    return found


def _within(decoder: Decoder, decoding: Decoding, max_length: int) -> int:
    """The greatest length that a decoder has, if that is less; refused if `decoding` asks for more by itself."""
    if decoder.max_length is None:
        return max_length
    if decoding.max_length > decoder.max_length:
        raise RequestError(
            f"max_length = {decoding.max_length}: this model unfolds a code into {decoder.max_length} positions, "
            "by its data.max_length or data.window, and no text of it is longer; give that or less"
        )
    return min(max_length, decoder.max_length)


def _decoded(
    decoder: Decoder,
    state: Any,
    choose: Choose,
    keys: Int[Tensor, " row"],
    banned: tuple[int, ...],
    max_length: int,
    end: bool,
    min_length: int,
) -> Int[Tensor, "row length"]:
    """The tokens of each row and an end mark; with `end` what stands behind a row's first one means nothing."""
    token = torch.full_like(keys, BOS)
    ids = keys.new_full((len(keys), max_length + 1), EOS)
    place = torch.arange(len(keys), device=keys.device)  # where in `ids` each row of the batch belongs
    ended = torch.zeros_like(keys, dtype=torch.bool)
    for time in range(max_length):
        logits, state = decoder.step(token, state)
        for word in banned if time >= min_length else (*banned, EOS):
            logits[:, word] = -math.inf
        token = choose(logits, partial(_uniform, keys, time))
        ids[place, time] = token
        if not end:
            continue
        ended |= token == EOS
        going = len(ended) - int(ended.sum())
        if not going:
            break
        if going <= (1 - ENDED) * len(ended):
            kept = (~ended).nonzero()[:, 0]
            state = decoder.select(state, kept)
            token, keys, place, ended = token[kept], keys[kept], place[kept], ended[kept]
    return ids


def _uniform(keys: Int[Tensor, " row"], time: int, attempt: int) -> Float[Tensor, " row"]:
    """A number in [0, 1) for each row, which depends on the row's key, the time and the attempt alone.

    A generator that counts gives any number of a row's stream at once, whichever rows are left in the batch.
    Source: SplitMix64, Steele, Lea and Flood 2014, whose high 24 bits are taken.
    """
    bits = keys + _signed((1 + time + (attempt << 32)) * 0x9E3779B97F4A7C15)
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(bits ^ _shifted(bits, 31), 40).float() * 2**-24


def _signed(number: int) -> int:
    """The low 64 bits of a number, as torch's signed integers hold them."""
    low = number % 2**64
    return low - 2**64 if low >= 2**63 else low


def _shifted(bits: Int[Tensor, " row"], places: int) -> Int[Tensor, " row"]:
    """Bits shifted to the right, with zeros moving in where torch moves in copies of the sign."""
    return (bits >> places) & (2 ** (64 - places) - 1)


def _greedy(decoding: Decoding) -> Choose:
    return lambda logits, uniform: logits.argmax(dim=1)


def _sample(decoding: Decoding) -> Choose:
    return lambda logits, uniform: _drawn(_mass(logits, decoding.temperature), uniform(0))


def _top_k(decoding: Decoding) -> Choose:
    def choose(logits: Float[Tensor, "row word"], uniform: Uniform) -> Int[Tensor, " row"]:
        likeliest, words = logits.topk(min(decoding.top_k, logits.shape[1]))
        at = _drawn(_mass(likeliest, decoding.temperature), uniform(0))
        return words.gather(1, at[:, None])[:, 0]

    return choose


def _nucleus(decoding: Decoding) -> Choose:
    """Draws from all words until the word is in the nucleus: no sorting, which takes longer than all the rest.

    A word is in the nucleus if the words that are likelier hold less than `top_p`. If it is not, no word that is as
    unlikely is either, and the next attempt leaves them all out.
    """

    def choose(logits: Float[Tensor, "row word"], uniform: Uniform) -> Int[Tensor, " row"]:
        mass = _mass(logits, decoding.temperature)
        token = torch.empty(len(mass), dtype=torch.long, device=mass.device)
        rows = torch.arange(len(mass), device=mass.device)
        for attempt in count():
            drawn = _drawn(mass, uniform(attempt)[rows])
            token[rows] = drawn
            likelier = torch.where(mass > mass.gather(1, drawn[:, None]), mass, 0.0)
            outside = (likelier.sum(dim=1).double() >= decoding.top_p).nonzero()[:, 0]
            if not len(outside):
                break
            mass, rows = likelier[outside], rows[outside]
        return token

    return choose


CHOICES = {"greedy": _greedy, "sample": _sample, "top-k": _top_k, "nucleus": _nucleus}


def _mass(logits: Float[Tensor, "row word"], temperature: float) -> Float[Tensor, "row word"]:
    """Probabilities, in float32."""
    return (logits.float() if temperature == 1.0 else logits.float() / temperature).softmax(dim=1)


def _drawn(mass: Float[Tensor, "row word"], uniform: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """The word of each row in whose stretch of the summed-up mass the uniform number falls; never one without mass.

    One number a row and two passes, where a race of exponentials would need a number for every word. Probabilities
    come out right to about 1e-7, the resolution of float32 numbers below 1.
    """
    summed = mass.cumsum(dim=1)
    wanted = uniform[:, None] * summed[:, -1:]
    return torch.searchsorted(summed, wanted, right=True)[:, 0].clamp_(max=mass.shape[1] - 1)
