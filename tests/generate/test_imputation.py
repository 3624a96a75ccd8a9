import fractions
import itertools
import math

import pytest
import torch
from jaxtyping import TypeCheckError

from textvae.errors import RequestError
from textvae.generate import imputation
from textvae.generate.imputation import GAP, impute, missing
from textvae.generate.trained import load
from textvae.objective.presets import load_settings
from textvae.text.tokenizers import EOS, UNK
from textvae.training.loop import train

SENTENCES = ["the cat sat down", "a dog ran away", "birds sing songs here", "no one came back"]
SIZES = {"encoder": {"hidden": 24}, "decoder": {"hidden": 24, "dropout": 0.0}}


def trained_on_four(folder, *assignments, sentences=SENTENCES):
    """A model that knows four sentences by heart."""
    for name in ("train", "valid"):
        (folder / f"{name}.txt").write_text("\n".join(sentences * 4) + "\n")
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


@pytest.mark.parametrize("which", ["model", "backwards"])
def test_words_that_the_model_does_not_know_stay_and_are_never_written(request, which):
    model = request.getfixturevalue(which)
    assert model.tokenizer.encode(["zebra"]) == [[UNK]]
    found = model.impute(["the cat  sat zebra ___", "zebra ___ ran quagga"])
    assert found[0].split()[:4] == ["the", "cat", "sat", "zebra"] and len(found[0].split()) == 5
    assert found[1].split()[::2] == ["zebra", "ran"] and found[1].split()[3] == "quagga"
    assert not any("<unk>" in text for text in found)
    assert model.impute("the ___ sat <UNK>")[0].split()[3] == "<unk>"  # it was given as one


@pytest.mark.parametrize("right_to_left", ["false", "true"])
def test_gaps_in_raw_text_keep_what_is_beside_them(tmp_path, right_to_left):
    settings = ["data.tokenizer.name=words", f"data.right_to_left={right_to_left}", "train.epochs=2"]
    sentences = ["it's (great), ok!", "don't - a-b.", "the end", '"The Zebra" and now']
    raw = trained_on_four(tmp_path, *settings, sentences=sentences)
    texts = ["it's (___), ok", "the ___'s great.", "___*2 don't - Quagga!", "a-___", '"___" and ___.']
    ends = [("it's (", "), ok"), ("the ", "'s great."), ("", " don't - Quagga!"), ("a-", ""), ('"', ".")]
    for found, (begin, end) in zip(impute(raw, texts, size=2, rounds=2), ends, strict=True):
        assert found.text.startswith(begin) and found.text.endswith(end) and "___" not in found.text
    (cut,) = impute(raw, ["it's great, ok!"], last=0.5)  # of six tokens three are missing
    assert cut.text.startswith("it's great")
    with pytest.raises(RequestError, match="a gap within a name or an address"):
        impute(raw, ["see @___ and ___"])


def test_characters_that_the_model_does_not_know_stay(characters):
    (found,) = characters.impute(["the c___t sat ☕own"])
    assert (found[:5], found[6:]) == ("the c", "t sat ☕own")


@pytest.mark.parametrize("which", ["model", "backwards"])
def test_a_share_of_the_end_is_missing_of_every_text(request, which):
    model = request.getfixturevalue(which)
    marked = ["the cat sat ___", "a dog ran ___", "birds ___", "no one ___ ___"]
    plain = ["the cat sat down", "a dog ran birds", "birds birds", "no one sings back"]
    for last, texts in ((0.2, marked[:3]), (0.25, marked[:3]), (0.3, [marked[2], marked[3]])):
        whole = [text for text, hidden in zip(plain, marked, strict=True) if hidden in texts]
        assert impute(model, whole, last=last) == impute(model, texts)
    assert impute(model, plain[:1], last=0.26)[0].text.split()[:2] == ["the", "cat"]
    assert model.impute(plain[0], last=0.5) == model.impute("the cat ___*2")


