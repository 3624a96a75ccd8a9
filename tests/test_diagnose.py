import json
import math
import shlex

import numpy as np
import pytest
import torch

from textvae.errors import WorkError
from textvae.evaluation.advice import LOW_WEIGHT, remedies, works
from textvae.evaluation.content import Content, LabelAgreement, _agreements
from textvae.evaluation.diagnose import _content_values, collapsed_since, diagnose, prior_moment_matched
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.values import Missing
from textvae.evaluation.verdict import (
    Written,
    keeps_content,
    kept_content,
    missed_target,
    mutual_information,
    verdict,
)
from textvae.files import write_tensors
from textvae.metrics.content import ContentKept
from textvae.metrics.latent import kl_moment_matched
from textvae.objective.presets import load_settings
from textvae.text.tokenizers import EOS, UNK
from textvae.training.loop import train

TABLES = {
    "model": {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 16, "dropout": 0.0}},
    "train": {"batch_size": 20, "epochs": 60, "optimizer": {"lr": 0.02}, "device": "cpu"},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Two kinds of sentences: a code can tell them apart, and the words after the first follow from it."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"{kind * 3} {word} {kind} {kind}" for kind in "ab" for word in (f"w{i}" for i in range(80))]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, text):
    settings = load_settings(
        method="mu-forcing",
        data={"corpus": str(text), "split": {"valid": 0.2, "test": 0.2}},
        assignments=["objective.mu-forcing.margin=2", "objective.mu-forcing.weight=2"],
        **TABLES,
    )
    return train(settings, tmp_path_factory.mktemp("runs") / "healthy")


def with_weights(run, folder, change):
    """A copy of a run whose best weights are changed by a function."""
    import shutil

    shutil.copytree(run.folder, folder)
    weights = {name: tensor.clone() for name, tensor in run.model().state_dict().items()}
    change(weights)
    write_tensors(folder / "model.safetensors", weights)
    return folder


def collapse(weights):
    """The posterior is the prior whatever the sentence."""
    weights["posterior.parameters_of.weight"].zero_()
    weights["posterior.parameters_of.bias"].zero_()


def deafen(weights):
    """The decoder gets nothing of z."""
    weights["decoder.network.network.weight_ih_l0"][:, -2:] = 0
    weights["decoder.first_state.weight"].zero_()


def test_a_healthy_run_is_called_healthy(healthy):
    found = diagnose(healthy.folder)
    assert found.collapsed is False and found.decoder_uses_code is True
    assert found.kl > 0.5 and found.shuffle_gap > 0.1
    assert found.sentences[0].startswith("The posterior has not collapsed: KL = ")
    assert f"I(x; z) = {found.mutual_information:.2f} nats" in found.sentences[2] and found.rate_kind == "exact"
    assert 0 < found.mutual_information <= found.mutual_information_ceiling
    assert found.mutual_information_ceiling == pytest.approx(math.log(found.mutual_information_sentences))
    assert json.loads(json.dumps(found.document()))["run"] == str(healthy.folder)
    assert found.command.startswith("textvae ") and str(healthy.folder) in shlex.split(found.command)[2]


def test_the_number_that_ends_loops_is_suggested(healthy, tmp_path):
    def stammer(weights):  # one word again and again; so also with --no-repeat 3, which allows it three times
        weights["decoder.words.weight"].zero_()
        weights["decoder.words.bias"].zero_()
        weights["decoder.words.bias"][7] = 9.0
        weights["decoder.words.bias"][EOS] = 4.0

    found = diagnose(with_weights(healthy, tmp_path / "run", stammer))
    assert found.looping_samples == 1.0
    assert any("; 100% have a loop (0% with --no-repeat 2)" in sentence for sentence in found.sentences)


def test_unknown_words_of_samples_are_counted_and_written_nowhere(healthy, tmp_path):
    def forget(weights):
        weights["decoder.words.bias"][UNK] = 99.0

    found = diagnose(with_weights(healthy, tmp_path / "run", forget))
    assert found.unknown_words_in_samples == 1.0
    assert not any("<unk>" in example.reconstruction for example in found.examples)


