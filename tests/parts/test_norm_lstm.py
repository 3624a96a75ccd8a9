import math

import pytest
import torch
from torch import Tensor, nn

from textvae.parts.kernels.layers import Recurrent
from textvae.parts.kernels.norm_lstm import NormLstm

both_norms = pytest.mark.parametrize("joint", [True, False])


def naive(network: NormLstm, inputs: Tensor, state: tuple[Tensor, Tensor] | None) -> list[Tensor]:
    """Outputs, h and c: the definition, written out sentence by sentence and gate by gate."""
    units, layers = network.hidden_size, len(network.w_in)
    rows, ends = list(inputs), []
    for number in range(layers):
        w_in, w_h = network.w_in[number], network.w_h[number]
        gain, bias = network.gain[number], network.bias[number]
        outputs, last = [], []
        for index, sentence in enumerate(rows):
            h = inputs.new_zeros(units) if state is None else state[0][number, index]
            c = inputs.new_zeros(units) if state is None else state[1][number, index]
            made = []
            for x in sentence:
                a = w_in @ x + w_h @ h
                parts = [a] if network.joint else [a[k * units : (k + 1) * units] for k in range(4)]
                normal = [(p - p.mean()) / ((p - p.mean()).square().mean() + 1e-5).sqrt() for p in parts]
                i, f, g, o = (torch.cat(normal) * gain + bias).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                made.append(h)
            outputs.append(torch.stack(made))
            last.append((h, c))
        rows = outputs
        ends.append([torch.stack(parts) for parts in zip(*last, strict=True)])
    h, c = (torch.stack(parts) for parts in zip(*ends, strict=True))
    return [torch.stack(rows), h, c]


