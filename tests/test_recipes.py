"""The programs in `recipes/` at a size of seconds, and what they measure against what is known."""

import argparse
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from torch.distributions import Normal, kl_divergence

import textvae
from textvae.evaluation.evaluate import evaluate
from textvae.files import read_tensors, write_tensors
from textvae.generate.decoding import Decoding
from textvae.model import TextVAE
from textvae.objective.presets import load_settings
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianPosterior
from textvae.run import Run
from textvae.training.loop import train

RECIPES = Path(__file__).parents[1] / "recipes"
SEMENIUTA = RECIPES / "semeniuta2017.py"
FIGURE2 = RECIPES / "fu2020_figure2.py"
REMEDIES = RECIPES / "remedies.py"
HOMOTOPY = RECIPES / "homotopy.py"
CHOOSING = RECIPES / "choosing.py"
FITTED_PRIORS = RECIPES / "fitted_priors.py"


def loaded(monkeypatch, path):
    """A recipe as a module, beside what recipes share; it has a name, so that its classes can be pickled."""
    monkeypatch.syspath_prepend(str(RECIPES))
    spec = importlib.util.spec_from_file_location(f"{path.stem}_recipe", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figure2():
    spec = importlib.util.spec_from_file_location("fu2020_figure2", FIGURE2)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figure2_writes_its_figure_and_its_numbers(figure2, tmp_path, monkeypatch):
    sizes = ["--iterations", "3", "--samples", "4", "--draws", "40", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(FIGURE2), *sizes])
    figure2.main()
    assert (tmp_path / "fu2020_figure2_seed0.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "fu2020_figure2.json").read_text()
    found = json.loads(text)
    assert (tmp_path / "fu2020_figure2.md").read_text() == figure2.table(found["rows"])
    cells = {(row["posterior"], row["schedule"], row["seed"]) for row in found["rows"]}
    assert len(found["rows"]) == len(cells) == 6
    assert found["settings"]["iterations"] == 3 and found["settings"]["seeds"] == [0]
    assert {"textvae", "torch", "python"} <= found["versions"].keys()
    assert str(Path.home()) not in text and str(tmp_path) not in text
    for row in found["rows"]:
        assert row["rate_kind"] == ("exact" if row["posterior"] == "gaussian" else "upper")
        assert row["mutual_information_ceiling"] == pytest.approx(math.log(10))
        assert row["bound"] == pytest.approx(row["reconstruction"] + row["kl"])
        # E KL(q(z|n) || p) = I(n; z) + KL(q(z) || p), exactly for any densities.
        assert row["kl_estimated"] == pytest.approx(row["mutual_information"] + row["kl_aggregate_to_prior"])


def test_figure2_table_has_means_and_deviations_over_seeds(figure2):
    rows = [
        {
            "posterior": posterior,
            "schedule": schedule,
            "accuracy": 0.25 * (1 + seed),
            "accuracy_neighbours": 0.5,
            "mutual_information": 1.0,
            "kl_aggregate_to_prior": 0.001 if posterior == "gaussian" else 0.002,
        }
        for posterior in figure2.POSTERIORS
        for schedule in figure2.SCHEDULES
        for seed in range(3)
    ]
    lines = figure2.table(rows).splitlines()
    assert [line.split(" |")[0] for line in lines[2:]] == ["| constant", "| monotonic", "| cyclical"]
    first, second = "0.50 ± 0.25 (0.50) | 1.00 ± 0.00 | 0.001 ± 0.000", "1.00 ± 0.00 | 0.002 ± 0.000"
    assert lines[2] == f"| constant | {first} | 0.50 ± 0.25 (0.50) | {second} |"
    one = figure2.table([row for row in rows if row["accuracy"] == 0.75]).splitlines()
    assert one[3].startswith("| monotonic | 0.75 (0.50) | 1.00 | 0.001 | 0.75")


def test_figure2_tries_other_choices(figure2, tmp_path, monkeypatch):
    wanted = {"as in the figure": figure2.Choices(), "free": figure2.Choices(weight=0.0, lr=0.05, noise=2)}
    monkeypatch.setattr(figure2, "TRIES", wanted)
    sizes = ["--tries", "--iterations", "80", "--samples", "4", "--draws", "40", "--out", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", [str(FIGURE2), *sizes])
    figure2.main()
    found = json.loads((tmp_path / "new" / "fu2020_figure2_tries.json").read_text())
    assert found["settings"]["schedules"]["constant"]["value"] == 1.0
    rows = {(row["try"], row["posterior"]): row for row in found["rows"]}
    assert rows.keys() == {(name, posterior) for name in wanted for posterior in figure2.POSTERIORS}
    for posterior in figure2.POSTERIORS:
        free, paid = rows["free", posterior], rows["as in the figure", posterior]
        assert free["choices"]["weight"] == 0.0 and free["schedule"] == "constant"
        assert free["kl"] > paid["kl"] + 1 and free["accuracy"] > paid["accuracy"] + 0.2
    _, _, first, second = (tmp_path / "new" / "fu2020_figure2_tries.md").read_text().splitlines()
    assert first.startswith("| as in the figure |") and f"| {rows['free', 'gaussian']['accuracy']:.2f} |" in second


def test_figure2_choices_are_where_they_belong(figure2):
    choices = figure2.Choices(noise=3, history=False, state=False, means=5.0, scale=0.5)
    for posterior in figure2.POSTERIORS:
        plain, other = figure2.toy(posterior, 0), figure2.toy(posterior, 0, choices)
        assert (plain.decoder.word_keep, other.decoder.word_keep) == (1.0, 0.0)
        assert plain.decoder.first_state is not None and other.decoder.first_state is None
    assert other.posterior.from_noise.weight.shape[1] == 3
    choices = figure2.Choices(means=5.0, scale=0.5)  # all weights drawn as without
    noise = sentence_noise(0, torch.arange(10))
    plain, other = (
        figure2.toy("gaussian", 0, some).encode(figure2.sequences(), noise) for some in (figure2.Choices(), choices)
    )
    bias = figure2.toy("gaussian", 0).posterior.parameters_of.bias[:2]
    torch.testing.assert_close(other.mean - bias, 5 * (plain.mean - bias))
    torch.testing.assert_close(other.std, plain.std / 2)


def test_figure2_sequences_have_one_1_each(figure2):
    batch = figure2.sequences()
    ones = batch.ids - batch.ids.min()
    assert ones.tolist() == [[int(i == n) for i in range(10)] for n in range(10)]
    assert figure2.OneHot(0)(batch.ids, batch.lengths).tolist() == ones.tolist()


@pytest.mark.parametrize(("distance", "accuracy", "information"), [(0.0, 0.1, 0.0), (50.0, 1.0, math.log(10))])
def test_figure2_measures_posteriors_that_are_known(figure2, monkeypatch, distance, accuracy, information):
    """Ten equal Gaussians, and ten far apart: accuracy by chance or sure, information none or all of it."""
    model = figure2.toy("gaussian", 0)
    angle = torch.arange(10) * (2 * math.pi / 10)
    mean = distance * torch.stack([angle.cos(), angle.sin()], dim=1)
    std = torch.full((10, 2), 0.5)
    monkeypatch.setattr(TextVAE, "encode", lambda *given, **named: DiagonalGaussian(mean, std))
    scores, z = figure2.measures(model, 0, 100, 400)
    assert z.shape == (400, 10, 2)
    assert scores["accuracy"] == pytest.approx(accuracy, abs=0.03)
    assert scores["accuracy_neighbours"] == pytest.approx(accuracy, abs=0.03)
    assert scores["mutual_information"] == pytest.approx(information, abs=0.01)
    exact = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1).mean().item()
    assert scores["kl"] == pytest.approx(exact, rel=1e-5)
    assert scores["kl_estimated"] == pytest.approx(exact, rel=0.01, abs=0.05)
    assert scores["kl_aggregate_to_prior"] == pytest.approx(exact - information, rel=0.01, abs=0.05)


def test_figure2_densities_of_a_semi_implicit_posterior_approach_the_true_ones(figure2):
    """Linear in x and noise with a fixed scale, q(z|n) is a Gaussian: mean W x + b, covariance B B' + s^2 I."""
    model = figure2.toy("semi-implicit", 0)
    model.posterior = figure2.SemiImplicitPosterior(10, 2, 2, layers=0)
    with torch.no_grad():
        model.posterior.from_noise.weight.copy_(torch.tensor([[0.5, 0.2], [0.0, 0.4], [0.0, 0.0], [0.0, 0.0]]))
        model.posterior.from_text.weight[2:] = 0
        model.posterior.from_text.bias[2:] = 2 * math.log(0.6)
        mean = (model.posterior.from_text.weight.mT + model.posterior.from_text.bias)[:, :2]
        spread = model.posterior.from_noise.weight[:2]
        exact = torch.distributions.MultivariateNormal(mean, spread @ spread.mT + 0.36 * torch.eye(2))
        torch.manual_seed(0)
        z = exact.sample((5,))[:, 0]
        found = figure2.densities(z, *figure2.components(model, 0, 20_000))
        torch.testing.assert_close(found, exact.log_prob(z[:, None]).double(), rtol=0, atol=0.1)


def test_figure2_trains_both_posteriors(figure2):
    """After some steps the plain symbols' frequencies are learned: from 10 ln 6 nats to less than 6."""
    for posterior in figure2.POSTERIORS:
        model = figure2.toy(posterior, 0)
        figure2.train(model, "constant", 0, 60, 2)
        with torch.no_grad():
            batch = figure2.sequences()
            out = model(batch, sentence_noise(0, batch.index))
        assert -out.log_px.sum(-1).mean().item() < 6
    assert isinstance(figure2.toy("gaussian", 0).posterior, GaussianPosterior)


@pytest.fixture
def semeniuta(monkeypatch):
    return loaded(monkeypatch, SEMENIUTA)


@pytest.mark.parametrize("figure, runs", [("3", 8), ("4", 12), ("5", 8), ("6", 20)])
def test_every_run_of_semeniutas_figures_is_one_that_can_be_trained(semeniuta, figure, runs):
    plan = tomllib.loads((RECIPES / "semeniuta2017.toml").read_text())
    asked = argparse.Namespace(figure=figure, lengths=None, steps=None, seeds=[0])
    cells = list(semeniuta.cells(plan, asked))
    assert len(cells) == len({cell.job.folder for cell in cells}) == runs
    for cell in cells:
        settings = load_settings(None, None, cell.job.assignments, **cell.job.tables)
        assert settings.data.window == settings.data.positions == cell.length
        if cell.row != "language model":
            weight = settings.objective["kl"].weight
            assert weight.final == (0.0 if figure == "3" else 1.0)
            # Annealed rows begin once the unregularised model has converged.
            annealed = figure == "4" or cell.row == "annealed" or cell.row.endswith(", annealed")
            assert getattr(weight, "delay", 0.0) == (0.35 if annealed else 0.0)


@pytest.mark.slow
def test_semeniutas_figures_are_drawn_from_what_was_measured(semeniuta, tmp_path, monkeypatch):
    """Bits per character by hand: nats of all pieces over ln 2 and the characters, end marks among them."""
    (tmp_path / "train.txt").write_text("a cat sat on the mat\n" * 20)
    (tmp_path / "valid.txt").write_text("the cat sat on a mat\n" * 3)
    data = {"train": str(tmp_path / "train.txt"), "valid": str(tmp_path / "valid.txt")}
    small = {"name": "hybrid", "first_maps": 4, "maps": [4, 4], "top": {"name": "lstm", "hidden": 5}}
    plan = {
        "settings": {
            "data": {**data, "tokenizer": {"name": "character"}},
            "model": {"latent": 2, "embedding": 4},
            "train": {"batch_size": 4, "max_steps": 3, "log_every": 1},
        },
        "encoders": {"convolutional": {"name": "convolutional", "maps": [4, 4]}},
        "decoders": {"hybrid": small},
        "figures": {
            "5": {
                "about": "small",
                "lengths": [10],
                "over": {"objective.auxiliary.weight": [0.0, 0.5]},
                "rows": {"annealed": {"encoder": "convolutional", "decoder": "hybrid", "anneal": True}},
            }
        },
    }
    (tmp_path / "semeniuta2017.toml").write_text(tomli_w.dumps(plan))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(semeniuta, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SEMENIUTA), "5", "--processes", "2", "--out", str(tmp_path / "out")])
    assert semeniuta.main() == 0
    assert (tmp_path / "out" / "figure5.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "out" / "figure5.json").read_text())["rows"]
    assert [row["value"] for row in rows] == [0.0, 0.5]
    for row in rows:
        scores = json.loads(
            (tmp_path / f"runs/semeniuta2017/5-annealed-10-{row['value']}-0/evaluation/valid.json").read_text()
        )
        assert scores["tokens"] == 3 * 21 and scores["sentences"] == 7
        expected = scores["bound"] * 7 / math.log(2) / 63
        assert row["bound_bits_per_character"] == pytest.approx(expected)
        assert row["bound_bits_per_character"] == pytest.approx(scores["bits_per_character"])
        assert len(row["curves"]["train"]) == 3


@pytest.fixture
def remedies(monkeypatch):
    return loaded(monkeypatch, REMEDIES)


def numbers(**given):
    """A run's numbers, all None but those given."""
    names = ("nll", "reconstruction", "kl", "rate_kind", "latent", "mutual_information", "shuffle_gap")
    about = {"device": "a", "threads": 1, "precision": "fp32", "tokens_per_second": 100.0}
    return dict.fromkeys((*names, "active_units_0.01", "active_units_0.2")) | about | given


def test_remedies_table_has_means_over_seeds_and_speeds_on_the_same_machine(remedies):
    rows = {
        "language-model": {"0": numbers(nll=100.0, reconstruction=100.0)},
        "vanilla": {
            "0": numbers(nll=101.0, kl=1.0, rate_kind="exact", latent=2),
            "1": numbers(nll=103.0, kl=4.0, rate_kind="exact", latent=2, device="b", tokens_per_second=8.0),
            "2": numbers(nll=102.0, kl=2.5, rate_kind="exact", latent=2, device="b", tokens_per_second=None),
        },
        "iaf": {
            "1": numbers(
                kl=2.0, rate_kind="upper", latent=2, device="b", tokens_per_second=4.0, mutual_information=1.5
            )
        },
        "new": {"0": numbers(kl=-0.001, device="c", mutual_information=2.5, mutual_information_lower=2.25)},
    }
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in remedies.markdown(rows).splitlines()]
    shown = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    assert shown["vanilla"]["seeds"] == "3" and shown["vanilla"]["KL"] == "2.50 ± 1.50"
    assert shown["vanilla"]["NLL"] == "102.00 ± 1.00" and shown["vanilla"]["against the LM"] == "+2.0 %"
    assert shown["language-model"]["KL"] == shown["iaf"]["NLL"] == shown["iaf"]["against the LM"] == "–"
    assert shown["iaf"]["KL"] == "2.00 (upper)" and shown["iaf"]["speed"] == "0.50"
    assert shown["new"]["MI"] == "2.25 to 2.50" and shown["iaf"]["MI"] == "at most 1.50"
    assert shown["vanilla"]["speed"] == "1.00" and shown["new"]["speed"] == "–" and shown["new"]["KL"] == "0.00"


