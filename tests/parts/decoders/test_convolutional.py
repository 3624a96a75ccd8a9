import itertools

import pytest
import torch
from torch import nn

from textvae.model import redraw
from textvae.parts.decoders.convolutional import bytenet_decoder, gated_decoder
from textvae.text.tokenizers import BOS, PAD, UNK

V = 9


def drawn(decoder: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    redraw(decoder, 0.5)
    return decoder.double().eval()


def gated(latent: int = 2, width: int = 3, blocks: int = 2, **options) -> nn.Module:
    return drawn(gated_decoder(V, 3, latent, 6, 4, width, blocks, **options))


def bytenet(latent: int = 2, layers: int = 2, **options) -> nn.Module:
    return drawn(bytenet_decoder(V, 3, latent, 8, layers, **options))


def batch_normed(latent: int = 2, layers: int = 2, **options) -> nn.Module:
    """With running statistics of no text in particular."""
    decoder = bytenet(latent, layers, norm="batch", **options)
    for layer in decoder.layers:
        layer.norm.running_mean.uniform_(-1, 1)
        layer.norm.running_variance.uniform_(0.5, 2)
    return decoder


KINDS = [gated, bytenet, batch_normed]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("latent, features", [(0, False), (2, False), (2, True)])
def test_stepping_gives_what_scoring_gives(kind, latent, features):
    decoder, ids = kind(latent), torch.randint(4, V, (3, 7))
    z = torch.randn(3, *([7] if features else []), latent, dtype=torch.float64) if latent else None
    whole = decoder.log_prob(ids, None if z is None else z[None])[0]
    state, token = decoder.start(z, 3), torch.full((3,), BOS)
    for time in range(7):
        logits, state = decoder.step(token, state)
        if time == 3:  # two of the rows go on, the other way round
            logits, state, ids, whole = (
                logits[[2, 0]],
                decoder.select(state, torch.tensor([2, 0])),
                *(part[[2, 0]] for part in (ids, whole)),
            )
        token = ids[:, time]
        torch.testing.assert_close(logits.log_softmax(1).gather(1, token[:, None])[:, 0], whole[:, time])


def seen(decoder: nn.Module, time: int = 24) -> set[int]:
    """How many words back the words are that the last position's distribution depends on; 1 is the one before."""
    ids, z = torch.randint(4, V, (1, time)), torch.randn(1, 1, 2).double()

    def last(words: torch.Tensor) -> torch.Tensor:
        state, token = decoder.start(z[0]), torch.tensor([BOS])
        for position in range(time):
            logits, state = decoder.step(token, state)
            token = words[:, position]
        return logits

    found = set()
    for position in range(time - 1):
        for shift in range(1, 5):  # a ReLU may hide one change, hardly all of them
            other = ids.clone()
            other[0, position] = 4 + (ids[0, position] - 4 + shift) % (V - 4)
            if not torch.equal(last(other), last(ids)):
                found.add(time - 1 - position)
    return found


@pytest.mark.parametrize("layers", range(6))
def test_the_receptive_field_of_n_masked_layers_is_n_plus_1_words(layers):
    assert seen(bytenet(layers=layers)) == set(range(1, layers + 2))


def test_batch_normalisation_does_not_widen_it():
    assert seen(batch_normed(layers=2), time=8) == {1, 2, 3}


@pytest.mark.parametrize("width, blocks", [(1, 2), (3, 1), (4, 2), (2, 3)])
def test_the_receptive_field_of_gated_blocks(width, blocks):
    assert seen(gated(width=width, blocks=blocks)) == set(range(1, blocks * (width - 1) + 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_keeps_and_reads_as_much_at_every_position(kind):
    """So the cost of a text is linear in its length."""
    decoder, token = kind(), torch.tensor([BOS, BOS])
    state, sizes = decoder.start(torch.randn(2, 2).double()), set()
    for _ in range(40):
        _, state = decoder.step(token, state)
        sizes.add(tuple(past.shape for past in state.kernels))
        assert all(past.untyped_storage().nbytes() <= 2 * past.nbytes + 64 * 8 for past in state.kernels)
    assert sizes == {tuple((2, layer.causal.width - 1, layer.causal.channels) for layer in decoder.layers)}


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_sees_itself_or_what_follows(kind):
    decoder, ids = kind(), torch.randint(4, V, (1, 8))
    z = torch.randn(1, 1, 2).double()
    other = ids.clone()
    other[0, 4:] = 4 + (ids[0, 4:] - 3) % (V - 4)
    torch.testing.assert_close(decoder.log_prob(ids, z)[0, 0, :4], decoder.log_prob(other, z)[0, 0, :4])


def test_a_gated_block_by_hand():
    decoder = gated(width=3, blocks=1)
    block, x = decoder.layers[0], torch.randn(1, 5, 6).double()
    text = torch.ones(1, 1, 5, dtype=torch.bool)

    def affine(layer: nn.Linear, v: torch.Tensor) -> torch.Tensor:
        out = layer.weight @ v + layer.bias
        half = len(out) // 2
        return out[:half] * torch.sigmoid(out[half:])

    inwards = [affine(block.inwards, x[0, t]) for t in range(5)]
    kernel = block.causal.kernel
    for t in range(5):
        total = kernel.bias.clone()
        for k, o in itertools.product(range(3), range(8)):
            if t - 2 + k >= 0:
                total[o] = total[o] + kernel.weight[o, :, k] @ inwards[t - 2 + k]
        inside = total[:4] * torch.sigmoid(total[4:])
        torch.testing.assert_close(block(x, text)[0, t], x[0, t] + affine(block.outwards, inside))


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_is_seen_at_every_position_and_samples_are_independent(kind):
    decoder, ids = kind(), torch.randint(4, V, (2, 5))
    z = torch.randn(3, 2, 2).double()
    together = decoder.log_prob(ids, z)
    for sample in range(3):
        torch.testing.assert_close(decoder.log_prob(ids, z[sample : sample + 1])[0], together[sample])
    assert (together[0] != together[1]).all()
    features = z[:, :, None].expand(-1, -1, 6, -1).clone()
    torch.testing.assert_close(decoder.log_prob(ids, features), together)
    features[:, :, 3] += 1
    changed = decoder.log_prob(ids, features) != together
    assert changed[:, :, 3].all() and not changed[:, :, :3].any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_word_dropout(kind):
    decoder = kind(word_keep=0.0)
    ids, z = torch.randint(4, V, (2, 4)), torch.randn(1, 2, 2, requires_grad=True, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: decoder.log_prob(ids, z), z)
    other = torch.randint(4, V, (2, 4))  # inputless: the words before have no say
    torch.testing.assert_close(
        decoder.log_prob(torch.cat([ids, ids[:, :1]], 1), z)[..., 4],
        decoder.log_prob(torch.cat([other, ids[:, :1]], 1), z)[..., 4],
    )
    token = torch.tensor([5, UNK])
    state = decoder.start(z[0])
    torch.testing.assert_close(decoder.step(token, state)[0], decoder.step(torch.tensor([UNK, 6]), state)[0])


def test_batch_statistics_are_of_the_words_and_not_of_the_padding():
    """Semeniuta et al. 2017, section 4. One layer by hand: biased moments over all words of all texts and codes."""
    decoder = batch_normed(layers=1).train()
    ids = torch.tensor([[4, 5, 6, 3], [7, 3, PAD, PAD]])
    z = torch.randn(2, 2, 2, dtype=torch.float64)
    found = decoder.log_prob(ids, z)
    words = decoder.embedding(torch.tensor([[BOS, 4, 5, 6], [BOS, 7, 3, PAD]]))
    x = decoder.enter(torch.cat([words.expand(2, 2, 4, -1), z[:, :, None].expand(-1, -1, 4, -1)], dim=3))
    channels = decoder.layers[0].causal(x.flatten(0, 1))
    inside = (ids != PAD).repeat(2, 1)
    assert inside.sum() == 2 * (4 + 2)
    mean, variance = channels[inside].mean(0), channels[inside].var(0, correction=0)
    outputs = ((channels - mean) / (variance + 1e-5).sqrt()).relu()
    expected = decoder.words(outputs).log_softmax(-1).view(2, 2, 4, V).gather(3, ids.expand(2, 2, 4)[..., None])
    torch.testing.assert_close(found, expected[..., 0])
    longer = torch.cat([ids, torch.full((2, 3), PAD)], dim=1)
    torch.testing.assert_close(decoder.log_prob(longer, z)[..., :4], found)
