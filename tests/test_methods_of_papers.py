"""Presets and recipe rows against the papers that they cite: each number with its place in the paper.

Where a preset departs from its paper, `docs/errata.md` has a row; `DEPARTURES` has words of it.
"""

import argparse
import importlib.util
import json
import tomllib
from pathlib import Path

import pytest

from textvae.comparison.methods import method as described
from textvae.model import build
from textvae.objective.combinations import combination_problems
from textvae.objective.presets import load_settings, methods
from textvae.settings.schedules import Constant, Cyclical, Linear

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
REMEDIES = tomllib.loads((RECIPES / "remedies.toml").read_text())
HOMOTOPY = tomllib.loads((RECIPES / "homotopy.toml").read_text())
BOWMAN = tomllib.loads((RECIPES / "bowman2016.toml").read_text())
ERRATA = (ROOT / "docs" / "errata.md").read_text()
OTHER_WIRING = (ROOT / "docs" / "results" / "other-wiring.md").read_text(encoding="utf-8")
# The usual wiring: z as the first state and at every step, as in liu2019 and fu2020 (PTB).
USUAL = ("state", "input")
ANNEALED = Linear(start=0.0, end=1.0, steps=0.5, unit="run")
# fu2020, eq. 13 with M = 1: from 0 over a share R < 0.5 of the run (appendix A); K starts with it.
MONOTONIC = Linear(start=0.0, end=1.0, steps=0.25, unit="run")
CYCLES = Cyclical(start=0.0, end=1.0, cycles=4, ratio=0.5)  # fu2020, eq. 13: M cycles, rising over R of each


def preset(name, *assignments, **tables):
    return load_settings(None, name, assignments, **tables)


def row(name, corpus="yelp_sentiment"):
    """The settings of a row of `remedies.toml`, without the corpus's own sizes."""
    one = REMEDIES["rows"][name]
    return load_settings(None, one["method"], one.get("set", ()))


