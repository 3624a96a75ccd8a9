import numpy as np
import pytest
import torch

from textvae.errors import RequestError
from textvae.evaluation import sensitivity as module
from textvae.evaluation.sensitivity import sensitivity
from textvae.generate.decoding import Decoding
from textvae.metrics.edits import edit_distance
from textvae.text.batches import Batch
from textvae.text.tokenizers import EOS

TEXTS = ["great food", "the staff was nice .", "i will never come back"]


def log_px(model, text, z):
    """log p(text|z) of one code, alone."""
    (ids,) = model.tokenizer.encode([text])
    batch = Batch(torch.tensor([[*ids, EOS]]), torch.tensor([len(ids) + 1]), torch.tensor([0]))
    with torch.no_grad():
        return model.model.log_px(batch, torch.as_tensor(z, dtype=torch.float32)[None, None]).double().sum().item()


def gradient(model, text, z, step=1e-2):
    """d log p(text|z) / dz by central differences."""
    moves = step * np.eye(len(z))
    return np.array(
        [(log_px(model, text, z + move) - log_px(model, text, z - move)) / (2 * step) for move in moves]
    )


def curve(found, kind):
    (one,) = [one for one in found.curves if one.kind == kind]
    return one


@pytest.mark.parametrize("which", ["vae", "autoencoder"])
def test_curves_are_what_one_move_at_a_time_gives_along_the_gradient(which, request):
    model = request.getfixturevalue(which)
    distances = [0.5, 2.0]
    found = sensitivity(model, TEXTS, distances, directions=1)
    codes = model.encode(TEXTS).astype(np.float64)
    slopes = [gradient(model, text, z) for text, z in zip(TEXTS, codes, strict=True)]
    np.testing.assert_allclose(found.gradients, [np.linalg.norm(slope) for slope in slopes], rtol=1e-2)
    assert found.decoded == model.decode(codes)
    for kind, sign in (("gradient", 1), ("against", -1)):
        one = curve(found, kind)
        for at, distance in enumerate(distances):
            moved = [
                z + sign * distance * slope / np.linalg.norm(slope) for z, slope in zip(codes, slopes, strict=True)
            ]
            lost = [
                log_px(model, x, z) - log_px(model, x, to) for x, z, to in zip(TEXTS, codes, moved, strict=True)
            ]
            assert one.loss[at] == pytest.approx(np.mean(lost), rel=0.02, abs=0.02)
            assert one.loss_standard_error[at] == pytest.approx(np.std(lost, ddof=1) / 3**0.5, rel=0.05, abs=0.02)
    assert curve(found, "gradient").loss[0] < 0 < curve(found, "against").loss[0]


def test_random_directions_are_unit_vectors_and_every_text_is_compared_with_its_own(vae, monkeypatch):
    asked = []
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z, *more: asked.append(np.asarray(z)) or decode(z, *more))
    found = sensitivity(vae, TEXTS, [0.25, 3.0], directions=5, seed=2)
    codes, moved = asked[0], asked[1].reshape(3, 7, 2, 4)
    away = np.linalg.norm(moved - codes[:, None, None], axis=3)
    np.testing.assert_allclose(away, np.broadcast_to([0.25, 3.0], (3, 7, 2)), rtol=1e-5)
    np.testing.assert_allclose(moved[:, 5] - codes[:, None], codes[:, None] - moved[:, 6], atol=1e-5)
    measured = Decoding(allow_unknown=True)  # measured texts may have the unknown word
    written = np.array(decode(moved[:, :5].reshape(-1, 4), measured)).reshape(3, 5, 2)
    own = decode(codes, measured)
    edits = [
        [[edit_distance(own[n].split(), written[n, k, d].split()) for k in range(5)] for n in range(3)]
        for d in (0, 1)
    ]
    one = curve(found, "random")
    np.testing.assert_allclose(one.edits, [np.mean(edits[0]), np.mean(edits[1])])
    np.testing.assert_allclose(one.changed, [np.mean(np.array(edits[d]) > 0) for d in (0, 1)])
    spread = np.array(edits[1]).mean(axis=1).std(ddof=1) / 3**0.5
    assert one.edits_standard_error[1] == pytest.approx(spread)
    monkeypatch.undo()
    assert sensitivity(vae, TEXTS, [0.25, 3.0], directions=5, seed=2) == found
    assert sensitivity(vae, TEXTS, [0.25, 3.0], directions=5, seed=3) != found


