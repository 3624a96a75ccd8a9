"""The checkpoint of a run: its state and optimizer slots, checked before training resumes from them."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError
from torch import Tensor

from textvae.errors import RequestError, WorkError, shown
from textvae.files import read_tensors
from textvae.objective.objective import Objective
from textvae.objective.settings import Settings
from textvae.run.records import parse_log
from textvae.settings import Update

# Format 1 left out the optimizer slots of parameters that had had no gradient yet. Up to format 2 `best` was the
# bound, whatever the final KL weight.
FORMAT = 3

Count = Annotated[int, Field(ge=0, lt=2**63)]


class State(BaseModel):
    """All that a run needs, beside weights and optimizer slots, to go on as if it had never stopped."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    step: Count = 0
    best: float | None = None
    best_step: Count = 0
    worse: Count = 0  # validations since the best one
    plateau: Count = 0  # validations since the best one or the last decay
    settled: bool = False  # whether every schedule has come to its end, so that validations can be compared
    phase: Count = 0
    phase_start: Count = 0  # the step at which it began
    multipliers: dict[str, float] = Field(default_factory=dict)  # learned factors of weights, by term
    inner: Count = 0  # updates of the encoder alone
    aggressive: bool = True  # whether these go on
    information: float | None = None  # the validation MI before, while they did
    finished: bool = False
    log_bytes: Count = 0
    sentences: Count = 0  # of the logging interval under way, as the next two
    tokens: Count = 0
    sums: dict[str, float] = Field(default_factory=dict)
    lr: list[PositiveFloat] = Field(default_factory=list)  # of the optimizer's groups


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], State]:
    """Read a checkpoint: tensors of the model, tensors of the optimizer, and the state.

    Raises:
        RequestError: when the file or a field of its state is missing, unknown, of another type or out of range.
    """
    tensors, document = read_tensors(path)
    if not any(name.startswith("model.") for name in tensors):
        raise RequestError(f"{path}: does not fit the run's settings.toml: it is no checkpoint of a run")
    try:
        state = State.model_validate({"format": 1, **document})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        reason = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Input ")
        raise damaged(path, f"{field} = {shown(first['input'])}", reason) from None
    for name in sorted(State.model_fields.keys() - document.keys() - {"format"}):
        raise damaged(path, name, "is missing")
    for name in tensors:
        if not name.startswith(("model.", "optimizer.")):
            raise damaged(path, name, "unknown tensor")
    parts = [
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in ("model.", "optimizer.")
    ]
    return parts[0], parts[1], state


def check_progress(path: Path, state: State, settings: Settings, total: int, log: Path, changed: int = 0) -> None:
    """Refuse a state that a run of these settings, of `total` planned steps and with this log, cannot have come to.

    `changed` is the step at which its settings changed last.

    Raises:
        RequestError: names the first field that contradicts the settings, the log or the other fields.
    """
    for field, reason in _contradictions(state, settings, total, changed):
        raise damaged(path, f"{field} = {shown(getattr(state, field))}", reason)
    records = log.read_bytes() if log.is_file() else b""
    if len(records) < state.log_bytes:
        raise RequestError(f"{log}: cut short; restore an intact copy, or train again")
    if not records[: state.log_bytes].endswith(b"\n" if state.log_bytes else b""):
        raise damaged(path, f"log_bytes = {state.log_bytes}", f"no record of {log.name} ends there")
    parse_log(log, records[: state.log_bytes])


