import warnings

import numpy as np
import pytest

from textvae.errors import RequestError, WorkError
from textvae.evaluation import transfer_curve as curves
from textvae.evaluation.transfer_curve import Judges, transfer_curve
from textvae.generate import origin
from textvae.generate.decoding import Decoding
from textvae.generate.trained import load
from textvae.generate.transfer import (
    by_label,
    checked,
    direction,
    load_direction,
    moved,
    save_direction,
    separation,
)
from textvae.metrics.attributes import content_kept, train_classifier
from textvae.objective.presets import load_settings
from textvae.training.loop import train

THINGS = ["food", "phone", "book", "coat"]
BAD, GOOD = ([f"{value} {thing}" for thing in THINGS] for value in ("bad", "good"))


def made(folder, *assignments):
    """A model that knows eight sentences nearly by heart: four things, bad or good."""
    for name in ("train", "valid"):
        (folder / f"{name}.txt").write_text("\n".join([*BAD, *GOOD] * 8) + "\n")
    settings = load_settings(
        None,
        None,
        ["objective.kl.weight=0.002"] * ("model.latent=0" not in assignments) + list(assignments),
        data={"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")},
        model={"latent": 4, "embedding": 12, "encoder": {"hidden": 24}, "decoder": {"hidden": 24, "dropout": 0.0}},
        train={"batch_size": 16, "epochs": 200, "optimizer": {"lr": 0.01}, "validate_every": 1000},
    )
    return load(train(settings, folder / "run").folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
    vmf = ["model.posterior={name='vmf'}", "model.prior={name='uniform-sphere'}", "train.epochs=1"]
    return made(tmp_path_factory.mktemp("vmf"), *vmf)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return made(tmp_path_factory.mktemp("lm"), "model.latent=0", "train.epochs=20")


def test_a_pair_is_the_difference_of_two_codes_and_sets_that_of_two_means(model):
    p, q = model.encode([BAD[0]]), model.encode([GOOD[0]])
    np.testing.assert_allclose(model.direction(BAD[0], GOOD[0]), (q - p)[0], rtol=1e-5, atol=1e-6)
    uneven = model.encode(GOOD).sum(0) / 4 - model.encode(BAD[:3]).sum(0) / 3
    np.testing.assert_allclose(model.direction(BAD[:3], GOOD), uneven, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.direction(GOOD, BAD), -model.direction(BAD, GOOD), atol=1e-6)


def test_a_text_is_moved_by_arithmetic_on_its_code(model):
    way = model.direction(BAD[0], GOOD[0])
    for strength in (0.0, 0.5, 2.0):
        z = model.encode(BAD) + np.float32(strength) * way
        np.testing.assert_allclose(moved(model, model.encode(BAD), way, strength), z, rtol=1e-6, atol=1e-6)
        assert model.transfer(BAD, way, strength) == model.decode(z)
    assert model.transfer(BAD, way, 0.0) == model.reconstruct(BAD)
    assert model.transfer(BAD[1], way) == model.transfer([BAD[1]], way)
    assert model.transfer([], way) == []


def test_z_a_plus_z_q_minus_z_p_is_z_q_where_a_is_p(model):
    assert model.transfer(BAD[0], model.direction(BAD[0], GOOD[2])) == model.reconstruct([GOOD[2]])


def test_what_is_bad_becomes_good(model):
    assert model.reconstruct([*BAD, *GOOD]) == [*BAD, *GOOD]
    for source, target, wanted in ((BAD, GOOD, "good"), (GOOD, BAD, "bad")):
        found = model.transfer(source, model.direction(source, target))
        assert sum(text.startswith(wanted) for text in found) >= 3


def test_codes_on_a_sphere_stay_on_it(sphere):
    z = moved(sphere, sphere.encode(BAD), sphere.direction(BAD[0], GOOD[0]), 5.0)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, rtol=1e-5)


