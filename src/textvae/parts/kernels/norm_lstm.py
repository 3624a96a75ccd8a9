"""An LSTM whose gates are layer-normalised, with 512 units at half the speed of torch's own without or more.

The mean and variance of a step need that step's product, so no fused kernel of torch can do it. One product takes
the inputs of all times to the gates. On the way back the gates of all times are computed anew in a few operations,
only the recurrence goes step by step, and each gradient of the weights is one product over all times. Large arrays
are used again in place, since new ones cost time too. Measured in `benchmarks/norm_lstm.py`.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.kernels.products import product

EPSILON = 1e-5  # added to the variance


class NormLstm(nn.Module):
    """LSTM as `torch.nn.LSTM` with `batch_first`, but with gates LN(W_x x_t + W_h h_{t-1}) * gain + bias.

    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g) and h_t = sigmoid(o) tanh(c_t), gates in the order i, f, g, o; no
    norm on the cell. LN takes one mean and one biased variance of a sentence's four gates at a time where `joint`,
    otherwise one of each gate. Can be differentiated once.

    References: Ba et al. 2016, "Layer normalization", section 3.1 and supplement; `joint` and no norm on the cell
    as in Semeniuta et al. 2017.
    """

    def __init__(self, size: int, hidden: int, layers: int, joint: bool) -> None:
        super().__init__()
        self.hidden_size, self.joint = hidden, joint

        def weights(columns: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(4 * hidden, columns).uniform_(-1, 1) / math.sqrt(hidden))

        self.w_in = nn.ParameterList(weights(hidden if number else size) for number in range(layers))
        self.w_h = nn.ParameterList(weights(hidden) for _ in range(layers))
        self.gain = nn.ParameterList(torch.empty(4 * hidden) for _ in range(layers))
        self.bias = nn.ParameterList(torch.empty(4 * hidden) for _ in range(layers))
        self.begin()

    def begin(self) -> None:
        """Gains of one and biases of zero."""
        for gain, bias in zip(self.gain, self.bias, strict=True):
            nn.init.ones_(gain)
            nn.init.zeros_(bias)

    def forward(
        self,
        inputs: Float[Tensor, "batch time size"],
        state: tuple[Float[Tensor, "layer batch hidden"], ...] | None = None,
    ) -> tuple[
        Float[Tensor, "batch time hidden"],
        tuple[Float[Tensor, "layer batch hidden"], Float[Tensor, "layer batch hidden"]],
    ]:
        """Return the last layer's h at all times, and every layer's last h and c; zeros start without `state`."""
        device = inputs.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
        summed = torch.promote_types(precision, torch.float32)  # of all but the products and h
        outputs = inputs.to(precision)
        if state is None:
            state = (outputs.new_zeros(len(self.w_in), len(inputs), self.hidden_size),) * 2
        last_h, last_c = [], []
        layers = zip(*state, self.w_in, self.w_h, self.gain, self.bias, strict=True)
        for h, c, w_in, w_h, gain, bias in layers:
            products = (outputs, h.to(precision), w_in.to(precision), w_h.to(precision))
            sums = (c.to(summed), gain.to(summed), bias.to(summed))
            outputs, c = _NormLstm.apply(*products, *sums, 1 if self.joint else 4)
            last_h.append(outputs[:, -1])
            last_c.append(c.to(precision))
        return outputs, (torch.stack(last_h), torch.stack(last_c))


class _NormLstm(torch.autograd.Function):
    """h at all times and the last c of one layer; as many means and variances in a step as there are `groups`."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        inputs: Tensor,
        h: Tensor,
        w_in: Tensor,
        w_h: Tensor,
        c: Tensor,
        gain: Tensor,
        bias: Tensor,
        groups: int,
    ) -> tuple[Tensor, Tensor]:
        batch, time, size = inputs.shape
        rows = inputs.transpose(0, 1).reshape(time * batch, size)
        sums = product(rows, w_in).to(c.dtype).view(time, batch, -1)
        outputs = h.new_empty(time + 1, batch, h.shape[1])
        cells = c.new_empty(time + 1, *c.shape)
        outputs[0], cells[0] = h, c
        for t in range(time):
            sums[t].add_(product(outputs[t], w_h))
            normalised, *_ = _normalised(sums[t], groups)
            enter, kept, cell, leave = _gates(normalised, gain, bias).unbind(1)
            torch.addcmul(enter.mul_(cell), kept, cells[t], out=cells[t + 1])
            torch.mul(leave, cells[t + 1].tanh(), out=outputs[t + 1])
        ctx.save_for_backward(rows, w_in, w_h, gain, bias, sums, outputs, cells)
        ctx.groups = groups
        return outputs[1:].transpose(0, 1), cells[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        rows, w_in, w_h, gain, bias, sums, outputs, cells = ctx.saved_tensors
        time, batch, width = sums.shape
        normalised, mean, deviation = _normalised(sums, ctx.groups)
        down, kept, d_gates = _derivatives(_gates(normalised, gain, bias), cells)
        d_sums = torch.empty_like(sums, dtype=w_h.dtype)
        d_outputs, d_h = d_outputs.transpose(0, 1), torch.zeros_like(outputs[0])
        for t in reversed(range(time)):
            d_now = (d_outputs[t] + d_h).to(d_c.dtype)
            d_c = torch.addcmul(d_c, d_now, down[t])
            d_gates[t, :, :3].mul_(d_c[:, None])
            d_gates[t, :, 3].mul_(d_now)
            d_c = d_c * kept[t]
            pull = d_gates[t].view(batch, width) * gain
            d_sums[t] = _before_norm(pull, sums[t], mean[t], deviation[t])
            d_h = product(d_sums[t], w_h.T)

        d_rows, d_gates = d_sums.view(time * batch, width), d_gates.view(time * batch, width)
        before = outputs[:-1].view(time * batch, -1)
        columns = d_rows.T.contiguous()  # once for both products
        to_inputs, _, to_w_in, to_w_h, *_ = ctx.needs_input_grad
        return (
            product(d_rows, w_in.T).view(time, batch, -1).transpose(0, 1) if to_inputs else None,
            d_h,
            product(columns, rows.T) if to_w_in else None,
            product(columns, before.T) if to_w_h else None,
            d_c,
            normalised.view_as(d_gates).mul_(d_gates).sum(0),
            d_gates.sum(0),
            None,
        )


def _normalised(
    sums: Float[Tensor, "*any gates"], groups: int
) -> tuple[Float[Tensor, "*any gates"], Float[Tensor, "*any groups 1"], Float[Tensor, "*any groups 1"]]:
    """Return sums less their group's mean, over its deviation; the mean; and one over the deviation."""
    grouped = sums.view(*sums.shape[:-1], groups, -1)
    normalised, mean, deviation = torch.native_layer_norm(grouped, grouped.shape[-1:], None, None, EPSILON)
    return normalised.view_as(sums), mean, deviation


def _before_norm(
    pull: Float[Tensor, "batch gates"],
    sums: Float[Tensor, "batch gates"],
    mean: Float[Tensor, "batch groups 1"],
    deviation: Float[Tensor, "batch groups 1"],
) -> Float[Tensor, "batch gates"]:
    """Return the gradient at the sums from that at what `_normalised` makes of them."""
    grouped = sums.view(*mean.shape[:2], -1)
    found, *_ = torch.ops.aten.native_layer_norm_backward(
        pull.view_as(grouped), grouped, grouped.shape[-1:], mean, deviation, None, None, [True, False, False]
    )
    return found.view_as(sums)


def _gates(
    normalised: Float[Tensor, "*any gates"], gain: Float[Tensor, " gates"], bias: Float[Tensor, " gates"]
) -> Float[Tensor, "*any 4 units"]:
    """Input, forget, cell and output gate after their sigmoids and hyperbolic tangent."""
    gates = torch.addcmul(bias, normalised, gain).view(*normalised.shape[:-1], 4, -1)
    gates[..., :2, :].sigmoid_()
    gates[..., 2, :].tanh_()
    gates[..., 3, :].sigmoid_()
    return gates


def _derivatives(
    gates: Float[Tensor, "time batch 4 units"], cells: Float[Tensor, "times batch units"]
) -> tuple[
    Float[Tensor, "time batch units"], Float[Tensor, "time batch units"], Float[Tensor, "time batch 4 units"]
]:
    """d h / d c; d c / d c before, the forget gate; and d c / d gate of three gates with d h / d gate of the last.

    There is one cell more than times: the first is that before the first time.
    """
    enter, kept, cell, leave = gates.unbind(2)
    squashed = cells[1:].tanh()
    slopes = torch.empty_like(gates)
    torch.mul(enter * cell, 1 - enter, out=slopes[:, :, 0])
    torch.mul(cells[:-1] * kept, 1 - kept, out=slopes[:, :, 1])
    torch.mul(enter, 1 - cell.square(), out=slopes[:, :, 2])
    torch.mul(leave * squashed, 1 - leave, out=slopes[:, :, 3])
    return leave * (1 - squashed.square()), kept, slopes
