import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.text.tokenizers import BOS, EOS, PAD, UNK

V = 11
IDS = torch.tensor([[5, 6, 7, EOS], [4, EOS, PAD, PAD], [9, 10, EOS, PAD]])
cells = pytest.mark.parametrize("cell", ["lstm", "gru"])
injections = pytest.mark.parametrize("inject", [("state",), ("input",), ("state", "input")])


def decoder(latent: int = 2, cell="lstm", layers: int = 1, inject=("state", "input"), **options):
    torch.manual_seed(0)
    return RecurrentDecoder(V, 3, latent, cell, 5, layers, inject, **options).double()


def codes(samples: int = 1, rows: int = 3, latent: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, rows, latent, generator=generator, dtype=torch.float64)


class Inputs:
    """The words that a decoder looked up, in the order of its calls."""

    def __init__(self, part: RecurrentDecoder) -> None:
        self.seen: list[torch.Tensor] = []
        part.embedding.register_forward_hook(lambda module, inputs, output: self.seen.append(inputs[0]))


@cells
@injections
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("word_keep", [1.0, 0.5, 0.0])
def test_step_by_step_is_the_same_as_all_at_once(cell, inject, layers, word_keep):
    """Generation and teacher forcing share one distribution, at evaluation whatever the word dropout was."""
    part = decoder(2, cell, layers, inject, dropout=0.5, word_keep=word_keep).eval()
    z = codes(2)
    expected = part.log_prob(IDS, z)
    rows = IDS.repeat(2, 1)
    state = part.start(z.flatten(0, 1))
    token, found = torch.full((6,), BOS), []
    for t in range(IDS.shape[1]):
        logits, state = part.step(token, state)
        assert logits.shape == (6, V)
        token = rows[:, t]
        found.append(logits.log_softmax(1)[torch.arange(6), token])
    torch.testing.assert_close(torch.stack(found, 1).view(2, 3, 4), expected, rtol=0, atol=1e-12)


@cells
def test_step_by_step_without_a_code(cell):
    part = decoder(0, cell).eval()
    expected = part.log_prob(IDS, None)
    assert expected.shape == (1, 3, 4)
    state, token, found = part.start(None, 3), torch.full((3,), BOS), []
    for t in range(4):
        logits, state = part.step(token, state)
        token = IDS[:, t]
        found.append(logits.log_softmax(1)[torch.arange(3), token])
    torch.testing.assert_close(torch.stack(found, 1)[None], expected, rtol=0, atol=1e-12)


@cells
@injections
def test_all_sentences_up_to_a_length_have_probability_one_together(cell, inject):
    """Every word at each of two places, after any history: sums of a proper distribution."""
    part = decoder(2, cell, 1, inject).eval()
    ids = torch.tensor(list(itertools.product(range(V), repeat=2)))
    z = codes(1, 1).expand(1, len(ids), 2)
    total = part.log_prob(ids, z).sum(-1).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


@cells
@injections
def test_every_way_in_carries_the_code_and_its_gradient(cell, inject):
    part = decoder(2, cell, 1, inject).eval()
    z = codes(2).requires_grad_()
    log_px = part.log_prob(IDS, z)
    assert bool(((log_px[0] - log_px[1]).abs() > 1e-9).all())  # from the first word on
    for place in range(IDS.shape[1]):
        (gradient,) = torch.autograd.grad(log_px[:, :, place].sum(), z, retain_graph=True)
        assert bool((gradient.abs() > 1e-12).all())
    (one,) = torch.autograd.grad(log_px[1, 2].sum(), z)
    assert one[1, 2].abs().min() > 0 and one.count_nonzero() == 2  # each code moves its own sentence alone


@cells
def test_a_code_comes_in_where_it_was_asked_for(cell):
    state, at_input, both = (decoder(2, cell, 1, way) for way in (("state",), ("input",), ("state", "input")))
    assert state.first_state is not None and state.network.network.input_size == 3
    assert at_input.first_state is None and at_input.network.network.input_size == 5
    assert both.first_state is not None and both.network.network.input_size == 5
    assert decoder(0, cell).first_state is None and decoder(0, cell).network.network.input_size == 3
    zeros = at_input.start(codes()[0])
    assert all(not part.any() for part in zeros.network)
    assert all(bool(part.any()) for part in state.start(codes()[0]).network)


def test_the_first_state_by_hand():
    """Of an LSTM's two parts the output goes through tanh, the cell does not; layers come after one another."""
    part = RecurrentDecoder(V, 3, 1, "lstm", 2, layers=2, inject=("state",))
    with torch.no_grad():
        part.first_state.weight.copy_(torch.arange(1.0, 9.0)[:, None])
        part.first_state.bias.zero_()
    h, c = part.start(torch.tensor([[0.5], [1.0]])).network
    expected = (
        torch.arange(1.0, 9.0).view(2, 2, 1, 2) * torch.tensor([0.5, 1.0])[:, None]
    )  # state, layer, row, unit
    torch.testing.assert_close(h, expected[0].tanh())
    torch.testing.assert_close(c, expected[1])


