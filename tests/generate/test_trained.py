import math
import re
import warnings

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

import textvae
from textvae import inference
from textvae.errors import RequestError
from textvae.evaluation.importance import importance_weights
from textvae.generate import codec, reading
from textvae.generate.decoding import Decoding, generate, greedy
from textvae.generate.sources import posterior_draws
from textvae.generate.trained import Trained, load
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianMixture
from textvae.parts.priors import MeanOfPosteriors, MixtureOfGaussians
from textvae.text.batches import Batch, TokenStore
from textvae.text.batches import build as build_store
from textvae.text.tokenizers import BOS, EOS, UNK, Tokenizer

from .conftest import LINES, made

TEXTS = ["great food", "the staff was nice .", "we", "i will never come back .", "the place was nice"]
SAMPLE = Decoding("sample")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(made(tmp_path_factory.mktemp("runs") / "vae"))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return load(made(tmp_path_factory.mktemp("runs") / "lm", latent=0))


def posterior_of(model, text):
    """The posterior of one text by the model itself, alone in its batch."""
    (ids,) = model.tokenizer.encode([text])
    batch = Batch(torch.tensor([[*ids, EOS]]), torch.tensor([len(ids) + 1]), torch.tensor([0]))
    with torch.no_grad():
        return model.model.encode(batch)


@pytest.mark.parametrize("tokens", [reading.TOKENS, 12, 1])
def test_codes_are_posterior_means_in_the_order_of_the_texts_in_any_batching(model, monkeypatch, tokens):
    monkeypatch.setattr(reading, "TOKENS", tokens)
    codes, posterior = model.encode(TEXTS), model.posterior(TEXTS)
    assert codes.dtype == np.float32 and codes.shape == (5, 4)
    for row, text in enumerate(TEXTS):
        alone = posterior_of(model, text)
        torch.testing.assert_close(torch.from_numpy(codes[row]), alone.mean[0])
        torch.testing.assert_close(posterior.mean[row], alone.mean[0])
        torch.testing.assert_close(posterior.std[row], alone.std[0])
    assert np.abs(codes[0] - codes[1]).max() > 0.01


def test_texts_are_read_as_the_training_text_was(model):
    np.testing.assert_array_equal(
        model.encode([" the food\r\nwas great\n", "the pizza was nice"]),
        model.encode(["the food was great", "the <unk> was nice"]),
    )


def test_no_texts_give_no_codes_and_no_codes_no_texts(model):
    assert model.encode([]).shape == (0, 4)
    assert model.decode(np.zeros((0, 4))) == [] == model.sample(0) == model.reconstruct([])
    assert model.reconstruct([], sample_posterior=True) == []


