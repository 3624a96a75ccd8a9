"""A run killed at any moment and gone on with ends, bit for bit, as one that was never killed."""

import json
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from textvae.errors import RequestError
from textvae.files import read_tensors
from textvae.objective.presets import load_settings
from textvae.training.loop import resume

# Forks a process for each line of standard input, so that torch is imported once. `die` says what the process
# does to itself: at which step, before or after which move of a file into its place, or in the middle of which
# writing of tensors. `within` has it killed from outside, after so many seconds.
SERVER = """
import json, os, signal, sys, threading, time
import torch
import torch._dynamo  # which optimizers import when the first one is made, for seconds
torch.set_num_threads(1)
from textvae.errors import RequestError
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.training.loop import resume, train

def work(folder, settings, die):
    def now():
        os.kill(os.getpid(), getattr(signal, die["signal"]))
    def progress(step, total, record):
        if step == die.get("step"):
            now()
    calls = {"replace": 0, "tensors": 0}
    inner = os.replace, os.fsync
    def replace(old, new):
        calls["replace"] += 1
        if calls["replace"] == die.get("before replace"):
            now()
        inner[0](old, new)
        if calls["replace"] == die.get("after replace"):
            now()
    def fsync(number):
        if ".safetensors." in os.readlink("/proc/self/fd/%d" % number):
            calls["tensors"] += 1
            if calls["tensors"] == die.get("half of tensors"):
                os.ftruncate(number, os.fstat(number).st_size // 2)
                now()
        inner[1](number)
    os.replace, os.fsync = replace, fsync
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.path.exists(os.path.join(folder, "environment.json")):
        resume(Path(folder), progress)
    else:
        train(load_settings(Path(settings)), Path(folder), progress)

from pathlib import Path
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(order["folder"], order["settings"], order["die"])
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
        os._exit(code)
    if "within" in order["die"]:
        threading.Timer(order["die"]["within"], os.kill, (child, signal.SIGKILL)).start()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

ADAM = {"name": "adam", "lr": 0.1}
MOMENTUM = {"name": "sgd", "lr": 1.0, "momentum": 0.9}
STEPS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory, cache_of_its_own):
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Random letters, held-out ones in other shares, so that the validation bound gets worse after a while."""
    choose = random.Random(1)
    folder = tmp_path_factory.mktemp("text")
    for split, shares, count in (
        ("train", [5, 5, 4, 3, 2, 1, 1, 1], 90),
        ("valid", [4, 3, 2, 2, 2, 2, 2, 2], 20),
    ):
        lines = [" ".join(choose.choices("abcdefgh", shares, k=choose.randint(2, 8))) for _ in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(server, text, tmp_path_factory):
    """For an optimizer and how often to save: the settings' file, and a run that was never killed."""
    made = {}

    def make(optimizer, seconds=1e-9):
        if (optimizer["name"], seconds) not in made:
            folder = tmp_path_factory.mktemp("never")
            tables = {
                "data": {"train": str(text / "train.txt"), "valid": str(text / "valid.txt")},
                "model": {
                    "latent": 3,
                    "embedding": 5,
                    "encoder": {"hidden": 6, "name": "gru"},
                    "decoder": {"hidden": 7, "dropout": 0.4, "word_keep": 0.7},
                },
                "objective": {"kl": {"weight": {"schedule": "linear", "steps": 20}}, "mu-forcing": {"margin": 1.0}},
                "train": {
                    "epochs": 20,
                    "batch_size": 10,
                    "log_every": 4,  # with 9 batches in an epoch, validations fall in the middle of intervals
                    "validate_every": 6,
                    "optimizer": optimizer,
                    "plateau": {"patience": 2, "factor": 0.7},
                    "patience": 3,
                    "max_steps": STEPS,
                    "checkpoint_seconds": seconds,
                },
            }
            (folder / "settings.toml").write_text(load_settings(None, None, (), **tables).toml())
            assert ordered(server, folder / "run", folder / "settings.toml") == 0
            made[optimizer["name"], seconds] = folder / "settings.toml", folder / "run"
        return made[optimizer["name"], seconds]

    return make


def ordered(server, folder, settings, **die):
    """What became of a process that trains into the folder, or goes on there: its exit code, or minus a signal."""
    die = {"signal": "SIGKILL", **die}
    server.stdin.write(json.dumps({"folder": str(folder), "settings": str(settings), "die": die}) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


def ended(folder):
    """All that a run leaves behind, without what depends on the time it took."""
    weights, _ = read_tensors(folder / "model.safetensors")
    checkpoint, state = read_tensors(folder / "checkpoint" / "last.safetensors")
    assert state.pop("log_bytes") == (folder / "log.jsonl").stat().st_size
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for record in log:
        assert record.pop("tokens_per_second", 1.0) > 0
    return weights, checkpoint, state, log


def assert_same_end(folder, never):
    for mine, other in zip(ended(folder), ended(never), strict=True):
        if isinstance(mine, dict) and any(isinstance(value, torch.Tensor) for value in mine.values()):
            assert mine.keys() == other.keys()
            different = [name for name in mine if not torch.equal(mine[name], other[name])]
            assert not different
        else:
            assert mine == other
    assert not list(folder.rglob(".*.part"))


def test_the_run_that_is_never_killed_has_what_must_survive(prepared):
    """Else the tests below would show little."""
    _, run = prepared(ADAM)
    _, checkpoint, state, log = ended(run)
    rates = {record["lr"] for record in log}
    assert len(rates) > 1, "the plateau never came"
    assert state["finished"] and state["step"] < STEPS, "it never stopped early"
    assert state["best_step"] < state["step"]
    assert [record["step"] for record in log if record["split"] == "train"] == [
        step for step in range(1, state["step"] + 1) if step % 4 == 0
    ]
    assert {name.split(".")[-1] for name in checkpoint if name.startswith("optimizer.")} == {
        "step",
        "exp_avg",
        "exp_avg_sq",
    }
    _, checkpoint, state, _ = ended(prepared(MOMENTUM)[1])
    assert {name.split(".")[-1] for name in checkpoint if name.startswith("optimizer.")} == {"momentum_buffer"}
    assert all(bool(tensor.any()) for tensor in checkpoint.values())


@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM], ids=lambda one: one["name"])
@pytest.mark.parametrize("step", [*random.Random(1).sample(range(1, 20), 2), "late"])
def test_killed_at_a_step(server, prepared, tmp_path, optimizer, step):
    settings, never = prepared(optimizer)
    if step == "late":  # after one validation that was worse, before the second
        step = read_tensors(never / "checkpoint" / "last.safetensors")[1]["best_step"] + 8
    assert ordered(server, tmp_path / "run", settings, step=step) == -signal.SIGKILL
    assert ordered(server, tmp_path / "run", settings) == 0
    assert_same_end(tmp_path / "run", never)


