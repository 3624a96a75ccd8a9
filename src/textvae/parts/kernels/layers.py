"""Layers that several parts share: recurrent networks over padded batches, and the vocabulary's softmax."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from textvae.parts.kernels import lstm
from textvae.parts.kernels.norm_lstm import NormLstm
from textvae.parts.kernels.products import linear, product
from textvae.settings.fields import Norm
from textvae.settings.problems import Problem

Cell = Literal["lstm", "gru"]
# LSTM: (h, c); GRU: (h,). Each (layer, batch, hidden).
State = tuple[Tensor, ...]

# Rows of float32 logits worked on at once: on a CPU few enough for its cache at 10,000 words.
ROWS, ROWS_GPU = 256, 8192


class Recurrent(nn.Module):
    """An LSTM, with or without layer normalisation, or a GRU over sentences padded at the end; states are tuples.

    Nothing is packed: oneDNN's fused kernels want whole batches, and what stands after a sentence's end cannot
    reach what stands before it.
    """

    def __init__(self, cell: Cell, size: int, hidden: int, layers: int = 1, norm: Norm = "none") -> None:
        super().__init__()
        self.cell: Cell = cell
        self.normalised = norm != "none"
        if self.normalised:
            assert cell == "lstm"  # settings refuse it for a GRU
            self.network: Any = NormLstm(size, hidden, layers, joint=norm == "layer")
        else:
            kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
            self.network = kind(size, hidden, num_layers=layers, batch_first=True)

    @property
    def states(self) -> int:
        """Number of tensors in a state."""
        return 2 if self.cell == "lstm" else 1

    def forward(
        self, inputs: Float[Tensor, "batch time size"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch time hidden"], State]:
        """Return the outputs at all times and the state after the last one, padding included."""
        if state is not None:
            state = tuple(part.to(inputs.dtype) for part in state)
        if self.cell == "lstm":
            if not self.normalised and lstm.lacking(inputs):
                with torch.autocast("cpu", enabled=False):
                    state = state and tuple(part.float() for part in state)
                    outputs, last = self.network(inputs.float(), state)
                return outputs, last
            if not self.normalised and lstm.wanted(inputs, self.network.hidden_size):
                return lstm.lstm(inputs, state, self.network.all_weights)
            outputs, last = self.network(inputs, state)
            return outputs, last
        outputs, last = self.network(inputs, None if state is None else state[0])
        return outputs, (last,)


class Feedforward(nn.Module):
    """Layers that keep the size of a vector: tanh(W x + b), or highway: t * tanh(W x + b) + (1 - t) * x.

    A highway's gates t are biased to begin mostly closed, at sigmoid(-2).

    References: Srivastava et al. 2015, section 2; Bowman et al. 2016, section 3, between encoder, z and decoder.
    """

    def __init__(self, size: int, layers: int, highway: bool) -> None:
        super().__init__()
        self.size, self.highway = size, highway
        outputs = (2 if highway else 1) * size
        self.layers = nn.ModuleList(nn.Linear(size, outputs) for _ in range(layers))

    def begin(self) -> None:
        """Set the gates' first biases."""
        if self.highway:
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                nn.init.constant_(layer.bias[self.size :], -2.0)

    def forward(self, x: Float[Tensor, "*any size"]) -> Float[Tensor, "*any size"]:
        """Return the vector after all layers."""
        for layer in self.layers:
            if self.highway:
                changed, gate = layer(x).chunk(2, dim=-1)
                gate = gate.sigmoid()
                x = gate * changed.tanh() + (1 - gate) * x
            else:
                x = layer(x).tanh()
        return x


def reversed_within(
    rows: Shaped[Tensor, "batch time *any"], lengths: Int[Tensor, " batch"]
) -> Shaped[Tensor, "batch time *any"]:
    """Each sentence back to front, its padding left at the end.

    >>> reversed_within(torch.tensor([[5, 6, 3, 0]]), torch.tensor([3])).tolist()
    [[3, 6, 5, 0]]
    """
    position = torch.arange(rows.shape[1], device=rows.device)
    source = lengths[:, None] - 1 - position
    source = torch.where(source >= 0, source, position)
    return rows.gather(1, source.view(*source.shape, *[1] * (rows.dim() - 2)).expand_as(rows))


