"""Training learns, says in the log what it does, keeps the best weights, and leaves the process as it found it."""

import importlib
import json
import math
import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import textvae
from textvae.errors import RequestError, WorkError
from textvae.files import read_tensors
from textvae.inference import score
from textvae.metrics.likelihood import perplexity
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.text.corpus import open_corpus
from textvae.training.epochs import epoch_data
from textvae.training.launch import interruptible, planned_steps, precision_for
from textvae.training.log import Log
from textvae.training.loop import resume, train

train_module = importlib.import_module("textvae.training.loop")  # the package has a function of that name

# Of one length, so that every batch has several: batches are of like lengths.
SENTENCES = ["the cat sat", "a dog ran", "birds sing songs", "no one came"]
MODEL = {"latent": 3, "embedding": 6, "encoder": {"hidden": 8}, "decoder": {"hidden": 10, "dropout": 0.2}}
TRAIN = {"batch_size": 8, "log_every": 3, "optimizer": {"lr": 0.02}, "checkpoint_seconds": 1e9}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """50 sentences to train on, four of them different, and these four to validate on, twice."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join((SENTENCES * 13)[:50]) + "\n")
    (folder / "valid.txt").write_text("\n".join(SENTENCES * 2) + "\n")
    return {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")}


@pytest.fixture
def trained(text, tmp_path):
    """A function that trains with some settings changed, into folders run1, run2, ..."""

    def make(*assignments, method="vanilla", progress=None, **tables):
        settings = load_settings(
            None, method, assignments, **{"data": text, "model": MODEL, "train": TRAIN, **tables}
        )
        count = sum(1 for _ in tmp_path.glob("run*")) + 1
        return train(settings, tmp_path / f"run{count}", progress)

    return make


def records(run, split):
    return [record for record in run.log() if record["split"] == split]


def steps(run, split):
    return [record["step"] for record in records(run, split)]


def last_weights(run):
    tensors, _ = read_tensors(run.folder / "checkpoint" / "last.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}


def same(mine, other):
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


class TestLearning:
    def test_a_language_model_learns_the_distribution_of_its_sentences(self, trained):
        """Four equally likely sentences: their entropy is ln 4, and no model's cross-entropy is below it."""
        dropout_off = {**MODEL, "decoder": {"hidden": 10, "dropout": 0.0}, "latent": 0}
        run = trained("train.max_steps=120", "train.lr=0.05", method="language-model", model=dropout_off)
        bounds = [record["bound"] for record in records(run, "valid")]
        assert bounds[0] > 5
        assert min(bounds) >= math.log(4)
        assert bounds[-1] < math.log(4) + 0.2
        assert all("kl" not in record and "mutual_information" not in record for record in run.log())
        assert all(record["weights"] == {} for record in records(run, "train"))

    @pytest.mark.parametrize(
        "optimizer",
        [{"name": "adam", "lr": 0.03}, {"name": "adamw", "lr": 0.03}, {"name": "sgd", "lr": 0.2, "momentum": 0.8}],
        ids=lambda one: one["name"],
    )
    def test_a_vae_learns_with_every_optimizer(self, trained, optimizer):
        run = trained(train={**TRAIN, "max_steps": 90, "validate_every": 90, "optimizer": optimizer})
        found = [record["loss"] for record in records(run, "train")]
        assert found[0] > 10
        assert found[-1] < 0.5 * found[0]

    def test_mu_forcing_keeps_its_margin_and_a_high_weight_on_kl_collapses(self, trained):
        table = {**TRAIN, "max_steps": 120, "validate_every": 120}
        forced = trained("objective.mu-forcing.weight=3.0", method="mu-forcing", train=table)
        collapsed = trained("objective.kl.weight=5.0", train=table)
        assert records(forced, "train")[-1]["mu-forcing"] < 0.3
        assert records(forced, "valid")[-1]["kl"] > 1.0 > 0.1 > records(collapsed, "valid")[-1]["kl"]

    def test_bfloat16_takes_nearly_the_same_first_steps_and_validates_in_float32(self, trained):
        exact, rough = (trained("train.max_steps=3", f"train.precision={kind}") for kind in ("fp32", "bf16"))
        assert rough.settings.train.precision == "bf16"
        a, b = records(exact, "train")[0]["loss"], records(rough, "train")[0]["loss"]
        assert a != b
        assert b == pytest.approx(a, rel=5e-3)
        assert all(tensor.dtype == torch.float32 for tensor in last_weights(rough).values())
        store = open_corpus(rough.settings.data).split("valid")
        assert score(rough.model(), store, 0).bound.mean() == pytest.approx(records(rough, "valid")[0]["bound"])