def test_remedies_keep_what_was_measured_before(remedies):
    earlier = {"b": {"0": {"nll": 1.0}, "1": {"nll": 2.0}}, "gone": {"0": {"nll": 9.0}}}
    new = {"b": {"1": {"nll": 3.0}}, "a": {"0": {"nll": 4.0}}}
    found = remedies.joined(earlier, new, {"a": {}, "b": {}, "c": {}})
    assert found == {"a": {"0": {"nll": 4.0}}, "b": {"0": {"nll": 1.0}, "1": {"nll": 3.0}}}
    assert list(found) == ["a", "b"]


def test_remedies_take_the_first_sentences_of_each_split(remedies, tmp_path, monkeypatch):
    splits = {split: tmp_path / f"{split}-all.txt" for split in ("train", "valid", "test")}
    for split, path in splits.items():
        path.write_text("".join(f"{split} {number}\n" for number in range(5)))
    monkeypatch.setattr("textvae.text.registry.files", lambda corpus: splits)
    found = remedies.shortened("any", {"train": 3, "valid": 1, "test": 9}, tmp_path / "text")
    assert [Path(path).read_text().splitlines()[-1] for path in found.values()] == ["train 2", "valid 0", "test 4"]
    plan = tomllib.loads((RECIPES / "remedies.toml").read_text())
    assert set(plan["corpora"]["yelp_sentiment"]["first"]) == set(found)


