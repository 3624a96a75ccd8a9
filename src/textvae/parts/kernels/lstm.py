"""An LSTM layer for training in bfloat16 on a CPU whose backward pass is large matrix products.

oneDNN's own backward pass adds to the gradient of the weights at every time step, which memory limits in bfloat16
once the weights outgrow the cache: at 1,024 units it is slower than in float32. Here the forward pass is oneDNN's.
On the way back one product gives the gates of all times anew, only the recurrence goes step by step, and each
gradient is one product over all times.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Units from which this is faster than oneDNN's backward pass (`benchmarks/README.md`).
UNITS = 768


class _Lstm(torch.autograd.Function):
    """One layer in one direction; gates are in torch's order: input, forget, cell, output."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, inputs: Tensor, h: Tensor, c: Tensor, w_in: Tensor, w_h: Tensor, b_in: Tensor, b_h: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        outputs, h_last, c_last = torch.lstm(
            inputs, (h, c), (w_in, w_h, b_in, b_h), True, 1, 0.0, False, False, True
        )
        ctx.save_for_backward(inputs, h, c, w_in, w_h, b_in + b_h, outputs)
        return outputs, h_last, c_last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_h: Tensor, d_c: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        inputs, h, c, w_in, w_h, bias, outputs = ctx.saved_tensors
        batch, time, units = outputs.shape
        rows = inputs.transpose(0, 1).reshape(time * batch, -1)
        before = torch.cat([h, outputs.transpose(0, 1)[:-1]]).view(time * batch, units)
        gates = torch.addmm(F.linear(rows, w_in, bias), before, w_h.T).float().view(time, batch, 4 * units)
        down, kept, slopes = _derivatives(gates, c[0].float())

        d_gates = torch.empty(time, batch, 4, units, dtype=w_h.dtype, device=w_h.device)
        d_outputs, d_h, d_c = d_outputs.transpose(0, 1), d_h[0], d_c[0].float()
        for t in reversed(range(time)):
            d_now = (d_outputs[t] + d_h).float()
            d_c = torch.addcmul(d_c, d_now, down[t])
            torch.mul(slopes[t, :, :3], d_c[:, None], out=d_gates[t, :, :3])
            torch.mul(slopes[t, :, 3], d_now, out=d_gates[t, :, 3])
            d_c = d_c * kept[t]
            d_h = d_gates[t].view(batch, 4 * units) @ w_h

        d_rows = d_gates.view(time * batch, 4 * units)
        d_bias = d_rows.sum(0)
        d_inputs = (d_rows @ w_in).view(time, batch, -1).transpose(0, 1)
        return d_inputs, d_h[None], d_c[None].to(c.dtype), d_rows.T @ rows, d_rows.T @ before, d_bias, d_bias


def _derivatives(
    gates: Float[Tensor, "time batch gates"], c: Float[Tensor, "batch units"]
) -> tuple[
    Float[Tensor, "time batch units"], Float[Tensor, "time batch units"], Float[Tensor, "time batch 4 units"]
]:
    """d h / d c; d c / d c before, the forget gate; and d c / d gate of three gates with d h / d gate of the last.

    Uses up `gates`, what goes into the gates' sigmoids and hyperbolic tangent.
    """
    units = gates.shape[2] // 4
    gates[..., : 2 * units].sigmoid_()
    gates[..., 2 * units : 3 * units].tanh_()
    gates[..., 3 * units :].sigmoid_()
    enter, kept, cell, leave = gates.chunk(4, dim=2)
    entering = enter * cell
    cells = torch.empty(len(gates) + 1, *c.shape, device=c.device)
    cells[0] = c
    for t, (added, share) in enumerate(zip(entering, kept, strict=True)):
        torch.addcmul(added, share, cells[t], out=cells[t + 1])
    squashed = cells[1:].tanh()
    outputs = leave * squashed
    slopes = torch.empty(*entering.shape[:2], 4, units, device=c.device)
    torch.mul(entering, 1 - enter, out=slopes[:, :, 0])
    torch.mul(cells[:-1] * kept, 1 - kept, out=slopes[:, :, 1])
    torch.addcmul(enter, entering, cell, value=-1, out=slopes[:, :, 2])
    torch.mul(outputs, 1 - leave, out=slopes[:, :, 3])
    return torch.addcmul(leave, outputs, squashed, value=-1), kept, slopes


@cache
def runs_in_bfloat16() -> bool:
    """Try torch's LSTM in bfloat16 on this CPU; oneDNN has none for training where there is no AVX-512."""
    zero = torch.zeros(8, 2, dtype=torch.bfloat16, requires_grad=True)
    start, weights = (zero[:1, None], zero[:1, None]), (zero, zero, zero[:, 0], zero[:, 0])
    try:
        with torch.enable_grad():
            torch.lstm(zero[:1, None], start, weights, True, 1, 0.0, False, True, True)[0].sum().backward()
    except RuntimeError:
        return False
    return True


def lacking(inputs: Tensor) -> bool:
    """Return True where bfloat16 is asked for on a CPU without an LSTM in it, which is then run in float32."""
    asked = inputs.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return asked and torch.get_autocast_dtype("cpu") == torch.bfloat16 and not runs_in_bfloat16()


def wanted(inputs: Tensor, units: int) -> bool:
    """Return True if `lstm` is faster here than torch's own."""
    training = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and units >= UNITS
    return training and inputs.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.bfloat16


def lstm(
    inputs: Float[Tensor, "batch time size"],
    state: tuple[Tensor, ...] | None,
    layers: list[list[Tensor]],
) -> tuple[Float[Tensor, "batch time units"], tuple[Tensor, Tensor]]:
    """Compute `torch.nn.LSTM` with `batch_first` under bfloat16 autocast; `layers` is its `all_weights`."""
    precision = torch.get_autocast_dtype("cpu")
    outputs = inputs.to(precision)
    if state is None:
        state = (outputs.new_zeros(len(layers), len(inputs), layers[0][1].shape[1]),) * 2
    h, c = (part.to(precision) for part in state)
    last = []
    for number, weights in enumerate(layers):
        start = (h[number : number + 1], c[number : number + 1])
        outputs, *end = _Lstm.apply(outputs, *start, *[weight.to(precision) for weight in weights])
        last.append(end)
    h_last, c_last = (torch.cat(parts) for parts in zip(*last, strict=True))
    return outputs, (h_last, c_last)