def test_copies_of_a_sentence_are_no_neighbours_of_each_other():
    random = np.random.default_rng(0)
    texts, labels = [f"text {at}" for at in range(300)], random.choice(["a", "b"], 300).tolist()
    codes = random.normal(size=(300, 8)).astype(np.float32)
    alone = _agreements({"kind": labels}, texts, codes)["kind"]
    assert alone.agreement == pytest.approx(0.5, abs=0.05)
    rows = np.tile(np.arange(300), 7)
    copied = _agreements({"kind": [labels[at] for at in rows]}, [texts[at] for at in rows], codes[rows])["kind"]
    assert copied == alone
    assert _agreements({"kind": ["a"] * 5}, ["text"] * 5, codes[:5]) == {}


def content(kept, by_chance, error=0.001, words=1000, **labels):
    return Content(ContentKept(kept, by_chance, error, words), labels, [], 0.0)


def test_a_code_that_is_read_and_keeps_nothing_is_not_praised():
    little, much = content(0.02, 0.01), content(0.12, 0.01, sentiment=LabelAgreement(0.78, 0.5))
    assert not keeps_content(little) and keeps_content(much)
    assert not keeps_content(content(0.12, 0.01, error=0.06))  # within two standard errors of chance
    nothing = content(float("nan"), float("nan"), words=0)
    assert keeps_content(nothing) is keeps_content(None) is None and kept_content(nothing) == ""
    assert _content_values(nothing, None)["keeps_content"] == Missing("the split has no content words")
    rate = (4.0, "KL = 4.00 nats per sentence")
    said = verdict(False, True, False, rate, None)
    assert said == f"The decoder reads the code, but the code keeps little of a sentence: {rate[1]}."
    assert verdict(False, True, True, rate, None).startswith("The posterior has not collapsed")
    assert verdict(False, True, None, rate, None).startswith("The posterior has not collapsed")
    assert kept_content(little) == (
        "The code keeps little: 2.0% of a sentence's content words return in its reconstruction (1.0% by chance)."
    )
    assert kept_content(much).endswith("; 78% of the nearest codes have its sentiment (50% by chance).")
    settings = load_settings(None, "mu-forcing")
    assert next(remedies(settings, False, True, empty=True))[0] == "--method auto"


def test_unknown_words_and_loops_are_mentioned_where_there_are_many():
    few, many = Written(90, 0.01, 0.0, 0.02), Written(40, 0.47, 0.2, 0.11)
    assert few.on_samples() == "90 of 100 greedy samples from the prior are distinct."
    assert few.on_unknown_words("try") == "Unknown words are 2.0% of the text and 1.0% of the samples."
    assert Written(90, 0.0, 0.0, 0.0).on_unknown_words("try") == ""
    assert many.on_samples().endswith("are distinct: most of them repeat the same few sentences; 20% have a loop.")
    assert many.on_samples("0% with --no-repeat 3").endswith("; 20% have a loop (0% with --no-repeat 3).")
    assert few.on_samples("0% with --no-repeat 3") == few.on_samples()
    assert many.on_unknown_words("try bpe") == (
        "Unknown words are 11.0% of the text and 47.0% of the samples: try bpe."
    )
    assert Written(90, 0.0, 0.0, 0.03).on_unknown_words("try") == "Unknown words are 3.0% of the text: try."


def test_examples_are_held_out_sentences_with_what_codes_make_of_them(healthy):
    found = diagnose(healthy.folder)
    assert len(found.examples) == 5 and found.keeps_content in (True, False)
    texts = {example.text for example in found.examples}
    assert len(texts) == 5 and all(example.neighbour != example.text for example in found.examples)
    assert 0 <= found.content_words_kept_by_chance <= found.content_words_kept <= 1
    assert set(found.neighbour_label_agreement or {}) == set() or all(
        0 <= own.agreement <= 1 for own in found.neighbour_label_agreement.values()
    )


def test_too_few_sentences_for_a_covariance_are_no_singular_one(healthy, monkeypatch):
    """Two sentences have no covariance of two dimensions: neither a far posterior nor a direction without use."""
    monkeypatch.setattr("textvae.evaluation.diagnose.SENTENCES", 2)
    found = diagnose(healthy.folder)
    json.dumps(found.document(), allow_nan=False)
    few = "2 sentences are too few for a covariance of 2 dimensions"
    assert found.kl_moment_matched is None and found.reasons["kl_moment_matched"] == few
    assert f"The distance of the aggregated posterior from the prior is unknown: {few}." in found.sentences
    assert "smaller" not in found.command


