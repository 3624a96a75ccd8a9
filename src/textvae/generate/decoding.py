"""Decoding of codes to token ids: greedy, beam, temperature, top-k and nucleus, in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.errors import RequestError, did_you_mean
from textvae.generate.bans import Bans
from textvae.generate.beam import Hypothesis, Search, beam
from textvae.parts.noise import mixed, uniform
from textvae.text.tokenizers import BOS, EOS, PAD, UNK

ROWS = 1000  # sentences decoded side by side; with 10,000 words their logits take 40 MB
GPU_ROWS = 16_000  # the same on a GPU, whose work is worth starting only in large pieces
# Ended rows leave the batch once they are this share of it: a larger share would compute rows that are not used.
ENDED = 1 / 8
# Random stream of decoding, distinct from that of the codes, which are drawn from (seed, row).
_STREAM = 1

# The highest temperature, which float32 must hold, and the highest power of a length, which float64 must hold.
HOTTEST, STRONGEST = 1e38, 50.0
# The largest number of words and of texts kept side by side: what it counts must be counted in int64.
MOST = 2**31 - 1

# Options of single ways of decoding: the neutral value, and the ways that use other values.
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
class StepDecoder(Protocol):
    """The part of a `parts.decoders.Decoder` that generation uses, in evaluation mode."""

    max_length: int | None

    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102

    def start(self, z: Any, rows: int) -> Any: ...  # noqa: D102

    def step(self, token: Any, state: Any) -> tuple[Any, Any]: ...  # noqa: D102

    def select(self, state: Any, rows: Any) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Decoding:
    """A way of decoding: the choice of the next word.

    `greedy`: the likeliest word. `sample`: a draw from the model's own distribution. `top-k`: a draw from its
    `top_k` likeliest words. `nucleus`: a draw from the smallest set of likeliest words with a mass of at least
    `top_p`; the word that crosses the threshold is included, and so are words exactly as likely. `temperature`
    divides the logits before any truncation. `beam`: the text with the highest log p(text|z), divided by its number
    of tokens to the power of `normalisation`, that a search with `beam` parallel texts finds.

    Padding and the begin mark are never chosen; the unknown word, to the model a word like any other, only with
    `allow_unknown`. With `no_repeat` no sequence of that many tokens comes twice in a text, end marks apart. No
    text ends before `min_length` words, unless nothing may follow, and each is cut at `max_length`; 0 stands for
    the length of the model's own texts.

    Raises:
        RequestError: For an unknown name, a number out of range, or an option that the named way does not use.

    References:
        Holtzman et al. 2020, section 3.1, for `nucleus`. Prokhorov et al. 2019 also use it, but their program drops
        the word that crosses the threshold.
    """

    name: str = "greedy"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    allow_unknown: bool = False
    beam: int = 0
    normalisation: float = 0.0
    min_length: int = 0
    max_length: int = 0
    no_repeat: int = 0

    @property
    def brief(self) -> str:
        """Name and options that differ from the plain ones, such as `nucleus,top_p=0.9`, for signatures.

        Plain decoding has every word of the model's distribution, the unknown one too.
        """
        plain = {one.name: one.default for one in fields(self)[1:]} | {"allow_unknown": True}
        options = [(name, getattr(self, name), usual) for name, usual in plain.items()]
        return ",".join([self.name, *(f"{name}={value}" for name, value, usual in options if value != usual)])

    @property
    def banned(self) -> tuple[int, ...]:
        """Tokens that are never written."""
        return (PAD, BOS) if self.allow_unknown else (PAD, BOS, UNK)

    @property
    def certain(self) -> bool:
        """True if the text of a code is the same at every seed: nothing is drawn."""
        return self.name in ("greedy", "beam") or (self.name == "top-k" and self.top_k == 1)

    def __post_init__(self) -> None:
        known = ("beam", *CHOICES)
        if self.name not in known:
            hint = did_you_mean(str(self.name), known, f"; known: {', '.join(known)}")
            raise RequestError(f"decoding {self.name!r}: unknown{hint}")
        if self.temperature > HOTTEST:
            raise RequestError(f"temperature = {self.temperature}: must be finite, and {HOTTEST:g} or less")
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
        if not 0.0 <= self.normalisation <= STRONGEST:
            raise RequestError(
                f"normalisation = {self.normalisation}: must be 0 or more, and {STRONGEST:g} at most"
            )
        for name in ("top_k", "beam", "min_length", "max_length", "no_repeat"):
            if not 0 <= getattr(self, name) <= MOST:
                raise RequestError(f"{name} = {getattr(self, name)}: must be 0 or more, and {MOST} or less")
        for option, (usual, ways) in USED_BY.items():
            if getattr(self, option) != usual and self.name not in ways:
                given = f"{option} = {getattr(self, option)}"
                raise RequestError(f"{given}: has no effect on {self.name} decoding; decode by {ways[0]!r}")


def greedy(
    decoder: StepDecoder,
    z: Float[Tensor, "row latent"] | None,
    max_length: int,
    *,
    rows: int = 1,
    allow_unknown: bool = False,
    chunk: int = ROWS,
) -> list[list[int]]:
    """Return the sentence of each code with the likeliest word at each step; ids without the end mark.

    See `generate` for the arguments.
    """
    return generate(decoder, z, Decoding(allow_unknown=allow_unknown), max_length, rows=rows, chunk=chunk)


def sample(
    decoder: StepDecoder,
    z: Float[Tensor, "row latent"] | None,
    max_length: int,
    seed: int,
    *,
    temperature: float = 1.0,
    rows: int = 1,
    allow_unknown: bool = False,
    chunk: int = ROWS,
) -> list[list[int]]:
    """Draw a sentence from p(x|z) of each code at a `temperature`; ids without the end mark.

    See `generate` for the arguments.
    """
    decoding = Decoding("sample", temperature, allow_unknown=allow_unknown)
    return generate(decoder, z, decoding, max_length, seed, rows=rows, chunk=chunk)


@torch.no_grad()
def generate(
    decoder: StepDecoder,
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
    """Return the ids of one sentence per code, or of `rows` sentences without codes, end marks left out.

    A sentence has at most `max_length` words, or the decoder's own limit if that is lower, and is cut there. The
    random numbers of a sentence depend on the seed and its row alone, so neither `chunk`, the number decoded side
    by side, nor the other rows change it (except for the last bit of the decoder's arithmetic, which may vary with
    the batch size). Put the decoder into evaluation mode first.

    Args:
        decoder: Decoder of the model.
        z: Codes, or None.
        decoding: The way of decoding.
        max_length: Most words.
        seed: Seed of the random numbers.
        rows: Number of sentences without codes.
        chunk: Sentences decoded side by side.
        code: Maps a chunk of `z` to the decoder's input.
        end: False treats the end mark as an ordinary token: every text has exactly `max_length` tokens.
        begin: Number of the first row, so that several calls give the texts of a single one.

    Raises:
        RequestError: For an invalid length or number of rows, and if `decoding` asks for longer texts than the
        decoder
            can generate.
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
    bans = Bans(decoding.banned, decoding.min_length if end else 0, decoding.no_repeat)
    sentences: list[list[int]] = []
    for first in range(0, rows, chunk):
        part = range(first, min(first + chunk, rows))
        keys = torch.tensor([mixed(seed, begin + row, _STREAM) for row in part], device=device)
        seen = None if z is None else code(z[part.start : part.stop].to(device))
        state = decoder.start(seen, len(part))
        ids = _decoded(decoder, state, choose, keys, bans, max_length, end).tolist()
        sentences += [row[: row.index(EOS)] if end else row[:-1] for row in ids]
    return sentences


