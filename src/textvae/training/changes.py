"""Checks of a run that is resumed: its terms, and settings that change; with the reasons against all others."""

import warnings
from collections.abc import Iterable
from typing import Any

from textvae.objective.combinations import combination_problems
from textvae.objective.settings import Settings, parse
from textvae.objective.terms import TERMS
from textvae.objective.terms.absent import Absent
from textvae.run import PACKAGE, Run
from textvae.settings import leaves, override
from textvae.settings.problems import Problem, refuse
from textvae.training.checkpoint import State
from textvae.training.launch import planned_steps

MAY = {
    f"train.{name}"
    for name in (
        "checkpoint_seconds", "device", "epochs", "fit_prior", "keep", "log_every", "max_steps", "patience",
        "validate_every",
    )
}  # fmt: skip
# Reasons against the others, by the beginning of their path; the longest counts.
REASONS = {
    "data": "the steps so far were taken on other batches",
    "model": "the weights are those of the model as it is",
    "objective": "validations before and after could not be compared",
    "phase": "the phases so far were others",
    "train": "the optimizer's state comes from the steps so far",
    "train.batch_size": "the order of the sentences depends on it",
    "train.batches": "the order of the sentences depends on it",
    "train.seed": "the order of the sentences and all noise depend on it",
    "train.precision": "a run computes in one precision, so that it is the same however often it is resumed",
}
REMEDY = "start a new run from these weights with --from"


def require_terms(run: Run) -> None:
    """Refuse to train a run whose objective has a term of a package that is not installed.

    Raises:
        RequestError: Naming each such term.
    """
    settings = run.settings
    phases = {f"phase[{number}].objective": phase.objective for number, phase in enumerate(settings.phase)}
    refuse(
        Problem(f"{run.folder / 'settings.toml'}: {place}.{name}", TERMS.why_not(name, "term"), PACKAGE)
        for place, terms in {"objective": settings.objective, **phases}.items()
        for name, term in terms.items()
        if isinstance(term, Absent)
    )


def changes_of(run: Run, assignments: Iterable[str]) -> dict[str, Any]:
    """Return what `path=value` assignments change in `[train]` of a run.

    Raises:
        RequestError: For what is no setting, and for each setting that may not change, with the reason.
    """
    before = run.settings.document()
    document = override(before, assignments)
    settings = parse(document, TERMS)
    refuse(combination_problems(settings))
    old, new = (dict(leaves(one)) for one in (before, settings.document()))
    different = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    refuse(
        Problem(path, f"cannot change in a run: {_reason(path)}", REMEDY) for path in different if path not in MAY
    )
    return {path.partition(".")[2]: new[path] for path in different}


def check_changes(run: Run, settings: Settings, state: State, per_epoch: int) -> None:
    """Refuse settings that a run can no longer have at the step that it has come to.

    Raises:
        RequestError: Naming each of them.
    """
    train, before = settings.train, run.settings.train
    total, planned = planned_steps(settings, per_epoch), planned_steps(run.made, per_epoch)
    least = state.step // per_epoch + 1
    most = "" if train.max_steps is None else f", train.max_steps = {train.max_steps}"
    length = f"train.epochs = {train.epochs}{most}"
    problems = []
    if total <= state.step and total != planned_steps(run.settings, per_epoch):
        remedy = f"give {least} epochs or more{'' if train.max_steps is None else ', and more steps than that'}"
        problems.append(Problem(length, f"{total:,} steps, and the run is at step {state.step:,}", remedy))
    if settings.phase and total < planned:
        problems.append(Problem(length, f"shorter than the {planned:,} steps that its phases share", "give more"))
    early = state.finished and state.step < planned_steps(run.settings, per_epoch)
    if early and train.patience is not None and state.worse >= train.patience and total > state.step:
        stopped = f"the run has stopped after {state.worse} validations without a better one"
        if train.epochs != before.epochs or train.max_steps != before.max_steps:
            problems.append(Problem(length, stopped, f"set train.patience = {state.worse + 1} or more too"))
    if ends(settings, state, total) and train.keep == "best" != before.keep:
        gone = "the run is at its end, and the weights of its best validation are gone"
        problems.append(Problem("train.keep", gone, value="best"))
    refuse(problems)
    if total != planned and (shares := _shares(settings, planned, per_epoch)):
        warnings.warn(
            f"{', '.join(shares)}: counted in shares of the {planned:,} steps that the run was made with, also now",
            stacklevel=3,
        )


def _shares(settings: Settings, planned: int, per_epoch: int) -> list[str]:
    """Return what of the settings is counted in shares of the run."""
    schedules = {f"the weight of {name}": term.weight for name, term in settings.terms().items()}
    schedules |= {f"model.{name}": one for name, one in settings.model.schedules().items()}
    shares = [
        name
        for name, one in schedules.items()
        if one.settled(planned, per_epoch) != one.settled(2 * planned, per_epoch)
    ]
    return shares + [f"phase[{number}].share" for number, phase in enumerate(settings.phase) if phase.share]


def ends(settings: Settings, state: State, total: int) -> bool:
    """Return True if a run with these settings takes no step after its state."""
    patience = settings.train.patience
    last = state.phase == len(settings.phases()) - 1
    return state.step >= total or bool(last and patience and state.worse >= patience)


def _reason(path: str) -> str:
    """Return the reason against a change."""
    known = [begin for begin in REASONS if f"{path}.".startswith(f"{begin}.")]
    return REASONS[max(known, key=len)]
