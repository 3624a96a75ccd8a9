"""What a checkpoint holds is checked like settings: refused by file and field, or trained on from rightly."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import save_file

from textvae.errors import RequestError
from textvae.files import read_tensors
from textvae.objective.presets import load_settings
from textvae.training.loop import resume, train

MODEL = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
SENTENCES = ["the cat sat", "a dog ran", "birds sing songs", "no one came"]
TOTAL = 12


class Stop(Exception):
    """Ends a training in the middle, as a failure would."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join(SENTENCES * 4) + "\n")
    (folder / "valid.txt").write_text("\n".join(SENTENCES) + "\n")
    return {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")}


@pytest.fixture(scope="module")
def stopped(text, tmp_path_factory):
    """A function that gives a run stopped at step 7 of 12, by name, with another optimizer or objective."""
    made = {}

    def make(name="adam", objective=None, **more):
        if name not in made:
            optimizer = {"name": "sgd", "momentum": 0.5} if name == "momentum" else {"name": "adam"}
            run = tmp_path_factory.mktemp(name) / "run"
            table = {"batch_size": 4, "log_every": 3, "max_steps": TOTAL, "checkpoint_seconds": 1e-9, **more}
            settings = load_settings(
                data=text, model=MODEL, objective=objective or {}, train={**table, "optimizer": optimizer}
            )

            def progress(step, total, record):
                if step == 8:  # the checkpoint of the step before is on the disk
                    raise Stop

            with pytest.raises(Stop):
                train(settings, run, progress)
            made[name] = run
        return made[name]

    return make


def altered(run, folder, change, tensors=None):
    """A copy of the run whose checkpoint's state went through `change`, its tensors through `tensors`."""
    shutil.copytree(run, folder)
    path = folder / "checkpoint" / "last.safetensors"
    kept, state = read_tensors(path)
    change(state)
    if tensors is not None:
        kept = tensors(kept)
    save_file(kept, path, {"state": json.dumps(state)})
    return folder


def set_to(field, value):
    return lambda state: state.update({field: value})


WRONG = {
    "format": [None, "x", -1, 4],
    "step": [None, "x", -1, 1e30, 10**30, 2.5, True, TOTAL, TOTAL + 1, [7]],
    "best": ["x", math.nan, math.inf, {}, True, None],
    "best_step": [None, -1, 0, 8, 10**30, "4"],
    "worse": [None, -1, 8, 1.0, 10**30],
    "plateau": ["x", -1, 1],
    "settled": [None, 1, "true"],
    "phase": [None, -1, 1, 10**9, "0"],
    "phase_start": [None, -1, 3, 99],
    "multipliers": [None, [], {"kl": 1.0}, {"kl": "x"}, "x"],
    "inner": [None, -1, 1e30, "x"],
    "aggressive": [None, False, 0],
    "information": ["x", 1.0, math.nan],
    "finished": [None, True, "x"],
    "log_bytes": [None, -1, "x", 1.5, 0, 1],
    "sentences": [None, -1, 0, 99, 10**30],
    "tokens": [None, -1, 0, 10**9],
    "sums": [None, {}, [], {"loss": 1.0}, {"reconstruction": "x"}, "x"],
    "lr": [None, "x", [], ["x"], [-1.0], [0.0], [math.inf], [1e-3, 1e-3], [0.5], 1e-3],
    "surprise": [1],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values], ids=repr
)
def test_a_wrong_value_is_refused_by_file_and_field(stopped, tmp_path, field, value):
    run = altered(stopped(), tmp_path / "run", set_to(field, value))
    with pytest.raises(RequestError) as error:
        resume(run)
    told = str(error.value)
    assert "last.safetensors: damaged: " in told and "\n" not in told and len(told) < 400 + len(str(run))
    # A state of several fields that contradict each other is refused for one of them.
    related = {"best": "best_step", "step": "finished", "sentences": "tokens"}
    place = told.partition("damaged: ")[2]
    assert place.startswith((field, related.get(field, field))), told


@pytest.mark.parametrize("field", sorted(WRONG.keys() - {"surprise", "format"}))
def test_a_missing_field_is_refused(stopped, tmp_path, field):
    run = altered(stopped(), tmp_path / "run", lambda state: state.pop(field))
    with pytest.raises(RequestError, match=rf"last\.safetensors: damaged: {field}: is missing; restore an intact"):
        resume(run)


@pytest.mark.parametrize("wrong", [{}, {"lagrangian": 1e30}, {"lagrangian": True}, {"lagrangian": 1.0, "kl": 1.0}])
def test_multipliers_are_those_of_the_learned_terms(stopped, tmp_path, wrong):
    stopped = stopped("lagrangian", objective={"lagrangian": {"target": 1.0}})
    run = altered(stopped, tmp_path / "run", set_to("multipliers", wrong))
    with pytest.raises(RequestError, match=r"last\.safetensors: damaged: multipliers\.(lagrangian|kl)"):
        resume(run)