@pytest.mark.parametrize(
    "moment",
    [
        {"before replace": 1},
        {"after replace": 1},
        {"before replace": 3},
        {"half of tensors": 5},
        {"before replace": 4},  # of settings and tokenizer and environment, then the checkpoints
        {"before replace": 9},  # the best weights, of step 6
        {"after replace": 9},  # the best weights are new, the checkpoint is not
        {"before replace": 10},
        {"after replace": 10},
        {"half of tensors": 7},
    ],
    ids=str,
)
def test_killed_while_saving(server, prepared, tmp_path, moment):
    settings, never = prepared(ADAM)
    assert ordered(server, tmp_path / "run", settings, **moment) == -signal.SIGKILL
    assert ordered(server, tmp_path / "run", settings) == 0
    assert_same_end(tmp_path / "run", never)


def test_killed_again_and_again(server, prepared, tmp_path):
    """Every process takes three steps at most; with a checkpoint at each validation only, some are taken twice."""
    settings, never = prepared(ADAM, seconds=1e9)
    step, killed = 0, 0
    while ordered(server, tmp_path / "run", settings, step=step + 7) == -signal.SIGKILL:
        checkpoint = tmp_path / "run" / "checkpoint" / "last.safetensors"
        step = read_tensors(checkpoint)[1]["step"] if checkpoint.exists() else 0
        killed += 1
    assert killed > 2
    assert_same_end(tmp_path / "run", never)