def test_shares_are_rounded_up_as_in_the_papers_examples():
    """Table 3: of 7, 17, 7 and 6 words, 2, 4, 2 and 2 are missing."""
    assert [missing(words, 0.2) for words in (7, 17, 7, 6)] == [2, 4, 2, 2]
    for share, tokens in itertools.product((0.1, 0.2, 0.3, 0.7), range(1, 400)):
        exact = fractions.Fraction(str(share)) * tokens
        assert missing(tokens, share) == math.ceil(exact)


@pytest.mark.parametrize("together", [1, 2, 100])
def test_how_many_are_searched_at_once_changes_nothing_and_progress_is_told(model, monkeypatch, together):
    texts = ["the ___ sat down", "no one ___ back", "birds ___*2", "a ___ ran away", "birds ___"]
    expected = [impute(model, [text])[0] for text in texts]
    monkeypatch.setattr(imputation, "side_by_side", lambda device, size: together)
    told = []
    found = impute(model, texts, progress=lambda done, total: told.append((done, total)))
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in expected], abs=1e-4)
    assert told == [(min(n, 5), 5) for n in range(together, 5 + together, together)]


def test_rounds_against_a_naive_iteration_of_modes(model):
    """A text at a time: the code of the text as it is, then all fillings scored, as often as there are rounds."""
    vocabulary = range(4, len(model.tokenizer))
    for rounds in (1, 2, 3):
        (found,) = impute(model, ["the ___ ran ___"], size=len(model.tokenizer), rounds=rounds)
        the, ran = (model.tokenizer.encode([word])[0][0] for word in ("the", "ran"))
        rows = torch.tensor([[the, a, ran, b, EOS] for a, b in itertools.product(vocabulary, repeat=2)])
        now = [the, UNK, ran, UNK, EOS]
        for _ in range(rounds):
            z = model.means_of([now])
            with torch.no_grad():
                scores = model.model.decoder.log_prob(rows, z.expand(1, len(rows), -1))[0].sum(1)
            now = rows[scores.argmax()].tolist()
        assert model.tokenizer.encode([found.text])[0] == now[:-1]


@pytest.mark.parametrize(
    "texts, message",
    [
        (["the cat sat down"], r"texts\[0\]: has no gap; write ___ for a missing word, ___\*3 for three"),
        (["a ___", "___ ___*2"], r"texts\[1\]: has only gaps; give some of its words"),
        (
            ["the ___ ___*0"],
            r"texts\[0\]: has ___\*0, which is not a number of words; write ___ for one",
        ),
        (["i ___*-1 it ."], r"texts\[0\]: has ___\*-1, which is not a number of words"),
        (["i ___*1.5 it ."], r"texts\[0\]: has ___\*1.5, which is not a number of words"),
        (["i ___*x it ."], r"has ___\*x, which"),
        (["i ___*123456 it ."], r"has ___\*123456, which"),
        (["i ___* it ."], r"has ___\*, which"),
        (["the ___*101"], r"texts\[0\]: has more than 100 tokens, the most that the model's texts have"),
        (["a ___", " \n"], r"texts\[1\]: is empty; remove it"),
        (["zebra ___ quagga"], r"texts\[0\]: the model knows none of its words; give some that it was trained on"),
    ],
)
def test_texts_that_cannot_be_filled(model, texts, message):
    with pytest.raises(RequestError, match=message):
        impute(model, texts)


@pytest.mark.parametrize(
    "texts, last, message",
    [
        (["the cat", "birds"], 0.2, r"texts\[1\]: has only gaps; give some of its words"),
        (["the cat", ""], 0.2, r"texts\[1\]: is empty; remove it"),
        (["the ___"], 0.2, r"texts\[0\]: has a gap, ___, but the share missing at the end is given too"),
        (["zebra cat"], 0.2, r"texts\[0\]: the model knows none of its words"),
        (["the cat"], 0.0, r"last = 0\.0: must be a share between 0 and 1, such as 0\.2"),
        (["the cat"], 1.0, r"last = 1\.0: must be a share between 0 and 1"),
        (["the cat"], math.nan, r"last = nan: must be a share between 0 and 1"),
    ],
)
def test_texts_that_cannot_be_completed(model, texts, last, message):
    with pytest.raises(RequestError, match=message):
        impute(model, texts, last=last)


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
