"""A run goes on with other settings: exactly where it can, and refused with the reason where it cannot."""

import shutil

import pytest
import torch

from textvae.errors import RequestError
from textvae.files import read_tensors
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.training.changes import MAY
from textvae.training.loop import resume, train

MODEL = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4, "dropout": 0.2}}
TRAIN = {"batch_size": 4, "epochs": 2, "log_every": 3, "optimizer": {"lr": 0.05}, "checkpoint_seconds": 1e-9}
PER_EPOCH = 3


class Stop(Exception):
    """Ends a training in the middle, as a failure would."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    lines = [
        f"the {pet} is {colour}" for pet in ("cat", "dog", "bird") for colour in ("red", "blue", "white", "grey")
    ]
    for name, own in (("train", lines), ("valid", lines[::3])):
        (folder / f"{name}.txt").write_text("\n".join(own) + "\n")
    return {name: str(folder / f"{name}.txt") for name in ("train", "valid")}


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    return train(load_settings(data=text, model=MODEL, train=TRAIN), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished.folder, tmp_path / "copy")


def stopped(text, folder, step, *assignments, method=None, **more):
    """A run whose last checkpoint is of a step."""
    settings = load_settings(None, method, assignments, data=text, model=MODEL, train={**TRAIN, **more})

    def progress(now, total, record):
        if now == step + 1:
            raise Stop

    with pytest.raises(Stop):
        train(settings, folder, progress)
    return folder


def checkpoint(folder):
    return read_tensors(folder / "checkpoint" / "last.safetensors")


def logged(folder):
    return [{**one, "tokens_per_second": None} for one in Run.open(folder).log()]


def assert_same(one, other):
    """The two runs have the same weights, checkpoints and logs."""
    for name in ("model.safetensors", "checkpoint/last.safetensors"):
        mine, theirs = (read_tensors(folder / name)[0] for folder in (one, other))
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine), name
    states = [{**checkpoint(folder)[1], "log_bytes": 0} for folder in (one, other)]
    assert states[0] == states[1]
    assert logged(one) == logged(other)


def test_a_finished_run_made_longer_is_the_long_run_bit_for_bit(text, copy, tmp_path):
    run = resume(copy, assignments=["train.epochs=5"])
    assert run.settings.train.epochs == 5 and run.made.train.epochs == 2
    assert run.environment["changes"] == [{"step": 2 * PER_EPOCH, "train": {"epochs": 5}}]
    long = load_settings(data=text, model=MODEL, train={**TRAIN, "epochs": 5})
    assert_same(copy, train(long, tmp_path / "long").folder)
    assert Run.open(copy).settings == long.model_copy(update={"train": run.settings.train})


def test_a_stopped_run_changes_its_length_and_goes_on(text, tmp_path):
    run = stopped(text, tmp_path / "run", 3)
    resume(run, assignments=["train.epochs=3"])
    assert_same(
        run, train(load_settings(data=text, model=MODEL, train={**TRAIN, "epochs": 3}), tmp_path / "x").folder
    )


def test_one_that_dies_right_after_the_change_goes_on_with_it(copy, finished, tmp_path):
    class Loop:
        def __init__(self, *_):
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textvae.training.loop.Loop", Loop)
        with pytest.raises(Stop):
            resume(copy, assignments=["train.epochs=4"])
    assert resume(copy).settings.train.epochs == 4
    other = shutil.copytree(finished.folder, tmp_path / "other")
    resume(other, assignments=["train.epochs=4"])
    assert_same(copy, other)


def test_shares_of_the_run_stay_those_of_the_run_as_it_was_made(text, tmp_path):
    rising = "objective.kl.weight={schedule='linear', steps=1.0, unit='run'}"
    run = train(load_settings(None, None, [rising], data=text, model=MODEL, train=TRAIN), tmp_path / "run").folder
    with pytest.warns(UserWarning, match="the weight of kl: counted in shares of the 6 steps"):
        resume(run, assignments=["train.epochs=4"])
    weights = [one["weights"]["kl"] for one in Run.open(run).log() if one["split"] == "train"]
    assert weights == pytest.approx([2 / 6, 5 / 6, 1.0, 1.0])


def test_a_learned_weight_keeps_the_last_weights_up_to_the_new_end(text, tmp_path):
    settings = {"data": text, "model": MODEL, "objective": {"lagrangian": {"target": 1.0}}}
    run = train(load_settings(**settings, train=TRAIN), tmp_path / "run").folder
    resume(run, assignments=["train.epochs=4"])
    assert_same(run, train(load_settings(**settings, train={**TRAIN, "epochs": 4}), tmp_path / "long").folder)


@pytest.mark.parametrize(("before", "after"), [(50, 2), (2, 50)])
def test_another_interval_of_the_log_begins_a_new_one(text, tmp_path, before, after):
    run = stopped(text, tmp_path / "run", 4, f"train.log_every={before}")

    def progress(step, total, record):
        if step == 6:  # the checkpoint of step 5 is within an interval
            raise Stop

    with pytest.raises(Stop):
        resume(run, progress, [f"train.log_every={after}", "train.epochs=3"])
    resume(run)
    steps = [one["step"] for one in Run.open(run).log() if one["split"] == "train"]
    assert steps == ([4, 6, 8, 9] if after == 2 else [2, 4, 9])


class TestKeep:
    def weights(self, folder):
        return Run.open(folder).model().state_dict()

    def test_the_last_weights_of_a_finished_run_are_those_of_its_checkpoint(self, copy):
        resume(copy, assignments=["train.keep=last"])
        last = checkpoint(copy)[0]
        assert all(torch.equal(last[f"model.{name}"], one) for name, one in self.weights(copy).items())

    def test_the_best_of_a_finished_run_that_kept_the_last_is_gone(self, copy):
        resume(copy, assignments=["train.keep=last"])
        with pytest.raises(
            RequestError, match="train.keep = 'best': the run is at its end, and the weights of its"
        ):
            resume(copy, assignments=["train.keep=best"])
        resume(copy, assignments=["train.keep=best", "train.epochs=4"])
        assert checkpoint(copy)[1]["best_step"] > 2 * PER_EPOCH


def test_one_stopped_by_patience_goes_on_if_it_is_raised(text, tmp_path, monkeypatch):
    values = iter([3.0, 4.0, 5.0, 2.0, 1.0])
    monkeypatch.setattr("textvae.training.loop.validation", lambda *_: {"bound": next(values)})
    settings = load_settings(data=text, model=MODEL, train={**TRAIN, "epochs": 5, "patience": 1})
    run = train(settings, tmp_path / "run").folder
    assert checkpoint(run)[1]["step"] == 2 * PER_EPOCH
    with pytest.raises(
        RequestError, match=r"train\.epochs = 9: .*stopped after 1 .*; set train\.patience = 2 or more"
    ):
        resume(run, assignments=["train.epochs=9"])
    resume(run, assignments=["train.patience=3"])
    assert checkpoint(run)[1]["step"] == 5 * PER_EPOCH and checkpoint(run)[1]["best"] == 1.0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epochs=1", r"train\.epochs = 1: 3 steps, and the run is at step 6; give 3 epochs or more"),
        ("train.max_steps=2", r"train\.epochs = 2, train\.max_steps = 2: 2 steps, and the run is at step 6"),
        ("train.lr=0.5", r"train\.optimizer\.lr: cannot change in a run: the optimizer's state .* with --from"),
        ("train.batch_size=2", r"train\.batch_size: .*the order of the sentences depends on it"),
        ("train.seed=4", r"train\.seed: .*order of the sentences and all noise depend"),
        ("train.precision=bf16", r"train\.precision: .*one precision"),
        ("model.latent=3", r"model\.latent: .*weights are those of the model"),
        ("objective.kl.weight=0.5", r"objective\.kl\.weight\.value: .*could not be compared"),
        ("data.max_length=3", r"data\.max_length: .*other batches"),
        ("train.epoch=3", r"train\.epoch: unknown setting; did you mean"),
    ],
)
def test_what_may_not_change_is_refused_with_the_reason(copy, assignment, message):
    before = (copy / "environment.json").read_bytes()
    with pytest.raises(RequestError, match=message) as error:
        resume(copy, assignments=[assignment])
    assert "\n" not in str(error.value)
    assert (copy / "environment.json").read_bytes() == before


def test_all_that_may_change_is_a_setting(finished):
    names = type(finished.settings.train).model_fields
    assert {path.removeprefix("train.") for path in MAY} <= names.keys()


def test_the_same_value_is_no_change(copy):
    run = resume(copy, assignments=["train.epochs=2", "train.lr=0.05"])
    assert "changes" not in run.environment


def test_the_command_goes_on_for_longer(copy):
    from typer.testing import CliRunner

    from textvae.cli import app

    done = CliRunner().invoke(app, ["train", "--resume", str(copy), "--set", "train.epochs=3"])
    assert done.exit_code == 0 and "step 9" in done.stdout, done.stderr
    refused = CliRunner().invoke(app, ["train", "--resume", str(copy), "--set", "model.latent=9"])
    assert refused.exit_code == 2 and refused.stderr.startswith("error: model.latent: cannot change in a run")
