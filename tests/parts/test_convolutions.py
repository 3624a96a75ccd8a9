import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from textvae.parts.encoders import ConvolutionalEncoder
from textvae.parts.kernels.convolutions import BatchNorm, Convolution, Expansion, TransposedConvolution, padded


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter)
    return module


def test_batch_norm_is_torchs_but_for_the_running_variance():
    norm = drawn(BatchNorm(3))
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    mean, variance = torch.zeros(3).double(), torch.ones(3).double()
    expected = F.batch_norm(x, mean, variance, norm.gain, norm.shift, training=True, momentum=1.0)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.running_mean, mean)
    # torch's running variance is the unbiased one: n / (n - 1) times ours.
    torch.testing.assert_close(norm.running_variance, variance * 19 / 20)


def test_running_statistics_are_the_mean_of_the_first_batches_and_then_take_a_tenth():
    norm = drawn(BatchNorm(1))
    means = [norm(torch.full((1, 1, 2), float(n)).double()) is not None and float(n) for n in range(12)]
    expected = sum(means[:10]) / 10
    for mean in means[10:]:
        expected += 0.1 * (mean - expected)
    assert norm.running_mean.item() == pytest.approx(expected)


def test_batch_norm_of_what_is_inside_leaves_the_rest_out_of_its_statistics():
    norm = drawn(BatchNorm(2))
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    inside = (torch.arange(4) < torch.tensor([[4], [1], [2]]))[:, None]
    rows = x.transpose(1, 2)[inside[:, 0]]  # (7, 2)
    expected = F.batch_norm(rows, None, None, norm.gain, norm.shift, training=True)
    torch.testing.assert_close(norm(x, inside).transpose(1, 2)[inside[:, 0]], expected)
    torch.testing.assert_close(norm.running_mean, rows.mean(0))


def test_in_evaluation_a_sentence_is_what_it_is_among_others():
    norm = drawn(BatchNorm(2))
    for _ in range(3):
        norm(torch.randn(5, 2, 4).double() * 3 + 1)
    norm.eval()
    x = torch.randn(6, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(norm(x)[2:3], norm(x[2:3]))
    before = norm.running_mean.clone()
    norm(x)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("kernel, stride", [(3, 2), (3, 1), (4, 2), (5, 3), (2, 2), (7, 1)])
def test_a_convolution_is_a_sum_over_its_window(kernel, stride):
    layer = drawn(Convolution(2, 3, kernel, stride)).eval()
    x = torch.randn(1, 2, 6 * stride, dtype=torch.float64)
    maps, inside = layer(x, torch.ones(1, 1, 6 * stride, dtype=torch.bool))
    assert maps.shape == (1, 3, 6) and inside.all()
    before = min((kernel - 1) // 2, kernel - stride)
    weights = layer.weights.weight
    for position, out in itertools.product(range(6), range(3)):
        total = torch.tensor(0.0).double()
        for k, channel in itertools.product(range(kernel), range(2)):
            at = position * stride - before + k
            if 0 <= at < x.shape[2]:
                total += weights[out, channel, k] * x[0, channel, at]
        scale = layer.norm.gain[out] / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(maps[0, out, position], (total * scale + layer.norm.shift[out]).relu())


def test_kernel_3_and_stride_2_double_exactly_as_with_output_padding():
    layer = drawn(TransposedConvolution(4, 3, 3, 2)).eval()
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    raw = F.conv_transpose1d(x, layer.weights.weight, stride=2, padding=1, output_padding=1)
    torch.testing.assert_close(layer(x), layer.norm(raw).relu())
    assert layer(x).shape == (2, 3, 10)


@pytest.mark.parametrize("kernel, stride", [(3, 2), (4, 2), (5, 3), (3, 1)])
def test_transposed_is_the_adjoint_of_the_convolution(kernel, stride):
    down, up = Convolution(2, 3, kernel, stride).double(), TransposedConvolution(3, 2, kernel, stride).double()
    with torch.no_grad():
        up.weights.weight.copy_(down.weights.weight)
    before, length = up.before, 4 * stride
    x, y = torch.randn(1, 2, length).double(), torch.randn(1, 3, 4).double()
    after = kernel - stride - before
    downwards = (down.weights(F.pad(x, (before, after))) * y).sum()
    upwards = (up.weights(y)[:, :, before : before + length] * x).sum()
    torch.testing.assert_close(downwards, upwards)


@pytest.mark.parametrize("strides, positions", [((2, 2), 12), ((2, 2, 2), 16), ((3,), 12), ((1, 4), 12)])
def test_positions_are_rounded_up_to_what_strides_divide(strides, positions):
    assert padded(10, strides) == positions
    expansion = drawn(Expansion(3, (8,) * len(strides), 5, strides, 8, positions=10)).eval()
    z = torch.randn(2, 5, 3, dtype=torch.float64)
    features = expansion(z)
    assert features.shape == (2, 5, positions, 8) and expansion.positions == positions
    torch.testing.assert_close(expansion(z[1, 3]), features[1, 3])
    spread = expansion(torch.randn(50, 3, dtype=torch.float64)).std(0)
    assert (spread > 0).any(1).all()  # the code reaches every position


def encoder(**options) -> ConvolutionalEncoder:
    made = drawn(ConvolutionalEncoder(11, 3, maps=(4, 5), positions=10, **options))
    for part in made.modules():
        if isinstance(part, BatchNorm):
            part.begin()
    return made


def test_padding_has_no_influence_on_codes_nor_statistics():
    ids = torch.randint(4, 11, (4, 10))
    lengths = torch.tensor([10, 3, 6, 1])
    other = torch.where(torch.arange(10) < lengths[:, None], ids, (ids + 3) % 11)
    one, two = encoder(), encoder()
    torch.testing.assert_close(one(ids, lengths), two(other, lengths))
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    one.eval()
    short = one(ids[1:, :6], lengths[1:])  # another width of padding
    torch.testing.assert_close(short, one(ids, lengths)[1:])
    assert short.shape == (3, one.size) and one.size == 5 * 3  # 10 positions become 12, then 6, then 3


def test_every_word_counts_and_embeddings_are_read_as_words_are():
    made = encoder(kernel=[3, 5], stride=[2, 3]).eval()
    ids, lengths = torch.randint(4, 11, (1, 10)), torch.tensor([10])
    whole = made(ids, lengths)
    torch.testing.assert_close(made.read(made.embedding(ids), lengths), whole)
    for position in range(10):
        changed = ids.clone()
        changed[0, position] = 4 + (ids[0, position] - 3) % 7
        assert not torch.allclose(made(changed, lengths), whole), position
