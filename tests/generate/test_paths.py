import numpy as np
import pytest

from textvae.errors import RequestError
from textvae.generate.decoding import Decoding
from textvae.generate.paths import (
    Homotopy,
    Smoothness,
    code_ends,
    homotopies,
    prior_ends,
    same_paths,
    smoothness,
    text_ends,
    words_of,
)
from textvae.generate.trained import load

from .conftest import made

SAMPLE = Decoding("sample")


def test_smoothness_by_hand():
    texts = ["a b c", "a b c", "a c", "a b c", "x y"]
    words = [text.split() for text in texts]
    found = smoothness(texts, words, np.array([1.0, 2.0, 4.0, 6.0, 3.0]))
    assert found == Smoothness(5, 3, (0, 1, 1, 3), 2.0, 4.0)
    assert found.mean_edit == 5 / 4 and found.largest_edit == 3
    assert found.document()["mean_edit"] == 1.25 and found.document()["edits"] == (0, 1, 1, 3)
    assert found.document()["reasons"] == {}
    unscored = smoothness(texts, words).document()
    assert unscored["nll_between"] is None and set(unscored["reasons"]) == {"nll_ends", "nll_between"}
    ends = smoothness(texts[:2], words[:2], np.array([1.0, 2.0]))
    assert ends == Smoothness(2, 1, (0,), 1.5, None) and set(ends.document()["reasons"]) == {"nll_between"}
    path = Homotopy(np.zeros((5, 1), np.float32), texts, found)
    assert path.repeated == [False, True, False, True, False]


def test_paths_side_by_side_are_those_of_one_at_a_time_and_scored_by_the_language_model(vae, lm):
    ends = prior_ends(vae, 3, seed=5)
    np.testing.assert_array_equal(ends.reshape(6, 4), vae.draw(6, seed=5))
    found = homotopies(vae, ends, 6, "spherical", language_model=lm)
    for (a, b), path in zip(ends, found, strict=True):
        np.testing.assert_array_equal(path.codes, vae.path(a, b, 6, "spherical"))
        assert path.texts == vae.interpolate(a, b, 6, kind="spherical")
        nll = lm.nll(path.texts)
        assert path.smoothness.nll_ends == pytest.approx((nll[0] + nll[5]) / 2)
        assert path.smoothness.nll_between == pytest.approx(nll[1:5].mean())
        assert path.smoothness.distinct == len(set(path.texts)) and len(path.smoothness.edits) == 5
    assert found[0].texts == homotopies(vae, ends[:1], 6, "spherical", seed=0)[0].texts
    assert homotopies(vae, ends[:0]) == []
    with pytest.raises(RequestError, match="has latent codes, so the exact likelihood of a text is unknown"):
        homotopies(vae, ends, language_model=vae)


def test_ends_are_codes_of_texts_or_of_a_file_two_by_two(vae):
    pairs = [("great food", "we"), ("great place", "the staff was nice .")]
    ends = text_ends(vae, pairs)
    np.testing.assert_allclose(ends[1], vae.encode(list(pairs[1])), atol=1e-6)
    np.testing.assert_array_equal(code_ends(ends.reshape(4, 4)), ends)
    with pytest.raises(RequestError, match="pair 2: both ends are 'we'; give two different sentences"):
        text_ends(vae, [pairs[0], ("we", "we")])
    with pytest.raises(RequestError, match="3 codes: their number is odd; give two for each path, its ends"):
        code_ends(np.zeros((3, 4), np.float32))
    with pytest.raises(RequestError, match="pair 1: both ends have the same code"):
        homotopies(vae, code_ends(np.zeros((2, 4), np.float32)))


def test_the_same_codes_go_through_every_model_and_decoding(vae, autoencoder, lm):
    decodings = [Decoding(), SAMPLE]
    cells = same_paths([vae, autoencoder], decodings, paths=2, steps=7, seed=3)
    assert [(cell.model, cell.decoding) for cell in cells] == [
        (m, d) for m in (vae, autoencoder) for d in decodings
    ]
    codes = [np.stack([path.codes for path in cell.homotopies]) for cell in cells]
    a, b = vae.draw(4, seed=3)[:2]
    np.testing.assert_allclose(codes[0][0], np.linspace(a, b, 7), atol=1e-6)
    for other in codes[1:]:
        np.testing.assert_array_equal(other, codes[0])
    for cell in cells:
        texts = [text for path in cell.homotopies for text in path.texts]
        assert texts == cell.model.decode(codes[0].reshape(14, 4), cell.decoding, seed=3)


def test_the_same_codes_need_models_that_share_them(vae, sphere, lm, tmp_path):
    larger = load(made(tmp_path / "larger", latent=5))
    with pytest.raises(RequestError, match=r"larger: has codes of 5 numbers and .*vae of 4; the same codes need"):
        same_paths([vae, larger], [Decoding()])
    with pytest.raises(RequestError, match="has the prior uniform-sphere; the same codes need the standard normal"):
        same_paths([vae, sphere], [Decoding()])
    with pytest.raises(RequestError, match="is a language model"):
        same_paths([vae, lm], [Decoding()])


def test_of_other_tokenizers_tokens_are_edited(vae, tmp_path):
    characters = load(made(tmp_path / "run", tokenizer="character"))
    assert [len(words) for words in words_of(characters, ["we ate", "we"])] == [6, 2]
    assert words_of(vae, ["we ate", ""]) == [["we", "ate"], []]
    pieces = load(made(tmp_path / "raw", tokenizer="words"))
    assert words_of(pieces, ["we didn't.", ""]) == [["we", "did", "￭n't", "￭."], []]
