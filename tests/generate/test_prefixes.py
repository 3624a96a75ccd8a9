import pytest
import torch

from textvae.batches import Batch
from textvae.generate import prefixes
from textvae.generate.prefixes import log_px
from textvae.model import build
from textvae.objective import load_settings
from textvae.scores import evaluating
from textvae.tokenizers import EOS, UNK

SENTENCES = [[4, 5, 6], [4, 5, 7], [4, 5], [8], [4, 5, 6], [UNK, 4, 5, 6, 7, 8], [4, 5, 6, 9]]
SENTENCES = [[*ids, EOS] for ids in SENTENCES]
DECODERS = {
    "lstm": {"name": "lstm", "hidden": 8, "layers": 2},
    "gru, inputless": {"name": "gru", "hidden": 8, "word_keep": 0.0},
    "gated-convolutional": {"name": "gated-convolutional", "hidden": 8, "bottleneck": 4, "width": 3},
    "transformer": {"name": "transformer", "hidden": 8, "heads": 2, "layers": 2},
    "hybrid": {"name": "hybrid", "first_maps": 4, "maps": [4, 6], "top": {"hidden": 8}},
}


def model_of(decoder, latent=3, **more):
    sizes = {"latent": latent, "embedding": 6, "encoder": {"hidden": 8}, "decoder": DECODERS[decoder], "init": 0.7}
    settings = load_settings(data={"corpus": "x", "max_length": 7}, model={**sizes, **more})
    torch.manual_seed(0)
    return build(settings.model, 10, positions=settings.data.positions).eval()


def alone(model, ids, z):
    batch = Batch(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([0]))
    return model.log_px(batch, None if z is None else z[None, None]).double().sum()


@pytest.mark.parametrize("rows", [2000, 4, 1])
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_sentence_under_every_code_as_alone(monkeypatch, decoder, rows):
    monkeypatch.setattr(prefixes, "ROWS", rows)
    more = {} if decoder == "hybrid" else {"feedforward": {"layers": 1}}
    model, codes = model_of(decoder, **more), torch.randn(5, 3)
    which = torch.tensor([[0, 3], [0, 1], [0, 3], [2, 4], [1, 0], [0, 0], [3, 0]])
    with evaluating(model):
        found = log_px(model, codes, which, SENTENCES)
        expected = [[alone(model, ids, codes[at]) for at in row] for ids, row in zip(SENTENCES, which, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-6)


def test_a_language_model():
    model = model_of("lstm", latent=0)
    with evaluating(model):
        found = log_px(model, None, torch.zeros(7, 1, dtype=torch.long), SENTENCES)
        expected = torch.stack([alone(model, ids, None) for ids in SENTENCES])[:, None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found[0] == found[4]


def test_what_sentences_have_in_common_is_one_step(monkeypatch):
    model = model_of("lstm")
    steps, real = [], model.decoder.step
    monkeypatch.setattr(model.decoder, "step", lambda token, state: steps.append(len(token)) or real(token, state))
    done = []
    with evaluating(model):
        which = torch.zeros(7, 1, dtype=torch.long)
        log_px(model, torch.zeros(1, 3), which, SENTENCES, lambda *count: done.append(count))
    # Beginnings of one word: 4, 8, UNK; of two: 4 5, UNK 4; of three: 4 5 6, 4 5 7, UNK 4 5; then two, one, one.
    assert steps == [1, 3, 2, 3, 2, 1, 1]
    assert done == [(7, 7)]
