import json
import math
import shutil

import numpy as np
import pytest
import torch

from textvae.comparison.rows import evaluated_paths
from textvae.errors import RequestError
from textvae.evaluation.diagnose import diagnose
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.importance import importance_weights, iw_numbers, subset
from textvae.evaluation.latent import shuffle_gap
from textvae.evaluation.likelihood import distance_to_truth
from textvae.evaluation.record import known_names
from textvae.evaluation.values import Missing
from textvae.inference import score
from textvae.metrics.discrepancy import squared_mmd
from textvae.metrics.signature import parse
from textvae.model import build as build_model
from textvae.objective.presets import load_settings
from textvae.parts.decoders import RecurrentDecoderSettings
from textvae.parts.encoders import RecurrentEncoderSettings
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.settings import ModelSettings
from textvae.run import Run
from textvae.run.data import corpus_of
from textvae.text import grammar
from textvae.text.batches import build, collate
from textvae.text.tokenizers import Tokenizer
from textvae.training.loop import train

SMALL = {
    "model": {"embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}},
    "train": {"batch_size": 16, "max_steps": 6, "device": "cpu"},
}


@pytest.fixture(scope="module")
def model(every_sentence):
    """One latent dimension, weights so large that z matters and q is not the prior."""
    torch.manual_seed(1)
    sizes = ModelSettings(
        latent=1,
        embedding=3,
        encoder=RecurrentEncoderSettings(hidden=4),
        decoder=RecurrentDecoderSettings(hidden=5, dropout=0.0),
        init=1.0,
    )
    return build_model(sizes, len(every_sentence[1])).eval()


def exact_nll(model, store) -> torch.Tensor:
    """-log p(x) of every sentence, the integral over the one dimension of z by quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(200)
    z = torch.tensor(points, dtype=torch.float32)[:, None]
    log_weights = torch.tensor(np.log(weights / math.sqrt(2 * math.pi)))
    found = []
    with torch.no_grad():
        for row in range(len(store)):
            log_px = model.log_px(collate(store, np.array([row])), z[:, None]).double().sum(-1)[:, 0]
            found.append(-(log_px + log_weights).logsumexp(0))
    return torch.stack(found)


def test_importance_weighting_finds_the_exact_likelihood(model, every_sentence):
    store, _ = every_sentence
    exact = exact_nll(model, store)
    assert exact.exp().reciprocal().sum() < 1  # the sentences are different outcomes, and there are longer ones
    estimate = importance_weights(model, store, np.arange(len(store)), 20_000).nll
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.03)
    bound = score(model, store, samples=2000).bound
    assert (bound - exact > 0.03).any(), "the posterior is exact, so this shows nothing"


def test_importance_weighting_falls_with_samples_and_starts_at_the_bound(model, every_sentence):
    store, _ = every_sentence
    rows = np.arange(len(store))

    def mean(samples: int, seeds: int = 300) -> float:
        """Over sentences and seeds: in expectation a bound, the tighter the more samples."""
        found = [importance_weights(model, store, rows, samples, seed=seed).nll.mean() for seed in range(seeds)]
        return torch.stack(found).mean().item()

    one, five, fifty = mean(1), mean(5), mean(50, seeds=60)
    exact = exact_nll(model, store).mean().item()
    assert one > five > fifty > exact - 0.01
    assert one == pytest.approx(score(model, store, samples=5000).bound.mean().item(), abs=0.05)


def test_no_chunking_changes_the_estimate(model, every_sentence):
    store, _ = every_sentence
    rows = np.array([3, 0, 7])
    whole = importance_weights(model, store, rows, 50, tokens=10**6).nll
    for tokens in (1, 20, 333):
        torch.testing.assert_close(
            importance_weights(model, store, rows, 50, tokens=tokens).nll, whole, rtol=0, atol=1e-5
        )
    torch.testing.assert_close(importance_weights(model, store, rows[:1], 50).nll, whole[:1], rtol=0, atol=1e-5)


def test_the_shuffle_gap_is_what_other_codes_cost(model, every_sentence):
    store, _ = every_sentence
    scores = score(model, store, seed=3)
    gap = shuffle_gap(model, store, scores, seed=3)
    cycle = np.random.default_rng([3, 2]).permutation(len(store))
    with torch.no_grad():
        for place, row in enumerate(cycle):
            other = scores.z[cycle[place - 1]][None, None]
            alone = -model.log_px(collate(store, np.array([row])), other).double().sum()
            assert gap[row].item() == pytest.approx((alone - scores.reconstruction[row]).item(), abs=1e-5)
            assert cycle[place - 1] != row
    some = np.array([1, 4, 9])
    part = shuffle_gap(model, store, score(model, store, seed=3, rows=some), seed=3, rows=some)
    assert part.shape == (3,) and torch.isfinite(part).all()


def test_a_decoder_that_sees_no_code_has_no_gap(every_sentence):
    store, tokenizer = every_sentence
    torch.manual_seed(0)
    model = build_model(
        ModelSettings(latent=2, embedding=3, encoder=RecurrentEncoderSettings(hidden=4)), len(tokenizer)
    )
    with torch.no_grad():
        model.decoder.network.network.weight_ih_l0[:, 3:] = 0
        model.decoder.first_state.weight.zero_()
    gap = shuffle_gap(model, store, score(model, store), seed=0)
    torch.testing.assert_close(gap, torch.zeros_like(gap), rtol=0, atol=1e-5)


def test_subsets_are_seeded_and_without_repeats():
    some = subset(100, 30, seed=1)
    assert len(set(some.tolist())) == 30 and sorted(some) == some.tolist()
    assert subset(100, 30, seed=1).tolist() == some.tolist() != subset(100, 30, seed=2).tolist()
    assert subset(10, None, 0).tolist() == subset(10, 99, 0).tolist() == list(range(10))


def test_the_true_distance_is_to_the_grammars_own_probabilities(tmp_path):
    language = grammar.reviews()
    texts = language.sample(40, seed=5)
    stores = build(tmp_path / "store", {"train": texts, "valid": texts[:5]})
    tokenizer = Tokenizer.load(tmp_path / "store" / "tokenizer.json")
    surprisal = torch.tensor([-language.log_prob(text) for text in texts], dtype=torch.float64)
    found = distance_to_truth(surprisal + 2.0, stores["train"], np.arange(40), tokenizer)
    assert found.entropy == language.entropy
    assert found.surprisal == pytest.approx(surprisal.mean().item())
    assert (found.gap.value, found.gap.error) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-12))
    one = distance_to_truth(surprisal[:1], stores["train"], np.arange(1), tokenizer)
    assert one.gap.error == Missing("one sentence has no deviation")


@pytest.fixture(scope="module")
def text(tmp_path_factory, tiny_sentences):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(tiny_sentences) + "\n")
    return file


def trained(folder, text, method="mu-forcing", **data):
    split = {"valid": 0.2, "test": 0.3}
    latent = 0 if method == "language-model" else 3
    model = {**SMALL["model"], "latent": latent}
    tables = {**SMALL, "model": model, "data": {"corpus": str(text), "split": split, **data}}
    return train(load_settings(method=method, **tables), folder)


def test_the_json_has_all_that_the_contract_names(tmp_path, text):
    run = trained(tmp_path / "run", text)
    progress = []
    found = evaluate(run.folder, iw_samples=20, iw_sentences=5, progress=lambda *at: progress.append(at))
    assert json.loads((run.folder / "evaluation" / "test.json").read_text()) == found
    names = (
        "split sentences tokens signature reconstruction kl rate_kind bound bound_samples perplexity_bound nll_iw "
        "nll_iw_standard_error perplexity_iw iw_samples iw_sentences tokens_without_end mutual_information "
        "mutual_information_sentences mutual_information_ceiling active_units latent kl_per_dimension "
        "log_det_covariance mean_squared_norm kl_moment_matched"
    )
    assert set(names.split()) <= set(found)
    assert found["bound"] == pytest.approx(found["reconstruction"] + found["kl"])
    assert found["kl"] == pytest.approx(sum(found["kl_per_dimension"]))
    assert found["tokens"] - found["tokens_without_end"] == found["sentences"]
    nats = found["bound"] * found["sentences"]
    assert found["perplexity_bound"] == pytest.approx(math.exp(nats / found["tokens"]))
    assert found["perplexity_bound_without_end"] == pytest.approx(math.exp(nats / found["tokens_without_end"]))
    assert (
        found["mutual_information"]
        <= found["mutual_information_ceiling"]
        == pytest.approx(math.log(found["sentences"]))
    )
    assert set(found["active_units"]) == {"0.01", "0.2"} and len(found["kl_per_dimension"]) == found["latent"] == 3
    assert (found["iw_samples"], found["iw_sentences"], progress[-1]) == (20, 5, (5, 5))
    assert found["signature"].startswith("nll|bound:iw20|unit:nats/sentence|eos:counted|unk:counted|vocabulary:")
    assert f"|vocabulary:{len(run.tokenizer)}|softmax:all-ids|split:" in found["signature"]
    assert (
        "|textvae:0.1.0" in found["signature"]
        and f"|split:{found['signature'].split('split:')[1][:6]}" in (found["signature"])
    )
    assert evaluate(run.folder, iw_samples=20, iw_sentences=5) == found


def test_information_and_discrepancy_are_of_evenly_spaced_sentences(tmp_path, text, monkeypatch):
    run = trained(tmp_path / "run", text)
    scores = score(run.model(), corpus_of(run).split("test"))
    monkeypatch.setattr("textvae.inference.KEPT", 3)
    found = evaluate(run.folder, iw_samples=2, iw_sentences=2)
    last = len(scores) - 1
    assert last > 2
    z = scores.z[[0, round(last / 2), last]]
    assert found["mmd_squared"] == pytest.approx(squared_mmd(z).value, rel=1e-5)
    assert found["mutual_information_sentences"] == 3 and parse(found["mmd_signature"])[1]["sentences"] == "3"


def test_moments_are_means_over_five_draws_with_their_deviation(tmp_path, text):
    run = trained(tmp_path / "run", text)
    found = evaluate(run.folder, iw_samples=2, iw_sentences=2, seed=4)
    model, store = run.model(), corpus_of(run).split("test")
    posterior = score(model, store, 4).posterior
    draws = posterior.rsample(sentence_noise(mixed(4, 1), torch.arange(len(store))), 5).double().numpy()
    expected = {
        "log_det_covariance": [np.linalg.slogdet(np.cov(z.T))[1] for z in draws],
        "mean_squared_norm": [(z.mean(0) ** 2).sum() for z in draws],
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(np.mean(values))
        assert found[f"{name}_standard_deviation"] == pytest.approx(np.std(values, ddof=1)) and np.std(values) > 0
    assert found["kl_moment_matched_standard_deviation"] > 0
    name, parts = parse(found["latent_signature"])
    n = str(found["sentences"])
    assert name == "latent" and (parts["draws"], parts["seed"], parts["sentences"]) == ("5", "4", n)
    assert parts["mi"] == f"mixture-of-{n}" and parts["split"] == parse(found["signature"])[1]["split"]


def test_a_language_model_has_an_exact_likelihood_and_no_latent_scores(tmp_path, text):
    run = trained(tmp_path / "run", text, "language-model")
    found = evaluate(run.folder, iw_sentences=None)
    assert found["nll_iw"] == pytest.approx(found["reconstruction"]) == pytest.approx(found["bound"])
    assert (found["nll_iw_kind"], found["iw_samples"], found["iw_sentences"]) == ("exact", 0, found["sentences"])
    missing = ("kl", "rate_kind", "mutual_information", "active_units", "kl_per_dimension", "shuffle_gap")
    assert all(found[name] is None for name in missing)
    assert "bound:exact" in found["signature"]


def test_the_bound_of_the_sentences_that_the_likelihood_is_of_stands_beside_it(tmp_path, text):
    """Of a language model it is the same number, and the reconstruction of all is another one."""
    exact = evaluate(trained(tmp_path / "lm", text, "language-model").folder, iw_sentences=5)
    assert exact["bound_iw_sentences"] == pytest.approx(exact["nll_iw"], abs=1e-4)
    assert abs(exact["reconstruction"] - exact["nll_iw"]) > 0.01
    run = trained(tmp_path / "vae", text)
    found = evaluate(run.folder, iw_samples=30, iw_sentences=5)
    store = corpus_of(run).split("test")
    scores = score(run.model(), store)
    assert found["bound_iw_sentences"] == pytest.approx(scores.bound[subset(len(store), 5, 0)].mean().item())
    assert found["kl_standard_error"] == pytest.approx(scores.rate.std().item() / len(store) ** 0.5)


def test_how_even_the_weights_are_is_told(tmp_path, text):
    """The number of effective samples of each sentence, by hand from the weights of its own codes."""
    run = trained(tmp_path / "run", text)
    store, model = corpus_of(run).split("test"), run.model().eval()
    found = evaluate(run.folder, iw_samples=40, iw_sentences=6)
    effective, rows = [], subset(len(store), 6, 0)
    with torch.no_grad():
        for row in rows:
            batch = collate(store, np.array([row]))
            posterior = model.encode(batch)
            z = posterior.rsample(sentence_noise(0, batch.index), 40)
            ratio = model.prior.log_prob(z) - posterior.log_prob(z)
            weights = (model.log_px(batch, z).double().sum(-1) + ratio)[:, 0].softmax(0)
            effective.append(1 / weights.square().sum().item())
    assert found["iw_effective_samples"] == pytest.approx(np.median(effective), rel=1e-4)
    assert found["iw_effective_samples_low"] == pytest.approx(np.quantile(effective, 0.05), rel=1e-4)
    assert 0 <= found["iw_heavy_tailed"] <= 1
    few = evaluate(run.folder, iw_samples=24, iw_sentences=6)
    assert few["iw_heavy_tailed"] is None and "it takes 25" in few["reasons"]["iw_heavy_tailed"]


def one_sentence(folder, tmp_path, tiny_sentences, method="mu-forcing", **model):
    """A run whose test split has one sentence."""
    for name, lines in (("train", tiny_sentences), ("test", tiny_sentences[:1])):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    files = {
        name: str(tmp_path / f"{part}.txt") for name, part in zip(SPLITS, ("train", "train", "test"), strict=True)
    }
    latent = 0 if method == "language-model" else 3
    tables = {**SMALL, "model": {**SMALL["model"], "latent": latent, **model}, "data": files}
    return train(load_settings(method=method, **tables), folder)


SPLITS = ("train", "valid", "test")
ONE = "one sentence has no other that its code could be told from"


@pytest.mark.parametrize("method", ["mu-forcing", "language-model", "semi-implicit"])
def test_of_one_sentence_every_null_has_its_own_reason_and_nothing_undefined_is_0(method, tmp_path, tiny_sentences):
    run = one_sentence(tmp_path / "run", tmp_path, tiny_sentences, method)
    found = evaluate(run.folder, iw_samples=1, iw_sentences=1)
    reasons = found["reasons"]
    assert set(reasons) == {name for name, value in found.items() if value is None}
    assert not [name for name, value in found.items() if value == 0.0 and isinstance(value, float)]
    alone = "one sentence has no deviation"
    assert reasons["nll_iw_standard_error"] == reasons["bound_standard_error"] == alone
    if method == "language-model":
        assert reasons["kl"] == reasons["shuffle_gap"] == reasons["active_units"] == "a language model has no code"
        assert "exact: nothing is weighted" in reasons["iw_effective_samples"]
        return
    assert reasons["kl_standard_error"] == alone
    for name in ("mutual_information", "mutual_information_ceiling", "shuffle_gap", "shuffle_gap_standard_error"):
        assert reasons[name] == ONE
    assert reasons["active_units"] == "the mean of one sentence does not vary"
    assert reasons["log_det_covariance"] == "1 sentence is too few for a covariance of 3 dimensions"
    assert reasons["mmd_squared"] == reasons["mmd_squared_standard_error"] == "there is one code only"
    assert "nothing to be weighed against" in reasons["iw_effective_samples"]
    if method == "semi-implicit":
        assert reasons["mutual_information_lower"] == ONE and "closed form" in reasons["kl_per_dimension"]
    with pytest.raises(RequestError, match="--split test: has one sentence, and a diagnosis compares"):
        diagnose(run.folder, "test")


def test_the_error_of_the_shuffle_gap_knows_that_neighbours_share_a_code(tmp_path, text):
    run = trained(tmp_path / "run", text)
    found = evaluate(run.folder, iw_samples=2, iw_sentences=2, seed=3)
    store, model = corpus_of(run).split("test"), run.model().eval()
    gap = shuffle_gap(model, store, score(model, store, 3), 3).numpy()
    own = gap[np.random.default_rng([3, 2]).permutation(len(gap))]
    deviations = own - own.mean()
    total = (deviations * (deviations + np.roll(deviations, 1) + np.roll(deviations, -1))).sum()
    error = found["shuffle_gap_standard_error"]
    assert error == pytest.approx(math.sqrt(total / len(gap) / (len(gap) - 3)))


def test_character_models_give_bits_per_character(tmp_path, text):
    run = trained(tmp_path / "run", text, tokenizer={"name": "character"})
    found = evaluate(run.folder, iw_samples=2, iw_sentences=2)
    bits = found["bound"] * found["sentences"] / math.log(2) / found["tokens"]
    assert found["bits_per_character"] == pytest.approx(bits)


def test_every_number_has_its_name_in_the_list(tmp_path, text):
    """The names that `compare --scores` knows before it evaluates."""
    runs = [
        trained(tmp_path / "vae", text),
        trained(tmp_path / "characters", text, tokenizer={"name": "character"}),
        trained(tmp_path / "windows", text, window=6),
    ]
    for run in runs:
        assert evaluated_paths(evaluate(run.folder, iw_samples=2, iw_sentences=2)) <= known_names()


@pytest.mark.parametrize(
    ("epochs", "samples", "sentences", "reason"),
    [
        # A sentence has 8 tokens; half of what training reads is 500 tokens for each epoch.
        (1, 100, 100, "the fewest"),  # 80,000 tokens, for which 160 epochs would do
        (159, 100, 100, "the fewest"),
        (160, 100, 100, "as many as read at most 50% of the 160,000 tokens"),
        (320, 100, 200, "as many"),
        (799, 100, 200, "as many"),
        (800, 100, 500, "as many"),
        (4000, 500, 500, "as many"),
        (10**6, 500, 500, "as many"),
    ],
)
def test_default_importance_weighting_reads_half_of_what_training_read(
    tmp_path, epochs, samples, sentences, reason
):
    """By the counts of log and splits, not by the clock."""
    splits = {"train": {"tokens": 1000}, "test": {"sentences": 2000, "tokens": 16_000}}
    log = [{"step": 1, "epoch": 0.5}, {"step": 2, "epoch": epochs}, {"step": 2}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
    tokenizer = Tokenizer.train("word", ["a b"], None, 1)
    run = Run(tmp_path, load_settings(method="vanilla"), tokenizer, {"data": {"splits": splits}})
    found = iw_numbers(run, "test", "auto", "auto")
    assert (found.samples, found.sentences) == (samples, sentences) and found.reason.startswith(reason)
    assert iw_numbers(run, "test", 7, "auto")[:2] == (7, sentences)
    assert iw_numbers(run, "test", "auto", None)[:2] == (samples, None)
    assert iw_numbers(run, "test", 7, None) == (7, None, "")
    splits["test"] = {"sentences": 20, "tokens": 160}  # no more sentences than there are
    assert iw_numbers(run, "test", "auto", "auto").sentences == 20


def test_numbers_by_the_rule_are_said_and_those_asked_for_are_not(tmp_path, text):
    run = trained(tmp_path / "run", text)
    found = evaluate(run.folder)
    assert (found["iw_samples"], found["iw_sentences"]) == (100, found["sentences"])
    assert "iw_chosen" in found and "iw_chosen" not in evaluate(run.folder, iw_samples=3, iw_sentences=None)


def test_wrong_requests_are_refused(tmp_path, text):
    with pytest.raises(RequestError, match="iw_samples = 0: must be 1 or more"):
        evaluate(tmp_path, iw_samples=0)
    with pytest.raises(RequestError, match="iw_sentences = all: must be 1 or more, or 'auto'"):
        evaluate(tmp_path, iw_sentences="all")
    run = trained(tmp_path / "run", text)
    with pytest.raises(RequestError, match="--split tset: text.txt has only train, valid, test"):
        evaluate(run.folder, "tset")
    text_before = text.read_text()
    text.write_text(text_before + "w1 w1 w1 w2 w3\n" * 3)
    try:
        with pytest.raises(RequestError, match="is not the one that .* the text has changed"):
            evaluate(run.folder)
    finally:
        text.write_text(text_before)


def test_scores_of_a_run_that_cannot_be_written_are_given_with_a_warning(text, tmp_path):
    """As in a read-only folder; as root, which may write everywhere, a file stands in the folder's way."""
    run = trained(tmp_path / "run", text).folder
    kept = evaluate(run, "test", 2, 2)
    shutil.rmtree(run / "evaluation")
    (run / "evaluation").write_text("")
    with pytest.warns(
        UserWarning, match="results are complete, but could not be saved in the run: .*cannot be written"
    ):
        assert evaluate(run, "test", 2, 2) == kept
