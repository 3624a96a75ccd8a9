import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.generate.decoding import Decoding, generate
from textvae.parts.decoders.transformer import TransformerDecoder
from textvae.parts.kernels.attention import ROOM
from textvae.text.tokenizers import BOS, EOS, PAD, UNK

V = 11
IDS = torch.tensor([[5, 6, 7, EOS], [4, EOS, PAD, PAD], [9, 10, EOS, PAD]])
injections = pytest.mark.parametrize("inject", [("prefix",), ("input",), ("prefix", "input")])


def decoder(latent: int = 2, inject=("prefix", "input"), layers: int = 2, embedding: int = 6, **options):
    """In float64, with weights large enough that attention is far from even."""
    torch.manual_seed(0)
    options = {"dropout": 0.0, **options}
    part = TransformerDecoder(V, embedding, latent, 8, layers, 2, inject, **options).double()
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return part


def codes(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def stepped(part: TransformerDecoder, ids: torch.Tensor, z: torch.Tensor | None) -> torch.Tensor:
    """log p of every token, step by step."""
    state, token, found = part.start(z, len(ids)), torch.full((len(ids),), BOS), []
    for t in range(ids.shape[1]):
        logits, state = part.step(token, state)
        assert logits.shape == (len(ids), V)
        token = ids[:, t]
        found.append(logits.log_softmax(1).gather(1, token[:, None])[:, 0])
    return torch.stack(found, 1)


class Inputs:
    """The words that a decoder looked up, in the order of its calls."""

    def __init__(self, part: TransformerDecoder) -> None:
        self.seen: list[torch.Tensor] = []
        part.embedding.register_forward_hook(lambda module, inputs, output: self.seen.append(inputs[0]))


@injections
@pytest.mark.parametrize("embedding", [6, 8])
@pytest.mark.parametrize("word_keep", [1.0, 0.5, 0.0])
def test_step_by_step_is_the_same_as_all_at_once(inject, embedding, word_keep):
    """Generation and teacher forcing share one distribution, at evaluation whatever the dropout was."""
    part = decoder(2, inject, embedding=embedding, dropout=0.5, word_keep=word_keep).eval()
    z = codes(2, 3, 2)
    expected = part.log_prob(IDS, z).detach()
    found = stepped(part, IDS.repeat(2, 1), z.flatten(0, 1))
    torch.testing.assert_close(found.view(2, 3, 4), expected, rtol=0, atol=1e-10)


def test_step_by_step_without_a_code():
    part = decoder(0).eval()
    expected = part.log_prob(IDS, None).detach()
    assert expected.shape == (1, 3, 4)
    torch.testing.assert_close(stepped(part, IDS, None)[None], expected, rtol=0, atol=1e-10)


def test_step_by_step_with_features_of_every_position():
    part = decoder(2, ("input",)).eval()
    features = codes(2, 3, 6, 2)  # more positions than the sentences have
    expected = part.log_prob(IDS, features).detach()
    found = stepped(part, IDS.repeat(2, 1), features.flatten(0, 1))
    torch.testing.assert_close(found.view(2, 3, 4), expected, rtol=0, atol=1e-10)
    even = features[:, :, :1].expand(-1, -1, 6, -1)
    torch.testing.assert_close(part.log_prob(IDS, even), part.log_prob(IDS, features[:, :, 0]))
    changed = features.clone()
    changed[:, :, 2] += 1.0
    moved = (part.log_prob(IDS, changed) - part.log_prob(IDS, features)).abs().amax((0, 1)) > 1e-9
    assert moved.tolist() == [False, False, True, True]


@injections
def test_rows_that_leave_on_the_way_change_nothing_for_those_that_stay(inject):
    """Kept, doubled and reordered rows, in the middle of a sentence and beyond the first room."""
    part = decoder(2, inject).eval()
    time = ROOM + 7
    ids = torch.randint(4, V, (4, time), generator=torch.Generator().manual_seed(3))
    z = codes(1, 4, 2)
    expected = part.log_prob(ids, z)[0].detach()
    changes = {
        0: torch.tensor([3, 1, 0, 2]),
        2: torch.tensor([2, 0, 0]),
        5: torch.tensor([True, False, True]),
        ROOM + 1: torch.tensor([1]),
    }
    rows, state, token = torch.arange(4), part.start(z[0]), torch.full((4,), BOS)
    for t in range(time):
        if t in changes:
            rows, token, state = rows[changes[t]], token[changes[t]], part.select(state, changes[t])
        logits, state = part.step(token, state)
        token = ids[rows, t]
        found = logits.log_softmax(1).gather(1, token[:, None])[:, 0]
        torch.testing.assert_close(found, expected[rows, t], rtol=0, atol=1e-10)
    assert rows.tolist() == [3]


def test_a_state_can_be_gone_on_from_twice():
    part = decoder().eval()
    _, state = part.step(torch.tensor([BOS, BOS, BOS]), part.start(codes(3, 2)))
    first, one = part.step(torch.tensor([4, 5, 6]), state)
    _, _ = part.step(torch.tensor([7, 8, 9]), state)
    again, _ = part.step(torch.tensor([4, 5, 6]), state)
    torch.testing.assert_close(again, first, rtol=0, atol=1e-12)
    after, _ = part.step(torch.tensor([9, 9, 9]), one)
    ids = torch.tensor([[4, 9, 10], [5, 9, 10], [6, 9, 10]])
    expected = part.log_prob(ids, codes(3, 2)[None])[0, :, 2].detach()
    torch.testing.assert_close(after.log_softmax(1)[:, 10], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("allow_unknown, never", [(False, (PAD, BOS, UNK)), (True, (PAD, BOS))])
def test_greedy_decoding_is_what_whole_scoring_prefers(allow_unknown, never):
    """Rows leave the batch as they end; every word is the likeliest of those that scoring the whole would allow."""
    part, way = decoder().eval(), Decoding("greedy", allow_unknown=allow_unknown)
    z = codes(12, 2)
    for row, sentence in enumerate(generate(part, z, way, 9, chunk=8)):
        for t, word in enumerate([*sentence, EOS][:9]):
            tries = torch.tensor([[*sentence[:t], v] for v in range(V) if v not in never])
            log_px = part.log_prob(tries, z[row].expand(1, len(tries), 2))[0, :, t]
            assert int(tries[log_px.argmax(), t]) == word


@injections
def test_all_sentences_up_to_a_length_have_probability_one_together(inject):
    """Every word at each of two places, after any history: sums of a proper distribution."""
    part = decoder(2, inject).eval()
    ids = torch.tensor(list(itertools.product(range(V), repeat=2)))
    total = part.log_prob(ids, codes(1, 1, 2).expand(1, len(ids), 2)).sum(-1).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


@injections
def test_every_way_in_carries_the_code_and_its_gradient(inject):
    part = decoder(2, inject).eval()
    z = codes(2, 3, 2).requires_grad_()
    log_px = part.log_prob(IDS, z)
    assert bool(((log_px[0] - log_px[1]).abs() > 1e-9).all())  # from the first word on
    for place in range(IDS.shape[1]):
        (gradient,) = torch.autograd.grad(log_px[:, :, place].sum(), z, retain_graph=True)
        assert bool((gradient.abs() > 1e-12).all())
    (one,) = torch.autograd.grad(log_px[1, 2].sum(), z)
    assert one[1, 2].abs().min() > 0 and one.count_nonzero() == 2  # each code moves its own sentence alone


def test_a_code_comes_in_where_it_was_asked_for():
    """With both, what each adds is its own: taking either away changes every word."""
    both = decoder()
    before = both.log_prob(IDS, codes(1, 3, 2))
    for layer in (both.as_prefix, both.at_input):
        assert layer is not None
        weight = layer.weight.detach().clone()
        with torch.no_grad():
            layer.weight.zero_()
            assert bool(((both.log_prob(IDS, codes(1, 3, 2)) - before).abs() > 1e-9).all())
            layer.weight.copy_(weight)
    assert decoder(2, ("prefix",)).at_input is None and decoder(2, ("input",)).as_prefix is None
    assert decoder(0).at_input is None and decoder(0).as_prefix is None
    unseen = decoder(2, ()).log_prob(IDS, codes(2, 3, 2))
    assert unseen.shape == (2, 3, 4) and torch.equal(unseen[0], unseen[1])


def test_several_codes_of_a_sentence_are_scored_as_if_alone():
    part = decoder().eval()
    z = codes(4, 3, 2)
    together = part.log_prob(IDS, z)
    assert together.shape == (4, 3, 4)
    for sample, row in itertools.product(range(4), range(3)):
        alone = part.log_prob(IDS[row : row + 1], z[sample : sample + 1, row : row + 1])[0, 0]
        torch.testing.assert_close(together[sample, row], alone, rtol=0, atol=1e-12)


@given(st.integers(0, 3), st.lists(st.integers(0, V - 1), min_size=24, max_size=24))
def test_what_comes_later_changes_nothing_before(place, junk):
    part = decoder().eval()
    changed = IDS.clone()
    changed[:, place + 1 :] = torch.tensor(junk).view(3, 8)[:, : 3 - place]
    before, after = part.log_prob(IDS, codes(1, 3, 2)), part.log_prob(changed, codes(1, 3, 2))
    torch.testing.assert_close(after[:, :, : place + 1], before[:, :, : place + 1], rtol=0, atol=1e-12)


def test_every_word_before_changes_all_after():
    """The begin mark's place too: every earlier word is attended to."""
    part = decoder().eval()
    ids = torch.tensor([[5, 6, 7, 8, 9, EOS]])
    before = part.log_prob(ids, codes(1, 1, 2))
    for place in range(5):
        changed = ids.clone()
        changed[0, place] = 10
        moved = (part.log_prob(changed, codes(1, 1, 2)) - before)[0, 0, place + 1 :].abs()
        assert bool((moved > 1e-9).all())


def test_the_decoder_reads_the_words_one_place_late_after_the_begin_mark():
    part = decoder().eval()
    inputs = Inputs(part)
    part.log_prob(IDS, codes(1, 3, 2))
    assert inputs.seen[0].tolist() == [[BOS, 5, 6, 7], [BOS, 4, EOS, PAD], [BOS, 9, 10, EOS]]


@pytest.mark.parametrize("training", [True, False])
def test_keeping_no_word_is_inputless_in_training_and_evaluation(training):
    part = decoder(word_keep=0.0).train(training)
    inputs = Inputs(part)
    part.log_prob(IDS, codes(1, 3, 2))
    assert inputs.seen[0].tolist() == [[BOS, UNK, UNK, UNK]] * 3
    part.step(torch.tensor([BOS, 5, EOS]), part.start(codes(3, 2)))
    assert inputs.seen[1].tolist() == [BOS, UNK, UNK]


def test_word_dropout_is_on_in_training_and_off_at_evaluation():
    part = decoder(word_keep=0.5)
    inputs = Inputs(part)
    ids = torch.full((40, 26), 7)
    part.train().log_prob(ids, codes(1, 40, 2))
    part.eval().log_prob(ids, codes(1, 40, 2))
    dropped, whole = inputs.seen
    assert bool((dropped[:, 0] == BOS).all()) and sorted(dropped[:, 1:].unique().tolist()) == [UNK, 7]
    assert bool((whole[:, 1:] == 7).all())


def test_dropout_is_on_in_training_and_off_at_evaluation():
    part = decoder(dropout=0.5)
    z = codes(1, 3, 2)
    part.train()
    assert not torch.equal(part.log_prob(IDS, z), part.log_prob(IDS, z))
    expected = part.eval().log_prob(IDS, z)
    torch.testing.assert_close(decoder().train().log_prob(IDS, z), expected, rtol=0, atol=0)
    part.train()
    part.training = False  # the decoder's own mode decides, not that of its parts
    torch.testing.assert_close(part.log_prob(IDS, z), expected, rtol=0, atol=0)


def test_dropout_never_falls_on_the_code():
    """With nothing but codes in the stream, and branches that add nothing, what goes into the blocks is whole."""
    part = decoder(dropout=0.5).train()
    assert part.entry is not None and part.at_input is not None and part.as_prefix is not None
    with torch.no_grad():
        part.entry.weight.zero_()
        part.entry.bias.zero_()
    seen: list[torch.Tensor] = []
    part.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    z = codes(1, 3, 2)
    part.log_prob(IDS, z)
    expected = torch.cat([part.as_prefix(z[0])[:, None], part.at_input(z[0])[:, None].expand(-1, 4, -1)], 1)
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-12)


@injections
def test_gradients(inject):
    part = decoder(2, inject, layers=1)
    names, values = zip(*part.named_parameters(), strict=True)
    z = codes(2, 2, 2).requires_grad_()
    part.forward = part.log_prob  # type: ignore[method-assign]

    def log_prob(z, *parameters):
        parameters = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(part, parameters, (IDS[:2, :3], z))

    assert torch.autograd.gradcheck(log_prob, (z, *values), fast_mode=True)


@injections
def test_refinement_goes_down_the_gradient_of_the_code_alone(inject):
    """In evaluation mode with the weights frozen, against a difference."""
    part = decoder(2, inject).eval().requires_grad_(False)
    z = codes(1, 3, 2)
    moving = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(part.log_prob(IDS, moving).sum(), moving)
    step = 1e-5 * z.sign()
    slope = (part.log_prob(IDS, z + step).sum() - part.log_prob(IDS, z - step).sum()) / 2
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-6, atol=0)


def test_first_words_and_codes_come_into_the_blocks_at_one_scale():
    torch.manual_seed(0)
    part = TransformerDecoder(2000, 64, 32, 256, 1, 4)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.fill_(7.0)
    part.begin()
    assert part.entry is not None and part.as_prefix is not None and part.at_input is not None
    words, z = part.embedding.weight, torch.randn(1000, 32)
    for found in (words, part.words.weight, part.entry(words), part.as_prefix(z), part.at_input(z)):
        assert abs(float(found.detach().std()) / 0.02 - 1) < 0.1
    assert not any(layer.bias.any() for layer in (part.words, part.entry, part.as_prefix, part.at_input))


def test_autocast_and_float32_come_close_to_float64():
    exact = decoder().eval()
    expected = exact.log_prob(IDS, codes(1, 3, 2)).detach().float()
    part = decoder().float().eval()
    z = codes(1, 3, 2).float()
    torch.testing.assert_close(part.log_prob(IDS, z), expected, rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        found = part.log_prob(IDS, z)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=0.1)
        torch.testing.assert_close(stepped(part, IDS, z[0])[None].float(), expected, rtol=0, atol=0.1)
