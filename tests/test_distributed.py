"""Two processes equal one: the same losses, weights and gradients, however unequal their shares of a batch."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.nn.functional import softplus

from textvae.files import read_tensors
from textvae.objective.presets import load_settings
from textvae.parts.gather import gathered, summed
from textvae.training.loop import resume, train

# What each of the processes does, one job after another; they meet on the loopback device alone.
JOBS = """
import json, os, shutil, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from textvae.errors import RequestError
from textvae.objective.presets import load_settings
from textvae.parts.gather import gathered, summed
from textvae.training.loop import resume, train

torch.set_num_threads(1)
place, rank = Path(sys.argv[1]), int(os.environ["RANK"])

for settings in sorted(place.glob("*.toml")):
    train(load_settings(settings), place / f"{settings.stem}-two")

def stop(step, total, record):
    if rank == 1 and step == 4:  # between two logging steps, in a process that writes nothing
        os.kill(os.getpid(), signal.SIGINT)

try:
    train(load_settings(place / "mu.toml"), place / "stopped", stop)
    outcome = "went on"
except KeyboardInterrupt:
    outcome = "stopped"
(place / f"outcome{rank}").write_text(outcome)
torch.distributed.barrier()
if rank == 0:
    shutil.copytree(place / "stopped", place / "half")
torch.distributed.barrier()
resume(place / "stopped")

all_rows = torch.tensor(json.loads((place / "rows.json").read_text()))
mine = all_rows[:2] if rank == 0 else all_rows[2:]
mine.requires_grad_()
whole, once, twice = gathered(mine), gathered(mine), gathered(mine * 2)  # backwards, the last two share a tensor
weights = torch.arange(whole.numel()).view(whole.shape)
loss = torch.nn.functional.softplus(whole.var(0).sum() + ((once + twice) * weights).sum() / 100)
loss.backward()
total = summed(torch.tensor([1.0 + rank]))
save_file({"rows": whole.detach().contiguous(), "gradient": mine.grad, "loss": loss.detach(), "total": total},
          place / f"gathered{rank}.safetensors")

try:
    train(load_settings(place / "total.toml", None, ["train.batch_size=1"]), place / "small")
except RequestError as error:
    (place / f"refused{rank}").write_text(str(error))