class TestLog:
    def test_when_it_logs_and_validates(self, trained):
        run = trained("train.max_steps=17", "train.log_every=5", "train.validate_every=6")
        assert steps(run, "train") == [5, 10, 15, 17]
        assert steps(run, "valid") == [6, 12, 17]
        assert records(run, "train")[0]["epoch"] == 5 / 7  # 50 sentences are 7 batches of at most 8

    def test_it_validates_after_each_epoch_if_nothing_else_is_said(self, trained):
        run = trained("train.epochs=2")
        assert steps(run, "valid") == [7, 14]

    def test_means_are_over_sentences_whatever_the_interval(self, trained):
        each = trained("train.max_steps=6", "train.log_every=1")
        once = trained("train.max_steps=6", "train.log_every=6")
        (mean,) = records(once, "train")
        sizes = [7, 7, 7, 7, 7, 7, 8]  # of the seven batches of an epoch, in an order that the seed decides
        store = open_corpus(each.settings.data).split("train")
        order = [len(rows) for rows in epoch_data(store, each.settings, 0)[1]]
        assert sorted(order) == sizes
        for name in ("loss", "reconstruction", "kl", "gradient_norm"):
            by_step = [record[name] for record in records(each, "train")]
            expected = sum(n * value for n, value in zip(order, by_step, strict=False)) / sum(order[:6])
            assert mean[name] == pytest.approx(expected, rel=1e-12)

    def test_terms_are_raw_and_the_loss_is_weighted(self, trained):
        run = trained("train.max_steps=6", "objective.kl.weight=0.25", method="mu-forcing")
        for record in records(run, "train"):
            weighted = record["reconstruction"] + 0.25 * record["kl"] + record["mu-forcing"]
            assert record["loss"] == pytest.approx(weighted, rel=1e-6)
            assert record["weights"] == {"kl": 0.25, "mu-forcing": 1.0}

    def test_the_weight_of_the_last_step_is_logged(self, trained):
        run = trained(
            "train.max_steps=14",
            "objective.kl.weight.steps=10",
            "objective.kl.weight.unit=steps",
            method="kl-annealing",
        )
        weights = {record["step"]: record["weights"]["kl"] for record in records(run, "train")}
        assert weights == pytest.approx({3: 0.2, 6: 0.5, 9: 0.8, 12: 1.0, 14: 1.0})  # steps count from 0

    def test_validation_is_what_score_says_of_the_weights(self, trained):
        run = trained("train.epochs=4")
        best = min(records(run, "valid"), key=lambda record: record["bound"])
        store = open_corpus(run.settings.data).split("valid")
        scores = score(run.model(), store, run.settings.train.seed)
        assert best["bound"] == pytest.approx(scores.bound.mean().item(), rel=1e-6)
        assert best["kl"] == pytest.approx(scores.rate.mean().item(), rel=1e-5)
        assert best["bound"] == pytest.approx(best["reconstruction"] + best["kl"])
        assert best["perplexity_bound"] == pytest.approx(perplexity(scores.bound.sum().item(), scores.tokens))
        assert best["mutual_information"] <= math.log(best["mutual_information_sentences"])

    @pytest.mark.parametrize("best", [1, 6])
    def test_batch_normalised_codes_are_evaluated_with_the_statistics_of_the_weights_that_are_kept(
        self, trained, text, best
    ):
        """Running averages of training batches would be of weights that are no more: off by several deviations."""
        posterior = {"name": "batch-norm", "gamma": 0.6}
        run = trained(f"train.max_steps={best}", "train.lr=0.05", model={**MODEL, "posterior": posterior})
        codes = textvae.load(run.folder).encode(Path(text["train"]).read_text().splitlines())
        np.testing.assert_allclose(codes.std(0), 0.6, rtol=1e-3)
        shift = read_tensors(run.folder / "model.safetensors")[0]["posterior.shift"]
        np.testing.assert_allclose(codes.mean(0), shift, atol=1e-3)

    def test_progress_hears_of_every_step_and_of_what_is_logged(self, trained):
        heard = []
        run = trained("train.max_steps=8", progress=lambda *said: heard.append(said))
        assert [(step, total) for step, total, _ in heard] == [(step, 8) for step in range(1, 9)]
        logged = [record for _, _, record in heard if record is not None]
        last = {record["step"]: record for record in run.log()}  # of two of one step, the validation
        assert json.loads(json.dumps(logged)) == list(last.values())

    def test_tokens_per_second_counts_every_token_once(self, trained, monkeypatch):
        clock = iter(range(10_000))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
        seconds = []
        write = Log.write

        def written(log, state, record):
            seconds.append(record)
            return write(log, state, record)

        monkeypatch.setattr(Log, "write", written)
        run = trained("train.epochs=1", "train.log_every=7")
        store = open_corpus(run.settings.data).split("train")
        (record,) = records(run, "train")
        ticks = store.lengths.sum() / record["tokens_per_second"]
        assert ticks == pytest.approx(round(ticks))  # a whole number of the clock's seconds
        assert 7 <= ticks <= 10  # the loop reads it once a step


