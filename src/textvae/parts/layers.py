"""Layers that several parts share: recurrent networks over padded batches, and the vocabulary's softmax."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Cell = Literal["lstm", "gru"]
# LSTM: (h, c); GRU: (h,). Each (layer, batch, hidden).
State = tuple[Tensor, ...]

# Rows of float32 logits worked on at once where no gradient is needed: 10,000 words fit the cache of a core.
ROWS = 512


class Recurrent(nn.Module):
    """An LSTM or GRU over sentences padded at the end; states are tuples for both.

    Nothing is packed: oneDNN's fused kernels want whole batches, and what stands after a sentence's end cannot
    reach what stands before it.
    """

    def __init__(self, cell: Cell, size: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.cell: Cell = cell
        self.network = kind(size, hidden, num_layers=layers, batch_first=True)

    @property
    def states(self) -> int:
        """How many tensors a state has."""
        return 2 if self.cell == "lstm" else 1

    def forward(
        self, inputs: Float[Tensor, "batch time size"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch time hidden"], State]:
        """Outputs at all times, and the state after the last one, padding included."""
        if state is not None:
            state = tuple(part.to(inputs.dtype) for part in state)
        if self.cell == "lstm":
            outputs, last = self.network(inputs, state)
            return outputs, last
        outputs, last = self.network(inputs, None if state is None else state[0])
        return outputs, (last,)


def reversed_within(ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]) -> Int[Tensor, "batch time"]:
    """Each sentence back to front, its padding left at the end.

    >>> reversed_within(torch.tensor([[5, 6, 3, 0]]), torch.tensor([3])).tolist()
    [[3, 6, 5, 0]]
    """
    position = torch.arange(ids.shape[1], device=ids.device)
    source = lengths[:, None] - 1 - position
    return ids.gather(1, torch.where(source >= 0, source, position))


def linear(
    inputs: Float[Tensor, "row size"], weight: Float[Tensor, "out size"], bias: Float[Tensor, " out"]
) -> Float[Tensor, "row out"]:
    """`F.linear`; in float32 on a CPU as a convolution of width 1.

    torch multiplies float32 matrices with MKL, which is slow on some processors, and convolves with oneDNN, which
    is near the peak of all: about twice as fast here (`benchmarks/README.md`).
    """
    autocast = torch.is_autocast_enabled(inputs.device.type)
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or autocast or not len(inputs):
        return F.linear(inputs, weight, bias)
    as_image = inputs.reshape(1, len(inputs), 1, -1).permute(0, 3, 1, 2)  # channels last: no copy
    return F.conv2d(as_image, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(len(inputs), -1)


def token_log_prob(
    hidden: Float[Tensor, "row size"],
    weight: Float[Tensor, "vocabulary size"],
    bias: Float[Tensor, " vocabulary"],
    ids: Int[Tensor, " row"],
) -> Float[Tensor, " row"]:
    """log softmax(hidden W' + b) at each row's token, in nats, summed up in float32 where the logits have less."""
    if torch.is_grad_enabled():
        return _log_prob(linear(hidden, weight, bias), ids)
    chunks = zip(hidden.split(ROWS), ids.split(ROWS), strict=True)
    return torch.cat([_log_prob(linear(rows, weight, bias), wanted) for rows, wanted in chunks])


def _log_prob(logits: Tensor, ids: Tensor) -> Tensor:
    """log softmax at each row's token."""
    return -F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), ids, reduction="none")
