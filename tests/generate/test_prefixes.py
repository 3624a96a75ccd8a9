import pytest
import torch

from textvae.generate import prefixes
from textvae.generate.prefixes import log_ratios
from textvae.inference import evaluating
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.text.batches import Batch
from textvae.text.tokenizers import EOS, UNK

# Pairs that differ in the first word, the last, in length, in all words, or not at all.
FIRST = [[4, 5, 6], [4, 5, 7], [4, 5], [8], [4, 5, 6], [UNK, 4, 5, 6, 7, 8], [4, 5, 6, 9]]
SECOND = [[7, 5, 6], [4, 5, 6], [4, 5, 7], [9, 4, 4], [4, 5, 6], [UNK, 4, 7, 6, 7], [4, 8, 6, 9]]
FIRST, SECOND = ([[*ids, EOS] for ids in side] for side in (FIRST, SECOND))
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
def test_every_pair_under_every_code_as_alone(monkeypatch, decoder, rows):
    monkeypatch.setattr(prefixes, "ROWS", rows)
    more = {} if decoder == "hybrid" else {"feedforward": {"layers": 1}}
    model, codes = model_of(decoder, **more), torch.randn(5, 3)
    which = torch.tensor([[0, 3], [0, 1], [0, 3], [2, 4], [1, 0], [0, 0], [3, 0]])
    with evaluating(model):
        found = log_ratios(model, codes, which, FIRST, SECOND)
        expected = [
            [alone(model, x, codes[at]) - alone(model, y, codes[at]) for at in row]
            for x, y, row in zip(FIRST, SECOND, which, strict=True)
        ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-6)
    assert found[4].tolist() == [0.0, 0.0] and (found[[0, 1, 2, 3, 5, 6]] != 0).all()


def test_a_language_model():
    model = model_of("lstm", latent=0)
    with evaluating(model):
        found = log_ratios(model, None, torch.zeros(7, 1, dtype=torch.long), FIRST, SECOND)
        expected = [alone(model, x, None) - alone(model, y, None) for x, y in zip(FIRST, SECOND, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected)[:, None], atol=1e-5, rtol=0)


def test_what_sentences_have_in_common_is_one_step_and_no_softmax(monkeypatch):
    model = model_of("lstm")
    steps, softmaxes, done = [], [], []
    real, logits = model.decoder.advance, model.decoder.logits
    monkeypatch.setattr(
        model.decoder, "advance", lambda token, state: steps.append(len(token)) or real(token, state)
    )
    monkeypatch.setattr(model.decoder, "logits", lambda read: softmaxes.append(len(read)) or logits(read))
    first, second = [[4, 5, 6, EOS], [4, 5, 8, EOS]], [[4, 5, 7, EOS], [4, 5, 9, EOS]]
    with evaluating(model):
        which = torch.zeros(2, 1, dtype=torch.long)
        log_ratios(model, torch.zeros(1, 3), which, first, second, lambda *count: done.append(count))
    # Beginnings: none; 4; 4 5; then four different words, and the end mark after each is all that is normalised.
    assert steps == [1, 1, 1, 4]
    assert softmaxes == [4]
    assert done == [(4, 4)]