class TestSeeds:
    def test_the_seed_decides_everything_and_the_process_nothing(self, trained):
        torch.manual_seed(1)
        first = trained("train.epochs=1")
        torch.manual_seed(2)
        again = trained("train.epochs=1")
        other = trained("train.epochs=1", "train.seed=1")
        assert same(last_weights(first), last_weights(again))
        assert not same(last_weights(first), last_weights(other))

    def test_the_process_is_left_as_it_was(self, trained):
        torch.manual_seed(5)
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

        def state():
            return (
                torch.get_rng_state().tolist(),
                torch.get_num_threads(),
                torch.get_default_dtype(),
                torch.is_grad_enabled(),
                torch.are_deterministic_algorithms_enabled(),
                torch.get_float32_matmul_precision(),
                torch.is_autocast_enabled("cpu"),
            )

        before = state()
        trained("train.epochs=1")
        assert state() == before
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


class TestStopping:
    """Validation is replaced by a list of bounds, so that every decision can be followed by hand."""

    @pytest.fixture
    def bounds(self, monkeypatch):
        def script(values):
            left = iter(values)
            monkeypatch.setattr(train_module, "validation", lambda *_: {"bound": next(left)})

        return script

    def test_early_stopping_and_the_best_weights(self, trained, bounds):
        bounds([5.0, 4.0, 4.5, 4.0, 3.0, 3.5, 3.0, 3.2, 1.0])
        run = trained("train.patience=3", "train.validate_every=2", "train.epochs=5")
        assert steps(run, "valid")[-1] == 16  # steps 12, 14, 16 were no better than step 10
        _, state = read_tensors(run.folder / "checkpoint" / "last.safetensors")
        assert (state["best"], state["best_step"], state["finished"]) == (3.0, 10, True)
        bounds([5.0, 4.0, 4.5, 4.0, 3.0])
        shorter = trained("train.max_steps=10", "train.validate_every=2", "train.epochs=5")
        best = {f"model.{name}": tensor for name, tensor in run.model().state_dict().items()}
        assert same(best, last_weights(shorter))
        assert not same(best, last_weights(run))

    def test_the_best_by_the_objective_is_not_the_best_by_the_bound(self, trained, monkeypatch):
        """Bounds 5, 6, 7, but at a KL weight of 0.25 values 4.25, 3, 4."""
        for weight, best_step, best in ((0.25, 4, 3.0), (1.0, 2, 5.0)):
            script = iter([(4.0, 1.0), (2.0, 4.0), (3.0, 4.0)])
            found = ({"reconstruction": d, "kl": kl, "bound": d + kl} for d, kl in script)
            monkeypatch.setattr(train_module, "validation", lambda *_, found=found: next(found))
            run = trained("train.max_steps=6", "train.validate_every=2", f"objective.kl.weight={weight}")
            state = read_tensors(run.folder / "checkpoint" / "last.safetensors")[1]
            assert (state["best_step"], state["best"]) == (best_step, best)

    def test_the_last_weights_are_kept_if_asked_for(self, trained, bounds):
        bounds([3.0, 4.0, 5.0])
        run = trained("train.patience=2", "train.validate_every=2", "train.keep=last")
        state = read_tensors(run.folder / "checkpoint" / "last.safetensors")[1]
        assert (state["best_step"], state["step"]) == (2, 6)  # patience counts as ever
        assert same(
            {f"model.{name}": tensor for name, tensor in run.model().state_dict().items()}, last_weights(run)
        )

    def test_a_finished_run_stays_finished(self, trained, bounds):
        bounds([3.0, 4.0])
        run = trained("train.patience=1", "train.validate_every=2")
        bounds([])
        assert steps(resume(run.folder), "valid") == [2, 4]

    def test_the_rate_decays_on_a_plateau_down_to_its_least(self, trained, bounds):
        bounds([5.0, 6.0, 6.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])
        plateau = {"factor": 0.5, "patience": 2, "min_lr": 0.3}
        optimizer = {"name": "sgd", "lr": 1.0}
        run = trained(
            train={**TRAIN, "max_steps": 11, "validate_every": 1, "plateau": plateau, "optimizer": optimizer}
        )
        rates = [record["lr"] for record in records(run, "valid")]  # as they were during the step before
        assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3]

    def test_a_rate_below_the_least_is_not_raised(self, trained, bounds):
        bounds([1.0, 2.0, 2.0])
        run = trained("train.max_steps=3", "train.validate_every=1", "train.lr=1e-9", "train.plateau.patience=1")
        assert [record["lr"] for record in records(run, "valid")] == [1e-9] * 3

    def test_planned_steps(self):
        def planned(**tables):
            return planned_steps(Settings.model_validate({"train": {"epochs": 3, "batch_size": 8, **tables}}), 7)

        assert planned() == 21
        assert planned(max_steps=20) == 20
        assert planned(max_steps=22) == 21