def test_every_null_of_a_diagnosis_has_its_reason(healthy, tmp_path):
    found = diagnose(healthy.folder).document()
    assert set(found["reasons"]) == {name for name, value in found.items() if value is None}
    assert found["reasons"]["collapsed_since_step"] == "the posterior has not collapsed"
    assert "one estimate" in found["reasons"]["mutual_information_lower"]
    deaf = diagnose(with_weights(healthy, tmp_path / "deaf", deafen)).document()
    assert deaf["collapsed"] and deaf["kl"] > 0.5 and deaf["collapsed_since_step"] is None
    assert deaf["reasons"]["collapsed_since_step"] == "the KL at the end of the log is 0.5 nats or more"


def test_a_posterior_that_is_the_prior_is_called_collapsed(healthy, tmp_path):
    folder = with_weights(healthy, tmp_path / "run", collapse)
    found = diagnose(folder)
    assert found.collapsed is True
    assert (found.kl, found.dimensions_off, found.active_units) == (0.0, 2, 0)
    assert found.sentences[0].startswith("The posterior has collapsed: KL = 0.00 nats per sentence")
    words = shlex.split(found.command)
    assert words[:3] == ["textvae", "train", str(folder / "settings.toml")]
    assert words[3:5] == ["--method", "auto"] and words[5:] == ["--out", str(folder) + "-auto"]


def test_a_decoder_that_ignores_the_code_counts_as_collapsed(healthy, tmp_path):
    found = diagnose(with_weights(healthy, tmp_path / "run", deafen))
    assert found.collapsed is True and found.decoder_uses_code is False and found.kl > 0.5
    assert "the decoder ignores the code" in found.sentences[0]
    assert found.shuffle_gap == pytest.approx(0.0, abs=1e-5)
    assert found.distinct_samples == 1


def test_the_step_of_the_collapse_is_the_first_from_which_the_kl_stayed_low():
    log = [{"step": step, "kl": kl} for step, kl in ((1, 0.1), (2, 3.0), (3, 0.4), (4, 0.2), (5, 0.0))]
    assert collapsed_since([{"step": 0, "bound": 1.0}, *log]) == 3
    assert collapsed_since(log[:2]) is None
    assert collapsed_since([]) is None


def test_codes_of_the_prior_have_the_moment_matched_kl_of_sampling_error():
    found = [kl_moment_matched(torch.randn(500, 8, generator=torch.Generator().manual_seed(i))) for i in range(200)]
    mean = sum(found) / len(found)
    error = math.sqrt(sum((one - mean) ** 2 for one in found) / len(found) / len(found))
    assert mean == pytest.approx(prior_moment_matched(8, 500), abs=4 * error + 0.02 * mean)


def test_a_language_model_cannot_collapse(tmp_path, text):
    settings = load_settings(
        method="language-model",
        data={"corpus": str(text), "split": {"valid": 0.2, "test": 0.2}},
        **{**TABLES, "model": {**TABLES["model"], "latent": 0}, "train": {**TABLES["train"], "max_steps": 3}},
    )
    found = diagnose(train(settings, tmp_path / "run").folder)
    assert found.collapsed is None and found.kl is None and found.distinct_samples == 1
    assert "language model" in found.sentences[0]
    nulls = [name for name, value in found.document().items() if value is None]
    assert found.reasons == dict.fromkeys(nulls, "a language model has no code") and len(nulls) == 21
    assert "--method auto --set model.latent=32" in found.command


def test_a_missed_target_is_reported(healthy, tmp_path):
    cases = {
        "objective.capacity.target=40": "objective.capacity misses its target: the KL is 3.",
        "objective.lagrangian.target=2.5": "",
        "objective.lagrangian={constraint='distortion', target=9.0}": "objective.lagrangian misses its target: "
        "the reconstruction loss is 7.00 nats, the target 9.",
    }
    for assignment, expected in cases.items():
        found = missed_target(load_settings(None, None, [assignment]), 3.0, 7.0)
        assert found.startswith(expected) and bool(found) == bool(expected)
    phased = load_settings(
        None, "pretrained", ["phase.1.objective.free-bits=false", "phase.1.objective.capacity={}"]
    )
    assert "the target 5." in missed_target(phased, 20.0, 7.0) and missed_target(phased, 5.9, 7.0) == ""
    assert not any("misses its target" in sentence for sentence in diagnose(healthy.folder).sentences)


