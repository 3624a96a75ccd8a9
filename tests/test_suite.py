"""`evaluate --all`, end to end at a size of seconds, on 300 sentences in place of the corpus `grammar`'s."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch

from textvae.comparison.rows import evaluated_paths
from textvae.errors import RequestError
from textvae.evaluation.diagnose import NO_REPEAT
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.importance import Weighted
from textvae.evaluation.opened import open_run
from textvae.evaluation.probing import own_labels, probes
from textvae.evaluation.record import known_names
from textvae.evaluation.suite import DECODINGS, evaluate_all, reverse_kl
from textvae.evaluation.verdict import SAMPLES
from textvae.generate.codec import Codec
from textvae.generate.decoding import Decoding
from textvae.generate.trained import load
from textvae.metrics.scoring import given, score
from textvae.metrics.truth import true_distance
from textvae.model import TextVAE
from textvae.objective.presets import load_settings
from textvae.report.run_report import write_run_report
from textvae.run import Run
from textvae.text import corpus as data
from textvae.text import grammar
from textvae.text.grammar import Grammar
from textvae.training.loop import train

SMALL = {
    "model": {"embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 12, "dropout": 0.0}},
    "train": {"batch_size": 20, "max_steps": 40, "device": "cpu", "optimizer": {"lr": 0.02}},
}
TEXTS = grammar.reviews().sample(700, seed=1)
WORDS = {word for text in TEXTS[:200] for word in text.split()}
KNOWN = [text for text in TEXTS[200:] if set(text.split()) <= WORDS]  # without the unknown word the truth is exact
SPLITS = {"train": TEXTS[:200], "valid": KNOWN[:40], "test": KNOWN[40:100]}
NUMBERS = {"iw_samples": 5, "iw_sentences": 20, "samples": 60, "draws": 2}


@pytest.fixture(scope="module", autouse=True)
def small_grammar():
    patch = pytest.MonkeyPatch()
    patch.setattr(data.grammar, "splits", lambda: SPLITS)
    yield
    patch.undo()


def made(folder, method="mu-forcing", latent=3, **text):
    tables = {**SMALL, "model": {**SMALL["model"], "latent": latent}, "data": text or {"corpus": "grammar"}}
    return train(load_settings(method=method, **tables), folder).folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("suite") / "vae")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return made(tmp_path_factory.mktemp("suite") / "lm", "language-model", 0)


def evaluate_and_report(folder, **options):
    """What `textvae evaluate RUN --all` does, with numbers that take little time."""
    trained = open_run(folder)
    document = evaluate_all(trained, **NUMBERS | options)
    write_run_report(trained, "test", document, 0)
    return document


@pytest.fixture(scope="module")
def document(folder):
    return evaluate_and_report(folder)


def test_the_document_has_all_that_fits_and_is_written(folder, document):
    assert json.loads((folder / "evaluation" / "test-all.json").read_text()) == document
    plain = json.loads((folder / "evaluation" / "test.json").read_text())
    assert {name: document[name] for name in plain if name != "reasons"} == {
        name: value for name, value in plain.items() if name != "reasons"
    }
    assert set(document) - set(plain) == {"reconstruction_by_length", "generated", "true_distance", "probes"}
    assert not set(document["reasons"]) & (set(document) - set(plain))
    assert list(document["reconstruction_by_length"]) == ["1-10", "11-20", "21-30", "all"]
    assert document["reconstruction_by_length"]["all"]["corpus-bleu-4"]["sentences"] == 60


def test_what_is_written_is_scored_against_the_split_and_the_training_text(folder, document):
    trained = load(folder)
    for name, decoding in DECODINGS.items():
        found = document["generated"][name]
        written = [trained.sample(60, seed=seed, decoding=decoding) for seed in (0, 1, 2)]
        assert (found["samples"], found["draws"], found["seed"]) == (60, 3, 0)
        assert found["decoding"]["name"] == decoding.name
        references, training = (
            trained.tokenizer.decode_batch(trained.tokenizer.encode(SPLITS[part])) for part in ("test", "train")
        )
        for metric in ("self-bleu-4", "bleu-4", "copied", "overlap-2", "distinct-1", "repeated", "vocabulary"):
            values = [score(given(one, references, training), [metric])[metric].value for one in written]
            own = found["scores"][metric]
            assert own["value"] == pytest.approx(np.mean(values))
            assert own["standard_deviation"] == pytest.approx(np.std(values, ddof=1)) and own["draws"] == 3
            assert f"|decode:{name}|draws:3|" in own["signature"] and own["sentences"] == 60
        texts = written[0]
        own = document["true_distance"][name]
        truth = true_distance(texts, grammar.reviews()).document()
        assert {one: own[one] for one in truth if one != "reasons"} | {"reasons": truth["reasons"]} == truth
        assert {one for one in own if own[one] is None} == set(own["reasons"])
    for name in DECODINGS:
        assert f"|decoding:{name}|" in document["true_distance"][name]["signature"]
    assert "reverse_kl_inside" in document["true_distance"]["sample"]
    assert "reverse_kl_inside" not in document["true_distance"]["greedy"]


def test_probes_are_those_of_the_true_attributes(folder, document):
    trained = load(folder)
    assert document["probes"] == probes(trained, own_labels(trained, None), draws=2)
    assert [sizes["code"]["labels"] for sizes in document["probes"]["tense"]["sizes"]] == [100, 200]
    with pytest.raises(RequestError, match="^--label-counts 1000: there are only 200 labelled sentences"):
        probes(trained, own_labels(trained, "tense"), [1000])


def test_bounds_and_mmd_are_among_the_scores(document):
    bounds = document["information_bounds"]
    assert bounds["entropy"] == grammar.reviews().entropy and bounds["sentences"] == 60
    assert bounds["distortion"] == pytest.approx(document["reconstruction"])
    assert bounds["rate"] == pytest.approx(document["kl"])
    assert bounds["mutual_information"] == pytest.approx(document["mutual_information"])
    assert bounds["below_upper"] == pytest.approx(document["kl"] - document["mutual_information"])
    assert document["mmd_squared"] is not None and document["mmd_squared_prior_deviation"] > 0
    assert document["mmd_signature"].startswith("mmd-squared|bandwidth:1.73205|codes:one-draw|estimator:unbiased|")


def test_the_numbers_of_the_grammar_are_in_the_list_of_names(folder, document, language_model):
    evaluate_all(language_model, decodings={"greedy": Decoding()}, **NUMBERS)
    for run in (folder, language_model):
        assert evaluated_paths(json.loads((run / "evaluation" / "test.json").read_text())) <= known_names()


def test_the_page_shows_every_part(folder, document):
    page = (folder / "report.html").read_text()
    assert "<h2>All evaluations</h2>" in page
    titles = ("Written from the prior", "Distance to the truth", "Reconstructions by length", "What codes tell")
    for title in titles:
        assert f"<h3>{title}</h3>" in page
    exact = document["generated"]["sample"]["scores"]["self-bleu-4"]["value"]
    assert f'<data value="{exact!r}">' in page
    accuracy = document["probes"]["tense"]["sizes"][1]["code"]["accuracy"]
    assert f'<data value="{accuracy!r}">' in page and "Map of the latent space" in page
    assert "MMD² to the prior" in page and "H - D, I and R" in page


def test_everything_is_read_scored_and_decoded_once(folder, monkeypatch):
    counts = Counter()

    def counted(owner, name, size):
        function = getattr(owner, name)

        def call(*given, **options):
            result = function(*given, **options)
            counts[name] += size(given, result)
            return result

        monkeypatch.setattr(owner, name, call)

    counted(Run, "model", lambda *_: 1)
    counted(data, "build", lambda *_: 1)
    counted(TextVAE, "forward", lambda given, _: len(given[1].index))
    counted(Codec, "_texts", lambda _, texts: len(texts))
    evaluate_and_report(folder, times=2)
    assert (counts["model"], counts["build"], counts["forward"]) == (1, 1, 60 + 40)  # test, and valid to diagnose
    # Reconstructions of the test split and, for the diagnosis, of the valid split; two texts each greedily and by
    # sampling, 40 more to count unknown words in 100, and a path.
    written = 60 + 40 + 4 * 60 + 40 + 7
    # Samples of the diagnosis without unknown words: all repeat one word, so that each remedy is tried on them.
    assert counts["_texts"] == written + SAMPLES * (1 + len(NO_REPEAT))


def test_a_language_model_has_samples_alone(language_model):
    found = evaluate_and_report(language_model)
    for name in ("reconstruction_by_length", "probes", "information_bounds"):
        assert found[name] is None and found["reasons"][name] == "a language model has no code"
    assert found["generated"]["greedy"]["scores"] is None
    assert "writes one sentence, again and again" in found["generated"]["greedy"]["reason"]
    assert found["true_distance"]["greedy"] is None
    assert found["reasons"]["true_distance.greedy"] == found["generated"]["greedy"]["reason"]
    assert found["generated"]["sample"]["scores"]["self-bleu-4"]["value"] is not None
    page = (language_model / "report.html").read_text()
    assert "a language model has no code" in page and "<h3>What codes tell</h3>" in page


def test_other_text_has_no_truth_and_text_without_labels_no_probe(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS[:100]))
    folder = made(tmp_path / "run", train=str(tmp_path / "text.txt"), split={"valid": 0.1, "test": 0.2})
    decodings = {"nucleus": Decoding("nucleus", top_p=0.8)}
    found = evaluate_all(folder, decodings=decodings, **NUMBERS)
    assert found["true_distance"] is None and found["reasons"]["true_distance"].startswith("the distribution of ")
    reason = found["reasons"]["probes"]
    assert found["probes"] is None and "its text has no label; `textvae probe` takes" in reason
    assert "information_bounds" not in found
    assert list(found["generated"]) == ["nucleus"] and found["generated"]["nucleus"]["decoding"]["top_p"] == 0.8


def test_what_is_wrong_with_a_label_is_said_of_the_setting_that_names_it(tmp_path):
    (tmp_path / "text.tsv").write_text("topic\ttext\n" + "\n".join(f"one\t{text}" for text in TEXTS[:100]))
    split = {"valid": 0.1, "test": 0.2}
    folder = made(tmp_path / "run", train=str(tmp_path / "text.tsv"), label="topic", split=split)
    reason = evaluate_all(folder, decodings={"greedy": Decoding()}, **NUMBERS)["reasons"]["probes"]
    assert reason == "data.label topic: has one value only, 'one'; a probe needs two"


def test_a_model_of_windows_has_neither(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS[:100]))
    text = {"train": str(tmp_path / "text.txt"), "split": {"valid": 0.2, "test": 0.2}, "window": 6}
    found = evaluate_all(made(tmp_path / "run", **text), **NUMBERS)
    for name in ("generated", "reconstruction_by_length", "probes"):
        assert found[name] is None and "running text" in found["reasons"][name]


def test_reverse_kl_of_a_known_model(language_model, monkeypatch):
    """A model that is half the time outside, and inside has the grammar's own frequencies."""
    language = Grammar("S [one] = a b\nS [two] = c d", {"number": {"one": 3, "two": 1}})
    monkeypatch.setattr(grammar, "reviews", lambda: language)
    texts = ["a b"] * 30 + ["c d"] * 10 + ["e f"] * 40
    trained = load(language_model)
    nll = torch.tensor([math.log(80 / 30)] * 30 + [math.log(80 / 10)] * 10, dtype=torch.float64)
    monkeypatch.setattr("textvae.evaluation.suite.importance_weights", lambda *_: Weighted(nll, None, None))
    distance = true_distance(texts, language)
    assert distance.inside == 0.5
    told = []
    found = reverse_kl(trained, texts, distance, 5, None, 0, lambda *at: told.append(at))
    # Given that a sentence is inside, the model has them at 3/4 and 1/4, as the grammar has.
    assert found["reverse_kl_inside"] == pytest.approx(0.0, abs=1e-12)
    assert found["reverse_kl_inside_sentences"] == 40
    assert found["reverse_kl_inside_standard_error"] == pytest.approx(distance.inside_standard_error / 0.5)
    nothing = reverse_kl(trained, ["e f"] * 5, true_distance(["e f"] * 5, language), 5, None, 0, lambda *_: None)
    assert nothing["reverse_kl_inside"] is None and nothing["reverse_kl_inside_sentences"] == 0


def test_samples_are_scored_by_the_models_own_likelihood(language_model):
    """The sentences in memory are those of a split, end marks and all."""
    trained = load(language_model)
    language = grammar.reviews()
    texts = SPLITS["test"]
    distance = true_distance(texts, language)
    found = reverse_kl(trained, texts, distance, 1, None, 0, lambda *_: None)
    assert distance.inside == 1.0 and len(texts) == 60
    nll = evaluate(language_model, iw_sentences=None)
    expected = nll["surprisal"] - nll["nll_iw"]
    assert found["reverse_kl_inside"] == pytest.approx(expected, abs=1e-5)


def test_too_few_samples_are_refused(folder):
    with pytest.raises(RequestError, match="^samples = 1: must be 2 or more$"):
        evaluate_all(folder, samples=1)
