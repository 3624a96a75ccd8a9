"""Self-attention against loops in plain numpy; its positions, store of keys and values, and first weights."""

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.parts.kernels.attention import ROOM, Block, Transformer, attending, causal, turned, turns

LIKE = torch.zeros((), dtype=torch.float64)


def stirred(part: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """In float64, with weights that are far from 0, and norms and biases that matter."""
    generator = torch.Generator().manual_seed(seed)
    part.double()
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return part


def network(hidden: int = 8, layers: int = 2, heads: int = 2) -> Transformer:
    part = stirred(Transformer(hidden, layers, heads))
    assert isinstance(part, Transformer)
    return part


def stream(rows: int = 3, time: int = 5, hidden: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, time, hidden, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_norm(layer, x: np.ndarray) -> np.ndarray:
    scaled = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def naive_linear(layer, x: np.ndarray) -> np.ndarray:
    return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()


def naive_turn(x: np.ndarray, position: int) -> np.ndarray:
    """Pairs as complex numbers, times a unit number of the position's angle."""
    half = len(x) // 2
    pairs = [complex(x[i], x[i + half]) * cmath.exp(1j * position * 10_000 ** (-i / half)) for i in range(half)]
    return np.array([pair.real for pair in pairs] + [pair.imag for pair in pairs])


def naive_block(block: Block, x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """One sentence (time, hidden), position by position, head by head; `seen` (time, time) says who sees whom."""
    time, hidden = x.shape
    size = hidden // block.heads
    parts = [naive_linear(block.query_key_value, naive_norm(block.before_attention, row)) for row in x]
    out = []
    for t in range(time):
        heads = []
        for head in range(block.heads):
            at = head * size
            query = naive_turn(parts[t][at : at + size], t)
            weights, values = [], []
            for s in range(time):
                if seen[t, s]:
                    key = naive_turn(parts[s][hidden + at : hidden + at + size], s)
                    weights.append(math.exp(query @ key / math.sqrt(size)))
                    values.append(parts[s][2 * hidden + at : 2 * hidden + at + size])
            heads.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
        middle = x[t] + naive_linear(block.attended, np.concatenate(heads))
        wide = naive_linear(block.wide, naive_norm(block.before_feedforward, middle))
        gelu = np.array([w * (1 + math.erf(w / math.sqrt(2))) / 2 for w in wide])
        out.append(middle + naive_linear(block.narrow, gelu))
    return np.stack(out)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_block_is_what_loops_in_numpy_say(heads):
    part, x = network(8, 1, heads), stream(2, 5)
    lengths = [5, 3]
    inside = torch.arange(5) < torch.tensor(lengths)[:, None]
    for attend, whom in (
        (causal, lambda row: np.tril(np.ones((5, 5)))),
        (attending(inside), lambda row: np.arange(5)[None].repeat(5, 0) < lengths[row]),
    ):
        with torch.no_grad():
            found = part.blocks[0](x, turns(0, 5, 8 // heads, x), lambda *qkv, a=attend: a(0, *qkv), 0.0)
        for row in range(2):
            expected = naive_block(part.blocks[0], x[row].numpy(), whom(row))
            np.testing.assert_allclose(found[row].numpy(), expected, rtol=0, atol=1e-12)


def test_blocks_follow_each_other_and_a_norm_ends_them():
    part, x = network(8, 2), stream(1, 4)
    expected = x[0].numpy()
    for block in part.blocks:
        expected = naive_block(block, expected, np.tril(np.ones((4, 4))))
    expected = np.stack([naive_norm(part.norm, row) for row in expected])
    np.testing.assert_allclose(part(x, causal)[0].detach().numpy(), expected, rtol=0, atol=1e-12)


def test_the_turns_of_a_head_of_four_by_hand():
    """Its two pairs turn by 1 and 1 / 100 radian a position."""
    found = turned(torch.tensor([1.0, 0.0, 0.0, 2.0]).double().view(1, 1, 1, 1, 4), turns(3, 1, 4, LIKE))
    expected = [math.cos(3), -2 * math.sin(0.03), math.sin(3), 2 * math.cos(0.03)]
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 5000))
def test_scores_depend_on_relative_positions_alone(one, other, by):
    query, key = stream(1, 1, 8, seed=2)[None, :, :, None], stream(1, 1, 8, seed=3)[None, :, :, None]

    def score(at: int, to: int) -> float:
        return float((turned(query, turns(at, 1, 8, LIKE)) * turned(key, turns(to, 1, 8, LIKE))).sum())

    assert abs(score(one, other) - score(one + by, other + by)) < 1e-10
    assert abs(float(turned(query, turns(by, 1, 8, LIKE)).norm() - query.norm())) < 1e-12  # nothing but turned
    assert abs(score(one, one) - float((query * key).sum())) < 1e-10


def test_moving_a_sentence_along_changes_nothing_and_reordering_it_does():
    part, x = network(), stream()
    before = part(x, causal)
    torch.testing.assert_close(part(x, causal, position=1000), before, rtol=0, atol=1e-10)
    everywhere = attending(torch.ones(3, 5, dtype=torch.bool))
    mean = part(x, everywhere).mean(1)
    assert (part(x.flip(1), everywhere).mean(1) - mean).abs().max() > 1e-3


def test_step_by_step_is_the_same_as_all_at_once_far_beyond_the_first_room():
    part, x = network(), stream(2, 2 * ROOM + 3)
    expected = part(x, causal)
    past, found = part.past(2), []
    with torch.no_grad():
        for t in range(x.shape[1]):
            output, past = part.step(x[:, t], past)
            found.append(output)
    torch.testing.assert_close(torch.stack(found, 1), expected.detach(), rtol=0, atol=1e-12)
    assert past.position == x.shape[1] and past.store.entries.shape[4] <= x.shape[1] + ROOM


@torch.no_grad()
def test_pasts_that_share_a_store_do_not_disturb_each_other():
    """Two ways on from one past, taken in turns, are what each is alone."""
    part, x, y = network(), stream(2, 6), stream(2, 6, seed=5)
    root = part.past(2)
    for t in range(3):
        _, root = part.step(x[:, t], root)
    one = other = root
    found: list[torch.Tensor] = []
    for t in range(3, 6):
        _, one = part.step(x[:, t], one)
        output, other = part.step(y[:, t], other)
        found.append(output)
    straight, _ = part.step(x[:, 0], one)
    expected = part(torch.cat([x[:, :3], y[:, 3:]], 1), causal)[:, 3:]
    torch.testing.assert_close(torch.stack(found, 1), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(straight, part(torch.cat([x, x[:, :1]], 1), causal)[:, -1], rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_step_on_a_past_of_its_own_copies_nothing():
    part, x = network(), stream(2, 5)
    _, past = part.step(x[:, 0], part.past(2))
    for t in range(1, 5):
        _, after = part.step(x[:, t], past)
        assert after.store is past.store
        past = after
    _, apart = part.step(x[:, 0], past._replace(position=2))
    assert apart.store is not past.store and apart.position == 3


def test_first_weights_are_those_of_gpt_2():
    torch.manual_seed(0)
    part = Transformer(128, 8, 4)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.fill_(7.0)
    part.begin()
    for block in part.blocks:
        for layer in (block.query_key_value, block.wide):
            assert abs(float(layer.weight.detach().std()) / 0.02 - 1) < 0.03
        for layer in (block.attended, block.narrow):
            assert abs(float(layer.weight.detach().std()) / 0.005 - 1) < 0.03  # 0.02 / sqrt(2 * 8)
    for name, parameter in part.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name or "before" in name:
            assert bool((parameter == 1).all())


def test_a_stream_under_autocast_stays_in_float32():
    """And comes close to what it is in float32."""
    torch.manual_seed(0)
    part = Transformer(16, 2, 2)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.mul_(5.0 if parameter.dim() > 1 else 1.0)
    x = torch.randn(2, 5, 16)
    seen = []
    for module in part.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].dtype))
    expected = part(x, causal)
    for inputs in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            found = part(inputs, causal)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        past, steps = part.past(2), []
        for t in range(5):
            output, past = part.step(x[:, t], past)
            steps.append(output)
    torch.testing.assert_close(torch.stack(steps, 1), expected, rtol=0, atol=0.05)
    assert set(seen) == {torch.float32}


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match="hidden = 12: must be a multiple of 8, twice the number of heads"):
        Transformer(12, 1, 4)
