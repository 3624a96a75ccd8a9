"""Phases, updates and what a run keeps: every decision followed by hand or against a run that must be equal."""

import importlib
import signal
import tomllib
from typing import ClassVar

import pytest
import torch

from textvae.errors import RequestError
from textvae.files import read_tensors
from textvae.objective.objective import Objective, criterion
from textvae.objective.presets import load_settings, methods
from textvae.objective.settings import parse
from textvae.objective.terms import TERMS
from textvae.settings import Aggressive
from textvae.text.corpus import open_corpus
from textvae.training.launch import check_trainable
from textvae.training.loop import resume, train
from textvae.training.updates import JointUpdate, encoder_updates

train_module = importlib.import_module("textvae.training.loop")

MODEL = {"latent": 3, "embedding": 6, "encoder": {"hidden": 8}, "decoder": {"hidden": 10, "dropout": 0.2}}
TRAIN = {"batch_size": 8, "log_every": 2, "optimizer": {"lr": 0.02}, "checkpoint_seconds": 1e9, "epochs": 4}
SENTENCES = ["the cat sat", "a dog ran", "birds sing songs", "no one came"]
CPU = torch.device("cpu")
# 26 sentences: 4 steps of at most 8 an epoch.
PER_EPOCH = 4


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join((SENTENCES * 7)[:26]) + "\n")
    (folder / "valid.txt").write_text("\n".join(SENTENCES * 2) + "\n")
    return {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")}


@pytest.fixture
def trained(text, tmp_path):
    """A function that trains with some settings changed, into folders run1, run2, ..."""

    def make(*assignments, method=None, progress=None, **tables):
        tables = {"data": text, "model": MODEL, "train": TRAIN, **tables}
        settings = load_settings(None, method, assignments, **tables)
        count = sum(1 for _ in tmp_path.glob("run*")) + 1
        return train(settings, tmp_path / f"run{count}", progress)

    return make


def checkpoint(run):
    return read_tensors(run.folder / "checkpoint" / "last.safetensors")


def weights(run):
    return {name: tensor for name, tensor in checkpoint(run)[0].items() if name.startswith("model.")}


def same(mine, other):
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def training(run):
    return [record for record in run.log() if record["split"] == "train"]


class TestPhases:
    def test_one_phase_that_says_nothing_is_the_run_without_phases(self, trained):
        assert same(weights(trained(phase=[{}])), weights(trained()))

    def test_schedules_count_from_the_phases_start_and_the_last_takes_the_rest(self, trained):
        rise = {"kl": {"weight": {"schedule": "linear", "steps": 0.5, "unit": "run"}}}
        run = trained(phase=[{"epochs": 1, "objective": {"kl": {"weight": 0.25}}}, {"objective": rise}])
        found = {record["step"]: record["weights"]["kl"] for record in training(run)}
        # 12 steps are left to the second phase, of which 6 rise; a record holds the weight of its last step.
        expected = {2: 0.25, 4: 0.25, 6: 1 / 6, 8: 3 / 6, 10: 5 / 6, 12: 1.0, 14: 1.0, 16: 1.0}
        assert found == pytest.approx(expected)

    def test_a_share_of_the_run(self, trained):
        phases = [{"share": 0.25, "objective": {"kl": {"weight": 0.5}}}, {"objective": {"kl": {"weight": 2.0}}}]
        run = trained(phase=phases)
        assert [record["weights"]["kl"] for record in training(run)] == [0.5] * 2 + [2.0] * 6

    def test_a_reset_draws_only_its_part_anew(self, trained, monkeypatch):
        """With a rate of nothing the second phase does not move the weights, so what it reset is seen."""
        still = {"optimizer": {"lr": 1e-30}}
        first = trained("train.epochs=1")
        run = trained("train.epochs=2", phase=[{"epochs": 1}, {"reset": ["decoder"], **still}])
        before, after = weights(first), weights(run)
        for name in before:
            kept = torch.allclose(before[name], after[name], atol=1e-20)
            assert kept != name.startswith("model.decoder"), name
        assert bool((weights(run)["model.decoder.words.weight"].abs() <= 0.1).all())  # drawn as at the beginning

    def test_a_record_of_the_log_is_of_one_phase(self, trained):
        phases = [{"epochs": 1, "objective": {"autoencoder": {}}}, {"objective": {"kl": {}, "mu-forcing": {}}}]
        run = trained("train.epochs=2", "train.log_every=3", phase=phases)
        found = [(record["step"], record["phase"], "mu-forcing" in record) for record in training(run)]
        assert found == [(3, 0, False), (4, 0, False), (6, 1, True), (8, 1, True)]
        assert all("autoencoder" not in record for record in training(run)[2:])
        assert [record["phase"] for record in run.log() if record["split"] == "valid"] == [0, 1]
        assert "phase" not in training(trained("train.epochs=1"))[0]

    def test_converged_ends_a_phase_when_validation_no_longer_improves(self, trained, monkeypatch):
        left = iter([5.0, 4.0, 4.5, 9.0, 8.0, 7.0])
        monkeypatch.setattr(train_module, "validation", lambda *_: {"reconstruction": 1.0, "bound": next(left)})
        phases = [{"epochs": 5, "until": "converged"}, {"objective": {"kl": {"weight": 0.5}}}]
        run = trained("train.epochs=6", phase=phases)
        weight = {record["step"]: record["weights"]["kl"] for record in training(run)}
        assert weight[3 * PER_EPOCH] == 1.0 and weight[3 * PER_EPOCH + 2] == 0.5
        assert checkpoint(run)[1]["best_step"] == 6 * PER_EPOCH  # 9, 8, 7: the first phase's 4.0 does not count

    def test_more_cycles_than_steps_are_refused(self, trained):
        with pytest.raises(RequestError, match="the weight of kl: 20 cycles in 16 steps; give fewer cycles"):
            trained("objective.kl.weight.cycles=20", method="cyclical")

    @pytest.mark.parametrize(
        ("phases", "message"),
        [
            ([{"epochs": 4}, {}], "phase: all but the last take 100% of the run"),
            ([{"share": 0.5}, {"share": 0.2}], "phase[1]: the last phase takes the rest of the run"),
            ([{"share": 0.6}, {"share": 0.5}, {}], "phase: all but the last take 110% of the run"),
            ([{}, {}], "phase[0]: needs either epochs or share"),
            ([{"epochs": 1, "share": 0.5}, {}], "phase[0]: needs either epochs or share"),
            (
                [{"epochs": 1, "objective": {"kll": {}}}, {}],
                "phase[0].objective.kll: unknown term; did you mean",
            ),
            ([{"epochs": 1, "reset": ["decodr"]}, {}], "phase[0].reset[0]: unknown value 'decodr'; did you mean"),
            ([{"epochs": 1, "objective": {"mu-forcing": {}}}, {}], "phase[0].objective: exactly one rate term"),
        ],
    )
    def test_what_cannot_be_is_refused(self, text, phases, message):
        with pytest.raises(RequestError) as error:
            load_settings(None, None, (), data=text, model=MODEL, train=TRAIN, phase=phases)
        assert message in str(error.value)


class TestBest:
    def test_what_came_before_schedules_settled_does_not_count(self, trained, monkeypatch):
        left = iter([1.0, 2.0, 6.0, 5.0, 5.5])
        monkeypatch.setattr(train_module, "validation", lambda *_: {"reconstruction": 1.0, "bound": next(left)})
        run = trained(
            "train.epochs=5", 'objective.kl.weight={schedule="linear", steps=3, unit="epochs"}', "train.patience=3"
        )
        state = checkpoint(run)[1]
        assert (state["best"], state["best_step"], state["settled"]) == (5.0, 4 * PER_EPOCH, True)

    def test_a_run_that_never_settles_keeps_its_last_weights(self, trained, monkeypatch):
        left = iter([1.0, 2.0, 3.0])
        monkeypatch.setattr(train_module, "validation", lambda *_: {"reconstruction": 1.0, "bound": next(left)})
        with pytest.warns(UserWarning, match="the weight of kl comes to its end at step 36 of 12: it gets to 0.31"):
            run = trained("train.epochs=3", 'objective.kl.weight={schedule="linear", steps=9, unit="epochs"}')
        best = {f"model.{name}": tensor for name, tensor in run.model().state_dict().items()}
        assert same(best, weights(run))

    def test_a_mu_forcing_that_the_kl_outweighs_is_told(self, trained):
        averaged = "objective.mu-forcing={reading='per-dimension', weight=1}"
        with pytest.warns(
            UserWarning, match=r"pulls the means apart 0\.67 times .* give it a weight of 1\.5 or more"
        ):
            trained("train.epochs=1", "model.latent=3", "objective.kl.weight=1", averaged)

    @pytest.mark.parametrize("forcing", ["{margin=1}", "{reading='per-dimension', weight=1.5}"])
    def test_a_mu_forcing_at_its_balance_is_not(self, trained, forcing, recwarn):
        trained("train.epochs=1", "model.latent=3", "objective.kl.weight=1", f"objective.mu-forcing={forcing}")
        assert not [warning for warning in recwarn if "mu-forcing" in str(warning.message)]

    def test_where_the_rate_is_not_paid_reconstruction_decides(self):
        record = {"reconstruction": 3.0, "bound": 9.0, "kl": 6.0}
        assert criterion(record, Objective({"kl": TERMS["kl"]()}, 10)) == 9.0
        assert criterion(record, Objective({"kl": TERMS["kl"](weight=0.0)}, 10)) == 3.0
        assert criterion(record, Objective({"autoencoder": TERMS["autoencoder"]()}, 10)) == 3.0
        assert criterion({"reconstruction": 3.0}, Objective({"autoencoder": TERMS["autoencoder"]()}, 10)) == 3.0
        assert criterion({"reconstruction": 3.0, "bound": 3.0}, Objective({}, 10)) == 3.0  # a language model

    def test_another_final_weight_of_the_kl_decides_by_the_objective(self):
        record = {"reconstruction": 3.0, "bound": 9.0, "kl": 6.0}
        rising = {"schedule": "linear", "start": 0.0, "end": 0.3, "steps": 5}
        for weight, expected in ((0.3, 3 + 0.3 * 6), (rising, 4.8), (2.0, 15.0), (1, 9.0)):
            assert criterion(record, Objective({"kl": TERMS["kl"](weight=weight)}, 10)) == pytest.approx(expected)
        for name in ("capacity", "free-bits", "lagrangian"):  # not linear in the KL, or without a weight of its own
            assert criterion(record, Objective({name: TERMS[name](weight=0.5)}, 10)) == 9.0
        bow = Objective({"kl": TERMS["kl"](weight=0.3), "bow": TERMS["bow"]()}, 10)
        assert criterion(record, bow) == pytest.approx(4.8)


class TestAggressive:
    def updates(self, losses, **settings):
        taken = []

        def update(number):
            taken.append(number)
            return losses[number], 2

        settings = Aggressive(name="aggressive", **settings)
        assert encoder_updates(update, settings) == len(taken)
        assert taken == list(range(len(taken)))
        return len(taken)

    def test_a_fixed_number(self):
        assert self.updates([1.0] * 9, inner=0) == 0
        assert self.updates([1.0] * 9, inner=4, check=2, most=3) == 4

    def test_until_the_nats_per_token_no_longer_fall(self):
        assert self.updates([9, 9, 8, 8, 7, 7, 7, 7, 1, 1], check=2) == 8  # 9, 8, 7, 7
        assert self.updates([9, 9, 8, 8, 9, 9, 1, 1], check=2) == 6
        assert self.updates(list(range(99, 0, -1)), check=2, most=20) == 20

    def test_tokens_are_what_is_averaged_over(self):
        found = iter([(10.0, 10), (10.0, 20), (30.0, 40)])  # 1.0, 0.5, 0.75 nats per token
        assert encoder_updates(lambda _: next(found), Aggressive(name="aggressive", check=1)) == 3

    def test_no_inner_updates_is_the_joint_update(self, trained):
        aggressive = trained('train.update={name="aggressive", inner=0}')
        assert same(weights(aggressive), weights(trained()))

    def test_inner_updates_change_the_encoder_alone(self, trained, monkeypatch):
        """With a decoder's gradient of nothing, by a step that is interrupted before the joint update."""
        seen = {}
        step = JointUpdate.step

        def watched(update, given):
            model = update.model
            before = {name: value.clone() for name, value in model.state_dict().items()}
            found = step(update, given)
            moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
            seen.setdefault(model.decoder.words.weight.requires_grad, []).append(moved)
            return found

        monkeypatch.setattr(JointUpdate, "step", watched)
        trained('train.update={name="aggressive", inner=2}', "train.epochs=1")
        assert len(seen[False]) == 2 * PER_EPOCH and len(seen[True]) == PER_EPOCH
        assert all(name.startswith(("encoder", "posterior")) for moved in seen[False] for name in moved)
        assert all(any(name.startswith("decoder") for name in moved) for moved in seen[True])

    def inner_updates(self, trained, monkeypatch, validations, **update):
        """Updates of the encoder logged by each validation, of which these numbers are found."""
        left = iter(validations)
        found = {"reconstruction": 1.0, "bound": 2.0, "kl": 1.0}
        monkeypatch.setattr(train_module, "validation", lambda *_: {**found, **next(left)})
        update = {"name": "aggressive", "inner": 2, **update}
        run = trained(f"train.epochs={len(validations)}", train={**TRAIN, "update": update})
        logged = [record.get("inner") for record in run.log() if record["split"] == "valid"]
        assert checkpoint(run)[1]["inner"] == max(filter(None, logged))
        return logged

    def test_it_ends_for_good_when_validation_information_stops_rising(self, trained, monkeypatch):
        rising_until_the_second = [{"mutual_information": nats} for nats in (1.0, 2.0, 1.5, 3.0, 4.0)]
        found = self.inner_updates(trained, monkeypatch, rising_until_the_second, until="mi")
        assert found == [8, 16, 24, None, None]

    def test_a_fixed_number_never_ends_as_in_algorithm_1(self, trained, monkeypatch):
        """Fu et al. 2020, algorithm 1, has T_a updates of the encoder in every iteration."""
        falling = [{"mutual_information": nats} for nats in (3.0, 2.0, 1.0, 1.0)]
        assert self.inner_updates(trained, monkeypatch, falling) == [8, 16, 24, 32]
        assert self.inner_updates(trained, monkeypatch, falling, until="mi") == [8, 16, None, None]

    def test_the_default_of_until_is_that_of_the_paper_and_is_written_out(self):
        def until(*assignments):
            settings = load_settings(None, "aggressive", assignments)
            again = parse(tomllib.loads(settings.toml()), TERMS)
            assert again == settings
            return settings.document()["train"]["update"]["until"]

        assert until() == "mi"
        assert until("train.update.inner=5") == "end"
        assert until("train.update.until=end") == "end"
        assert until("train.update.inner=5", "train.update.until=mi") == "mi"

    def test_of_two_estimates_of_the_information_the_lower_one_decides(self, trained, monkeypatch):
        """The one from above also counts what tells a code's own component from the others."""
        above, below = (1.0, 2.0, 3.0, 4.0), (0.5, 0.6, 0.4, 0.7)
        both = [
            {"mutual_information": upper, "mutual_information_lower": lower}
            for upper, lower in zip(above, below, strict=True)
        ]
        assert self.inner_updates(trained, monkeypatch, both, until="mi") == [8, 16, 24, None]

    def test_without_an_information_it_goes_on_with_the_run(self, trained):
        run = trained('train.update={name="aggressive", inner=2, until="mi"}', "train.epochs=2", method="point")
        assert [record.get("inner") for record in run.log() if record["split"] == "valid"] == [8, 16]

    @pytest.mark.parametrize(
        ("update", "expected"),
        [
            ({"inner": 3}, [1, 3, 4]),  # a loop of 3: a third, two thirds, all of 4 components
            ({"inner": 5, "check": 15}, [1, 2, 2, 3, 4]),  # check has no say in a loop of fixed length
            ({"inner": "converged", "check": 2, "most": 3}, [2, 4, 4]),
            ({"inner": 2, "ramp_components": False}, [4, 4]),
        ],
    )
    def test_components_rise_within_a_loop_to_all_of_them(self, trained, monkeypatch, update, expected):
        """Fu et al. 2020, appendix A: by the end of a loop the encoder has all K_max components."""
        asked = []
        step = JointUpdate.step

        def watched(update, given):
            asked.append((given.codes, given.components))
            return step(update, given)

        monkeypatch.setattr(JointUpdate, "step", watched)
        posterior = {"name": "semi-implicit", "samples": 2, "components": 4, "noise": 2, "hidden": 4}
        update = {"name": "aggressive", "ramp_components": True, **update}
        trained("train.max_steps=1", model={**MODEL, "posterior": posterior}, train={**TRAIN, "update": update})
        assert asked == [(2, components) for components in [*expected, 4]]  # and the joint update has all


class TestDecay:
    def rates(self, run):
        return {record["step"]: record["lr"] for record in training(run)}

    def test_the_rate_falls_after_every_epoch_beyond_the_first_ones(self, trained):
        run = trained("train.decay={factor=0.5, after=1}")
        expected = {2: 0.02, 4: 0.02, 6: 0.02, 8: 0.02, 10: 0.01, 12: 0.01, 14: 0.005, 16: 0.005}
        assert self.rates(run) == expected
        assert self.rates(trained("train.decay={factor=0.5, after=0, every=3}"))[14] == 0.01
        assert set(self.rates(trained("train.decay={}")).values()) == {0.02}  # 20 epochs, as in the program

    def test_it_counts_from_the_phases_start(self, trained):
        """Phases of 6 and 10 steps: epochs of 4 steps end within the run's, and the second optimizer is fresh."""
        run = trained("train.decay={factor=0.5, after=0}", "train.log_every=1", phase=[{"share": 0.375}, {}])
        assert list(self.rates(run).values()) == [0.02] * 4 + [0.01] * 2 + [0.02] * 4 + [0.01] * 4 + [0.005] * 2

    @pytest.mark.parametrize("last", [8, 9])
    def test_a_resumed_run_has_the_same_rates(self, trained, tmp_path, last):
        """Stopped by Ctrl-C at the last step of an epoch, or at the first of the next."""
        tables = {"train": {**TRAIN, "decay": {"factor": 0.5, "after": 1}, "optimizer": {"name": "sgd"}}}
        whole = trained(**tables)

        def stop(step, total, record):
            if step == last:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            trained(**tables, progress=stop)
        again = resume(tmp_path / "run2")
        assert self.rates(again) == self.rates(whole) and same(weights(again), weights(whole))


class TestEqualLengths:
    TABLE: ClassVar = {**TRAIN, "batch_size": 3, "epochs": 2, "batches": "equal-length", "log_every": 1}

    @pytest.fixture
    def uneven(self, tmp_path_factory):
        """Seven sentences of two words, four of three, one of four: 3 + 2 + 1 batches of at most three."""
        folder = tmp_path_factory.mktemp("uneven")
        lines = ["a dog"] * 7 + ["the cat sat"] * 4 + ["no one came home"]
        (folder / "train.txt").write_text("\n".join(lines) + "\n")
        (folder / "valid.txt").write_text("\n".join(SENTENCES) + "\n")
        return {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")}

    def test_epochs_schedules_and_a_resume_count_its_steps(self, trained, uneven, tmp_path, monkeypatch):
        seen = []
        step = JointUpdate.step

        def watched(update, given):
            seen.append(given.batch.lengths.tolist())
            return step(update, given)

        monkeypatch.setattr(JointUpdate, "step", watched)
        rise = {"kl": {"weight": {"schedule": "linear", "steps": 1, "unit": "epochs"}}}
        whole = trained(data=uneven, train=self.TABLE, objective=rise)
        assert all(len(set(lengths)) == 1 for lengths in seen)
        for epoch in (seen[:6], seen[6:]):  # every sentence once, its end mark counted
            assert sorted(sum(epoch, [])) == [3] * 7 + [4] * 4 + [5]
        assert [record["epoch"] for record in training(whole)] == [step / 6 for step in range(1, 13)]
        expected = [min(1.0, step / 6) for step in range(12)]
        assert [record["weights"]["kl"] for record in training(whole)] == pytest.approx(expected)

        def stop(step, total, record):
            assert total == 12
            if step == 8:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            trained(data=uneven, train=self.TABLE, objective=rise, progress=stop)
        assert same(weights(resume(tmp_path / "run2")), weights(whole))

    def test_a_batch_smaller_than_the_processes_is_refused(self, uneven):
        settings = load_settings(data=uneven, model=MODEL, train=self.TABLE)
        check_trainable(settings, open_corpus(settings.data), 1, CPU)
        with pytest.raises(RequestError, match="gives a batch of 1, less than a sentence for each of 2 processes"):
            check_trainable(settings, open_corpus(settings.data), 2, CPU)

    def test_batch_normalisation_is_refused(self):
        with pytest.raises(RequestError, match="a rare length makes a batch of one"):
            load_settings(None, "batch-norm", ["train.batches=equal-length"])


class TestRefined:
    def test_no_steps_is_vanilla(self, trained):
        refined = trained(model={**MODEL, "inference": {"name": "refined", "steps": 0}})
        assert same(weights(refined), weights(trained()))

    def test_steps_change_what_is_learned_and_the_bound_is_that_of_refined_codes(self, trained):
        refined = trained(model={**MODEL, "inference": {"name": "refined", "steps": 2}})
        assert not same(weights(refined), weights(trained()))


SLOW = {"semi-implicit-cyclical", "mu-forcing-annealing", "bow-annealing", "capacity-max", "vamp-prior"}


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(methods())]
)
def test_every_method_trains_logs_and_resumes_exactly(trained, method, tmp_path):
    """Stopped in the middle by Ctrl-C and gone on with, a run ends as one that was not."""
    small = {
        "semi-implicit": {"posterior": {"noise": 3, "hidden": 5}},
        "iaf": {"posterior": {"hidden": 5, "context": 4}},
        "multi-step": {"posterior": {"steps": 2, "hidden": 5}},
        "semi-amortized": {"inference": {"steps": 2}},
        "vamp-prior": {"prior": {"components": 3, "length": 2}},
    }
    part = next(
        (tables for name, tables in small.items() if method.replace("aggressive-", "").startswith(name)), {}
    )
    model = {**MODEL, **part} if method != "language-model" else {**MODEL, "latent": 0}
    if method == "hybrid":
        decoder = {"maps": [5, 4], "top": {"hidden": 7}}
        model = {"latent": 3, "embedding": 6, "encoder": {"maps": [5, 4]}, "decoder": decoder}
    assignments = ["train.update.inner=2"] if method.startswith("aggressive") else []
    whole = trained(*assignments, method=method, model=model)

    def stop(step, total, record):
        if step == 10:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run2"
    with pytest.raises(KeyboardInterrupt):
        trained(*assignments, method=method, model=model, progress=stop)
    again = resume(folder)
    assert same(weights(again), weights(whole))

    def timeless(run):
        return [
            {name: value for name, value in record.items() if name != "tokens_per_second"} for record in run.log()
        ]

    assert timeless(again) == timeless(whole)
    last = training(whole)[-1]
    assert ("kl" in last) == (method not in ("language-model", "point"))