class TestDivergence:
    # From step 9 on the weight of the rate is beyond all bounds.
    WEIGHT = {"schedule": "linear", "start": 0.0, "end": 1e38, "steps": 1, "delay": 8}

    def diverging(self, trained, **train):
        sgd = {"name": "sgd", "lr": 1.0}
        table = {**TRAIN, "log_every": 50, "optimizer": sgd, "clip_norm": 0.0, **train}
        trained(objective={"kl": {"weight": self.WEIGHT}}, method=None, train=table)

    @pytest.mark.parametrize("every", [1, 10])
    def test_the_last_good_checkpoint_is_kept(self, trained, tmp_path, every):
        with pytest.raises(WorkError) as caught:
            self.diverging(trained, checkpoint_seconds=1e-9, log_every=every, validate_every=4)
        assert "training diverged: " in str(caught.value)
        assert "is not finite by step " in str(caught.value)
        assert f"The last good checkpoint in {tmp_path / 'run1'} stays. Train anew with" in str(caught.value)
        assert "--set train.optimizer.lr=0.3, or with --set train.clip_norm=1" in str(caught.value)
        tensors, state = read_tensors(tmp_path / "run1" / "checkpoint" / "last.safetensors")
        assert 9 <= state["step"] <= 10
        weights, _ = read_tensors(tmp_path / "run1" / "model.safetensors")
        for tensor in [*tensors.values(), *weights.values()]:
            assert tensor.isfinite().all()
        assert all(map(math.isfinite, state["sums"].values()))
        with pytest.raises(WorkError, match="training diverged"):
            resume(tmp_path / "run1")

    def test_before_the_first_checkpoint_it_promises_none(self, trained, tmp_path):
        with pytest.raises(WorkError, match=r"by step 12\. None is saved yet\. Train anew"):
            self.diverging(trained, log_every=12, validate_every=40)
        assert not list((tmp_path / "run1" / "checkpoint").iterdir())
        assert not (tmp_path / "run1" / "model.safetensors").exists()

    def test_a_validation_that_is_not_finite_is_named_and_not_written(self, trained, tmp_path, monkeypatch):
        found = {"bound": 1.0, "kl": math.nan, "perplexity_bound": math.inf}
        monkeypatch.setattr(train_module, "validation", lambda *_: found)
        with pytest.raises(WorkError, match="the validation kl, perplexity_bound is not finite by step 2"):
            trained("train.validate_every=2")
        assert (tmp_path / "run1" / "log.jsonl").read_text() == ""
        assert not (tmp_path / "run1" / "model.safetensors").exists()