"""

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ROWS = [[0.5, -1.0], [1.5, 0.25], [-0.5, 2.0], [3.0, 1.0], [0.0, -2.0]]
MODEL = {
    "latent": 3,
    "embedding": 5,
    "encoder": {"hidden": 6, "bidirectional": True},
    "decoder": {"hidden": 7, "dropout": 0.0},
}
# 57 sentences in batches of at most 9: 7 batches of 8 or 9, so that shares are 4 and 4, or 4 and 5.
TRAIN = {"batch_size": 9, "log_every": 3, "max_steps": 15, "validate_every": 7, "precision": "fp32"}
SLOWLY = {**TRAIN, "optimizer": {"name": "sgd", "lr": 0.05}}  # Adam divides by gradients that can be rounding alone
TABLES = {
    "mu": {
        "model": MODEL,
        "objective": {"kl": {"weight": {"schedule": "linear", "steps": 10}}, "mu-forcing": {"margin": 3.0}},
        "train": {**TRAIN, "optimizer": {"name": "adam", "lr": 0.01}},
    },
    "lm": {
        "model": {**MODEL, "latent": 0},
        "train": {**TRAIN, "optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.5}, "clip_norm": 2.0, "seed": 3},
    },
    # Every statistic of a batch, each with a posterior or an update that has its own.
    "free-bits": {
        # Larger weights: normalising means that hardly differ would blow their rounding up.
        "model": {**MODEL, "posterior": {"name": "batch-norm", "gamma": 0.7}, "init": 0.5},
        "objective": {"free-bits": {"target": 0.3}, "bow": {"hidden": 4}},
        "train": SLOWLY,
    },
    "capacity": {
        "model": {**MODEL, "posterior": {"name": "gaussian-mixture", "components": 2}},
        "objective": {"capacity": {"target": 2.0, "ramp_epochs": 1.0}},
        "train": {**SLOWLY, "update": {"name": "aggressive", "inner": 2}},
    },
    "total": {
        "model": {**MODEL, "inference": {"name": "refined", "steps": 2}},
        "objective": {"free-bits-total": {"target": 1.0, "form": "mask"}},
        "train": SLOWLY,
    },
    "mmd": {
        "model": {**MODEL, "posterior": {"name": "semi-implicit", "samples": 2, "components": 3, "noise": 4}},
        "objective": {"mmd": {"weight": 5.0}},
        "train": SLOWLY,
    },
    "hybrid": {
        "model": {
            **{name: size for name, size in MODEL.items() if name not in ("encoder", "decoder")},
            "encoder": {"name": "convolutional", "maps": [5, 4]},
            "decoder": {"name": "hybrid", "maps": [5, 4], "top": {"name": "lstm", "hidden": 6}},
        },
        "objective": {"kl": {}, "auxiliary": {"weight": 0.2}},
        "train": SLOWLY,
    },
    "window": {
        "data": {"window": 12, "right_to_left": True, "tokenizer": {"name": "character"}},
        "model": MODEL,
        "train": SLOWLY,
    },
    "labels": {
        "data": {"column": "text", "condition_on": ["kind"]},
        "model": {
            **MODEL,
            "conditioner": {"name": "labels", "embedding": 3},
            "prior": {"name": "conditional-gaussian", "hidden": 4},
            "posterior": {"name": "semi-implicit", "samples": 2, "components": 3, "noise": 4},
        },
        "objective": {"kl": {}, "bow": {"hidden": 4}},
        "train": SLOWLY,
    },
    "lagrangian": {
        "model": {**MODEL, "prior": {"name": "vamp", "components": 3, "length": 2}},
        "objective": {"lagrangian": {"target": 1.0, "rate": 0.01}, "mu-forcing": {}},
        "train": SLOWLY,
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, cache_of_its_own):
    """A folder of settings, in which two processes have done their jobs."""
    place = tmp_path_factory.mktemp("two")
    choose = random.Random(0)
    for split, count in (("train", 57), ("valid", 11)):
        lines = [" ".join(choose.choices("abcdefgh", k=choose.randint(1, 9))) for _ in range(count)]
        (place / f"{split}.txt").write_text("\n".join(lines) + "\n")
        rows = [f"{line}\t{choose.choice('xyz')}" for line in lines]
        (place / f"{split}.tsv").write_text("\n".join(["text\tkind", *rows]) + "\n")
    data = {split: str(place / f"{split}.txt") for split in ("train", "valid")}
    for name, tables in TABLES.items():
        own = tables.get("data", {})
        files = {split: file.replace(".txt", ".tsv") for split, file in data.items()} if "column" in own else data
        tables = {**tables, "data": {**files, **own}}
        (place / f"{name}.toml").write_text(load_settings(None, None, (), **tables).toml())
    (place / "rows.json").write_text(json.dumps(ROWS))
    (place / "jobs.py").write_text(JOBS)
    done = subprocess.run(
        [*TORCHRUN, str(place / "jobs.py"), str(place)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return place


def weights(folder):
    tensors, _ = read_tensors(folder / "checkpoint" / "last.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}


def farthest(mine, other):
    assert mine.keys() == other.keys()
    return max((mine[name] - other[name]).abs().max().item() for name in mine)


@pytest.mark.parametrize("name", TABLES)
def test_losses_and_weights_are_those_of_one_process(place, tmp_path, name):
    one = train(load_settings(place / f"{name}.toml"), tmp_path / "one")
    log = [json.loads(line) for line in (place / f"{name}-two" / "log.jsonl").read_text().splitlines()]
    assert len(log) == len(one.log()) == 8
    for mine, other in zip(log, one.log(), strict=True):
        assert mine.keys() == other.keys()
        for key in mine.keys() - {"tokens_per_second"}:
            text = isinstance(mine[key], str)
            # Running statistics of means that hardly differ yet, as at the first validation, enlarge rounding.
            rel = 1e-4 if name == "free-bits" and mine["split"] == "valid" else 1e-5
            assert mine[key] == (other[key] if text else pytest.approx(other[key], rel=rel, abs=1e-5)), key
    assert farthest(weights(place / f"{name}-two"), weights(one.folder)) < 1e-5
    if name == "mu":
        assert all(0 < record["mu-forcing"] < 3 for record in log if record["split"] == "train")


def test_a_signal_to_any_process_stops_all_at_the_next_logging_step(place):
    assert [(place / f"outcome{rank}").read_text() for rank in (0, 1)] == ["stopped"] * 2
    assert read_tensors(place / "half" / "checkpoint" / "last.safetensors")[1]["step"] == 6


def test_two_processes_that_were_stopped_end_as_two_that_were_not(place):
    assert farthest(weights(place / "stopped"), weights(place / "mu-two")) == 0


def test_one_process_finishes_what_two_began(place, tmp_path):
    """The number of processes is no part of a run."""
    shutil.copytree(place / "half", tmp_path / "run")
    resume(tmp_path / "run")
    assert farthest(weights(tmp_path / "run"), weights(place / "mu-two")) < 1e-5


def test_gathered_gradients_are_those_of_one_process_after_the_mean_over_processes(place):
    rows = torch.tensor(ROWS, requires_grad=True)
    loss = softplus(rows.var(0).sum() + ((rows + rows * 2) * torch.arange(10).view(5, 2)).sum() / 100)
    loss.backward()
    found = [read_tensors(place / f"gathered{rank}.safetensors")[0] for rank in (0, 1)]
    for mine in found:
        assert torch.equal(mine["rows"], rows.detach())
        torch.testing.assert_close(mine["loss"], loss.detach())
        assert mine["total"] == 3.0
    torch.testing.assert_close(torch.cat([mine["gradient"] for mine in found]) / 2, rows.grad)


def test_a_batch_smaller_than_the_processes_is_refused_by_all(place):
    for rank in (0, 1):
        message = (place / f"refused{rank}").read_text()
        assert message.startswith("train.batch_size = 1: is less than a sentence for each of 2 processes")
    assert not (place / "small").exists()


def test_one_process_gathers_nothing():
    rows = torch.tensor(ROWS)
    assert gathered(rows) is rows
    assert torch.equal(summed(rows[0]), rows[0])


@pytest.mark.slow
def test_ctrl_c_at_the_launcher_saves(place, tmp_path):
    """A terminal sends the signal to the launcher and to its processes, and the launcher hands it on."""
    program = tmp_path / "long.py"
    program.write_text(
        "import sys; from pathlib import Path; from textvae.objective.presets import load_settings; "
        "from textvae.training.loop import train; settings, run, *sets = sys.argv[1:]; "
        "train(load_settings(Path(settings), None, sets), Path(run))"
    )
    run = tmp_path / "run"
    command = [*TORCHRUN, str(program), str(place / "lm.toml"), str(run), "train.epochs=100000"]
    command += ["train.max_steps=1000000", "train.validate_every=1000000", "train.log_every=5"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as launcher:
        log = run / "log.jsonl"
        deadline = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(launcher.pid, signal.SIGINT)
        launcher.communicate(timeout=90)
    _, state = read_tensors(run / "checkpoint" / "last.safetensors")
    assert state["step"] > 0 and state["step"] % 5 == 0
    assert state["log_bytes"] == log.stat().st_size