def test_separation_by_hand():
    """Along (3, 4): means 0 and 10 apart, each set spread by 1 to both sides; across it they may lie anywhere."""
    unit, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    a = np.stack([unit + 5 * across, -unit]).astype(np.float32)
    b = np.stack([11 * unit, 9 * unit - 7 * across]).astype(np.float32)
    assert separation(a, b, np.array([3.0, 4.0], np.float32)) == pytest.approx(10, rel=1e-5)
    assert separation(a, a, np.array([3.0, 4.0], np.float32)) == pytest.approx(0, abs=1e-6)
    assert separation(a[:1], b[:1], np.array([3.0, 4.0], np.float32)) is None  # and not 1e30


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ("we", "we", "sources and targets: are the same, 'we'"),
        (["a", "b"], ["b", "a"], "are the same"),
        ([], ["b"], "sources: no text"),
        ("the pizza", "the pasta", "have the same code, 'the pizza' and 'the pasta'"),
        ("", "good", "is empty"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no word that the model knows")
def test_sides_that_make_no_direction(model, sources, targets, message):
    with pytest.raises(RequestError, match=message):
        direction(model, sources, targets)


def test_directions_that_are_none(model):
    for way, message in (
        (np.zeros(3), r"direction: has shape \(3,\); the run's codes have 4 numbers"),
        ([1, 2, np.nan, 4], "direction: holds a number that is not finite"),
        ("better", "direction: is not an array of numbers"),
    ):
        with pytest.raises(RequestError, match=message):
            model.transfer(BAD, way)
    with pytest.raises(RequestError, match="strength = nan: must be finite"):
        model.transfer(BAD, np.ones(4), float("nan"))


def test_a_language_model_has_no_directions(language_model):
    for use in (
        lambda: language_model.direction(BAD, GOOD),
        lambda: language_model.transfer(BAD, np.ones(0)),
    ):
        with pytest.raises(RequestError, match="language model"):
            use()


def test_texts_by_label():
    texts, labels = ["a", "b", "c", "d"], ["0", "1", "0", "2"]
    assert by_label(texts, labels, "0", "1") == (["a", "c"], ["b"])
    for marks, ends, message in (
        (labels, ("0", "3"), r"labels: no text has the label '3'; the labels are '0' \(2\), '1' \(1\), '2' \(1\)"),
        (["1"] * 4, ("1", "0"), r"one label only, '1' \(4\)"),
        (labels, ("1", "1"), "from '1' to '1': the labels are equal"),
    ):
        with pytest.raises(RequestError, match=message):
            by_label(texts, marks, *ends)


def test_a_direction_comes_back_from_its_file(model, tmp_path):
    way = model.direction(BAD, GOOD)
    save_direction(tmp_path / "way.npy", way)
    np.testing.assert_array_equal(load_direction(tmp_path / "way.npy", 4), way)
    assert origin.of_npy(tmp_path / "way.npy") is None
    save_direction(tmp_path / "way.npy", way, model.identity)
    np.testing.assert_array_equal(load_direction(tmp_path / "way.npy", 4, model.identity), way)
    np.testing.assert_array_equal(np.load(tmp_path / "way.npy"), way)
    with pytest.raises(RequestError, match="way.npy: was written by another run"):
        load_direction(tmp_path / "way.npy", 4, "0" * 64)
    with pytest.raises(RequestError, match="way.txt: unknown suffix '.txt'"):
        save_direction(tmp_path / "way.txt", way)
    with pytest.raises(WorkError, match="cannot be written"):
        save_direction(tmp_path / "no" / "way.npy", way)


def test_files_that_hold_no_direction(tmp_path):
    (tmp_path / "text.npy").write_text("no numbers")
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "wide.npy", np.zeros(5))
    np.save(tmp_path / "nan.npy", np.full(4, np.nan))
    np.save(tmp_path / "words.npy", np.array(["a", "b", "c", "d"]))
    np.savez(tmp_path / "several.npz", np.zeros(4))
    for name, message in (
        ("none.npy", "no such file"),
        ("text.npy", "is not a NumPy file of numbers"),
        ("empty.npy", "is not a NumPy file of numbers"),
        ("objects.npy", "holds no numbers"),
        ("wide.npy", r"has shape \(5,\); the run's codes have 4"),
        ("nan.npy", "not finite"),
        ("words.npy", "holds no numbers"),
        ("several.npz", "several arrays"),
        ("", "cannot be read"),
    ):
        with pytest.raises(RequestError, match=message):
            load_direction(tmp_path / name, 4)


def test_a_row_is_accepted_as_a_direction():
    np.testing.assert_array_equal(checked([[1, 2]], 2), np.array([1, 2], np.float32))


@pytest.fixture(scope="module")
def judges(language_model):
    texts = [f"{text} {n}" for n in range(20) for text in (*BAD, *GOOD)]
    marks = ["bad" if "bad" in text else "good" for text in texts]
    return Judges(train_classifier(texts, marks), language_model)


def test_a_curve_scores_each_strength(model, judges, language_model):
    way = model.direction(BAD, GOOD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = transfer_curve(model, BAD, way, "good", judges, [0.0, 1.0], GOOD)
    assert [(row["line"], row["strength"]) for row in rows] == [
        ("input", None),
        ("reference", None),
        ("transfer", 0.0),
        ("transfer", 1.0),
    ]
    given, people, plain, turned = rows
    assert (given["accuracy"], given["bleu_input"], given["unchanged"]) == (0.0, content_kept(BAD, BAD), 1.0)
    assert given["bleu_reference"] == pytest.approx(content_kept(BAD, GOOD))
    assert people["accuracy"] == 1.0 and "bleu_reference" not in people
    assert {**plain, "line": "input", "strength": None} == given  # the model knows them by heart
    found = model.transfer(BAD, way)
    assert turned["accuracy"] == sum("good" in text for text in found) / 4
    assert turned["bleu_reference"] == pytest.approx(content_kept(found, GOOD))
    assert turned["bleu_input"] == pytest.approx(content_kept(found, BAD))
    assert turned["nll"] == pytest.approx(language_model.nll(found).mean())
    assert turned["words"] == sum(len(text.split()) for text in found) / 4
    assert turned["different"] == len(set(found)) / 4
    assert turned["unchanged"] == sum(a == b for a, b in zip(found, BAD, strict=True)) / 4
    assert transfer_curve(model, BAD, way, "good", Judges(), [1.0])[1].keys() == {
        *("line", "strength", "bleu_input", "words", "unchanged", "different")
    }


def test_a_curve_in_pieces_is_the_same(model, judges, monkeypatch):
    way, texts, people = model.direction(BAD, GOOD), BAD * 3, GOOD * 3
    whole = transfer_curve(model, texts, way, "good", judges, [0.0, 1.0], people, Decoding("sample"))
    monkeypatch.setattr(curves, "ROWS", 5)
    parts = transfer_curve(model, texts, way, "good", judges, [0.0, 1.0], people, Decoding("sample"))
    assert [row.pop("nll") for row in parts] == pytest.approx([row.pop("nll") for row in whole])
    assert parts == whole


def test_curves_that_cannot_be(model, judges):
    way = np.ones(4)
    for arguments, message in (
        (([], way, "good", judges), "texts: none to transfer"),
        ((BAD, way, "fine", judges), "the classifier does not know 'fine', only bad, good"),
        ((BAD, way, "good", judges, []), "strengths: none"),
        ((BAD, way, "good", judges, [1.0], GOOD[:2]), "references: 2 for 4 texts"),
    ):
        with pytest.raises(RequestError, match=message):
            transfer_curve(model, *arguments)
