import math
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.files import read_tensors, write_tensors
from textvae.metrics.likelihood import perplexity
from textvae.model import TextVAE, build
from textvae.objective.objective import Objective
from textvae.objective.terms import TERMS
from textvae.parts.decoders import RecurrentDecoderSettings
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.parts.encoders import RecurrentEncoderSettings
from textvae.parts.kernels.layers import Feedforward
from textvae.parts.noise import sentence_noise, step_noise
from textvae.parts.settings import ModelSettings
from textvae.text.batches import Batch
from textvae.text.tokenizers import BOS, EOS

V = 10


def batch_of(*sentences: list[int], extra: int = 0) -> Batch:
    """Sentences of word ids as a batch, end marks added, with columns of padding to spare."""
    lengths = torch.tensor([len(words) + 1 for words in sentences])
    width = int(lengths.max()) + extra
    ids = torch.tensor([[*words, EOS] + [0] * (width - len(words) - 1) for words in sentences])
    return Batch(ids, lengths, torch.arange(len(sentences)))


def tiny(latent: int = 3, encoder: str = "lstm", bidirectional: bool = False, decoder: str = "lstm", **others):
    """A small model in float64, at evaluation."""
    settings = ModelSettings(
        latent=latent,
        embedding=4,
        encoder=RecurrentEncoderSettings(name=encoder, hidden=5, bidirectional=bidirectional),
        decoder=RecurrentDecoderSettings(name=decoder, hidden=6, **others),
        init=0.5,
    )
    torch.manual_seed(0)
    return build(settings, V).double().eval()


def noise_for(batch: Batch):
    drawn = sentence_noise(0, batch.index)
    return lambda samples, size: drawn(samples, size).double()