def test_killed_from_outside_at_any_time(server, prepared, tmp_path):
    settings, never = prepared(ADAM)
    choose, killed = random.Random(), 0
    # Ever later, so that a slow machine gets to a checkpoint too.
    while ordered(server, tmp_path / "run", settings, within=choose.uniform(0.02, 0.3) * (1 + killed / 20)) != 0:
        killed += 1
        assert killed < 200
    assert_same_end(tmp_path / "run", never)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("step", [5, 11])
def test_a_signal_saves_at_the_end_of_the_step(server, prepared, tmp_path, name, step):
    settings, never = prepared(ADAM, seconds=1e9)
    assert ordered(server, tmp_path / "run", settings, step=step, signal=name) == 130
    assert read_tensors(tmp_path / "run" / "checkpoint" / "last.safetensors")[1]["step"] == step
    assert ordered(server, tmp_path / "run", settings) == 0
    assert_same_end(tmp_path / "run", never)


def test_a_run_killed_before_its_first_checkpoint_starts_again(server, prepared, tmp_path):
    settings, never = prepared(ADAM, seconds=1e9)
    assert ordered(server, tmp_path / "run", settings, step=5) == -signal.SIGKILL
    assert (tmp_path / "run" / "log.jsonl").stat().st_size > 0
    assert not (tmp_path / "run" / "checkpoint" / "last.safetensors").exists()
    assert ordered(server, tmp_path / "run", settings) == 0
    assert_same_end(tmp_path / "run", never)


def test_going_on_with_a_finished_run_changes_nothing(prepared, tmp_path):
    _, never = prepared(ADAM)
    shutil.copytree(never, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert resume(tmp_path / "run").folder == tmp_path / "run"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


class TestRefusals:
    @pytest.fixture
    def stopped(self, prepared, tmp_path):
        shutil.copytree(prepared(ADAM)[1], tmp_path / "run")
        return tmp_path / "run"

    def test_there_is_no_run(self, tmp_path):
        with pytest.raises(RequestError, match="none: no such run folder"):
            resume(tmp_path / "none")

    def test_the_text_has_changed(self, stopped, text):
        whole = {path: path.read_text() for path in text.iterdir()}
        try:
            for old, new, what in (("a", "b", "train split"), ("h", "z", "vocabulary")):
                # Where every h is a z all the numbers stay what they were.
                for path, content in whole.items():
                    path.write_text(content.replace(old, new))
                with pytest.raises(RequestError, match=rf"train\.txt: its {what} is not the one that .*made"):
                    resume(stopped)
            (text / "valid.txt").write_text("\n")  # no sentence is left, and no fingerprint to compare
            told = r"train\.txt: has changed since .*run was made with it, .*valid\.txt: holds no sentence"
            with pytest.raises(RequestError, match=told):
                resume(stopped)
            (text / "train.txt").unlink()
            with pytest.raises(RequestError, match=r"train\.txt"):
                resume(stopped)
        finally:
            for path, content in whole.items():
                path.write_text(content)

    @pytest.mark.parametrize("share", [0, 0.5, 0.99])
    def test_the_checkpoint_is_cut_short(self, stopped, share):
        path = stopped / "checkpoint" / "last.safetensors"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(RequestError, match=r"last\.safetensors: damaged"):
            resume(stopped)

    def test_the_checkpoint_is_of_another_model(self, stopped):
        shutil.copy(stopped / "model.safetensors", stopped / "checkpoint" / "last.safetensors")
        with pytest.raises(RequestError, match=r"last\.safetensors: does not fit the run's settings\.toml"):
            resume(stopped)

    def test_the_log_is_cut_short(self, stopped):
        path = stopped / "log.jsonl"
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(RequestError, match=r"log\.jsonl: cut short; restore an intact copy"):
            resume(stopped)
        assert path.stat().st_size == 100