def _contradictions(state: State, settings: Settings, total: int, changed: int) -> Iterator[tuple[str, str]]:
    """Fields that contradict the settings or each other, each with the reason."""
    train, phases = settings.train, len(settings.phases())
    if state.phase >= phases:
        yield "phase", f"the run has {phases}, counted from 0"
    if state.step > total:
        yield "step", f"the run has {total:,} steps"
    early = train.patience is not None and state.worse >= train.patience and state.phase == phases - 1
    if state.finished != (state.step == total) and not (state.finished and early):
        yield "finished", f"step {state.step:,} of {total:,} says otherwise"
    if state.phase_start > state.step or (state.phase_start > 0) != (state.phase > 0):
        yield "phase_start", f"impossible in phase {state.phase} at step {state.step:,}"
    if (state.best is None) != (state.best_step == 0) or state.best_step > state.step:
        yield "best_step", f"impossible at step {state.step:,} with best = {state.best}"
    if state.best is not None and state.best_step <= state.phase_start:
        yield "best_step", f"the phase began at step {state.phase_start:,}"
    if state.settled and state.best is None:
        yield "settled", "no validation has been made"
    if state.worse > (state.step - state.best_step if state.best_step else 0):
        yield "worse", f"more validations than steps since step {state.best_step:,}"
    if state.plateau > state.worse:
        yield "plateau", f"more than worse = {state.worse}"
    logged = max(changed, state.phase_start, state.step // train.log_every * train.log_every)
    steps = 0 if state.step == total else state.step - logged
    if not steps <= state.sentences <= steps * train.batch_size:
        yield "sentences", f"impossible {steps} steps after the last record of the log"
    if not state.sentences <= state.tokens <= state.sentences * settings.data.positions:
        yield "tokens", f"impossible for {state.sentences:,} sentences"
    if not state.log_bytes and (state.step - changed >= train.log_every or state.best is not None):
        yield "log_bytes", f"step {state.step:,} has records in the log"
    if len(state.lr) != 1:
        yield "lr", "the learning rate of one optimizer is expected"


def check_phase(path: Path, state: State, objective: Objective, update: Update, lr: float) -> None:
    """Refuse a state that does not fit the objective, update and first learning rate of its phase.

    Raises:
        RequestError: names the first field that does not.
    """
    learned = {name: term for name, term in objective.terms.items() if term.learned}
    for name in sorted(learned.keys() ^ state.multipliers.keys()):
        raise damaged(path, f"multipliers.{name}", "is missing" if name in learned else "unknown term")
    for name, term in learned.items():
        low, high = term.bounds
        low = min(low, term.multiplier(None, {}))  # it may begin below
        if not low <= (value := state.multipliers[name]) <= high:
            raise damaged(path, f"multipliers.{name} = {value}", f"stays from {low:g} to {high:g}")
    needed = {"reconstruction", "loss", *objective.terms} if state.sentences else set[str]()
    optional = {"kl", "gradient_norm"} if state.sentences else set[str]()
    for name in sorted((needed - state.sums.keys()) | (state.sums.keys() - needed - optional)):
        raise damaged(path, f"sums.{name}", "is missing" if name in needed else "unknown")
    if update.encoder_first is None:
        reason = f"the update of phase {state.phase} is {update.name}"
        for name, usual in (("aggressive", True), ("information", None)):
            if (value := getattr(state, name)) is not usual:
                raise damaged(path, f"{name} = {shown(value)}", reason)
    if state.lr[0] > lr:
        raise damaged(path, f"lr = {state.lr}", f"above the {lr:g} that it began with")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the slots of an optimizer by parameter number and name, such as `3.exp_avg`."""
    return {
        f"{number}.{name}": value
        for number, slots in optimizer.state_dict()["state"].items()
        for name, value in slots.items()
    }


def restore_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: State
) -> None:
    """Put slots and learning rates into a fresh optimizer of the same parameters.

    Raises:
        RequestError: when slots are missing, unknown, of another shape or type, not finite, or impossible.
    """
    fresh = optimizer_tensors(optimizer)
    for name in tensors:
        if name not in fresh:
            raise damaged(path, f"optimizer.{name}", "unknown slot")
    numbers = {name.partition(".")[0] for name in tensors}
    taken = {**fresh, **tensors}
    for name, tensor in taken.items():
        like = fresh[name]
        if name not in tensors and (state.format > 1 or name.partition(".")[0] in numbers):
            raise damaged(path, f"optimizer.{name}", "is missing")
        if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            found, wanted = (f"{str(one.dtype).removeprefix('torch.')} {list(one.shape)}" for one in (tensor, like))
            raise damaged(path, f"optimizer.{name}", f"is {found}, {wanted} is expected")
        if not tensor.isfinite().all():
            raise damaged(path, f"optimizer.{name}", "is not finite")
        if name.endswith("_sq") and (tensor < 0).any():
            raise damaged(path, f"optimizer.{name}", "a mean of squares is negative")
        if name.endswith(".step") and not 0 <= float(tensor) <= state.step - state.phase_start + state.inner:
            raise damaged(path, f"optimizer.{name} = {float(tensor):g}", f"impossible at step {state.step:,}")
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in taken.items():
        number, _, slot = name.partition(".")
        slots.setdefault(int(number), {})[slot] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, lr in zip(groups, state.lr, strict=True):
        group["lr"] = lr
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


def damaged(path: Path, place: str, reason: str) -> RequestError:
    """Return the error for a checkpoint that holds what no run has saved."""
    place = place if place.isprintable() else shown(place)
    return RequestError(f"{path}: damaged: {place}: {reason}; restore an intact copy, or train again")


def finite(value: Any) -> bool:
    """Return False for a number that is not finite, and for a tensor with one."""
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)


def diverged(what: str, step: int, lr: float, kept: Path | None) -> WorkError:
    """Return the error for training whose numbers are not finite; `kept` is the run that a checkpoint stays of."""
    good = "None is saved yet" if kept is None else f"The last good checkpoint in {kept} stays"
    return WorkError(
        f"training diverged: {what} is not finite by step {step}. {good}. Train anew with a lower rate, such as "
        f"--set train.optimizer.lr={lr / 3:.1g}, or with --set train.clip_norm=1"
    )
