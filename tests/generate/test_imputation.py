import itertools

import pytest
import torch
from jaxtyping import TypeCheckError

from textvae.errors import RequestError
from textvae.generate import imputation
from textvae.generate.imputation import GAP, impute
from textvae.generate.trained import load
from textvae.objective import load_settings
from textvae.tokenizers import EOS, UNK
from textvae.training import train

SENTENCES = ["the cat sat down", "a dog ran away", "birds sing songs here", "no one came back"]
SIZES = {"encoder": {"hidden": 24}, "decoder": {"hidden": 24, "dropout": 0.0}}


def trained_on_four(folder, *assignments):
    """A model that knows four sentences by heart."""
    for name in ("train", "valid"):
        (folder / f"{name}.txt").write_text("\n".join(SENTENCES * 4) + "\n")
    data = {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")}
    learning = {"batch_size": 16, "epochs": 120, "optimizer": {"lr": 0.02}, "validate_every": 1000}
    settings = load_settings(
        None,
        None,
        ["objective.kl.weight=0.01"] * ("model.latent=0" not in assignments) + list(assignments),
        data=data,
        model={"latent": 4, "embedding": 12, **SIZES},
        train=learning,
    )
    return load(train(settings, folder / "run").folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return trained_on_four(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def backwards(tmp_path_factory):
    return trained_on_four(tmp_path_factory.mktemp("backwards"), "data.right_to_left=true")


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    return trained_on_four(tmp_path_factory.mktemp("characters"), "data.tokenizer.name=character", "train.epochs=2")


@pytest.mark.parametrize("which", ["model", "backwards"])
@pytest.mark.parametrize(
    "text, wanted",
    [
        ("the ___ sat down", "the cat sat down"),
        ("___ dog ran away", "a dog ran away"),
        ("birds sing ___", None),
        ("birds sing ___*2", "birds sing songs here"),
        ("___ one ___ back", "no one came back"),
        ("the cat ___ ___", "the cat sat down"),
    ],
)
def test_a_model_that_knows_its_text_finds_the_missing_words(request, which, text, wanted):
    (found,) = impute(request.getfixturevalue(which), [text])
    if wanted is None:  # one word, and the text is not longer than that
        assert found.text.startswith("birds sing ") and len(found.text.split()) == 3
    else:
        assert found.text == wanted


@pytest.mark.parametrize("which", ["model", "backwards", "characters"])
def test_what_is_given_stays_whatever_the_gaps(request, which):
    model = request.getfixturevalue(which)
    words = " " if which != "characters" else ""
    texts = []
    for sentence, places in itertools.product(SENTENCES, [(0,), (1, 2), (3,), (0, 3)]):
        parts = sentence.split() if words else list(sentence)
        texts.append(words.join("___" if n in places else part for n, part in enumerate(parts)))
    for text, found in zip(texts, impute(model, texts, size=2, rounds=2), strict=True):
        given = text.split() if words else list(text.replace("___", "_"))
        new = found.text.split() if words else list(found.text)
        for old, now in zip(given, new, strict=True):
            assert old == now or old in ("___", "_")
        assert "<unk>" not in found.text and found.log_prob < 0


def test_the_words_are_the_likeliest_given_the_code_and_the_code_that_of_the_words(model):
    """At the end nothing changes any more: a fixed point of both halves, checked against all fillings."""
    (found,) = impute(model, ["the ___ ran ___"], size=len(model.tokenizer), rounds=20)
    vocabulary = range(4, len(model.tokenizer))
    (the, ran) = (model.tokenizer.encode([word])[0][0] for word in ("the", "ran"))
    (ids,) = model.tokenizer.encode([found.text])
    z = model.means_of([[*ids, EOS]])
    rows = torch.tensor([[the, a, ran, b, EOS] for a, b in itertools.product(vocabulary, repeat=2)])
    with torch.no_grad():
        scores = model.model.decoder.log_prob(rows, z.expand(1, len(rows), -1))[0].sum(1)
    assert rows[scores.argmax()].tolist() == [*ids, EOS]
    assert found.log_prob == pytest.approx(scores.max().item(), abs=1e-4)


def test_a_language_model_fills_once_with_a_wider_beam(tmp_path, monkeypatch):
    language_model = trained_on_four(tmp_path, "model.latent=0", "train.epochs=60")
    asked = []
    monkeypatch.setattr(imputation, "beams", lambda *a, **k: asked.append(a[2].beam) or beams(*a, **k))
    assert impute(language_model, ["no ___ came back"])[0].text == "no one came back"
    assert asked == [15]


beams = imputation.beams


def test_gaps_next_to_punctuation_and_other_underlines(model):
    assert [gap[0] for gap in GAP.finditer("a ___, ___*3. ____ __ x___ ___y snake___case (___)")] == [
        "___",
        "___*3",
        "___",
    ]
    (found,) = impute(model, ["the cat ___ zebra"])  # a word that the model does not know stays the unknown word
    assert found.text.split()[3] == "<unk>" and model.tokenizer.encode(["zebra"]) == [[UNK]]


@pytest.mark.parametrize(
    "texts, message",
    [
        (["the cat sat down"], r"texts\[0\]: has no gap; write ___ for a missing word, ___\*3 for three"),
        (["a ___", "___ ___*2"], r"texts\[1\]: is nothing but gaps; give some of its words"),
        (["the ___*101"], r"texts\[0\]: has 102 tokens, and the model's texts have 100 at most"),
    ],
)
def test_texts_that_cannot_be_filled(model, texts, message):
    with pytest.raises(RequestError, match=message):
        impute(model, texts)


def test_what_is_no_text_is_refused(model):
    with pytest.raises((RequestError, TypeCheckError)):  # the latter where types are checked at every call
        impute(model, [3])


def test_the_same_from_a_model_for_one_text_or_several(model):
    texts = ["the ___ sat down", "no one ___ back"]
    assert model.impute(texts) == [found.text for found in impute(model, texts)]
    assert model.impute(texts[0]) == model.impute(texts)[:1]


def test_numbers_that_cannot_be_and_no_texts(model):
    assert impute(model, []) == []
    for options, message in (({"size": 0}, "beam = 0"), ({"rounds": 0}, "rounds = 0")):
        with pytest.raises(RequestError, match=f"{message}: must be 1 or more"):
            impute(model, ["the ___"], **options)
