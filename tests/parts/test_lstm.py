import pytest
import torch
from torch import nn

from textvae.parts.kernels.layers import Recurrent
from textvae.parts.kernels.lstm import UNITS, _Lstm, lacking, lstm, runs_in_bfloat16, wanted


def parts(size: int, units: int, layers: int, batch: int = 3, time: int = 5) -> tuple:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.LSTM(size, units, num_layers=layers, batch_first=True)
        inputs = torch.randn(batch, time, size, requires_grad=True)
        state = tuple(torch.randn(layers, batch, units, requires_grad=True) for _ in range(2))
        pulls = [torch.randn(batch, time, units), *torch.randn(2, layers, batch, units)]
    return network, inputs, state, pulls


def test_gradients_are_those_of_torch():
    """The same formulas in float32: to rounding, every gradient, all three results pulled at once."""
    network, inputs, (h, c), pulls = parts(4, 6, 1)
    leaves = [inputs, h, c, *network.all_weights[0]]
    outputs, last = network(inputs, (h, c))
    expected = torch.autograd.grad((outputs, *last), leaves, pulls)
    found = torch.autograd.grad(_Lstm.apply(*leaves), leaves, pulls)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not runs_in_bfloat16(), reason="this CPU has no LSTM in bfloat16")
@pytest.mark.parametrize(("layers", "started"), [(1, True), (2, True), (2, False)])
def test_in_bfloat16_as_close_to_float32_as_torch_is(layers, started):
    network, inputs, state, pulls = parts(4, 6, layers)
    state = state if started else None
    leaves = [inputs, *(state or ()), *network.parameters()]

    def results(function) -> list[torch.Tensor]:
        outputs, last = function()
        gradients = torch.autograd.grad((outputs, *last), leaves, [p.to(outputs.dtype) for p in pulls])
        return [outputs, *last, *gradients]

    exact = results(lambda: network(inputs, state))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        started_in = None if state is None else tuple(part.bfloat16() for part in state)
        torchs = results(lambda: network(inputs, started_in))
        ours = results(lambda: lstm(inputs, state, network.all_weights))
    for mine, other, right in zip(ours, torchs, exact, strict=True):
        assert mine.shape == right.shape
        error, allowed = (mine - right).float().norm(), (other - right).float().norm()
        assert error <= 1.5 * allowed + 0.005 * right.norm()


def test_only_where_it_pays():
    inputs = torch.zeros(1, 1, 2)
    assert not wanted(inputs, UNITS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert wanted(inputs, UNITS) and not wanted(inputs, UNITS - 1)
        with torch.no_grad():
            assert not wanted(inputs, UNITS)


@pytest.mark.skipif(not runs_in_bfloat16(), reason="this CPU has no LSTM in bfloat16")
def test_a_large_network_takes_it_and_scores_the_same():
    network = Recurrent("lstm", 2, UNITS)
    inputs = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, last = network(inputs)
        assert type(outputs.grad_fn).__name__ == "_LstmBackward"
        with torch.no_grad():
            expected, end = network(inputs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(last, end)


@pytest.mark.parametrize("started", [True, False])
def test_where_a_cpu_has_none_in_bfloat16_the_layer_is_in_float32(monkeypatch, started):
    monkeypatch.setattr("textvae.parts.kernels.lstm.runs_in_bfloat16", lambda: False)
    torch.manual_seed(0)
    network, inputs = Recurrent("lstm", 4, 6), torch.randn(3, 5, 4)
    state = tuple(torch.randn(2, 1, 3, 6)) if started else None
    expected, last = network(inputs, state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lacking(inputs)
        half = None if state is None else tuple(part.bfloat16() for part in state)
        found, end = network(inputs.bfloat16(), half)
    assert found.dtype == torch.float32 and not lacking(inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    torch.testing.assert_close(end[1], last[1], rtol=0, atol=0.05)
    found.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
