"""Self-attention in pre-norm blocks with rotary positions: over whole sentences, or step by step from a store."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textvae.errors import RequestError
from textvae.parts.kernels.products import linear
from textvae.settings.problems import Problem

# attend(layer, query, key, value) -> what each position takes from those it may see; all (row, head, time, size).
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]

BASE = 10_000.0  # the slowest pair of a head turns by about this many positions a radian
DEVIATION = 0.02  # of first weights
ROOM = 32  # positions by which a store grows: copying it costs little beside reading all of it at every step


def causal(
    layer: int,
    query: Float[Tensor, "row head time size"],
    key: Float[Tensor, "row head time size"],
    value: Float[Tensor, "row head time size"],
) -> Float[Tensor, "row head time size"]:
    """Attention of each position to itself and those before it."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def attending(inside: Bool[Tensor, "row time"]) -> Attend:
    """Attention of every position to those, before and after it, that are `inside`: a sentence's own tokens."""
    mask = inside[:, None, None]
    return lambda layer, query, key, value: F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def turns(first: int, time: int, size: int, like: Tensor) -> Float[Tensor, "2 time 1 1 half"]:
    """Cosines and sines of the angles of `time` positions from `first` on, for heads of `size` numbers."""
    half = size // 2
    pace = BASE ** -(torch.arange(half, dtype=like.dtype, device=like.device) / half)
    angles = torch.arange(first, first + time, dtype=like.dtype, device=like.device)[:, None] * pace
    return torch.stack([angles.cos(), angles.sin()])[:, :, None, None]


def turned(
    x: Float[Tensor, "row time kind head size"], turn: Float[Tensor, "2 time 1 1 half"]
) -> Float[Tensor, "row time kind head size"]:
    """Return queries and keys with each pair (i, i + size / 2) of a head turned by its position's angle.

    The product of a turned query and a turned key depends on how far apart their positions are, not where they are.

    References: Su et al. 2021, "RoFormer", section 3.2.2, whose pairs stand side by side, all the same to a
    network.
    """
    cos, sin = turn
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1).to(x.dtype)


class Store:
    """Keys and values of all layers, with room for more: (layer, 2, row, head, room, size), `written` of them.

    Many pasts may share one store, each its own first positions: what has been written is never written over.
    """

    def __init__(self, entries: Tensor, written: int) -> None:
        self.entries, self.written = entries, written

    def taking(self, position: int) -> "Store":
        """Return a store with the entries before `position` and room for one there: this, or a larger copy."""
        if self.written == position < self.entries.shape[4]:
            self.written += 1
            return self
        *shape, _, size = self.entries.shape
        entries = self.entries.new_empty(*shape, position + ROOM, size)
        entries[..., :position, :] = self.entries[..., :position, :]
        return Store(entries, position + 1)

    def attention(self, position: int) -> Attend:
        """Attention of one position to itself, which is written, and to all before it."""

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self.entries[layer]
            keys[:, :, position], values[:, :, position] = key[:, :, 0], value[:, :, 0]
            return F.scaled_dot_product_attention(query, keys[:, :, : position + 1], values[:, :, : position + 1])

        return attend


class Past(NamedTuple):
    """State between two steps: the first `position` entries of a store."""

    store: Store
    position: int

    def select(self, rows: Int[Tensor, " kept"] | Bool[Tensor, " row"]) -> "Past":
        """Return the past of some rows."""
        return Past(Store(self.store.entries[:, :, rows], self.position), self.position)