class TestFullDisk:
    @pytest.fixture
    def full(self):
        """A function after which files may grow to so many bytes and no further: the kernel says so."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        yield lambda room: resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    @pytest.mark.parametrize(
        ("seconds", "place", "good"),
        [(1e9, "log.jsonl", 5), (1e-9, "last.safetensors", 6)],
        ids=["log", "checkpoint"],
    )
    def test_the_last_checkpoint_stays_and_the_run_goes_on_later(
        self, trained, tmp_path, full, seconds, place, good
    ):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill(step, total, record):
            if step == 7:
                full(100)

        settings = "train.max_steps=12", "train.log_every=4", "train.validate_every=5"
        never = trained(*settings)
        run = tmp_path / "run2"
        with pytest.raises(WorkError, match=rf"run2.*{place}: cannot be written: .*File too large"):
            trained(*settings, f"train.checkpoint_seconds={seconds}", progress=fill)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not list(run.rglob(".*.part"))
        assert read_tensors(run / "checkpoint" / "last.safetensors")[1]["step"] == good
        gone_on = resume(run)
        assert same(last_weights(gone_on), last_weights(never))
        assert [(r["step"], r["split"]) for r in gone_on.log()] == [(r["step"], r["split"]) for r in never.log()]


class TestRefusals:
    def test_a_corpus_smaller_than_a_batch(self, trained, tmp_path):
        message = (
            r"train\.batch_size = 64: the training split of train\.txt has only 50 sentences; "
            r"give more text, or --set train\.batch_size=50 or less"
        )
        with pytest.raises(RequestError, match=message):
            trained("train.batch_size=64")
        assert not (tmp_path / "run1").exists()

    def test_a_corpus_of_one_batch_is_enough(self, trained):
        assert steps(trained("train.batch_size=50", "train.epochs=2"), "valid") == [1, 2]

    def test_no_validation_split(self, trained, text, tmp_path):
        with pytest.raises(RequestError, match=r"train\.txt has no validation split.*give data\.valid, or for"):
            trained(data={"train": text["train"], "test": text["valid"]})
        with pytest.raises(RequestError, match=r"has no validation split.*a data\.split\.valid above 0"):
            trained("data.split.valid=0.0", "data.split.test=0.0", data={"corpus": text["train"]})
        assert not (tmp_path / "run1").exists()

    def test_a_run_that_exists(self, trained, text):
        run = trained("train.max_steps=2")
        before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
        with pytest.raises(RequestError, match="exists already; give another --out, or resume it with --resume"):
            train(run.settings, run.folder)
        assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_a_device_that_is_not_there(self, trained):
        with pytest.raises(RequestError, match=r"train\.device = 'cuda': no CUDA device is visible; use 'cpu' or"):
            trained("train.device=cuda")


class TestPrecision:
    @pytest.mark.parametrize(
        ("units", "vocabulary", "expected"), [(True, 660, "bf16"), (True, 659, "fp32"), (False, 99999, "fp32")]
    )
    def test_auto_depends_on_hardware_and_size(self, monkeypatch, units, vocabulary, expected):
        monkeypatch.setattr("textvae.training.launch.has_bf16_units", lambda: units)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        settings = Settings.model_validate({"model": {"decoder": {"hidden": 128}}})
        assert precision_for(settings, vocabulary) == expected  # 128 (vocabulary + 4 * 128) is 150,016 or 149,888

    @pytest.mark.parametrize("asked", ["fp32", "bf16"])
    def test_what_is_asked_for_is_taken(self, asked):
        assert precision_for(Settings.model_validate({"train": {"precision": asked}}), 10) == asked

    def test_what_auto_became_is_written_down(self, trained):
        assert trained("train.max_steps=1").settings.train.precision == "fp32"


class TestInterrupts:
    def test_the_first_asks_and_the_next_within_a_second_is_the_same(self):
        with interruptible() as asked:
            assert not asked()
            os.kill(os.getpid(), signal.SIGINT)
            assert asked()
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked()

    def test_a_later_one_stops_at_once(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        with pytest.raises(KeyboardInterrupt), interruptible() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            now[0] = 1.5
            os.kill(os.getpid(), signal.SIGTERM)  # whoever sends this can send SIGKILL too
            assert asked()
            os.kill(os.getpid(), signal.SIGINT)

    def test_what_was_ignored_stays_ignored(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with interruptible() as asked:
                os.kill(os.getpid(), signal.SIGINT)
                assert not asked()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    def test_ctrl_c_saves_and_raises(self, trained, tmp_path):
        def stop(step, total, record):
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            trained(progress=stop)
        assert read_tensors(tmp_path / "run1" / "checkpoint" / "last.safetensors")[1]["step"] == 4

    def test_one_at_the_last_step_changes_nothing(self, trained):
        def stop(step, total, record):
            if step == total:
                os.kill(os.getpid(), signal.SIGINT)

        assert steps(trained("train.max_steps=2", progress=stop), "valid") == [2]

    def test_another_thread_can_train(self, trained):
        found = []
        thread = threading.Thread(target=lambda: found.append(trained("train.max_steps=2")))
        thread.start()
        thread.join(60)
        assert steps(found[0], "valid") == [2]