@pytest.mark.parametrize(
    ("nats", "lowest", "text"),
    [
        (0.5, None, "= 0.50"),
        (0.5, 0.25, "between 0.25 and 0.50"),
        (0.5, -3.0, "between 0.00 and 0.50"),
        (-0.02, -0.01, "between 0.00 and 0.00"),
        (0.1, 0.2, "between 0.10 and 0.10"),
    ],
)
def test_the_information_is_a_range_from_zero(nats, lowest, text):
    found = {"mutual_information": nats, "mutual_information_lower": lowest}
    found |= {"mutual_information_sentences": 20, "mutual_information_ceiling": 3.0}
    assert mutual_information(found) == f"Mutual information I(x; z) {text} nats (N = 20, ceiling ln N = 3.00)."


def test_an_autoencoder_is_sent_from_a_sentence_to_another(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{one} {two} {one} {two} {one}" for one in "-'bcdefgh" for two in "-'bcdefgh"))
    settings = load_settings(
        method="point", data={"corpus": str(text), "split": {"valid": 0.2, "test": 0.2}}, **TABLES
    )
    run = train(settings, tmp_path / "run")
    found = diagnose(run.folder)
    assert found.reasons["kl"] == found.reasons["dimensions_off"] == "the point posterior has no density"
    assert found.decoder_uses_code or found.reasons["collapsed_since_step"] == "the log has no KL"
    words = shlex.split(found.command)
    lines = text.read_text().splitlines()
    assert words[:3] == ["textvae", "interpolate", str(run.folder)]
    assert (words[3] == "--") == any(word.startswith("-") for word in words[-2:])
    assert words[-2] in lines and words[-1] in lines and len(words) == 5 + (words[3] == "--")


@pytest.mark.parametrize(
    ("method", "assignments", "collapsed", "far", "expected"),
    [
        ("vanilla", [], True, False, "--method auto"),
        ("semi-implicit", [], True, False, "--set objective.bow.weight=1"),
        ("mu-forcing", [], True, False, "--method auto"),
        ("auto", [], True, False, "--set objective.selected-kl.end=0.1"),
        (
            "auto",
            ["objective.selected-kl.end=0.03"],
            True,
            False,
            "--set objective.selected-kl.end=0.01 --set objective.selected-kl.start=0.01",
        ),
        ("batch-norm", ["model.posterior.gamma=0.4"], True, False, "--set model.posterior.gamma=0.8"),
        ("free-bits", [], True, False, "--method auto"),
        ("capacity", [], True, True, "--method auto"),
        ("mmd", [], True, False, "--method auto"),
        ("vmf", [], True, False, "--set model.posterior.concentration=100"),
        ("point", [], True, False, "--set objective.bow.weight=1"),
        (
            "iaf",
            ["objective.bow={}"],
            True,
            False,
            f"--method bow-annealing --set {shlex.quote(f'objective.kl.weight={LOW_WEIGHT}')}",
        ),
        ("free-bits-total", ["model.prior.name=vamp"], True, False, "--method auto"),
        ("pretrained", [], True, False, "--method auto"),
        ("mu-forcing", [], False, True, "--set objective.mu-forcing.margin=1"),
        ("capacity", [], False, True, "--set objective.capacity.target=2.5"),
        ("free-bits", [], False, True, "--set objective.free-bits.target=0.05"),
        ("pretrained", [], False, True, "--set phase.1.objective.free-bits.target=0.05"),
        ("vanilla", [], False, True, None),
        ("mu-forcing", [], False, False, None),
    ],
)
def test_the_remedy_is_one_more_or_one_stronger_and_can_be_done(
    tmp_path, method, assignments, collapsed, far, expected
):
    settings, path = load_settings(None, method, assignments), tmp_path / "settings.toml"
    path.write_text(settings.toml())
    found = [options for options, _ in remedies(settings, collapsed, far) if works(path, options)]
    assert (found[0] if found else None) == expected


def test_weights_that_overflow_are_no_diagnosis_and_no_evaluation(healthy, tmp_path):
    def enlarge(weights):
        weights["posterior.parameters_of.weight"] *= 1e30

    folder = with_weights(healthy, tmp_path / "run", enlarge)
    for measure, split in ((diagnose, "valid"), (evaluate, "test")):
        with pytest.raises(WorkError, match=f"[0-9]+ of [0-9]+ sentences of {split} is not finite"):
            measure(folder, split)
    assert not (folder / "evaluation").exists()