def parts(
    joint: bool, layers: int = 1, batch: int = 3, time: int = 5, size: int = 4, units: int = 6, dtype=torch.float32
) -> tuple:
    """A network whose gains and biases are not those of the start, inputs, a state, and pulls at its results."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NormLstm(size, units, layers, joint)
        for gain, bias in zip(network.gain, network.bias, strict=True):
            nn.init.normal_(gain, 1.0, 0.3)
            nn.init.normal_(bias, 0.0, 0.5)
        inputs = torch.randn(batch, time, size, dtype=dtype, requires_grad=True)
        state = tuple(torch.randn(layers, batch, units, dtype=dtype, requires_grad=True) for _ in range(2))
        pulls = [torch.randn(batch, time, units, dtype=dtype), *torch.randn(2, layers, batch, units, dtype=dtype)]
    return network.to(dtype), inputs, state, pulls


def flat(network: nn.Module, inputs: Tensor, state: tuple[Tensor, ...] | None) -> list[Tensor]:
    outputs, last = network(inputs, state)
    return [outputs, *last]


@both_norms
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize(("layers", "batch", "time"), [(1, 3, 5), (3, 3, 4), (2, 1, 4), (2, 3, 1), (1, 1, 1)])
def test_results_and_all_gradients_are_those_of_the_definition(joint, started, layers, batch, time):
    network, inputs, state, pulls = parts(joint, layers, batch, time)
    state = state if started else None
    leaves = [inputs, *(state or ()), *network.parameters()]
    expected, found = naive(network, inputs, state), flat(network, inputs, state)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    right = torch.autograd.grad(expected, leaves, pulls)
    for one, other in zip(torch.autograd.grad(found, leaves, pulls), right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(other.abs().max())))
    with torch.no_grad():
        for one, other in zip(flat(network, inputs, state), found, strict=True):
            assert torch.equal(one, other)


@both_norms
def test_gradients_are_those_of_finite_differences(joint):
    network, inputs, state, _ = parts(joint, layers=2, batch=2, time=3, size=2, units=3, dtype=torch.float64)
    names, weights = zip(*network.named_parameters(), strict=True)

    def results(inputs, h, c, *weights):
        given = dict(zip(names, weights, strict=True))
        outputs, last = torch.func.functional_call(network, given, (inputs, (h, c)))
        return (outputs, *last)

    assert torch.autograd.gradcheck(results, (inputs, *state, *weights))


def test_one_step_by_hand():
    """One unit: the sums 1, -1, 1, -1 of the gates, of mean 0 and variance 1, stay; h and c are 0 before."""
    network = NormLstm(1, 1, 1, joint=True)
    with torch.no_grad():
        network.w_in[0].copy_(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]))
    outputs, (h, c) = network(torch.ones(1, 1, 1))
    cell = 1 / (1 + math.exp(-1)) * math.tanh(1)
    hidden = 1 / (1 + math.exp(1)) * math.tanh(cell)
    assert c.item() == pytest.approx(cell, abs=1e-5)
    assert h.item() == outputs.item() == pytest.approx(hidden, abs=1e-5)


def test_a_gate_of_one_unit_normalised_by_itself_is_its_bias():
    network = NormLstm(2, 1, 1, joint=False)
    with torch.no_grad():
        network.bias[0].copy_(torch.tensor([0.0, 0.0, 0.7, 0.0]))
    _, (_, c) = network(torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(0)))
    assert c.item() == pytest.approx(0.5 * math.tanh(0.7))


@both_norms
def test_the_scale_of_the_weights_does_not_matter(joint):
    network, inputs, _, _ = parts(joint, size=32, units=32, dtype=torch.float64)
    before = flat(network, inputs * 100, None)
    with torch.no_grad():
        for weight in (*network.w_in, *network.w_h):
            weight.mul_(50)
    for one, other in zip(flat(network, inputs * 100, None), before, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@both_norms
def test_in_bfloat16_as_close_to_float32_as_the_definition_is(joint):
    network, inputs, state, pulls = parts(joint, layers=2, batch=4, time=6, size=16, units=24)
    leaves = [inputs, *state, *network.parameters()]

    def results(function) -> list[Tensor]:
        values = function(network, inputs, state)
        gradients = torch.autograd.grad(values, leaves, [p.to(v.dtype) for p, v in zip(pulls, values, strict=True)])
        return [value.detach() for value in [*values, *gradients]]

    exact = results(flat)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, ours = results(naive), results(flat)
    assert [value.dtype for value in ours] == [torch.bfloat16] * 3 + [torch.float32] * len(leaves)
    for mine, other, right in zip(ours, rounded, exact, strict=True):
        error, allowed = (mine - right).norm(), (other - right).norm()
        assert error <= allowed + 0.005 * right.norm()
        assert error <= 0.05 * right.norm()


@both_norms
def test_what_stands_after_a_sentences_end_does_not_reach_what_stands_before(joint):
    network, inputs, _, (pull, *_) = parts(joint, layers=2)
    changed = inputs.detach().clone()
    changed[0, 2:] = 1e3
    changed.requires_grad_()
    pull[0, 2:] = 0
    outputs, others = network(inputs)[0], network(changed)[0]
    keep = torch.ones(3, 5, dtype=torch.bool)
    keep[0, 2:] = False
    assert torch.equal(outputs[keep], others[keep])
    (expected,), (found,) = torch.autograd.grad(outputs, inputs, pull), torch.autograd.grad(others, changed, pull)
    assert torch.equal(found[keep], expected[keep])
    assert not found[0, 2:].any()


@both_norms
def test_one_step_at_a_time_as_generation_does(joint):
    network = Recurrent("lstm", 4, 6, layers=2, norm="layer" if joint else "layer-per-gate")
    inputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs, last = network(inputs)
        state, steps = None, []
        for t in range(5):
            output, state = network(inputs[:, t : t + 1], state)
            steps.append(output)
    torch.testing.assert_close(torch.cat(steps, dim=1), outputs)
    torch.testing.assert_close(state, last)


def test_only_the_gradients_that_are_asked_for():
    network, inputs, state, (pull, *_) = parts(True)
    leaves = [inputs, *state]
    expected = torch.autograd.grad(network(inputs, state)[0], [*leaves, network.w_h[0]], pull)
    network.requires_grad_(False)
    for one, other in zip(torch.autograd.grad(network(inputs, state)[0], leaves, pull), expected, strict=False):
        assert torch.equal(one, other)
    network.w_h.requires_grad_(True)
    (found,) = torch.autograd.grad(network(inputs.detach(), state)[0], list(network.w_h), pull)
    assert torch.equal(found, expected[-1])


def test_begins_with_gains_of_one_and_biases_of_zero():
    network, *_ = parts(False, layers=2)
    network.begin()
    assert all(gain.shape == (24,) and bool((gain == 1).all()) for gain in network.gain)
    assert all(bias.shape == (24,) and not bias.any() for bias in network.bias)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@both_norms
def test_on_cuda_as_on_the_cpu(joint):
    network, inputs, state, pulls = parts(joint, layers=2, dtype=torch.float64)
    leaves = [inputs, *state, *network.parameters()]
    expected = flat(network, inputs, state)
    expected += torch.autograd.grad(expected, leaves, pulls)
    network.cuda()
    there = [leaf.detach().cuda().requires_grad_() for leaf in (inputs, *state)]
    found = flat(network, there[0], tuple(there[1:]))
    found += torch.autograd.grad(found, [*there, *network.parameters()], [pull.cuda() for pull in pulls])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other)
