import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from textvae.parts.encoders import RecurrentEncoder

cells = pytest.mark.parametrize("cell", ["lstm", "gru"])
directions = pytest.mark.parametrize("bidirectional", [False, True])
IDS = torch.tensor([[5, 6, 7, 8, 3], [4, 3, 0, 0, 0], [9, 8, 7, 3, 0]])
LENGTHS = torch.tensor([5, 2, 4])


@cells
@directions
def test_against_torchs_own_packed_bidirectional_networks(cell, bidirectional):
    encoder = RecurrentEncoder(10, 6, cell, 4, 1, bidirectional)
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    reference = kind(6, 4, batch_first=True, bidirectional=bidirectional)
    weights = dict(encoder.onward.network.named_parameters())
    if encoder.backward is not None:
        backward = encoder.backward.network.named_parameters()
        weights |= {f"{name}_reverse": parameter for name, parameter in backward}
    reference.load_state_dict(weights)
    packed = pack_padded_sequence(encoder.embedding(IDS), LENGTHS, batch_first=True, enforce_sorted=False)
    _, state = reference(packed)
    last = state[0] if cell == "lstm" else state  # (direction, batch, hidden)
    found = encoder(IDS, LENGTHS)
    assert found.shape == (3, encoder.size) and encoder.size == 4 * (2 if bidirectional else 1)
    torch.testing.assert_close(found, torch.cat(list(last), dim=1))


@given(
    st.sampled_from(["lstm", "gru"]),
    st.booleans(),
    st.integers(1, 2),
    st.integers(0, 3),
    st.lists(st.integers(0, 9), min_size=24, max_size=24),
)
def test_padding_has_no_influence(cell, bidirectional, layers, extra, junk):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(10, 3, cell, 4, layers, bidirectional).double()
    ids = torch.cat([IDS, torch.zeros(3, extra, dtype=torch.long)], dim=1)
    outside = torch.arange(ids.shape[1]) >= LENGTHS[:, None]
    ids[outside] = torch.tensor(junk)[: int(outside.sum())]
    torch.testing.assert_close(encoder(ids, LENGTHS), encoder(IDS, LENGTHS), rtol=0, atol=1e-12)


@cells
@directions
def test_every_token_counts(cell, bidirectional):
    """The end mark and the first word too, in both directions."""
    torch.manual_seed(0)
    encoder = RecurrentEncoder(10, 3, cell, 4, 1, bidirectional)
    before = encoder(IDS, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        for place in range(length):
            changed = IDS.clone()
            changed[row, place] = 2
            moved = (encoder(changed, LENGTHS) - before).abs().amax(1) > 1e-6
            assert moved.tolist() == [other == row for other in range(3)]
