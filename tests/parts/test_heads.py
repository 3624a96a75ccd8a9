import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical

from textvae.parts.heads import BagOfWords
from textvae.text.tokenizers import EOS, PAD


def head(latent: int, vocabulary: int, hidden: int, seed: int = 0) -> BagOfWords:
    made = BagOfWords(latent, vocabulary, hidden).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


def sentences(seed: int, batch: int, longest: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentences of 0 to `longest` tokens, the end mark behind them, then padding; all but the first at random."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 2, (batch,), generator=generator)
    lengths[0] = longest + 1
    ids = torch.randint(4, vocabulary, (batch, longest + 1), generator=generator)
    position = torch.arange(longest + 1)
    ids = ids.where(position < lengths[:, None] - 1, torch.tensor(PAD))
    return ids.masked_fill(position == lengths[:, None] - 1, EOS), lengths


def test_by_hand():
    """z = 2 in one dimension, logits 0, 0, 0, 0, 2 ln 3, 2 ln 2, so p is 1, 1, 1, 1, 9, 4 over 17."""
    made = BagOfWords(1, 6, 0).double()
    made.words.weight.data = torch.tensor([[0.0], [0.0], [0.0], [0.0], [math.log(3)], [math.log(2)]]).double()
    made.words.bias.data.zero_()
    ids, lengths = torch.tensor([[4, 4, 5, EOS], [5, EOS, PAD, PAD]]), torch.tensor([4, 2])
    found = made(torch.full((1, 2, 1), 2.0).double(), ids, lengths)
    expected = [[2 * math.log(9 / 17) + math.log(4 / 17), math.log(4 / 17)]]
    torch.testing.assert_close(found, torch.tensor(expected).double())


def test_a_hidden_layer_of_tanh_by_hand():
    made = BagOfWords(1, 5, 1).double()
    assert made.hidden is not None
    made.hidden.weight.data.fill_(1.0), made.hidden.bias.data.fill_(0.5)
    made.words.weight.data = torch.tensor([[0.0], [0.0], [0.0], [0.0], [3.0]]).double()
    made.words.bias.data.zero_()
    up = math.exp(3 * math.tanh(0.7))
    found = made(torch.full((1, 1, 1), 0.2).double(), torch.tensor([[4, EOS]]), torch.tensor([2]))
    assert found.item() == pytest.approx(math.log(up / (4 + up)))


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5), st.sampled_from([0, 3]))
def test_against_a_categorical_word_by_word(seed, samples, batch, longest, hidden):
    made, (ids, lengths) = head(2, 9, hidden, seed), sentences(seed, batch, longest, 9)
    z = torch.randn(samples, batch, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = made(z, ids, lengths)
    for s in range(samples):
        for n in range(batch):
            inner = z[s, n] if made.hidden is None else torch.tanh(made.hidden(z[s, n]))
            words = Categorical(logits=made.words(inner))
            expected = sum(float(words.log_prob(token)) for token in ids[n, : lengths[n] - 1])
            assert float(found[s, n]) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 2**31))
def test_order_padding_and_end_mark_do_not_matter(seed):
    made, (ids, lengths) = head(3, 12, 4), sentences(seed, 1, 6, 12)
    z = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shuffled = ids.clone()
    shuffled[0, :6] = ids[0, torch.randperm(6, generator=torch.Generator().manual_seed(seed))]
    padded = torch.cat([ids, torch.full((1, 3), PAD)], dim=1)
    for changed in (shuffled, padded):
        torch.testing.assert_close(made(z, changed, lengths), made(z, ids, lengths))
    torch.testing.assert_close(made(z, ids[:, :6], lengths - 1), made(z, ids, lengths))  # without the end mark


def test_line_breaks_within_a_text_do_not_count():
    """A piece of running text has end marks anywhere, and need not end with one."""
    made, z = head(2, 9, 0), torch.randn(1, 1, 2).double()
    piece = torch.tensor([[5, EOS, 7, 8]])
    torch.testing.assert_close(
        made(z, piece, torch.tensor([4])), made(z, torch.tensor([[5, 7, 8, EOS]]), torch.tensor([4]))
    )


def test_an_empty_sentence_gives_nothing_and_pulls_nowhere():
    made, z = head(3, 8, 4), torch.randn(1, 1, 3).double().requires_grad_()
    found = made(z, torch.tensor([[EOS]]), torch.tensor([1]))
    (pull,) = torch.autograd.grad(found.sum(), z)
    assert float(found) == 0.0 and not pull.any()


def test_gradcheck():
    made, (ids, lengths) = head(3, 8, 4), sentences(0, 3, 4, 8)
    z = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: made(z, ids, lengths), (z,))


def test_in_bfloat16_sums_are_float32():
    made, (ids, lengths) = head(3, 50, 4).float(), sentences(0, 3, 40, 50)
    z = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    exact = made(z, ids, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(z, ids, lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.0)
