"""Conditioners: what they read, and what has no influence on it."""

import pytest
import torch

from textvae.model import build
from textvae.parts.conditioners.dialogue import DialogueConditioner, utterances
from textvae.parts.conditioners.labels import LabelConditioner
from textvae.parts.conditioners.text import TextConditioner
from textvae.parts.encoders.recurrent import RecurrentEncoder
from textvae.parts.noise import sentence_noise
from textvae.parts.settings import ModelSettings
from textvae.text.batches import padded
from textvae.text.conditions import MISSING, Labels, Turns
from textvae.text.tokenizers import EOS, PAD


def turns(dialogues, speakers=None, wide=0, long=0):
    """Contexts given as lists of lists of ids; with room for more turns and longer ones."""
    most = max(map(len, dialogues)) + wide
    time = max(len(turn) for dialogue in dialogues for turn in dialogue) + 1 + long
    ids = torch.full((len(dialogues), most, time), PAD)
    lengths, flags = torch.zeros(len(dialogues), most, dtype=torch.long), torch.zeros(len(dialogues), most).long()
    for row, dialogue in enumerate(dialogues):
        for place, turn in enumerate(dialogue):
            ids[row, place, : len(turn) + 1] = torch.tensor([*turn, EOS])
            lengths[row, place] = len(turn) + 1
            flags[row, place] = 0 if speakers is None else speakers[row][place]
    return Turns(ids, lengths, torch.tensor([len(dialogue) for dialogue in dialogues]), flags)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return RecurrentEncoder(20, 5, "gru", 4, bidirectional=True)


DIALOGUES = [[[4, 5], [6], [7, 8, 9]], [[5, 5, 5, 5]], [[9], [4, 6]]]


def test_a_context_is_read_turn_by_turn(encoder):
    conditioner = DialogueConditioner(encoder, 6)
    speakers = [[1, 0, 1], [0], [1, 0]]
    found = conditioner(turns(DIALOGUES, speakers))
    for row, (dialogue, flags) in enumerate(zip(DIALOGUES, speakers, strict=True)):
        read = [encoder(torch.tensor([[*turn, EOS]]), torch.tensor([len(turn) + 1])) for turn in dialogue]
        rows = [
            torch.cat([vector, torch.tensor([[float(flag)]])], 1) for vector, flag in zip(read, flags, strict=True)
        ]
        outputs, _ = conditioner.context.network(torch.stack(rows, 1))
        torch.testing.assert_close(found[row], outputs[0, -1])


def test_padding_and_other_contexts_have_no_influence(encoder):
    conditioner = DialogueConditioner(encoder, 6)
    together = conditioner(turns(DIALOGUES, wide=2, long=3))
    for row, dialogue in enumerate(DIALOGUES):
        torch.testing.assert_close(conditioner(turns([dialogue]))[0], together[row])


def test_the_speaker_of_a_turn_counts(encoder):
    conditioner = DialogueConditioner(encoder, 6)
    mine, other = (conditioner(turns([[[4, 5]]], [[flag]])) for flag in (1, 0))
    assert not torch.allclose(mine, other)


def test_utterances_come_in_their_order(encoder):
    ids = turns([[[n] * (1 + n % 5)] for n in range(4, 19)])
    found = utterances(encoder, ids.ids[:, 0], ids.lengths[:, 0])
    torch.testing.assert_close(found, encoder(ids.ids[:, 0], ids.lengths[:, 0]))


def test_a_source_text_is_read_without_its_padding(encoder):
    conditioner = TextConditioner(encoder)
    sources = [[[4, 5, 6]], [[7]]]
    found = conditioner(turns(sources, long=4))
    for row, source in enumerate(sources):
        torch.testing.assert_close(conditioner(turns([source]))[0], found[row])


def test_labels_have_an_embedding_each_and_a_missing_one_zeros():
    conditioner = LabelConditioner([2, 3], 4)
    found = conditioner(Labels(torch.tensor([[0, 2], [1, MISSING]])))
    torch.testing.assert_close(found[0, 4:], conditioner.embeddings[1].weight[2])
    torch.testing.assert_close(found[1, :4], conditioner.embeddings[0].weight[1])
    assert not found[1, 4:].any()


@pytest.mark.parametrize("shared", [True, False])
def test_one_encoder_reads_contexts_and_responses_if_it_is_shared(shared):
    torch.manual_seed(0)
    model = {"latent": 3, "embedding": 5, "encoder": {"name": "gru", "hidden": 4}, "decoder": {"hidden": 6}}
    table = {"name": "dialogue", "hidden": 6, "shared": shared}
    tied = {"conditioner": table, "shared_embedding": True, "prior": {"name": "conditional-gaussian", "hidden": 4}}
    built = build(ModelSettings.model_validate({**model, **tied}), 20)
    of_context = built.conditioning.conditioner.encoder
    assert (of_context is built.encoder) == shared
    assert of_context.embedding.weight is built.decoder.embedding.weight
    generative = set(built.generative())
    own = set(built.encoder.onward.parameters())
    assert not own & generative
    assert set(built.conditioning.conditioner.context.parameters()) <= generative
    assert set(of_context.onward.parameters()) <= generative or shared
    batch = padded([[4, 5, EOS], [6, EOS]], [0, 1])._replace(condition=turns(DIALOGUES[:2]))
    out = built(batch, sentence_noise(0, batch.index))
    assert out.log_px.shape == (1, 2, 3) and torch.isfinite(out.log_px).all()
    alone = build(ModelSettings.model_validate({**model, "latent": 0, "conditioner": table}), 20)
    assert alone.log_px(batch, None).shape == (1, 2, 3)  # HRED: no code
