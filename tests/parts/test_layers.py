import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from textvae.parts.kernels.layers import ROWS, Feedforward, Recurrent, reversed_within, token_log_prob
from textvae.parts.kernels.products import linear

seeds = st.integers(0, 2**31)


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest entry."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale + 1e-12)


def with_gradients(function, parts: list[torch.Tensor], pull: torch.Tensor) -> list[torch.Tensor]:
    leaves = [part.clone().requires_grad_() for part in parts]
    value = function(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves, pull)]


@given(seeds, st.integers(0, 70), st.integers(1, 40), st.integers(1, 90))
def test_linear_and_its_gradients_are_those_of_torch(seed, rows, size, out):
    """To 1e-5 of the sum of the magnitudes that each entry adds up, against float64."""
    shapes = [(rows, size), (out, size), (out,)]
    parts, pull = [drawn(seed + i, *shape) for i, shape in enumerate(shapes)], drawn(seed + 3, rows, out)
    results = with_gradients(linear, parts, pull)
    exact = with_gradients(F.linear, [part.double() for part in parts], pull.double())
    scales = with_gradients(F.linear, [part.abs().double() for part in parts], pull.abs().double())
    for found, expected, scale in zip(results, exact, scales, strict=True):
        assert found.shape == expected.shape and found.dtype == torch.float32
        assert bool(((found - expected).abs() <= 1e-5 * scale).all())


def test_linear_by_hand():
    found = linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, -6.0]]), torch.tensor([0.5, 1.0]))
    assert found.tolist() == [[11.5, -6.0]]


def test_linear_of_rows_that_do_not_lie_side_by_side():
    rows, weight, bias = drawn(0, 7, 9).T, drawn(1, 5, 7), drawn(2, 5)
    close(linear(rows, weight, bias), F.linear(rows, weight, bias))
    close(linear(drawn(3, 8, 3, 7)[:, 1], weight, bias), F.linear(drawn(3, 8, 3, 7)[:, 1], weight, bias))


def test_linear_keeps_other_precisions():
    rows, weight, bias = (drawn(i, *shape, dtype=torch.float64) for i, shape in enumerate([(3, 4), (5, 4), (5,)]))
    assert torch.equal(linear(rows, weight, bias), F.linear(rows, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(rows.float(), weight.float(), bias.float()).dtype == torch.bfloat16


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(0, 3))
def test_reversed_within_turns_each_sentence_and_leaves_its_padding(sentences, extra):
    width = max(map(len, sentences)) + extra
    ids = torch.tensor([row + [0] * (width - len(row)) for row in sentences])
    lengths = torch.tensor([len(row) for row in sentences])
    found = reversed_within(ids, lengths)
    assert found.tolist() == [row[::-1] + [0] * (width - len(row)) for row in sentences]
    assert torch.equal(reversed_within(found, lengths), ids)


def test_token_log_prob_by_hand():
    """Logits (0, ln 2, ln 5) have probabilities 1/8, 2/8, 5/8."""
    bias = torch.tensor([0.0, math.log(2), math.log(5)])
    hidden, weight = torch.zeros(3, 4), drawn(0, 3, 4)
    found = token_log_prob(hidden, weight, bias, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(found, torch.tensor([1 / 8, 2 / 8, 5 / 8]).log())


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 3])
def test_token_log_prob_is_the_same_with_and_without_gradients(rows):
    hidden, weight, bias = drawn(0, rows, 6), drawn(1, 11, 6), drawn(2, 11)
    ids = torch.randint(0, 11, (rows,), generator=torch.Generator().manual_seed(3))
    with_gradients = token_log_prob(hidden, weight, bias, ids)
    with torch.no_grad():
        without = token_log_prob(hidden, weight, bias, ids)
    expected = F.linear(hidden, weight, bias).log_softmax(1)[torch.arange(rows), ids]
    torch.testing.assert_close(with_gradients, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(without, expected, rtol=1e-5, atol=1e-5)


def test_token_log_prob_is_float32_under_autocast():
    hidden, weight, bias = drawn(0, 5, 6), drawn(1, 11, 6), drawn(2, 11)
    ids = torch.arange(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_log_prob(hidden, weight, bias, ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, token_log_prob(hidden, weight, bias, ids), rtol=0, atol=0.1)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_network_goes_on_from_a_state(cell):
    network = Recurrent(cell, 3, 5, layers=2)
    inputs = drawn(0, 4, 7, 3)
    whole, last = network(inputs)
    first, state = network(inputs[:, :3])
    second, end = network(inputs[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert len(last) == network.states == {"lstm": 2, "gru": 1}[cell]
    for found, expected in zip(end, last, strict=True):
        assert found.shape == (2, 4, 5)
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(last[0][-1], whole[:, -1])  # the first state is the output


def test_a_highway_layer_by_hand():
    """t tanh(w x + b) + (1 - t) x, t = sigmoid(w' x + b'), with w = 1, b = 0, w' = 0, b' = -2 as it begins."""
    layer = Feedforward(1, 1, highway=True)
    layer.layers[0].weight.data[:] = torch.tensor([[1.0], [0.0]])
    layer.layers[0].bias.data[:] = 0.0
    layer.begin()
    gate = 1 / (1 + math.exp(2))
    expected = gate * math.tanh(3.0) + (1 - gate) * 3.0
    assert layer(torch.tensor([[3.0]])).item() == pytest.approx(expected, rel=1e-6)


def test_feed_forward_layers_without_a_highway_are_tanh_of_tanh():
    layers = Feedforward(3, 2, highway=False)
    x = torch.randn(2, 5, 3)
    first, second = layers.layers
    assert torch.equal(layers(x), second(first(x).tanh()).tanh())
