"""Every optimizer with every update, with phases and without, whatever gets no gradient: steps and a resume."""

import itertools

import pytest
import torch

from textvae.files import read_tensors
from textvae.objective.presets import load_settings
from textvae.training.loop import resume, train

OPTIMIZERS = {
    "adam": {"name": "adam", "lr": 0.01},
    "adamw": {"name": "adamw", "lr": 0.01},
    "sgd": {"name": "sgd", "lr": 0.1},
    "momentum": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
}
AGGRESSIVE = {"name": "aggressive", "inner": 2}
UPDATES = {
    "joint": {},
    "fixed": {"train": {"update": AGGRESSIVE}},
    "converged": {"train": {"update": {"name": "aggressive", "inner": "converged", "check": 1, "most": 2}}},
    "refined": {"model": {"inference": {"name": "refined", "steps": 1}}},
}
# What is left out by the first phase, and reached (or reset) in the second.
PHASES = {
    "one": [],
    "other-objective": [{"share": 0.5, "objective": {"autoencoder": {}}}, {"objective": {"kl": {}, "bow": {}}}],
    "other-update": [{"share": 0.5, "update": {"name": "joint"}}, {"reset": ["decoder"], "update": AGGRESSIVE}],
    "other-optimizer": [{"share": 0.5, "optimizer": OPTIMIZERS["momentum"]}, {"reset": ["encoder", "posterior"]}],
}
# Parts that no gradient reaches.
UNREACHED = {
    "nothing": {},
    "words": {"decoder": {"name": "lstm", "hidden": 4, "word_keep": 0.0}},
    "prior": {"prior": {"name": "gaussian-mixture", "components": 2}},
}
MODEL = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
SENTENCES = ["the cat sat", "a dog ran", "birds sing songs", "no one came", "we saw it"]
CELLS = [
    cell
    for cell in itertools.product(OPTIMIZERS, UPDATES, PHASES, UNREACHED)
    if not (cell[1] == "refined" and (cell[2] == "other-update" or cell[3] == "prior"))  # refused
]


class Stop(Exception):
    """Ends a training in the middle."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("\n".join(SENTENCES * 2) + "\n")
    (folder / "valid.txt").write_text("\n".join(SENTENCES[:2]) + "\n")
    return {"train": str(folder / "train.txt"), "valid": str(folder / "valid.txt")}


def settings_of(cell, text):
    optimizer, update, phases, unreached = cell
    tables = UPDATES[update]
    train_table = {"batch_size": 5, "max_steps": 4, "log_every": 3, "validate_every": 4, "checkpoint_seconds": 1e-9}
    train_table |= {"optimizer": OPTIMIZERS[optimizer], **tables.get("train", {})}
    objective = {"autoencoder": {}} if unreached == "prior" else {"kl": {}}
    return load_settings(
        data=text,
        model={**MODEL, **tables.get("model", {}), **UNREACHED[unreached]},
        train=train_table,
        phase=PHASES[phases],
        **({} if phases == "other-objective" else {"objective": objective}),
    )


def every_pair():
    """Few cells in which every pair of choices is at least once, found greedily."""
    pairs = {cell: set(itertools.combinations(enumerate(cell), 2)) for cell in CELLS}
    left, found = set().union(*pairs.values()), []
    while left:
        found.append(max(CELLS, key=lambda cell: len(pairs[cell] & left)))
        left -= pairs[found[-1]]
    return found


def ended(run):
    tensors, state = read_tensors(run / "checkpoint" / "last.safetensors")
    return tensors, {name: value for name, value in state.items() if name != "log_bytes"}


QUICK = every_pair()


@pytest.mark.parametrize(
    "cell", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow, id="+".join(c)) for c in CELLS]
)
def test_two_steps_of_a_phase_and_a_resume(cell, text, tmp_path):
    settings = settings_of(cell, text)
    last = 3 if cell[2] == "one" else 4  # the checkpoint is of the step before: two steps, or within a second phase

    def progress(step, total, record):
        if step == last:
            raise Stop

    train(settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, tmp_path / "run", progress)
    assert read_tensors(tmp_path / "run" / "checkpoint" / "last.safetensors")[1]["step"] == last - 1
    resume(tmp_path / "run")
    (mine, state), (whole, expected) = ended(tmp_path / "run"), ended(tmp_path / "whole")
    assert state == expected and state["step"] == 4
    assert mine.keys() == whole.keys()
    assert not [name for name in mine if not torch.equal(mine[name], whole[name])]
    moved = {name for name, tensor in mine.items() if name.startswith("optimizer.") and bool(tensor.any())}
    assert moved or cell[0] == "sgd"