def test_batching_changes_nothing(vae, monkeypatch):
    whole = sensitivity(vae, TEXTS, [1.0, 4.0], directions=3)
    monkeypatch.setattr(module, "_TOKENS", 7)
    parts = sensitivity(vae, TEXTS, [1.0, 4.0], directions=3)
    for one, other in zip(whole.curves, parts.curves, strict=True):
        np.testing.assert_allclose(one.loss, other.loss, atol=1e-4)
        assert one.changed == other.changed
    np.testing.assert_allclose(whole.gradients, parts.gradients, rtol=1e-4)


def test_on_a_sphere_codes_move_along_great_circles(sphere, monkeypatch):
    asked = []
    decode = sphere.decode
    monkeypatch.setattr(sphere, "decode", lambda z, *more: asked.append(np.asarray(z)) or decode(z, *more))
    sensitivity(sphere, TEXTS, [0.5, 3.0], directions=2)
    codes, moved = asked[0], asked[1].reshape(3, 4, 2, 4)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=3), 1, atol=1e-5)
    angles = np.arccos(np.einsum("nkdz,nz->nkd", moved, codes))
    np.testing.assert_allclose(angles, np.broadcast_to([0.5, 3.0], (3, 4, 2)), atol=1e-3)


def test_half_is_found_between_distances_by_a_line():
    assert module._half([1.0, 2.0, 4.0], [0.0, 0.25, 0.75]) == pytest.approx(3.0)
    assert module._half([1.0], [1.0]) == pytest.approx(0.5)
    assert module._half([1.0, 2.0], [0.1, 0.4]) is None


def test_a_single_text_has_no_standard_error_and_json_takes_it(vae):
    import json

    found = sensitivity(vae, TEXTS[:1], [1.0], directions=2)
    assert curve(found, "random").loss_standard_error is None
    told = json.loads(json.dumps(found.document(), allow_nan=False))
    assert told["curves"][1]["kind"] == "gradient"
    null = {name for name, value in told["curves"][0].items() if value is None}
    null |= {f"half.{kind}" for kind, value in told["half"].items() if value is None}
    assert "loss_standard_error" in null and set(told["reasons"]) == null


def test_a_decoder_that_ignores_the_code_has_no_gradient_to_go_along(vae, monkeypatch):
    """And not a curve of zeros; a text without one is left out of the means of the others."""
    real = module._gradients

    def flat(model, ids, codes, dead):
        gradients, values = real(model, ids, codes)
        gradients[dead] = 0.0
        return gradients, values

    monkeypatch.setattr(module, "_gradients", lambda *given: flat(*given, slice(None)))
    none = sensitivity(vae, TEXTS, [1.0], directions=2)
    for kind in ("gradient", "against"):
        assert curve(none, kind)[1:] == (0, *[None] * 6)
        assert none.half[kind] is None
        assert "the decoder ignores the code" in none.document()["reasons"][f"curves.{kind}"]
    assert curve(none, "random").texts == 3
    monkeypatch.setattr(module, "_gradients", lambda *given: flat(*given, slice(2, 3)))
    some = sensitivity(vae, TEXTS, [1.0], directions=2)
    monkeypatch.undo()
    two = curve(sensitivity(vae, TEXTS[:2], [1.0], directions=2), "gradient")
    assert curve(some, "gradient").texts == 2
    assert curve(some, "gradient").loss == pytest.approx(two.loss, rel=1e-4)


def test_what_cannot_be_measured(vae, lm):
    for distances in ([], [0.0], [1.0, 1.0], [2.0, 1.0], [-1.0], [float("nan")], [float("inf")]):
        with pytest.raises(RequestError, match="must be above 0, rise, and be finite"):
            sensitivity(vae, TEXTS, distances)
    with pytest.raises(RequestError, match="directions = 0: must be 1 or more"):
        sensitivity(vae, TEXTS, directions=0)
    with pytest.raises(RequestError, match="texts: give one at least"):
        sensitivity(vae, [])
    with pytest.raises(RequestError, match="is a language model"):
        sensitivity(lm, TEXTS)