def test_too_long_texts_are_cut_with_one_warning(model):
    long = " ".join(["great"] * 9)
    with pytest.warns(UserWarning) as warned:
        codes = model.encode([long, "we", long])
    assert [str(warning.message) for warning in warned] == [
        "2 of 3 texts cut to their first 7 tokens (data.max_length)"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(codes, model.encode([" ".join(["great"] * 7), "we"])[[0, 1, 0]], atol=1e-6)


def test_texts_without_a_known_word_are_counted_in_one_warning(model):
    with pytest.warns(UserWarning) as warned:
        model.encode(["xx yy", "we", "zz", "xx food"])
    assert [str(warning.message) for warning in warned] == [
        "2 of 4 texts have no word that the model knows; their codes encode only the lengths"
    ]
    assert model.knows("xx food") and not model.knows("xx yy")


@pytest.mark.filterwarnings("ignore:.*no word that the model knows")
def test_a_path_between_unknown_texts_says_that_they_are(model):
    with pytest.raises(RequestError, match="a and b: the model knows no word of either"):
        model.path("xx yy", "zz ww")
    assert model.path("xx yy", "zz").shape == (9, 4)  # of other lengths, and so of other codes


@pytest.mark.parametrize(
    "texts, message",
    [
        (["we", "", "great"], r"texts\[1\]: is empty"),
        (["we", "great", " \n\t"], r"texts\[2\]: is empty"),
        ("the food", r"texts = 'the food': a list of texts is expected; wrap a single one: \[text\]"),
        (["we", "\ud800"], "text 1 is not valid Unicode"),
        ([("i hate it .", "i love")], r"texts\[0\]: is a tuple, not a string"),
        (["we", 3], r"texts\[1\]: is a int, not a string: 3"),
        ({"text": ["we"]}, "texts: is a dict, not a list of texts; give one column"),
        (np.array([["we", "great"]]), "texts: is a ndarray, not a list of texts"),
    ],
)
def test_texts_that_are_none_are_refused(model, texts, message):
    def refuses(use, message):
        with pytest.raises((RequestError, TypeCheckError)) as error:  # the latter: every call checked
            use(texts)
        assert re.search(message, str(error.value)) or not isinstance(error.value, RequestError)

    for use in (model.encode, model.posterior, model.reconstruct):
        refuses(use, message)
    if "not a" in message:
        refuses(model.impute, message)
        refuses(lambda given: model.transfer(given, np.ones(4)), message)
        refuses(lambda given: model.direction(["we"], given), message.replace("texts", "targets", 1))


def test_texts_may_be_an_array_or_a_generator(model):
    codes = model.encode(["we", "the food"])
    np.testing.assert_array_equal(model.encode(np.array(["we", "the food"])), codes)
    np.testing.assert_array_equal(model.encode(text for text in ("we", "the food")), codes)


def test_decoding_gives_the_texts_of_the_generated_ids(model):
    z = model.draw(30, seed=2)
    ids = greedy(model.model.decoder, torch.from_numpy(z), 7)
    texts = model.decode(z)
    assert texts == [" ".join(model.tokenizer.tokens[i] for i in row) for row in ids]
    assert len(set(texts)) > 5 and max(map(len, ids)) == 7
    assert model.decode(torch.from_numpy(z).requires_grad_()) == texts == model.decode(z.tolist())
    assert model.decode(z.astype(np.float64)) == texts
    again = generate(model.model.decoder, torch.from_numpy(z), SAMPLE, 7, seed=8)
    assert model.decode(z, SAMPLE, seed=8) == model.tokenizer.decode_batch(again) != texts


@pytest.mark.parametrize(
    "z, message",
    [
        (np.zeros((2, 3)), r"z: has shape \(2, 3\); codes of shape \(n, 4\) are expected"),
        (np.zeros(4), r"z: has shape \(4,\); codes of shape \(n, 4\) are expected"),
        (np.array([[0, 0, 0, 0], [0, math.nan, 0, 0]]), r"z\[1\]: holds a number that is not finite"),
        ([[0, 0, 0, math.inf]], r"z\[0\]: holds a number that is not finite"),
        ([[0.0], [0.0, 1.0]], "z: is not an array of numbers"),
        ("the food", "z: is not an array of numbers"),
        ([["1", "2", "3"]], "z: is not an array of numbers: its type is <U1"),
        ([[1j, 0, 0]], "z: is not an array of numbers: its type is complex128"),
        ([[10**400, 0, 0]], "z: is not an array of numbers: its type is object"),
    ],
)
def test_what_is_no_code_is_refused(model, z, message):
    with pytest.raises(RequestError, match=message):
        model.decode(z)


def test_samples_decode_draws_of_the_prior_and_fewer_are_the_first_of_more(model):
    codes, texts = model.draw(40, seed=3), model.sample(40, seed=3)
    assert texts == model.decode(codes)
    np.testing.assert_array_equal(model.draw(13, seed=3), codes[:13])
    for decoding in (Decoding(), SAMPLE, Decoding("nucleus", top_p=0.8)):
        more = model.sample(40, seed=3, decoding=decoding)
        assert model.sample(13, seed=3, decoding=decoding) == more[:13]
        assert model.sample(40, seed=4, decoding=decoding) != more


def test_what_is_made_in_pieces_is_what_is_made_at_once(model, language_model, monkeypatch):
    """Samples, draws of both kinds and decoded codes: so that a command may write as it goes."""
    whole, draws = model.sample(9, 3, SAMPLE), model.draw(9, 3)
    assert model.sample(4, 3, SAMPLE) + model.sample(5, 3, SAMPLE, begin=4) == whole
    assert (np.concatenate([model.draw(4, 3), model.draw(5, 3, begin=4)]) == draws).all()
    assert model.decode(draws[:4], SAMPLE, 3) + model.decode(draws[4:], SAMPLE, 3, begin=4) == whole
    assert language_model.sample(2, 1, SAMPLE) + language_model.sample(2, 1, SAMPLE, 2) == (
        language_model.sample(4, 1, SAMPLE)
    )
    codes = posterior_draws(model, TEXTS, 3, 5)
    pieces = [posterior_draws(model, TEXTS[:2], 3, 5), posterior_draws(model, TEXTS[2:], 3, 5, begin=2)]
    np.testing.assert_allclose(np.concatenate(pieces), codes, rtol=0, atol=1e-6)
    monkeypatch.setattr(inference, "DRAWN", 2)
    assert (model.draw(9, 3) == draws).all()


def test_draws_are_standard_normal(model):
    codes = model.draw(4000, seed=0)
    np.testing.assert_allclose(codes.mean(0), 0, atol=0.07)
    np.testing.assert_allclose(np.cov(codes.T), np.eye(4), atol=0.1)


def test_reconstructions_decode_the_posterior_mean_or_a_draw(model):
    assert model.reconstruct(TEXTS) == model.decode(model.encode(TEXTS))
    posterior = model.posterior(TEXTS)
    noise = sentence_noise(mixed(9, 0), torch.arange(5))(1, 4)[0]
    drawn = model.decode(posterior.mean + posterior.std * noise, SAMPLE, seed=9)
    assert model.reconstruct(TEXTS, SAMPLE, sample_posterior=True, seed=9) == drawn


def test_a_path_is_a_straight_line_between_texts_or_codes(model):
    a, b = np.array([0.0, 1.0, 2.0, 4.0]), np.array([1.0, 1.0, 0.0, -4.0])
    path = model.path(a, b, steps=3)
    np.testing.assert_array_equal(path, [[0, 1, 2, 4], [0.5, 1, 1, 0], [1, 1, 0, -4]])
    first, last = model.encode(["great food"]), model.encode(["we"])
    np.testing.assert_allclose(model.path("great food", last), np.linspace(first[0], last[0], 9), atol=1e-6)
    np.testing.assert_array_equal(model.path("great food", "we"), model.path(first[0], torch.from_numpy(last)))


def test_interpolation_ends_in_the_reconstructions_of_its_ends(model):
    texts = model.interpolate("great food", "i will never come back .", steps=5)
    assert len(texts) == 5
    assert [texts[0], texts[-1]] == model.reconstruct(["great food", "i will never come back ."])
    assert texts == model.decode(model.path("great food", "i will never come back .", 5))
    texts = model.interpolate_prior(seed=6, steps=4)
    assert len(texts) == 4 and [texts[0], texts[-1]] == model.sample(2, seed=6)


def test_a_path_may_be_a_line_or_on_a_sphere_whatever_the_prior(model, sphere):
    a, b = np.array([2.0, 0.0, 0.0, 0.0]), np.array([0.0, 4.0, 0.0, 0.0])
    arc = model.path(a, b, 3, "spherical")
    np.testing.assert_allclose(arc, [a, [3 / 2**0.5, 3 / 2**0.5, 0, 0], b], atol=1e-6)
    np.testing.assert_array_equal(model.path(a, b, 3, "linear"), model.path(a, b, 3))
    chord = sphere.path("we", "great place", 3, "linear")
    np.testing.assert_allclose(chord[1], chord[[0, 2]].mean(axis=0), atol=1e-6)
    own = sphere.path("we", "great place", 3)
    np.testing.assert_allclose(own, sphere.path("we", "great place", 3, "spherical"), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-6)
    assert model.interpolate(a, b, 3, kind="spherical") == model.decode(arc)


def test_an_autoencoders_path_is_a_line_between_its_codes(autoencoder):
    a, b = autoencoder.encode(["great food", "we liked the food"])
    np.testing.assert_allclose(
        autoencoder.path("great food", "we liked the food", 5), np.linspace(a, b, 5), atol=1e-6
    )


def test_the_n_best_texts_of_a_beam_come_with_what_they_are_worth(model, language_model):
    z, decoding = model.draw(5, seed=2), Decoding("beam", beam=4)
    found = model.n_best(z, decoding, 3)
    assert [texts[0][0] for texts in found] == model.decode(z, decoding)
    for row, texts in enumerate(found):
        worth = [nats for _, nats in texts]
        assert len(texts) == 3 and worth == sorted(worth, reverse=True)
        (ids,) = model.tokenizer.encode([texts[0][0]])
        if len(ids) < model.max_length:  # it has ended
            batch = Batch(torch.tensor([[*ids, EOS]]), torch.tensor([len(ids) + 1]), torch.tensor([0]))
            with torch.no_grad():
                log_px = model.model.log_px(batch, torch.tensor(z[row])[None, None]).sum().item()
            assert worth[0] == pytest.approx(log_px, abs=1e-4)
    assert len(language_model.n_best(None, decoding, 4, rows=2)) == 2
    with pytest.raises(RequestError, match="n_best = 2: greedy decoding finds one text; decode by 'beam'"):
        model.n_best(z, Decoding(), 2)
    with pytest.raises(RequestError, match="n_best = 5: must be 1 to 4, the size of the beam"):
        model.n_best(z, decoding, 5)


@pytest.mark.parametrize("decoding", [Decoding(max_length=3), Decoding("beam", beam=3, max_length=3)])
def test_texts_are_cut_at_the_greatest_length_that_is_asked_for(model, decoding):
    texts = model.sample(40, seed=3, decoding=decoding)
    assert max(len(text.split()) for text in texts) == 3
    longer = model.sample(40, seed=3, decoding=Decoding(max_length=30))  # longer than what it was trained on
    assert max(len(text.split()) for text in longer) > model.max_length
    cut = [" ".join(text.split()[: model.max_length]) for text in longer]
    assert model.sample(40, seed=3) == cut
    with pytest.raises(RequestError, match="min_length = 5: no text has more than 3 words"):
        model.sample(1, decoding=Decoding(min_length=5, max_length=3))


def test_impossible_paths_and_counts_are_refused(model):
    for wrong, message in [
        (lambda: model.interpolate("we", "great", steps=1), "steps = 1: must be 2 or more"),
        (lambda: model.interpolate("we", ""), r"texts\[0\]: is empty"),
        (lambda: model.interpolate("we", np.zeros((2, 4))), r"b: has shape \(2, 4\); a text or one code of 4"),
        (lambda: model.interpolate([0, 0, 0, math.nan], "we"), r"a\[0\]: holds a number that is not finite"),
        (
            lambda: model.path("we", "we"),
            "a and b: have the same code, so there is no path; give two different ends",
        ),
        (lambda: model.path("we", "great", kind="round"), "path = 'round': unknown; known: linear, spherical"),
        (lambda: model.path(np.zeros(4), "we", kind="spherical"), "an end is zero, which has no direction"),
        (lambda: model.sample(-1), "n = -1: must be 0 or more"),
        (lambda: model.draw(-1), "n = -1: must be 0 or more"),
    ]:
        with pytest.raises(RequestError, match=message):
            wrong()


def test_a_language_model_samples_and_says_that_it_has_no_codes(language_model):
    assert len(set(language_model.sample(5))) == 1
    samples = language_model.sample(40, seed=1, decoding=SAMPLE)
    assert len(set(samples)) > 20 and language_model.sample(9, seed=1, decoding=SAMPLE) == samples[:9]
    for use in (
        lambda: language_model.encode(["we"]),
        lambda: language_model.decode(np.zeros((1, 4))),
        lambda: language_model.reconstruct(["we"]),
        lambda: language_model.interpolate("we", "great"),
        lambda: language_model.interpolate_prior(),
        lambda: language_model.draw(3),
    ):
        with pytest.raises(RequestError, match="lm: is a language model: it has no latent code"):
            use()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("tokens", [codec.SCORED, 1])
def test_nll_is_that_of_single_steps_end_mark_counted(tmp_path, monkeypatch, turned, tokens):
    """Each text alone, a step at a time: also one without words, and one longer than the model's own."""
    monkeypatch.setattr(codec, "SCORED", tokens)
    model = load(made(tmp_path / "lm", latent=0, right_to_left=turned))
    texts = [*TEXTS, "", " the  pizza\n", " ".join(["great"] * 9)]
    expected = []
    for text in texts:
        words = [model.tokenizer.tokens.index(word) if word != "pizza" else UNK for word in text.split()]
        nats, token, state = 0.0, BOS, model.model.decoder.start(None, 1)
        for word in [*(words[::-1] if turned else words), EOS]:
            with torch.no_grad():
                logits, state = model.model.decoder.step(torch.tensor([token]), state)
            nats, token = nats - logits.double().log_softmax(1)[0, word].item(), word
        expected.append(nats)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.nll(texts)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert model.nll([]).shape == (0,)


def test_nll_is_what_evaluation_finds(language_model, tmp_path):
    build_store(tmp_path / "store", {"train": LINES, "valid": LINES})
    store = TokenStore.open(tmp_path / "store", "train")
    assert Tokenizer.load(tmp_path / "store" / "tokenizer.json").tokens == language_model.tokenizer.tokens
    exact = importance_weights(language_model.model, store, np.arange(len(LINES)), 1).nll
    np.testing.assert_allclose(language_model.nll(LINES), exact, rtol=1e-6)


def test_nll_is_refused_where_it_is_not_known(model, language_model):
    with pytest.raises(RequestError, match="vae: has latent codes, so the exact likelihood of a text is unknown"):
        model.nll(["we"])
    for texts, message in (("we", "texts = 'we': a list of texts"), (["we", "\ud800"], "text 1 is not valid")):
        with pytest.raises(RequestError, match=message):
            language_model.nll(texts)


def test_characters_come_back_as_text(tmp_path):
    model = load(made(tmp_path / "run", tokenizer="character"))
    np.testing.assert_array_equal(model.encode([" we\nate "]), model.encode(["we ate"]))
    texts = model.sample(20, seed=0)
    assert {len(text) for text in texts} >= {7} and all(len(text) <= 7 or "<unk>" in text for text in texts)


@pytest.mark.parametrize("name", ["gaussian-mixture", "semi-implicit", "iaf", "vmf"])
def test_gradients_of_a_posterior_reach_the_encoder(model_with, model, name):
    for trained in (model, model_with(name)):
        own = trained.posterior(TEXTS)
        posterior = trained.posterior(TEXTS, grad=True)
        torch.testing.assert_close(posterior.mean, own.mean)
        assert posterior.mean.requires_grad and not own.mean.requires_grad
        posterior.mean[:, 0].sum().backward()
        weights = trained.model.encoder.embedding.weight
        known, unread = (trained.tokenizer.tokens.index(word) for word in ("great", "liked"))
        assert weights.grad[known].abs().sum() > 0 and not weights.grad[unread].any()
        assert all(weight.grad is None for weight in trained.model.decoder.parameters())
        trained.model.zero_grad()


def test_a_gradient_is_the_change_of_the_code(model):
    """Moving one weight moves the mean of the first text as its gradient says."""
    weight = model.model.encoder.embedding.weight
    at = model.tokenizer.tokens.index("great")
    model.posterior(TEXTS, grad=True).mean[0, 1].backward()
    slope, change = weight.grad[at, 2].item(), 1e-2
    model.model.zero_grad()
    means = []
    for by in (change, -2 * change, change):
        means.append(model.encode(TEXTS)[0, 1].item())
        with torch.no_grad():
            weight[at, 2] += by
    assert (means[1] - means[2]) / (2 * change) == pytest.approx(slope, rel=0.01)


def test_a_way_of_decoding_may_be_a_text(model, language_model):
    z = model.draw(20, seed=3)
    for text, decoding in {
        "greedy": Decoding(),
        "sample": SAMPLE,
        "sample:0.7": Decoding("sample", 0.7),
        "top-k:2": Decoding("top-k", top_k=2),
        "nucleus:0.5": Decoding("nucleus", top_p=0.5),
        "beam:2": Decoding("beam", beam=2),
    }.items():
        assert model.decode(z, text, seed=4) == model.decode(z, decoding, seed=4)
        assert model.sample(5, 1, text) == model.sample(5, 1, decoding)
        assert model.reconstruct(TEXTS, text) == model.reconstruct(TEXTS, decoding)
        assert model.interpolate("we", "the food", 3, text) == model.interpolate("we", "the food", 3, decoding)
        assert model.transfer(TEXTS, z[0], 1.0, text) == model.transfer(TEXTS, z[0], 1.0, decoding)
    assert model.n_best(z, "beam:2", 2) == model.n_best(z, Decoding("beam", beam=2), 2)
    assert language_model.sample(3, 0, "sample") == language_model.sample(3, 0, SAMPLE)


@pytest.mark.parametrize(
    "decoding, message",
    [
        ("nucleus", r"decoding = 'nucleus': give its number, for example nucleus:0\.9"),
        ("nucleus:0,9", "decoding = 'nucleus:0,9': names several ways of decoding; give one"),
        ("greedy:2", "decoding = 'greedy:2': greedy decoding takes no number"),
        ("nukleus:0.9", "decoding 'nukleus': unknown; did you mean 'nucleus'"),
        ("top-k:2.5", "decoding = 'top-k:2.5': '2.5' is no whole number; write for example top-k:15"),
        ("sample:0", "temperature = 0.0: must be 0.001 or more"),
        ("", "decoding = '': names no way of decoding; known: greedy, beam:5"),
    ],
)
def test_a_text_that_is_no_way_of_decoding_is_refused(model, decoding, message):
    with pytest.raises(RequestError, match=message):
        model.sample(1, decoding=decoding)


def test_a_model_in_training_is_used_without_dropout_and_handed_back_as_it_was(model):
    codes, texts = model.encode(TEXTS), model.sample(20)
    model.model.train()
    try:
        assert model.sample(20) == texts and model.model.training
        np.testing.assert_array_equal(model.encode(TEXTS), codes)
    finally:
        model.model.eval()


def test_loading_finds_the_same_model_again_and_refuses_what_is_no_run(model, tmp_path):
    again = textvae.load(model.run.folder)
    assert isinstance(again, Trained) and (again.latent, again.max_length) == (4, 7)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(RequestError, match="nowhere: no such run folder"):
        load(tmp_path / "nowhere")
    unfinished = made(tmp_path / "run")
    (unfinished / "model.safetensors").unlink()
    with pytest.raises(RequestError, match=r"model\.safetensors: not written yet"):
        load(unfinished)


# Draws of every prior, by moments and by component.


class Made(nn.Module):
    """A prior network whose prior is made of given posteriors, whatever the encoder says."""

    def __init__(self, components):
        super().__init__()
        self.components = components

    def now(self, read):
        return MeanOfPosteriors(self.components)


def apart(kind: str):
    """Two components 100 apart in each of four dimensions: of both kinds that make a prior, and learned."""
    places = torch.tensor([[0.0], [100.0]]).expand(2, 4)
    if kind == "gaussian":
        return Made(DiagonalGaussian(places, torch.ones(2, 4)))
    if kind == "mixture":  # each of two halves, 10 to either side
        means = places[:, None] + torch.tensor([-10.0, 10.0])[:, None]
        return Made(GaussianMixture(torch.full((2, 2), 0.5).log(), means, torch.ones(2, 2, 4)))
    prior = MixtureOfGaussians(4, 2)
    with torch.no_grad():
        prior.means.copy_(places)
    return prior


@pytest.mark.parametrize("kind", ["gaussian", "mixture", "learned"])
def test_draws_of_a_prior_of_components_are_theirs_whichever_is_chosen(model_with, kind):
    """What chooses the component must say nothing of the code within it."""
    model = model_with("vamp")
    model.model.prior_network = apart(kind)
    z = torch.from_numpy(model.draw(3000, seed=0)).double()
    component = (z[:, 0] > 50).double()
    assert component.mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 3000**0.5)
    inside = z - 100 * component[:, None]
    deviation = 101**0.5 if kind == "mixture" else 1.0
    for which in (0, 1):
        of_it = inside[component == which]
        torch.testing.assert_close(of_it.mean(0), torch.zeros(4).double(), rtol=0, atol=0.1 * deviation)
        torch.testing.assert_close(of_it.std(0), torch.full((4,), deviation).double(), rtol=0.07, atol=0)
        if kind != "mixture":
            torch.testing.assert_close(of_it.T.cov(), torch.eye(4).double(), rtol=0, atol=0.15)
            standard = of_it.sort(dim=0).values
            normal = torch.special.ndtri((torch.arange(len(of_it)).double() + 0.5) / len(of_it))
            torch.testing.assert_close(standard[20:-20], normal[20:-20, None].expand(-1, 4), rtol=0, atol=0.35)
    np.testing.assert_array_equal(model.draw(10, seed=0), z[:10].float())


@pytest.mark.parametrize("name", ["gaussian-mixture", "vamp", "vmf", "iaf", "iaf-vamp"])
def test_draws_of_every_prior_have_the_moments_of_its_own_noise(model_with, name):
    """Against draws of the same prior by one generator for all of them, none of whose numbers comes twice."""
    model = model_with(name)
    z = torch.from_numpy(model.draw(3000, seed=0)).double()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        reference = model.model.prior.sample(
            6000, lambda samples, size: torch.randn(samples, 1, size, generator=generator)
        ).double()
    deviation = reference.std(0)
    assert ((z.mean(0) - reference.mean(0)).abs() < 4 * deviation * (1 / 3000 + 1 / 6000) ** 0.5).all()
    torch.testing.assert_close(z.std(0), deviation, rtol=0.08, atol=0)
    torch.testing.assert_close(z.T.corrcoef(), reference.T.corrcoef(), rtol=0, atol=0.08)
    np.testing.assert_array_equal(model.draw(10, seed=0), z[:10].float())