def side_by_side(device: torch.device, beam: int) -> int:
    """Return the number of codes that are searched at once with a beam of that size."""
    return max(1, (ROWS if device.type == "cpu" else GPU_ROWS) // beam)


@torch.no_grad()
def beams(
    decoder: StepDecoder,
    z: Float[Tensor, "row latent"] | None,
    decoding: Decoding,
    max_length: int,
    *,
    rows: int = 1,
    code: Callable[[Tensor], Tensor] = lambda z: z,
    end: bool = True,
    templates: Int[Tensor, "row time"] | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `decoding.beam` texts of each code with their log-probabilities, the best first.

    See `generate` for the arguments and errors, and `beam.beam` for `templates`, the given words.
    """
    rows = rows if z is None else len(z)
    max_length = _within(decoder, decoding, max_length)
    device = next(decoder.parameters()).device
    bans = Bans(decoding.banned, decoding.min_length if end else 0, decoding.no_repeat)
    search = Search(decoding.beam, max_length, decoding.normalisation, bans, end)
    chunk = side_by_side(device, decoding.beam)
    hypotheses: list[list[Hypothesis]] = []
    for first in range(0, rows, chunk):
        last = min(first + chunk, rows)
        seen = None if z is None else code(z[first:last].to(device))
        given = None if templates is None else templates[first:last].to(device)
        hypotheses += beam(decoder, seen, last - first, search, given)
    return hypotheses


def _within(decoder: StepDecoder, decoding: Decoding, max_length: int) -> int:
    """Return the smaller of `max_length` and the decoder's limit; refuse a decoding that asks for more."""
    if decoder.max_length is None:
        return max_length
    if decoding.max_length > decoder.max_length:
        raise RequestError(
            f"max_length = {decoding.max_length}: this model unfolds a code into {decoder.max_length} positions, "
            "as set by data.max_length or data.window, so its texts are not longer; give that or less"
        )
    return min(max_length, decoder.max_length)


def _decoded(
    decoder: StepDecoder,
    state: Any,
    choose: Choose,
    keys: Int[Tensor, " row"],
    bans: Bans,
    max_length: int,
    end: bool,
) -> Int[Tensor, "row length"]:
    """Return the tokens of each row and an end mark; with `end`, ignore what follows a row's first end mark."""
    token = torch.full_like(keys, BOS)
    ids = keys.new_full((len(keys), max_length + 1), EOS)
    place = torch.arange(len(keys), device=keys.device)  # row of `ids` of each row of the batch
    ended = torch.zeros_like(keys, dtype=torch.bool)
    for time in range(max_length):
        logits, state = decoder.step(token, state)
        bans.apply(logits, ids[place, :time])
        token = choose(logits, partial(uniform, keys, time))
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
    """Draw from all words until the word is in the nucleus, which avoids sorting, by far the slowest step.

    A word is in the nucleus if the likelier words hold less than `top_p`. If it is not, no word at most as likely
    is, and the next attempt excludes them all.
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
    """Return probabilities in float32."""
    return (logits.float() if temperature == 1.0 else logits.float() / temperature).softmax(dim=1)


def _drawn(mass: Float[Tensor, "row word"], uniform: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """Return the word of each row whose interval of the cumulative mass contains the uniform number.

    A word without mass is never drawn. This takes one number per row and two passes; sampling with exponentials
    would take a number for every word. Probabilities are correct to about 1e-7, the resolution of float32 numbers
    below 1.
    """
    summed = mass.cumsum(dim=1)
    target = uniform[:, None] * summed[:, -1:]
    return torch.searchsorted(summed, target, right=True)[:, 0].clamp_(max=mass.shape[1] - 1)