class Block(nn.Module):
    """x + attention(norm(x)), and to that y + feed-forward(norm(y)): GELU, four times as wide inside.

    References: Xiong et al. 2020, "On layer normalization in the transformer architecture", figure 1 (b).
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(hidden)
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.before_feedforward = nn.LayerNorm(hidden)
        self.wide = nn.Linear(hidden, 4 * hidden)
        self.narrow = nn.Linear(4 * hidden, hidden)

    def forward(
        self,
        x: Float[Tensor, "row time hidden"],
        turn: Float[Tensor, "2 time 1 1 half"],
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
        dropout: float,
    ) -> Float[Tensor, "row time hidden"]:
        """Return the stream after this block; dropout falls on what each branch adds to it."""
        parts = applied(self.query_key_value, self.before_attention(x)).unflatten(2, (3, self.heads, -1))
        query, key = turned(parts[:, :, :2], turn).permute(2, 0, 3, 1, 4)
        found = attend(query, key, parts[:, :, 2].transpose(1, 2)).transpose(1, 2).flatten(2)
        x = x + F.dropout(applied(self.attended, found), dropout)
        wide = F.gelu(applied(self.wide, self.before_feedforward(x)))
        return x + F.dropout(applied(self.narrow, wide), dropout)


class Transformer(nn.Module):
    """Pre-norm blocks and a last norm; positions are rotary, so nothing bounds the length.

    `hidden` must be a multiple of twice the number of heads: positions turn pairs of a head's numbers.

    References: Vaswani et al. 2017; order of the norms, Xiong et al. 2020; positions, Su et al. 2021. First weights
    as in GPT-2, of deviation 0.02, those that write to the stream over sqrt(2 layers): Radford et al. 2019, part
    2.3.
    """

    def __init__(self, hidden: int, layers: int, heads: int) -> None:
        super().__init__()
        if hidden % (2 * heads):
            raise RequestError(f"hidden = {hidden}: must be a multiple of {2 * heads}, twice the number of heads")
        self.hidden, self.heads = hidden, heads
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.begin()

    def begin(self) -> None:
        """Draw the first weights; norms change nothing, biases are 0."""
        for part in self.modules():
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.query_key_value, block.wide):
                draw(layer, DEVIATION)
            for layer in (block.attended, block.narrow):
                draw(layer, DEVIATION / math.sqrt(2 * len(self.blocks)))

    def forward(
        self, x: Float[Tensor, "row time hidden"], attend: Attend, dropout: float = 0.0, position: int = 0
    ) -> Float[Tensor, "row time hidden"]:
        """Return the outputs for inputs from `position` on.

        The stream, and with it every norm, has the weights' precision, under autocast too. It is the caller who
        switches dropout off at evaluation.
        """
        x = x.to(self.norm.weight.dtype)
        turn = turns(position, x.shape[1], self.hidden // self.heads, x)
        for layer, block in enumerate(self.blocks):
            x = block(x, turn, partial(attend, layer), dropout)
        return self.norm(x)

    def past(self, rows: int) -> Past:
        """Return the empty past before the first position of `rows` sentences."""
        shape = (len(self.blocks), 2, rows, self.heads, 0, self.hidden // self.heads)
        return Past(Store(self.norm.weight.new_empty(shape), 0), 0)

    def step(self, x: Float[Tensor, "row hidden"], past: Past) -> tuple[Float[Tensor, "row hidden"], Past]:
        """Return the output at one more position and the past after it; other pasts of the store stay valid."""
        store = past.store.taking(past.position)
        outputs = self(x[:, None], store.attention(past.position), position=past.position)
        return outputs[:, 0], Past(store, past.position + 1)


def applied(layer: nn.Linear, x: Float[Tensor, "*any size"]) -> Float[Tensor, "*any out"]:
    """Return a linear layer, by the fastest product there is."""
    return linear(x.flatten(0, -2), layer.weight, layer.bias).view(*x.shape[:-1], layer.out_features)


def draw(layer: nn.Linear | nn.Embedding, deviation: float) -> None:
    """Draw weights from a normal distribution; biases are 0."""
    nn.init.normal_(layer.weight, std=deviation)
    if isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)


def head_problems(heads: int, hidden: int) -> list[Problem]:
    """Return the problem of a hidden size that rotary heads do not divide; paths are relative to the part."""
    if not hidden % (2 * heads):
        return []
    return [Problem("heads", f"hidden = {hidden} must be a multiple of twice that", value=heads)]