def renamed(old, new):
    return lambda tensors: {new if name == old else name: tensor for name, tensor in tensors.items()}


def replaced(name, change):
    return lambda tensors: {**tensors, name: change(tensors[name])}


def dropped(*names):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith(names)}


SLOT = "optimizer.0.exp_avg"
SLOTS = [
    (renamed(SLOT, "optimizer.0.exp_avgg"), r"optimizer\.0\.exp_avgg: unknown slot"),
    (renamed(SLOT, "optimizer.99.exp_avg"), r"optimizer\.99\.exp_avg: unknown slot"),
    (renamed(SLOT, "optimizer.x.exp_avg"), r"optimizer\.x\.exp_avg: unknown slot"),
    (renamed(SLOT, "optimizer.exp_avg"), r"optimizer\.exp_avg: unknown slot"),
    (renamed(SLOT, "other"), "other: unknown tensor"),
    (renamed(SLOT, "other\nname"), r"'other\\nname': unknown tensor"),
    (dropped(SLOT), r"optimizer\.0\.exp_avg: is missing"),
    (dropped("optimizer.0."), r"optimizer\.0\.exp_avg: is missing"),
    (dropped("optimizer."), r"optimizer\.0\.exp_avg: is missing"),
    (replaced(SLOT, lambda slot: slot[:1]), r"optimizer\.0\.exp_avg: is float32 \[1, 3\], float32 .* is expected"),
    (replaced(SLOT, torch.Tensor.long), r"optimizer\.0\.exp_avg: is int64"),
    (replaced(SLOT, lambda slot: slot / 0), r"optimizer\.0\.exp_avg: is not finite"),
    (replaced(SLOT + "_sq", lambda slot: slot - 1), r"optimizer\.0\.exp_avg_sq: a mean of squares is negative"),
    (replaced("optimizer.0.step", lambda step: step - 99), r"optimizer\.0\.step = -92: impossible at step 7"),
    (replaced("optimizer.0.step", lambda step: step + 99), r"optimizer\.0\.step = 106: impossible at step 7"),
]


@pytest.mark.parametrize(("change", "message"), SLOTS, ids=[message for _, message in SLOTS])
def test_wrong_slots_of_the_optimizer_are_refused(stopped, tmp_path, change, message):
    run = altered(stopped(), tmp_path / "run", lambda state: None, change)
    with pytest.raises(RequestError, match=rf"last\.safetensors: damaged: {message}"):
        resume(run)


def test_a_missing_momentum_is_refused(stopped, tmp_path):
    run = altered(stopped("momentum"), tmp_path / "run", lambda state: None, dropped("optimizer.3."))
    with pytest.raises(RequestError, match=r"damaged: optimizer\.3\.momentum_buffer: is missing"):
        resume(run)


def ending(run):
    resume(run)
    tensors, state = read_tensors(run / "checkpoint" / "last.safetensors")
    return tensors, {name: value for name, value in state.items() if name != "log_bytes"}


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_a_checkpoint_of_the_first_format_is_resumed_exactly(stopped, tmp_path, name):
    """It has no `format`, and no slots of parameters that had no gradient yet: theirs are zeros."""
    empty = [
        key.rpartition(".")[0] + "."
        for key, tensor in read_tensors(stopped(name) / "checkpoint" / "last.safetensors")[0].items()
        if key.startswith("optimizer.") and key.endswith(("exp_avg", "momentum_buffer")) and not tensor.any()
    ]
    old = altered(stopped(name), tmp_path / "old", lambda state: state.pop("format"), dropped(*empty, "no other"))
    shutil.copytree(stopped(name), tmp_path / "new")
    (mine, state), (other, same) = ending(old), ending(tmp_path / "new")
    assert state == same and state["step"] == TOTAL and state["finished"]
    assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


def test_a_best_of_an_earlier_format_is_judged_anew(stopped, tmp_path):
    made = stopped("weighted", objective={"kl": {"weight": 0.5}})
    run = altered(made, tmp_path / "run", lambda state: state.update(format=2, best=-1e6))
    shutil.copytree(made, tmp_path / "never")
    assert ending(run)[1] == ending(tmp_path / "never")[1]


def test_a_damaged_record_of_the_log_is_refused_before_training(stopped, tmp_path):
    run = altered(stopped(), tmp_path / "run", lambda state: None)
    log = run / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"step": 3', b'"step": "', 1))
    with pytest.raises(RequestError, match=r"log\.jsonl, line 1: damaged"):
        resume(run, lambda *_: pytest.fail("it trained"))