@cells
def test_several_codes_of_a_sentence_are_scored_as_if_alone(cell):
    part = decoder(2, cell).eval()
    z = codes(4)
    together = part.log_prob(IDS, z)
    assert together.shape == (4, 3, 4)
    for sample, row in itertools.product(range(4), range(3)):
        alone = part.log_prob(IDS[row : row + 1], z[sample : sample + 1, row : row + 1])[0, 0]
        torch.testing.assert_close(together[sample, row], alone, rtol=0, atol=1e-12)


@given(st.integers(0, 3), st.lists(st.integers(0, V - 1), min_size=24, max_size=24))
def test_what_comes_later_changes_nothing_before(place, junk):
    part = decoder(2).eval()
    changed = IDS.clone()
    changed[:, place + 1 :] = torch.tensor(junk).view(3, 8)[:, : 3 - place]
    before, after = part.log_prob(IDS, codes()), part.log_prob(changed, codes())
    torch.testing.assert_close(after[:, :, : place + 1], before[:, :, : place + 1], rtol=0, atol=1e-12)


def test_the_decoder_reads_the_words_one_place_late_after_the_begin_mark():
    part = decoder().eval()
    inputs = Inputs(part)
    part.log_prob(IDS, codes())
    assert inputs.seen[0].tolist() == [[BOS, 5, 6, 7], [BOS, 4, EOS, PAD], [BOS, 9, 10, EOS]]


def test_keeping_every_word_changes_nothing():
    part = decoder(word_keep=1.0).train()
    inputs = Inputs(part)
    before = torch.get_rng_state()
    in_training = part.log_prob(IDS, codes())
    assert torch.equal(torch.get_rng_state(), before)  # and draws nothing
    torch.testing.assert_close(in_training, part.eval().log_prob(IDS, codes()), rtol=0, atol=0)
    assert torch.equal(inputs.seen[0], inputs.seen[1])


@pytest.mark.parametrize("training", [True, False])
def test_keeping_no_word_is_inputless_in_training_and_evaluation(training):
    part = decoder(word_keep=0.0).train(training)
    inputs = Inputs(part)
    part.log_prob(IDS, codes())
    assert inputs.seen[0].tolist() == [[BOS, UNK, UNK, UNK]] * 3
    part.step(torch.tensor([BOS, 5, EOS]), part.start(codes()[0]))
    assert inputs.seen[1].tolist() == [BOS, UNK, UNK]


def test_word_dropout_has_its_rate_spares_the_begin_mark_and_is_off_at_evaluation():
    part = decoder(word_keep=0.75)
    inputs = Inputs(part)
    ids = torch.full((400, 26), 7)
    z = codes(1, 400)
    torch.manual_seed(0)
    part.train().log_prob(ids, z)
    part.eval().log_prob(ids, z)
    dropped, whole = inputs.seen
    assert bool((dropped[:, 0] == BOS).all()) and sorted(dropped[:, 1:].unique().tolist()) == [UNK, 7]
    kept = float((dropped[:, 1:] == 7).double().mean())
    assert abs(kept - 0.75) < 4 * (0.75 * 0.25 / 10_000) ** 0.5
    assert bool((whole[:, 1:] == 7).all())


def test_the_targets_are_never_dropped():
    """With the decoder's weights at zero every word has its bias's probability, dropped inputs or not."""
    part = decoder(word_keep=0.0).train()
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.zero_()
        part.words.bias.copy_(torch.arange(float(V)))
    expected = torch.arange(float(V)).double().log_softmax(0)[IDS]
    torch.testing.assert_close(part.log_prob(IDS, codes())[0], expected)


def test_dropout_is_on_in_training_and_off_at_evaluation():
    part = decoder(dropout=0.5)
    part.train()
    assert not torch.equal(part.log_prob(IDS, codes()), part.log_prob(IDS, codes()))
    part.eval()
    assert torch.equal(part.log_prob(IDS, codes()), part.log_prob(IDS, codes()))
    plain = decoder(dropout=0.0).train()
    torch.testing.assert_close(plain.log_prob(IDS, codes()), part.log_prob(IDS, codes()), rtol=0, atol=0)


@cells
def test_selected_rows_go_on_as_before(cell):
    part = decoder(2, cell, 2).eval()
    state = part.start(codes()[0])
    _, state = part.step(torch.tensor([BOS, BOS, BOS]), state)
    whole, _ = part.step(torch.tensor([4, 5, 6]), state)
    for rows in (torch.tensor([2, 0, 0]), torch.tensor([True, False, True])):
        found, _ = part.step(torch.tensor([4, 5, 6])[rows], part.select(state, rows))
        torch.testing.assert_close(found, whole[rows], rtol=0, atol=1e-12)