def recipe(name, monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    spec = importlib.util.spec_from_file_location(f"{name}_recipe", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The weight of the rate term of each preset that pays the KL by the nat.
WEIGHTS = {
    "vanilla": Constant(value=1.0),  # bowman2016, eq. 1
    "beta": Constant(value=0.3),  # liu2019, section 5.2: "0.1 or 0.3"
    "kl-annealing": ANNEALED,  # bowman2016, section 3.1: from zero "until it reaches 1"
    "bow": Constant(value=1.0),
    "bow-annealing": ANNEALED,  # liu2019, section 5.4: "initialize the weight with 0 and gradually increase to 1"
    "word-dropout": ANNEALED,  # bowman2016, section 3.1
    "inputless": ANNEALED,
    "mu-forcing": Constant(value=1.0),  # liu2019, section 4: L_recon + L_KL + L_mu
    "mu-forcing-annealing": ANNEALED,  # liu2019, section 5.2: as the baseline, one cost more
    "cyclical": CYCLES,
    "semi-implicit-cyclical": CYCLES,
    "semi-implicit": MONOTONIC,
    "aggressive": MONOTONIC,
    "aggressive-semi-implicit": MONOTONIC,
    "semi-amortized": MONOTONIC,
    "gaussian-mixture": MONOTONIC,
    "iaf": MONOTONIC,
    "planar": MONOTONIC,
    "radial": MONOTONIC,
    "multi-step": MONOTONIC,
    "mixture-prior": MONOTONIC,
    "vamp-prior": MONOTONIC,
    "batch-norm": Constant(value=1.0),
    "delta": Constant(value=1.0),
    "vmf": Constant(value=1.0),
    # semeniuta2017, section 3.4: once the unregularised model has converged; from the released program's floor.
    "hybrid": Linear(start=0.001, end=1.0, delay=0.4, steps=0.4, unit="run"),
}
OTHER_RATES = {
    *("capacity", "capacity-max", "free-bits", "free-bits-total", "lagrangian", "mmd", "point"),
    *("auto", "multi-rate"),
}
PHASED = {"kl-annealing-converged", "pretrained"}


def test_the_weight_of_the_kl_rises_as_in_the_paper():
    assert set(methods()) == set(WEIGHTS) | OTHER_RATES | PHASED | {"language-model"}
    for name, weight in WEIGHTS.items():
        assert preset(name).objective["kl"].weight == weight, name


def test_an_annealed_weight_begins_at_nothing_in_every_preset():
    """fu2020, eq. 13 and bowman2016, section 3.1: "we set that weight to zero"; 0.1 is He et al. 2019's."""
    for name in methods():
        settings = preset(name)
        for terms in [settings.objective, *(phase.objective for phase in settings.phase)]:
            for term in terms.values():
                if term.is_rate and not isinstance(term.weight, Constant):
                    assert term.weight.start == (0.001 if name == "hybrid" else 0.0), name


@pytest.mark.parametrize("name", sorted(set(methods()) - {"capacity", "hybrid", "language-model"}))
def test_z_is_where_liu2019_and_fu2020_have_it(name):
    model = preset(name).model
    assert model.decoder.inject == USUAL and not model.shared_embedding


class TestProkhorov2019:
    """Section 3: "we concatenate the latent variable to word embeddings at each time step without initialisation of
    hidden state"; the program has one embedding. Eq. 2 with beta = 1, |batch mean - C|, C over two epochs."""

    def test_the_capacity_is_held_by_its_model(self):
        settings = preset("capacity")
        term = settings.objective["capacity"]
        assert (term.weight, term.over, term.ramp_epochs) == (Constant(value=1.0), "batch", 2.0)
        assert settings.model.decoder.inject == ("input",) and settings.model.shared_embedding
        model = build(settings.model, 20)
        assert model.decoder.first_state is None and model.encoder.embedding is model.decoder.embedding
        assert preset("capacity", "model.decoder.inject=['state']").model.decoder.inject == ("state",)

    @pytest.mark.parametrize("cell", ["lstm", "gru"])
    def test_every_recurrent_row_is_so(self, cell):
        named = {name: row(name) for name in REMEDIES["rows"] if name.startswith("capacity-")}
        named |= {
            name: load_settings(None, one["method"], one["set"])
            for name, one in HOMOTOPY["models"].items()
            if name.startswith("capacity-")
        }
        found = {name for name, one in named.items() if one.model.decoder.name == cell and "as-others" not in name}
        assert found >= ({"capacity-15-gru"} if cell == "gru" else {"capacity-3", "capacity-15", "capacity-100"})
        for name in found - {"capacity-max-5"}:
            model = named[name].model
            assert model.decoder.inject == ("input",) and model.shared_embedding, name
        for name in ("capacity-3-as-others", "capacity-15-as-others"):
            assert named[name].model == preset("vanilla").model

    @pytest.mark.parametrize("decoder", ["gated-convolutional", "bytenet", "transformer", "hybrid", "gru"])
    @pytest.mark.parametrize("method", ["capacity", "word-dropout", "inputless"])
    def test_presets_of_a_decoder_hold_for_every_decoder(self, decoder, method, tmp_path):
        file = tmp_path / "settings.toml"
        file.write_text(f'[model.decoder]\nname = "{decoder}"\n')
        below = load_settings(file, method)
        above = load_settings(None, method, [f"model.decoder.name={decoder}"])
        for settings in (below, above):
            assert combination_problems(settings) == [] and settings.model.decoder.name == decoder
            assert settings.model.word_keep == {"word-dropout": 0.75, "inputless": 0.0}.get(method, 1.0)
            assert settings.model.shared_embedding == (method == "capacity")
        if method == "capacity" and decoder in ("gru", "transformer"):
            assert below.model.decoder.inject == ("input",)

    def test_a_preset_is_on_top_of_what_a_run_spells_out(self, tmp_path):
        file = tmp_path / "settings.toml"
        for decoder in ("hybrid", "gated-convolutional", "lstm"):
            file.write_text(load_settings(None, None, [f"model.decoder.name={decoder}"]).toml())
            assert load_settings(file, "word-dropout").model.word_keep == 0.75
            assert getattr(load_settings(file, "capacity").model.decoder, "inject", ("input",)) == ("input",)
        file.write_text('[model.decoder]\nname = "hybrid"\ntop = { name = "feed-forward" }\n')
        assert load_settings(file, "inputless").model.decoder.top.name == "feed-forward"


class TestBowman2016:
    """Section 3: z is the first state; "concatenating the sampled z to the decoder input at every time step" is one
    of several variations."""

    @pytest.mark.parametrize("scale", BOWMAN["scales"])
    def test_every_row_has_z_in_the_first_state_alone(self, scale):
        settings = BOWMAN["scales"][scale]["settings"]
        for name, one in BOWMAN["rows"].items():
            model = load_settings(None, one["method"], one["set"], **settings).model
            assert model.decoder.inject == ("state",) and not model.shared_embedding, name
            assert model.decoder.dropout == 0.0

    def test_so_have_the_models_of_its_paths(self):
        for name in ("vanilla", "word-dropout", "autoencoder"):
            one = HOMOTOPY["models"][name]
            settings = load_settings(None, one["method"], one["set"])
            assert settings.model.decoder.inject == ("state",) and settings.data.right_to_left
        assert load_settings(None, "word-dropout").model.word_keep == 0.75  # section 6.1, Tables 5 and 6

    def test_claim_b11_varies_that_model_one_thing_at_a_time(self):
        base = row("z-in-the-first-state").document()
        changed = {
            "vanilla": ["model.decoder.inject"],  # z at every step as well
            "z-at-every-step-only": ["model.decoder.inject"],
            "softplus": ["model.posterior.scale"],
            "softplus-variance": ["model.posterior.scale"],  # "a softplus parametrization for the variance"
            "feed-forward": ["model.feedforward.layers", "model.feedforward.highway"],
            "highway": ["model.feedforward.layers"],
            "no-dropout": ["model.decoder.dropout"],
            "dropout-0.6": ["model.decoder.dropout"],
            "embedding-dropout-0": ["model.decoder.embedding_dropout"],
            "embedding-dropout-0.6": ["model.decoder.embedding_dropout"],
        }
        for name, paths in changed.items():
            assert sorted(different(base, row(name).document())) == sorted(paths), name

    def test_the_tables_rates(self):
        """Table 5: 100, 75, 50 and 0 % kept; section 5: "the final 20% of each sentence"."""
        rows = {name: load_settings(None, one["method"], one["set"]) for name, one in BOWMAN["rows"].items()}
        keeps = [rows[name].model.word_keep for name in BOWMAN["tables"]["5"]["rows"]]
        assert keeps == [1.0, 0.75, 0.5, 0.0] and BOWMAN["tables"]["4"]["last"] == 0.2
        assert rows["keep 0.75"].objective["kl"].weight == ANNEALED

    def test_table_5_takes_the_most_probable_token_even_if_it_is_unknown(self, monkeypatch):
        """Section 6.1: x_t = argmax p(x_t | x_0, ..., z)."""
        module = recipe("bowman2016", monkeypatch)
        asked = []

        class Model:
            def sample(self, count, seed, decoding):
                asked.append(decoding)
                return ["a b"] * count

        monkeypatch.setattr("textvae.generate.trained.load", lambda folder: Model())
        monkeypatch.setattr(module, "told", lambda drawn, cell: {"samples": len(drawn)})
        monkeypatch.setattr(module, "scores", lambda cell: {})
        nowhere = Path("nowhere")
        cell = module.Cell("5", "keep 1", 0, nowhere, nowhere, nowhere, nowhere, 0.0, 1, 4)
        assert module.sampled(cell) == {"samples": 4, "first": ["a b"]}
        assert [(one.name, one.allow_unknown) for one in asked] == [("greedy", True)]


class TestLiu2019:
    """Section 4; section 5.2: 16 dimensions, margin 2; section 5.4: free bits of 0.0125 a dimension, 0.2 in all."""

    def test_mu_forcing(self):
        for name in ("mu-forcing", "mu-forcing-annealing"):
            term = preset(name).objective["mu-forcing"]
            assert (term.margin, term.reading, term.weight) == (2.0, "paper", Constant(value=1.0))

    def test_free_bits_of_the_recipe_are_the_papers_and_those_of_the_presets_are_said_to_be_others(self):
        each, whole = row("free-bits-0.0125"), row("free-bits-total-0.2")
        assert (each.model.latent, each.objective["free-bits"].target) == (16, 0.0125)
        assert (whole.model.latent, whole.objective["free-bits-total"].target) == (16, 0.2)
        assert preset("free-bits").objective["free-bits"].target == 0.1
        assert preset("free-bits-total").objective["free-bits-total"].target == 3.0
        assert "`free-bits` reserves 0.1 a dimension and `free-bits-total` 3.0" in ERRATA

    def test_the_released_programs_reading_has_its_dimensions(self):
        for name in (name for name in REMEDIES["rows"] if name.startswith("mu-forcing-program-")):
            settings, term = row(name), row(name).objective["mu-forcing"]
            assert term.reading == "per-dimension" and term.weight == Constant(value=10.0)
            assert settings.model.latent == (32 if name.endswith("-in-32") else 16)


class TestFu2020:
    """Appendix D: J = 5, K rises linearly to 50; appendix A: K's ramp with the cycle's, or within every loop."""

    def test_semi_implicit_posteriors(self):
        k = Linear(start=0.0, end=50.0, steps=0.25, unit="run")
        assert preset("semi-implicit").model.posterior.components == k
        with_cycles = Cyclical(start=0.0, end=50.0, cycles=4, ratio=0.5)
        assert preset("semi-implicit-cyclical").model.posterior.components == with_cycles
        looped = preset("aggressive-semi-implicit")
        assert looped.model.posterior.components == Constant(value=50.0)
        assert looped.train.update.ramp_components and looped.train.update.inner == "converged"
        for name in ("semi-implicit", "semi-implicit-cyclical", "aggressive-semi-implicit"):
            assert preset(name).model.posterior.samples == 5
            assert preset(name).model.posterior.noise == 100  # appendix E

    def test_aggressive_training(self):
        """He et al. 2019: looked at every 15 updates, at most 100."""
        update = preset("aggressive").train.update
        assert (update.name, update.inner, update.check, update.most) == ("aggressive", "converged", 15, 100)

    def test_the_toy(self, monkeypatch):
        """Appendix C: 10 sequences, a plane, 64 hidden units; K = J = 100 and 4,000 iterations by default."""
        module = recipe("fu2020_figure2", monkeypatch)
        assert (module.N, module.LATENT, module.HIDDEN) == (10, 2, 64)
        assert module.SCHEDULES["monotonic"].start == 0.0 and module.SCHEDULES["cyclical"] == CYCLES
        assert "--iterations" in module.__doc__
        parsed = []
        monkeypatch.setattr(module, "drawn", lambda given: parsed.append(given) or [])
        monkeypatch.setattr(module, "write_json", lambda *_: None)
        monkeypatch.setattr("sys.argv", ["fu2020_figure2.py", "--out", "/nowhere"])
        monkeypatch.setattr(module.Path, "mkdir", lambda *_, **__: None)
        module.main()
        assert (parsed[0].iterations, parsed[0].samples) == (4000, 100)


class TestSemeniuta2017:
    """Maps [128, 256] and [128, 200], kernel 3, stride 2, 500 units with layer norm, alpha 0.2 (section 4.1)."""

    PLAN = tomllib.loads((RECIPES / "semeniuta2017.toml").read_text())
    CHARACTERS = 53  # of Penn Treebank, with the marks

    def runs(self, figure, monkeypatch):
        module = recipe("semeniuta2017", monkeypatch)
        asked = argparse.Namespace(figure=figure, lengths=None, steps=None, seeds=[0])
        for cell in module.cells(self.PLAN, asked):
            yield cell, load_settings(None, None, cell.job.assignments, **cell.job.tables)

    def test_the_preset(self):
        settings = preset("hybrid")
        encoder, decoder = settings.model.encoder, settings.model.decoder
        assert (encoder.maps, encoder.kernel, encoder.stride) == ((128, 256), 3, 2)
        assert (decoder.maps, decoder.kernel, decoder.stride) == ((128, 200), 3, 2)
        assert (decoder.top.name, decoder.top.hidden, decoder.top.norm) == ("lstm", 500, "layer")
        assert settings.objective["auxiliary"].weight == Constant(value=0.2)

    def test_the_rivals_of_figure_3_have_comparable_numbers_of_parameters(self, monkeypatch):
        """Section 4.1: "Both networks are parametrized to have comparable number of parameters"."""
        counts = {}
        for cell, settings in self.runs("3", monkeypatch):
            model = build(settings.model, self.CHARACTERS, settings.terms(), settings.data.positions)
            counts[cell.row, cell.length] = sum(parameter.numel() for parameter in model.parameters())
            assert settings.objective["kl"].weight == Constant(value=0.0)  # "only the reconstruction term"
        for length in self.PLAN["figures"]["3"]["lengths"]:
            ours, rival = counts["feed-forward", length], counts["lstm, no history", length]
            assert rival == pytest.approx(ours, rel=0.01), length

    def test_a_length_without_a_size_is_refused(self, monkeypatch):
        module = recipe("semeniuta2017", monkeypatch)
        asked = argparse.Namespace(figure="3", lengths=[33], steps=None, seeds=[0])
        with pytest.raises(SystemExit, match="no size for 33 characters in semeniuta2017.toml, only for 20, 30"):
            list(module.cells(self.PLAN, asked))

    def test_both_lstms_of_a_model_are_of_one_size_and_its_weight_rises_from_0(self, monkeypatch):
        for figure in ("3", "4"):
            for cell, settings in self.runs(figure, monkeypatch):
                if "encoder" in self.PLAN["figures"][figure]["rows"][cell.row] and "LSTM" in cell.row.upper():
                    encoder, decoder = settings.model.encoder, settings.model.decoder
                    assert encoder.hidden == decoder.hidden and decoder.inject == ("state",)
                    assert encoder.norm == decoder.norm == "layer" and not encoder.bidirectional
                    if figure == "4":
                        weight = settings.objective["kl"].weight
                        assert weight.start == 0.0 and weight.settled(1000) == 700
                        assert settings.model.word_keep == 1 - float(cell.row.partition("p = ")[2])

    def test_figure_6_has_batch_normalisation_in_every_convolution(self, monkeypatch):
        """Section 4: "Batch Normalization [...] in convolutional and deconvolutional layers"."""
        for _, settings in self.runs("6", monkeypatch):
            top = settings.model.decoder.top
            assert (top.name, top.norm) == ("bytenet", "batch") and top.layers >= 1

    def test_hybrids_have_the_programs_floor(self, monkeypatch):
        for figure in ("4", "5", "6"):
            for cell, settings in self.runs(figure, monkeypatch):
                rate = settings.objective.get("kl")
                if settings.model.decoder.name == "hybrid" and not isinstance(rate.weight, Constant):
                    assert rate.weight.start == 0.001, cell.row


# What a preset's paper has otherwise, by words of its row of `docs/errata.md`.
DEPARTURES = {
    "aggressive": "from 0.1 over ten epochs",
    "semi-amortized": "`model.inference.steps = 20`",
    "pretrained": "0.25 a dimension",
    "batch-norm": "1e-14",
    "delta": "the independent form",
    "free-bits": "`free-bits` reserves 0.1 a dimension",
    "free-bits-total": "`free-bits-total` 3.0",
    "kl-annealing": "`kl-annealing` rises",
    "vanilla": 'inject = ["state"]',
    "hybrid": "`hybrid` has the floor",
    "mu-forcing": "a paper margin of m K / 2",
    "capacity": "`ramp_epochs = 2`",
}


@pytest.mark.parametrize("name", sorted(DEPARTURES))
def test_what_departs_from_a_papers_form_has_its_row(name):
    assert name in methods() and DEPARTURES[name] in ERRATA


def test_numbers_that_were_measured_with_other_presets_are_marked(monkeypatch):
    """A recorded row that tells of another objective or posterior than its preset has now is marked as such."""
    pages = recipe("pages", monkeypatch)
    assert pages.EARLIER <= set(methods())
    for corpus in ("grammar", "ptb", "yelp_sentiment"):
        recorded = json.loads((ROOT / "results" / f"remedies-{corpus}" / "rows.json").read_text())
        for name, one in REMEDIES["rows"].items():
            if "set" in one or name not in recorded:
                continue
            now = described(load_settings(None, one["method"]))
            if any(not seed["method"].startswith(now) for seed in recorded[name].values()):
                assert one["method"] in pages.EARLIER, (corpus, name)
    for name in pages.EARLIER:
        assert f"`{name}`" in OTHER_WIRING.partition("## Measured with other wiring")[2].partition("\n## ")[0]


def different(one, other, path=""):
    """The dotted paths at which two documents differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [path]
    keys = {**one, **other}
    return [
        found for key in keys for found in different(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    ]
