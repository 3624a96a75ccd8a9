import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.parts.encoders.transformer import TransformerEncoder
from textvae.parts.kernels.attention import attending

IDS = torch.tensor([[5, 6, 7, 8, 3], [4, 3, 0, 0, 0], [9, 8, 7, 3, 0]])
LENGTHS = torch.tensor([5, 2, 4])


def encoder(embedding: int = 6, dropout: float = 0.0, layers: int = 2) -> TransformerEncoder:
    """In float64, with weights large enough that attention is far from even."""
    torch.manual_seed(0)
    part = TransformerEncoder(10, embedding, 8, layers, 2, dropout).double()
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return part


@given(st.integers(0, 6), st.lists(st.integers(0, 9), min_size=40, max_size=40))
def test_padding_has_no_influence(extra, junk):
    part = encoder()
    ids = torch.cat([IDS, torch.zeros(3, extra, dtype=torch.long)], dim=1)
    outside = torch.arange(ids.shape[1]) >= LENGTHS[:, None]
    ids[outside] = torch.tensor(junk)[: int(outside.sum())]
    torch.testing.assert_close(part(ids, LENGTHS), part(IDS, LENGTHS), rtol=0, atol=1e-12)


def test_a_sentence_alone_is_what_it_is_in_a_batch():
    part = encoder()
    together = part(IDS, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = part(IDS[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)


def test_no_gradient_reaches_padding():
    part = encoder()
    embedded = part.embedding(IDS).detach().requires_grad_()
    part.read(embedded, LENGTHS).square().sum().backward()
    assert embedded.grad is not None
    reached = embedded.grad.abs().amax(2) > 0
    assert torch.equal(reached, torch.arange(5) < LENGTHS[:, None])


def test_it_is_the_mean_of_the_networks_outputs():
    """Of one sentence without padding; with a sentence's size equal to the embeddings' there is no layer before."""
    part = encoder(8)
    assert part.entry is None and part.size == 8
    outputs = part.network(part.embedding(IDS[:1]), attending(torch.ones(1, 5, dtype=torch.bool)))
    torch.testing.assert_close(part(IDS[:1], LENGTHS[:1]), outputs.mean(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("embedding", [6, 8])
def test_every_token_and_their_order_count(embedding):
    part = encoder(embedding)
    before = part(IDS, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        for place in range(length):
            changed = IDS.clone()
            changed[row, place] = 2
            moved = (part(changed, LENGTHS) - before).abs().amax(1) > 1e-6
            assert moved.tolist() == [other == row for other in range(3)]
    swapped = IDS[:, [1, 0, 2, 3, 4]]
    assert bool(((part(swapped, LENGTHS) - before).abs().amax(1) > 1e-6).all())


def test_dropout_is_on_in_training_and_off_at_evaluation():
    part = encoder(dropout=0.5)
    part.train()
    assert not torch.equal(part(IDS, LENGTHS), part(IDS, LENGTHS))
    part.eval()
    assert torch.equal(part(IDS, LENGTHS), part(IDS, LENGTHS))
    torch.testing.assert_close(encoder().train()(IDS, LENGTHS), part(IDS, LENGTHS), rtol=0, atol=0)


def test_embeddings_have_a_dropout_of_their_own():
    def read(embeddings: float, dropout: float, embedding_dropout: float | None, seed: int = 1) -> torch.Tensor:
        torch.manual_seed(0)
        part = TransformerEncoder(10, 6, 8, 1, 2, dropout, embedding_dropout).train()
        torch.nn.init.constant_(part.embedding.weight, embeddings)
        torch.manual_seed(seed)
        return part(IDS, LENGTHS)

    assert not torch.equal(read(1.0, 0.0, 0.5), read(1.0, 0.0, 0.5, seed=2))
    assert torch.equal(read(0.0, 0.0, 0.5), read(0.0, 0.0, 0.5, seed=2))  # nothing but embeddings is dropped
    assert not torch.equal(read(1.0, 0.5, 0.0), read(1.0, 0.5, 0.0, seed=2))
    assert torch.equal(read(1.0, 0.5, None), read(1.0, 0.5, 0.5))


def test_gradients():
    part = encoder(4, layers=1)
    embedded = part.embedding(IDS[:2, :3]).detach().requires_grad_()
    lengths = torch.tensor([3, 2])
    names, values = zip(*(item for item in part.named_parameters() if "embedding" not in item[0]), strict=True)

    def read(inputs, *parameters):
        return torch.func.functional_call(part, dict(zip(names, parameters, strict=True)), (inputs, lengths))

    part.forward = part.read  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(read, (embedded, *values), fast_mode=True)


def test_first_words_come_into_the_blocks_at_their_own_scale():
    torch.manual_seed(0)
    part = TransformerEncoder(2000, 64, 256, 1, 4)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.fill_(7.0)
    part.begin()
    assert part.entry is not None and not part.entry.bias.any()
    words = part.embedding.weight
    for found in (words, part.entry(words)):
        assert abs(float(found.detach().std()) / 0.02 - 1) < 0.1