@given(
    st.sampled_from(["lstm", "gru"]),
    st.booleans(),
    st.sampled_from(["lstm", "gru"]),
    st.sampled_from([0, 3]),
    st.integers(0, 3),
    st.lists(st.integers(0, V - 1), min_size=40, max_size=40),
)
def test_changing_only_padding_moves_no_loss(encoder, bidirectional, decoder, latent, extra, junk):
    model = tiny(latent, encoder, bidirectional, decoder)
    sentences = [[4, 5, 6, 7], [], [8, 9], [5]]
    plain, changed = batch_of(*sentences), batch_of(*sentences, extra=extra)
    outside = torch.arange(changed.ids.shape[1]) >= changed.lengths[:, None]
    changed.ids[outside] = torch.tensor(junk)[: int(outside.sum())]
    names = ("kl", "mu-forcing") if latent else ()
    objective = Objective({name: TERMS[name]() for name in names}, 10)
    results = []
    for batch in (plain, changed):
        out = model(batch, noise_for(batch), 2)
        loss, raw = objective(out, 3)
        gradient = torch.autograd.grad(loss, model.decoder.words.bias)[0]
        results.append([loss, *raw.values(), out.log_px.sum(-1), gradient])
        assert not out.log_px.masked_select(torch.arange(batch.ids.shape[1]) >= batch.lengths[:, None]).any()
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_language_model_that_knows_nothing_has_the_vocabularys_perplexity():
    """Weights at zero: log V a token, the end mark counted, padding not."""
    model = tiny(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    batch = batch_of([4, 5, 6], [7], extra=2)
    log_px = model.log_px(batch, None)
    assert log_px.sum(-1)[0].tolist() == pytest.approx([-4 * math.log(V), -2 * math.log(V)], rel=1e-12)
    tokens = int(batch.lengths.sum())
    assert tokens == 6 and perplexity(-log_px.sum().item(), tokens) == pytest.approx(V, rel=1e-12)


def test_the_perplexity_of_a_bigram_model_by_hand():
    """A GRU whose gates are pinned so that its state is the last word: p(x) is a product of known numbers."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(V, V, generator=generator, dtype=torch.float64)
    table /= table.sum(1, keepdim=True)  # p(next | previous)
    decoder = RecurrentDecoder(V, V, 0, "gru", V).double()
    network = decoder.network.network
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.embedding.weight.copy_(torch.eye(V))
        network.bias_ih_l0[V : 2 * V] = -1e3  # the update gate forgets all
        network.weight_ih_l0[2 * V :] = 3 * torch.eye(V)  # the candidate is tanh(3) at the word
        decoder.words.weight.copy_(table.log().T / math.tanh(3))
    model = TextVAE(decoder).eval()
    sentences = [[4, 5, 6], [7], [9, 9]]
    batch = batch_of(*sentences, extra=1)
    nats, tokens = 0.0, 0
    for words in sentences:
        for previous, word in zip([BOS, *words], [*words, EOS], strict=True):
            nats -= math.log(table[previous, word])
            tokens += 1
    log_px = model(batch, noise_for(batch)).log_px
    assert -log_px.sum().item() == pytest.approx(nats, rel=1e-12)
    assert perplexity(-log_px.sum().item(), int(batch.lengths.sum())) == pytest.approx(
        math.exp(nats / tokens), rel=1e-12
    )


def test_a_pass_holds_what_it_says():
    model, batch = tiny(), batch_of([4, 5], [6], [7, 8, 9])
    out = model(batch, noise_for(batch), 4)
    assert out.log_px.shape == (4, 3, 4) and out.z.shape == (4, 3, 3) and out.prior is model.prior
    assert out.posterior.mean.shape == out.posterior.std.shape == (3, 3) and out.heads == {}
    expected = out.posterior.mean + out.posterior.std * noise_for(batch)(4, 3)
    torch.testing.assert_close(out.z, expected, rtol=0, atol=0)
    torch.testing.assert_close(model.log_px(batch, out.z), out.log_px, rtol=0, atol=0)
    again = model.encode(batch)
    torch.testing.assert_close(again.mean, out.posterior.mean, rtol=0, atol=0)


def test_a_language_model_has_no_latent_parts():
    model, batch = tiny(0), batch_of([4, 5], [6])
    out = model(batch, noise_for(batch), 7)
    assert (out.z, out.posterior, out.prior, model.encode(batch)) == (None,) * 4
    assert out.log_px.shape == (1, 2, 3)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"decoder"}


def test_a_vae_whose_decoder_ignores_z_is_a_language_model():
    """The code's columns at zero: whatever z is, p(x|z) = p(x)."""
    model, batch = tiny(inject=("input",)), batch_of([4, 5], [6], [7, 8, 9])
    plain = tiny(0)
    with torch.no_grad():
        model.decoder.network.network.weight_ih_l0[:, 4:] = 0
        weights = dict(model.decoder.named_parameters())
        for name, parameter in plain.decoder.named_parameters():
            parameter.copy_(weights[name][tuple(map(slice, parameter.shape))])
    found = model(batch, noise_for(batch), 2).log_px
    torch.testing.assert_close(found, plain.log_px(batch, None).expand(2, -1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("inject", [("state",), ("input",), ("state", "input")])
def test_the_gradient_of_the_words_reaches_the_encoder(inject):
    model, batch = tiny(inject=inject, bidirectional=True), batch_of([4, 5], [6], [7, 8, 9])
    model(batch, noise_for(batch)).log_px.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


@pytest.mark.parametrize("latent", [0, 8])
def test_weights_are_uniform_in_their_range_and_come_from_the_seed(latent):
    settings = ModelSettings(latent=latent, embedding=20, init=0.07, encoder=RecurrentEncoderSettings(hidden=30))

    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(build(settings, 50).state_dict().values())

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for tensor in first:
        assert float(tensor.abs().max()) <= 0.07 and bool(tensor.all())  # biases too
    values = torch.cat([tensor.flatten() for tensor in first])
    assert float(values.max()) > 0.0699 and float(values.min()) < -0.0699
    assert float(values.std()) == pytest.approx(0.07 / math.sqrt(3), rel=0.01)


def test_every_size_is_the_settings():
    settings = ModelSettings(
        latent=7,
        embedding=11,
        encoder=RecurrentEncoderSettings(name="gru", hidden=13, layers=2, bidirectional=True),
        decoder=RecurrentDecoderSettings(name="lstm", hidden=17, layers=3, dropout=0.25),
        word_keep=0.5,
    )
    model = build(settings, 19)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["encoder.embedding.weight"] == shapes["decoder.embedding.weight"] == (19, 11)
    assert shapes["encoder.backward.network.weight_hh_l1"] == (3 * 13, 13)
    assert shapes["posterior.parameters_of.weight"] == (14, 26)
    assert shapes["decoder.first_state.weight"] == (2 * 3 * 17, 7)
    assert shapes["decoder.network.network.weight_ih_l0"] == (4 * 17, 11 + 7)
    assert shapes["decoder.network.network.weight_ih_l2"] == (4 * 17, 17)
    assert shapes["decoder.words.weight"] == (19, 17)
    assert (model.decoder.dropout, model.decoder.word_keep) == (0.25, 0.5)
    assert model.device == torch.device("cpu")


def test_a_share_of_a_batch_is_scored_as_in_the_whole():
    """Two processes with their rows of the step's noise, against one."""
    model = tiny().float()
    batch = batch_of([4, 5], [6], [7, 8, 9])
    whole = model(batch, step_noise(3, 5, 3, slice(0, 3))).log_px.sum(-1)
    parts = [
        model(Batch(*(part[rows] for part in batch[:3])), step_noise(3, 5, 3, rows)).log_px.sum(-1)
        for rows in (slice(0, 2), slice(2, 3))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


class TestArchitectures:
    ENCODERS: ClassVar[dict] = {
        "lstm": {},
        "lstm, bidirectional": {"bidirectional": True},
        "gru": {"name": "gru"},
        "convolutional": {"name": "convolutional"},
        "transformer": {"name": "transformer"},
    }
    DECODERS: ClassVar[dict] = {
        "lstm": {},
        "gru": {"name": "gru"},
        "gated-convolutional": {"name": "gated-convolutional"},
        "bytenet": {"name": "bytenet"},
        "transformer": {"name": "transformer"},
        "hybrid with an lstm on top": {"name": "hybrid"},
        "hybrid with a gru on top": {"name": "hybrid", "top": {"name": "gru"}},
        "hybrid with bytenet on top": {"name": "hybrid", "top": {"name": "bytenet"}},
        "hybrid, feed-forward": {"name": "hybrid", "top": {"name": "feed-forward"}},
    }
    AROUND: ClassVar[list] = [(512, True), (512, False), (6656, True)]  # the encoder's output, highway

    def test_the_documents_say_how_many_parameters_each_part_has(self):
        """Without embeddings and the vocabulary's softmax, at the default sizes."""
        text = (Path(__file__).parents[1] / "docs" / "architectures.md").read_text()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
        told = [
            (re.sub(r"[`\[\]]|\(#.*?\)", "", row[0]), int(row[-2].replace(",", "")))
            for row in rows
            if len(row) > 3 and re.fullmatch("[0-9,]+", row[-2])
        ]
        told, around = told[: -len(self.AROUND)], told[-len(self.AROUND) :]
        assert len(told) == len(self.ENCODERS) + len(self.DECODERS)
        parts = [("encoder", table) for table in self.ENCODERS.values()]
        parts += [("decoder", table) for table in self.DECODERS.values()]
        names = [*self.ENCODERS, *self.DECODERS]
        for (name, number), expected, (place, table) in zip(told, names, parts, strict=True):
            model = build(ModelSettings.model_validate({place: table}), V, {}, 101)
            chosen = [model.encoder] if place == "encoder" else [model.decoder, model.expansion]
            own = {id(p): p.numel() for part in chosen if part for p in part.parameters()}
            for left_out in ("embedding", "words"):
                module = getattr(chosen[0], left_out, None)
                for parameter in module.parameters() if module is not None else ():
                    own.pop(id(parameter))
            assert (name, number) == (expected, sum(own.values()))
        for (_, number), (size, highway) in zip(around, self.AROUND, strict=True):
            layers = [Feedforward(n, 1, highway) for n in (size, ModelSettings().latent)]
            assert number == sum(p.numel() for layer in layers for p in layer.parameters())

    def test_shared_and_tied_embeddings_are_one_matrix_and_survive_saving(self, tmp_path):
        tables = {"latent": 2, "embedding": 6, "decoder": {"hidden": 6}, "shared_embedding": True, "tied": True}
        model = build(ModelSettings.model_validate(tables), V)
        one = model.encoder.embedding.weight
        assert one is model.decoder.embedding.weight is model.decoder.words.weight
        apart = build(ModelSettings.model_validate({**tables, "shared_embedding": False, "tied": False}), V)
        assert sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in model.parameters()) == 2 * V * 6
        write_tensors(tmp_path / "w.safetensors", model.state_dict())
        again = build(ModelSettings.model_validate(tables), V)
        again.load_state_dict(read_tensors(tmp_path / "w.safetensors")[0])
        assert again.encoder.embedding.weight is again.decoder.words.weight
        assert torch.equal(again.decoder.words.weight, one)