@pytest.mark.slow
def test_remedies_train_measure_and_begin_nothing_when_the_time_is_over(remedies, tmp_path, monkeypatch, capsys):
    small = ["model.latent=2", "model.embedding=4", "model.encoder.hidden=4", "model.decoder.hidden=4"]
    plan = {
        "corpora": {
            "grammar": {
                "iw_samples": 2,
                "iw_sentences": 3,
                "settings": {"data": {"corpus": "grammar"}, "train": {"max_steps": 2}},
            }
        },
        "rows": {"vanilla": {"method": "vanilla", "set": small}, "later": {"method": "bow", "set": small}},
    }
    (tmp_path / "remedies.toml").write_text(tomli_w.dumps(plan))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remedies, "HERE", tmp_path)
    out = tmp_path / "out"
    called = [str(REMEDIES), "grammar", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*called, "--rows", "vanilla"])
    assert remedies.main() == 0
    monkeypatch.setattr(sys, "argv", [*called, "--minutes", "0"])
    assert remedies.main() == 1
    assert "later-0: not begun, the time was over" in capsys.readouterr().err
    rows = json.loads((out / "rows.json").read_text())
    scores = json.loads((tmp_path / "runs/remedies/grammar/vanilla-0/evaluation/test.json").read_text())
    assert list(rows) == ["vanilla"] and list(rows["vanilla"]) == ["0"]
    assert rows["vanilla"]["0"]["nll"] == scores["nll_iw"] and rows["vanilla"]["0"]["kl"] == scores["kl"]
    assert "| vanilla | 1 |" in (out / "table.md").read_text()
    assert rows["vanilla"]["0"]["tokens_per_second"] > 0
    monkeypatch.setattr(sys, "argv", [*called, "--rows", "vanilla", "--no-speed"])
    assert remedies.main() == 0
    assert json.loads((out / "rows.json").read_text())["vanilla"]["0"]["tokens_per_second"] is None
    assert (out / "rate-distortion.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def homotopy(monkeypatch):
    return loaded(monkeypatch, HOMOTOPY)


def test_homotopys_fidelity_is_sacrebleus_bleu_and_counts_by_hand(homotopy):
    sacrebleu = pytest.importorskip("sacrebleu")
    generator = torch.Generator().manual_seed(0)

    def text():
        length = int(torch.randint(1, 12, (), generator=generator))
        return " ".join("abc"[i] for i in torch.randint(0, 3, (length,), generator=generator))

    texts, references = [text() for _ in range(50)], [text() for _ in range(50)]
    for own, other in ((texts, references), (references, texts), (texts, texts)):
        expected = sacrebleu.corpus_bleu(own, [other], tokenize="none", smooth_method="none").score
        found = homotopy.fidelity(own, other, 2, 0)
        assert found["bleu"]["mean"] == pytest.approx(expected, abs=1e-8) and found["bleu"]["n"] == 25
        assert (found["bleu"]["standard_error"] > 0) == (own is not other)
    found = homotopy.fidelity(["a b", "c"], ["a c d", "c"], 1, 0)
    assert found["bleu"]["mean"] == 0.0 and found["same"]["mean"] == 0.5
    assert found["kept"]["mean"] == pytest.approx((1 / 3 + 1) / 2) and found["length_error"]["mean"] == 0.5


def test_homotopys_path_scores_by_hand(homotopy):
    from textvae.generate.paths import Homotopy, smoothness

    class Scorer:
        run = argparse.Namespace(settings=argparse.Namespace(data=argparse.Namespace(corpus="ptb")))

        def nll(self, texts):
            return np.array([10.0 * len(text.split()) for text in texts])

    paths = []
    for texts in (["a", "a b", "a b", "c"], ["a", "c", "c", "c"]):
        paths.append(Homotopy(np.zeros((4, 1), np.float32), texts, smoothness(texts, [t.split() for t in texts])))
    found = homotopy.path_scores(paths, Scorer())
    assert found["nats_per_sentence"]["between"] == {"mean": 15.0, "standard_error": 5.0, "n": 2}
    assert found["nats_per_sentence"]["rise"]["mean"] == 5.0
    assert found["nats_per_token"]["between"]["mean"] == pytest.approx((20 / 3 + 5) / 2)
    assert found["different"]["mean"] == 2.5 and found["largest_step"]["mean"] == 1.5
    assert found["grammatical"] is None


def test_homotopys_standard_errors_are_over_what_is_independent(homotopy):
    """Texts of one path or map are one group: with all of a group equal, the error is that of the groups' means."""
    values, groups = np.repeat([1.0, 3.0, 8.0], 7), np.repeat([0, 1, 2], 7)
    found = homotopy.summary(values, groups)
    assert found == {"mean": 4.0, "standard_error": pytest.approx(np.std([1, 3, 8], ddof=1) / 3**0.5), "n": 21}
    assert homotopy.summary(values)["standard_error"] == pytest.approx(np.std(values, ddof=1) / 21**0.5)
    alone = homotopy.summary(values[:7], groups[:7])
    assert alone["standard_error"] is None
    page = importlib.import_module("homotopy_page")
    assert page.share(alone) == "100 %" and page.share({"mean": 0.5, "standard_error": 0.1}) == "50 ± 10 %"


@pytest.mark.parametrize("scale", ["smoke", "grammar", "cpu", "gpu"])
def test_every_run_of_homotopy_is_one_that_can_be_trained(homotopy, scale, tmp_path):
    plan = tomllib.loads((RECIPES / "homotopy.toml").read_text())
    jobs = homotopy.jobs(plan, plan[scale], tmp_path, 3)
    assert len(jobs) == 8 and plan[scale]["settings"]["data"]["corpus"] in plan["page"]
    for name, job in zip(plan["models"], jobs, strict=True):
        settings = load_settings(None, job.method, job.assignments, **job.tables)
        assert settings.train.seed == 3
        wanted = 0 if name == "language-model" else plan[scale]["settings"]["model"]["latent"]
        assert settings.model.latent == wanted
        if name.startswith("capacity-"):
            assert settings.objective["capacity"].target == float(name.removeprefix("capacity-"))
        if scale != "smoke":
            assert plan[scale]["pairs"] >= 100
        if scale == "gpu":
            assert settings.train.max_steps <= 6000


@pytest.mark.slow
def test_homotopy_writes_its_numbers_and_a_page_without_the_corpuss_sentences(homotopy, tmp_path, monkeypatch):
    import running

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(homotopy, "done", lambda jobs, processes: [bad for bad in map(running._done, jobs) if bad])
    monkeypatch.setattr(sys, "argv", [str(HOMOTOPY), "--scale", "smoke"])
    assert homotopy.main() == 0
    found = json.loads((tmp_path / "results/homotopy/smoke.json").read_text())
    coded = {"vanilla", "word-dropout", "bow-annealing", "capacity-3", "capacity-15", "capacity-100", "autoencoder"}
    assert found["B8"]["between sentences"].keys() == found["B9"].keys() == found["sensitivity"].keys() == coded
    assert found["B8"]["between prior draws"].keys() == found["B10"].keys() == coded - {"autoencoder"}
    assert found["P7"].keys() == {"capacity-3", "capacity-15", "capacity-100"}
    assert found["P7"]["capacity-3"].keys() == {"greedy", "top-k 5", "top-k 15", "nucleus 0.5", "nucleus 0.9"}
    for cells in found["P7"].values():
        for cell in cells.values():
            assert 0 <= cell["repeats"]["mean"] <= 6 and cell["nats_per_sentence"]["n"] == 3 * 7
    assert found["text"]["test sentences"]["grammatical"]["mean"] == 1.0
    assert found["text"]["their words shuffled"]["grammatical"]["mean"] < 0.5
    page = (tmp_path / "results/homotopy/smoke.md").read_text()
    assert "## B8" in page and "## P7" in page and "**autoencoder, between two sentences**" in page
    import textvae

    scorer = textvae.load(tmp_path / "runs/homotopy/smoke/language-model-0")
    written = page + json.dumps(found)
    assert str(Path.home()) not in written and str(tmp_path) not in written
    assert not any(text in written for text in homotopy.held_out(scorer, 24, 0) if len(text.split()) > 5)


@pytest.fixture
def transfer(monkeypatch):
    return loaded(monkeypatch, RECIPES / "transfer.py")


def test_every_run_of_the_transfer_recipe_is_one_that_can_be_trained(transfer, tmp_path):
    plan = tomllib.loads((RECIPES / "transfer.toml").read_text())
    for scale in plan["scales"].values():
        for name in scale["corpora"]:
            for row in plan["rows"]:
                job = transfer.job(name, row, plan, scale, tmp_path)
                settings = load_settings(None, job.method, job.assignments, **job.tables)
                assert settings.train.max_steps == scale["steps"][name]
                assert (settings.model.latent == 0) == (row == "language-model")
                half = "judges" if row == "language-model" else "own"
                assert Path(settings.data.train).name == f"{half}.tsv"


def test_nobody_who_judges_a_transfer_has_seen_what_is_judged(transfer):
    plan = tomllib.loads((RECIPES / "transfer.toml").read_text())
    parts = transfer.cut("grammar", plan["corpora"]["grammar"], plan["scales"]["smoke"])
    own, valid, judges, moved = ({text for _, text in part} for part in (parts[0], parts[1], parts[2], parts[4]))
    assert [len(part) for part in (own, judges, moved)] == [400, 400, 40] and len(parts.direction) == 100
    for a, b in ((own, judges), (own, moved), (judges, moved), (valid, own), (valid, judges), (valid, moved)):
        assert not a & b
    assert set(parts.direction) <= set(parts.own)
    assert {label for label, _ in parts.moved} == {"negative", "positive"}


def test_nobody_who_judges_a_transfer_has_seen_what_people_made_of_it(transfer, monkeypatch):
    sides = [(label, f"{label} w{n}") for n in range(40) for label in ("negative", "positive")]
    moved = [(label, f"moved {text}") for label, text in sides[:8]]
    references = [f"made {text}" for _, text in moved]
    train = [*sides, *(("positive", text) for text in references[:4])]
    valid = [("negative", "valid"), ("negative", references[5])]
    monkeypatch.setattr(transfer, "registered", lambda name, corpus: (train, valid, moved, references))
    scale = {"train": {"yelp": 100}, "moved": 4, "direction": 4}
    parts = transfer.cut("yelp", {"labels": ["negative", "positive"]}, scale)
    assert len(parts.own) + len(parts.judges) == 80 and parts.valid == valid[:1] and len(parts.references) == 8
    assert not set(references) & {text for part in parts[:5] for _, text in part}


def test_what_people_rewrote_is_brought_to_the_form_of_the_corpora(transfer):
    assert transfer.tokenised("It's great, and I can't wait!") == "it 's great , and i ca n't wait !"


def test_the_transfer_recipe_at_its_smallest(transfer, tmp_path, monkeypatch):
    sizes = ["--scale", "smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["transfer.py", *sizes])
    monkeypatch.setattr(transfer.multiprocessing, "get_context", lambda _: Here())
    monkeypatch.setattr(transfer, "done", lambda jobs, processes: [p for p in map(transfer_job, jobs) if p])
    assert transfer.main() == 0
    assert (tmp_path / "out" / "transfer.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "grammar.json").read_text()
    found = json.loads(text)
    assert str(tmp_path) not in text
    assert [(curve["way"], curve["from"]) for curve in found["curves"]] == [
        ("mean", "negative"),
        ("pair", "negative"),
        ("mean", "positive"),
        ("pair", "positive"),
    ]
    for curve in found["curves"]:
        assert [row["strength"] for row in curve["rows"]] == [None, 0.0, 1.0]
        assert curve["rows"][0]["grammar"]["wanted"] == 0.0 and curve["rows"][0]["bleu_input"] > 99.9
    both = [curve["rows"][1] for curve in found["curves"] if curve["way"] == "mean"]
    mean = transfer.averaged(found, "mu-forcing-8", "mean")[1]
    assert mean["nll"] == pytest.approx((both[0]["nll"] + both[1]["nll"]) / 2)
    table = (tmp_path / "out" / "transfer.md").read_text().splitlines()
    assert f"| mu-forcing-8 | mean | 0 | {mean['accuracy']:.3f} |" in "\n".join(table)
    assert len({line.count("|") for line in table if line.startswith("|")}) == 1
    assert "# grammar, mu-forcing-8" in (tmp_path / "runs/smoke/grammar/mu-forcing-8.txt").read_text()


def transfer_job(job):
    """A job of a recipe, done in this process."""
    import running

    return running._done(job)


class Here:
    """Stands for a context of processes: all work is done in this one."""

    def Pool(self, *_, **__):  # noqa: N802
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def map(self, function, tasks, chunksize):
        return list(map(function, tasks))

    imap = map


@pytest.mark.parametrize(
    "recipe", sorted(one.stem for one in RECIPES.glob("*.py") if "__main__" in one.read_text())
)
def test_help_of_every_recipe_does_nothing_else(recipe, tmp_path):
    """It runs in a copy of the folders that recipes read and write, so that one which did more would be seen."""
    shutil.copytree(RECIPES, tmp_path / "recipes")
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-B", str(tmp_path / "recipes" / f"{recipe}.py"), "--help"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "") and found.stdout.startswith("usage: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_choosing_trains_and_judges_a_run_once(monkeypatch, tmp_path):
    recipe = loaded(monkeypatch, CHOOSING)
    plan = {"corpus": "grammar", "first": {"train": 300, "valid": 40, "test": 40}}
    tables = recipe.chosen(plan, tmp_path)
    assert tables["train"]["fit_prior"] and tables["data"]["tokenizer"]["name"] == "word"
    lines = (tmp_path / "text" / "train.jsonl").read_text().splitlines()
    assert len(lines) == 300 and set(json.loads(lines[0])) == {"text"}
    small = ("train.max_steps=4", "model.latent=2", "model.encoder.hidden=8", "model.decoder.hidden=8")
    folder = tmp_path / "grammar" / "auto-0"
    job = recipe.Job(folder, "auto", small, tables, "test", 2, 10, recipe.judge, recipe.RESULT)
    running = sys.modules[recipe.done.__module__]
    assert running._in_time((job, None)) is None
    numbers = json.loads((folder / "choosing.json").read_text())
    assert numbers["seconds"] > 0 and numbers["nll_iw"] > 0 and numbers["collapsed"] is not None
    before = (folder / "log.jsonl").read_bytes()
    assert running._in_time((job, 0.0)) is None and (folder / "log.jsonl").read_bytes() == before
    late = job._replace(folder=tmp_path / "grammar" / "auto-1")
    assert "the time was over" in running._in_time((late, 0.0))
    assert "was made with other settings" in running._in_time((job._replace(assignments=small[1:]), None))


def test_choosing_joins_earlier_numbers_and_new_ones_in_the_order_of_the_plan(monkeypatch, tmp_path):
    recipe = loaded(monkeypatch, CHOOSING)
    monkeypatch.setattr(recipe, "OUT", tmp_path / "results")
    (tmp_path / "results").mkdir()
    earlier = {"b": {"auto": {"0": {"kl": 1.0}, "1": {"kl": 2.0}}}, "gone": {"auto": {"0": {}}}}
    (tmp_path / "results" / "rows.json").write_text(json.dumps(earlier))
    for name in ("b/auto-0", "b/mu-forcing-0", "a/auto-0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "choosing.json").write_text(json.dumps({"kl": 3.0}))
    plan = {"corpora": {"a": {}, "b": {}}, "methods": {"mu-forcing": {}, "auto": {}}}
    rows = recipe.joined(tmp_path / "runs", plan)
    assert list(rows) == ["a", "b"] and list(rows["b"]) == ["mu-forcing", "auto"]
    assert rows["b"]["auto"] == {"0": {"kl": 3.0}, "1": {"kl": 2.0}}


def test_every_corpus_and_method_of_choosing_is_known():
    from textvae.text import registry

    plan = tomllib.loads((RECIPES / "choosing.toml").read_text(encoding="utf-8"))
    assert len({corpus["corpus"] for corpus in plan["corpora"].values()}) == 8
    for corpus in plan["corpora"].values():
        assert corpus.get("label") in (None, *registry.find(corpus["corpus"]).labels)
    for own in plan["methods"].values():
        load_settings(method=own["method"], assignments=own.get("set", ()), data={"corpus": "grammar"})


@pytest.fixture
def fitted_priors(monkeypatch, tmp_path):
    """The recipe, working in a temporary folder and in one process."""
    recipe = loaded(monkeypatch, FITTED_PRIORS)
    monkeypatch.setattr(recipe.multiprocessing, "get_context", lambda _: Here())
    monkeypatch.chdir(tmp_path)
    return recipe


def small_run(folder, method="vanilla", means=None, **model):
    """A run of a few steps; with `means`, its posteriors lie there and are narrow, whatever the sentence."""
    lines = [f"{kind * 2} w{i} {kind} w{j}" for kind in "ab" for i in range(12) for j in range(12)]
    (folder.parent / "text.txt").write_text("\n".join(lines) + "\n")
    sizes = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
    data = {"corpus": str(folder.parent / "text.txt"), "split": {"valid": 0.3, "test": 0.2}}
    steps = {"batch_size": 16, "max_steps": 4, "device": "cpu"}
    run = train(load_settings(method=method, data=data, model={**sizes, **model}, train=steps), folder)
    if means is not None:
        weights = {name: tensor.clone() for name, tensor in run.model().state_dict().items()}
        weights["posterior.parameters_of.bias"][:2], weights["posterior.parameters_of.bias"][2:] = means, -4.0
        write_tensors(folder / "model.safetensors", weights)
    return folder


@pytest.mark.slow
def test_fitted_priors_measures_copies_of_runs_once_under_both_priors(fitted_priors, tmp_path, monkeypatch):
    (tmp_path / "fitted_priors.toml").write_text(
        "[likelihood]\niw_samples = 30\niw_sentences = 20\n"
        "[fce]\ndecoding = 'sample'\nn = 40\ndraws = 1\nvocabulary = 'run'\nepochs = 1\n"
        "[fce.runs]\nsome-corpus = ['moved-0', 'plain-0']\n"
    )
    runs = tmp_path / "some" / "corpus"
    runs.mkdir(parents=True)
    run = small_run(runs / "moved-0", means=3.0)
    small_run(runs / "plain-0", "vmf")
    small_run(runs / "lm-0", "language-model", latent=0)
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    monkeypatch.setattr(fitted_priors, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["fitted_priors.py", str(runs), "--samples", "40", "--fce"])
    assert fitted_priors.main() == 0
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before
    text = (tmp_path / "results/fitted-priors/rows.json").read_text()
    assert str(tmp_path) not in text
    rows = json.loads(text)["some-corpus"]
    moved, copy = rows["runs"]["moved-0"], tmp_path / "runs/fitted-priors/some-corpus/moved-0"
    assert moved["reason"] is None and moved["fit"]["kept"] and moved["nll_change"] < -1
    for prior in ("own", "fitted"):
        scores = evaluate(Run.open(copy).under(prior), "test", 30, 20)
        names = {"kl": "kl", "bound": "bound", "nll": "nll_iw", "nll_standard_error": "nll_iw_standard_error"}
        assert {name: moved[prior][name] for name in names} == {ours: scores[name] for ours, name in names.items()}
        assert moved[prior]["signature"] == scores["signature"]
        texts = textvae.load(copy, prior).sample(40, 0, Decoding("sample", allow_unknown=True))
        assert moved[prior]["samples"]["sample"]["distinct"] == pytest.approx(len(set(texts)) / 40)
    for name in ("bound", "nll"):
        assert moved[f"{name}_change"] == pytest.approx(moved["fitted"][name] - moved["own"][name])
        assert 0 < moved[f"{name}_change_standard_error"] < 1
    assert moved["mismatch"] == pytest.approx(moved["own"]["kl"] - moved["mutual_information"])
    assert -moved["bound_change"] == pytest.approx(moved["mismatch"], abs=0.3)  # of N(3, ...) all is regained
    assert "lie on a sphere, where a Gaussian has no density" in rows["runs"]["plain-0"]["reason"]
    assert rows["runs"]["plain-0"]["own"]["nll"] > 0 and rows["runs"]["plain-0"]["fitted"] is None
    assert rows["runs"]["lm-0"]["reason"].startswith("is a language model")
    assert list(rows["fce"]["runs"]) == ["moved-0"]  # the other has no fitted prior
    cross = rows["fce"]["runs"]["moved-0"]
    assert (
        cross["own"] != cross["fitted"]
        and "FCE |" in (tmp_path / "results/fitted-priors/some-corpus-samples.md").read_text()
    )
    monkeypatch.setattr(fitted_priors, "measured", None)  # not called again
    assert fitted_priors.main() == 0
    (tmp_path / "runs/fitted-priors/some-corpus/lm-0/fitted-priors.json").unlink()
    monkeypatch.setattr(sys, "argv", ["fitted_priors.py", str(run), str(runs / "lm-0"), "--minutes", "0"])
    assert fitted_priors.main() == 1
    assert (tmp_path / "results/fitted-priors/rows.json").read_text() == text  # numbers of earlier are kept


def test_fitted_priors_leaves_out_runs_that_are_still_training(fitted_priors, tmp_path):
    run = small_run(tmp_path / "run-0")
    assert fitted_priors.runs_of([tmp_path]) == fitted_priors.runs_of([run]) == [run]
    tensors, state = read_tensors(run / "checkpoint" / "last.safetensors")
    write_tensors(run / "checkpoint" / "last.safetensors", tensors, {**state, "finished": False})
    assert fitted_priors.runs_of([tmp_path]) == []
    shutil.rmtree(run / "checkpoint")  # as in a packed run
    assert fitted_priors.runs_of([tmp_path]) == [run]


def test_fitted_priors_tables_by_hand(fitted_priors):
    def way(distinct, inside, joint=("a", "b")):
        kl = {"kl_grammar_to_samples": distinct, "joint_of": list(joint)}
        return {"distinct": distinct, "self_bleu_4": 0.5, "inside": inside, **kl}

    def prior(kl, nll, distinct, joint=("a", "b")):
        samples = {"greedy": way(distinct, 0.8), "sample": way(distinct, 0.6, joint)}
        return {"kl": kl, "rate_kind": "exact", "bound": nll + 1, "nll": nll, "samples": samples}

    change = {"bound_change": -1.5, "bound_change_standard_error": 0.1, "nll_change": -0.25}
    gained = {
        "reason": None,
        "fit": {"kind": "mixture", "components": 5},
        "own": prior(4.0, 18.0, 0.1),
        "fitted": prior(2.5, 17.75, 0.3, ("a",)),
        "mutual_information": 2.0,
        "mutual_information_ceiling": 4.0,
        "mismatch": 2.0,
        **change,
        "nll_change_standard_error": 0.02,
    }
    flat = {"kl": 0.01, "rate_kind": "upper", "bound": 9.0, "nll": 9.0}
    known = {"mutual_information": 0.0, "mutual_information_ceiling": 4.0, "mismatch": 0.01}
    collapsed = {"reason": "collapsed", "fit": {}, "own": flat, "fitted": None, **known}
    own = {"runs": {"a": collapsed, "b": gained, "lm": {"reason": "no code", "fit": None}}, "fce": {}}
    lines = fitted_priors.likelihood_table(own).splitlines()[2:]
    assert lines == [
        "| b | 4.00 | 2.00 | 2.00 | 75 % | 19.00 → 18.75 | -1.50 ± 0.10 | 18.00 → 17.75 | -0.25 ± 0.02 "
        "| mixture, 5 |",
        "| a | ≤ 0.01 | 0.00 | 0.01 | – | 9.00 | – | 9.00 | – | none: collapsed |",
        "| lm | – | – | – | – | – | – | – | – | none: no code |",
    ]
    gained["mutual_information_ceiling"] = 3.9
    assert "| 4.00 | ≥ 2.00 | ≤ 2.00 | ≥ 75 % |" in fitted_priors.likelihood_table(own)
    (line,) = fitted_priors.samples_table(own).splitlines()[2:]
    same = "10 % → 30 % | 0.500 → 0.500"
    assert line == f"| b | {same} | 80 % → 80 % | 0.10 → 0.30 | {same} | 60 % → 60 % | – |"
    own["fce"] = {"runs": {"b": {"own": 22.5, "fitted": 22.0}}}
    assert fitted_priors.samples_table(own).splitlines()[2] == f"{line} 22.50 → 22.00 |"