def within(lengths: Int[Tensor, " batch"], time: int) -> Bool[Tensor, "batch time"]:
    """Return a mask of the `time` positions that belong to a sentence, end mark included, and not to padding.

    >>> within(torch.tensor([2, 3]), 3).tolist()
    [[True, True, False], [True, True, True]]
    """
    return torch.arange(time, device=lengths.device) < lengths[:, None]


class _TokenLogProb(torch.autograd.Function):
    """`token_log_prob` with gradients, its arguments all of one precision.

    d log p(token) / d logits is one-hot(token) - softmax. The negative of that takes the place of the logits, in
    their memory, as soon as these are known, so that a step holds one array of that size, passes over it once, and
    does nothing but matrix products on the way back.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, ids: Tensor) -> Tensor:  # noqa: D102
        surplus = linear(hidden, weight, bias)
        summed = torch.promote_types(hidden.dtype, torch.float32)
        found = torch.empty(len(ids), 1, dtype=summed, device=hidden.device)
        rows = _rows(ids)
        for logits, tokens, log_px in zip(
            surplus.split(rows), ids[:, None].split(rows), found.split(rows), strict=True
        ):
            log_p = logits.to(summed).log_softmax(1)
            torch.gather(log_p, 1, tokens, out=log_px)
            logits.copy_(log_p.exp_().scatter_(1, tokens, log_px.expm1()))  # expm1: no cancellation near p = 1
        ctx.save_for_backward(hidden, weight, surplus)
        return found[:, 0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        hidden, weight, surplus = ctx.saved_tensors
        scale = -gradient.to(hidden.dtype)[:, None]
        to_hidden, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            product(surplus, weight.T) * scale if to_hidden else None,
            product(surplus.T, (hidden * scale).T) if to_weight else None,
            (surplus.T @ scale)[:, 0] if to_bias else None,
            None,
        )


def token_log_prob(
    hidden: Float[Tensor, "row size"],
    weight: Float[Tensor, "vocabulary size"],
    bias: Float[Tensor, " vocabulary"],
    ids: Int[Tensor, " row"],
) -> Float[Tensor, " row"]:
    """log softmax(hidden W' + b) at each row's token, in nats, summed up in float32 where the logits have less.

    Can be differentiated once.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        precision = torch.get_autocast_dtype(device)
        hidden, weight, bias = hidden.to(precision), weight.to(precision), bias.to(precision)
    if torch.is_grad_enabled():
        return _TokenLogProb.apply(hidden, weight, bias, ids)
    chunks = zip(hidden.split(_rows(ids)), ids.split(_rows(ids)), strict=True)
    return torch.cat([_log_prob(linear(rows, weight, bias), wanted) for rows, wanted in chunks])


def words_log_prob(
    outputs: Float[Tensor, "samples_batch time size"], words: nn.Linear, ids: Int[Tensor, "batch time"]
) -> Float[Tensor, "sample batch time"]:
    """log p of every token in nats by a softmax of a network's outputs, which come sample by sample."""
    targets = ids.expand(len(outputs) // len(ids), *ids.shape)
    found = token_log_prob(outputs.flatten(0, 1), words.weight, words.bias, targets.flatten())
    return found.view(targets.shape)


def _rows(ids: Tensor) -> int:
    """Return the number of rows of logits processed at once on the device of these tokens."""
    return ROWS if ids.device.type == "cpu" else ROWS_GPU


def _log_prob(logits: Tensor, ids: Tensor) -> Tensor:
    """log softmax at each row's token."""
    return -F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), ids, reduction="none")


def norm_problems(cell: Cell, norm: Norm) -> list[Problem]:
    """Return the problem of a layer norm in a GRU; paths are relative to the part."""
    if cell == "lstm" or norm == "none":
        return []
    return [Problem("norm", "is made for the LSTM", "set norm = 'none' or name = 'lstm' in this table", value=norm)]
