"""A phase of a run under way: its own objective, optimizer and update, and when it ends."""

from dataclasses import dataclass

import torch

from textvae.model import TextVAE, redraw
from textvae.objective.objective import Objective
from textvae.objective.settings import Settings
from textvae.parts.noise import mixed
from textvae.settings import Aggressive, Phase
from textvae.training.checkpoint import State
from textvae.training.job import Job
from textvae.training.launch import check_schedules
from textvae.training.updates import JointUpdate, RefinedUpdate, Update, optimizer_for

# The modules of a model that belong to a part of the settings, where these are not the one of its name.
MODULES = {
    "decoder": ("decoder", "expansion", "entering"),
    "encoder": ("encoder", "leaving"),
    "prior": ("prior_network",),
}


@dataclass(frozen=True)
class Stage:
    """The phase that a run is in. `planned` is the number of its steps, `per_epoch` that of an epoch's."""

    settings: Phase
    last: bool
    planned: int
    per_epoch: int
    objective: Objective
    optimizer: torch.optim.Optimizer
    update: Update
    encoder_first: Aggressive | None  # updates of the encoder alone before each step

    def is_over(self, state: State) -> bool:
        """Return True once the phase has taken its steps, or has converged if it is to end then."""
        if self.last:
            return False
        converged = self.settings.until == "converged" and state.worse >= self.settings.patience
        return converged or state.step - state.phase_start >= self.planned

    def settled(self, settings: Settings) -> float:
        """Return the first step of the phase after which all schedules are constant."""
        own = settings.model.schedules().values()
        return max([self.objective.settled(), *(one.settled(self.planned, self.per_epoch) for one in own)])


def enter(settings: Settings, state: State, model: TextVAE, job: Job, total: int, per_epoch: int) -> Stage:
    """Set up the phase that the state is in, with a fresh optimizer; learned multipliers start in the state."""
    phases = settings.phases()
    phase, last = phases[state.phase], state.phase == len(phases) - 1
    planned = total - state.phase_start
    if not last:
        share = round(total * (phase.share or 0))
        planned = min(planned, phase.epochs * per_epoch if phase.epochs else max(1, share))
    objective = Objective(phase.objective or settings.objective, planned, per_epoch)
    for name, term in objective.terms.items():
        if term.learned:
            state.multipliers.setdefault(name, term.multiplier(None, {}))
    optimizer = optimizer_for(model.parameters(), phase.optimizer or settings.train.optimizer)
    check_schedules(objective, settings.model, planned, per_epoch, job.leads)
    kind = JointUpdate if model.refinement is None else RefinedUpdate
    clips = (settings.train.clip_norm, settings.train.clip_value)
    return Stage(
        settings=phase,
        last=last,
        planned=planned,
        per_epoch=per_epoch,
        objective=objective,
        optimizer=optimizer,
        update=kind(job, model, objective, optimizer, *clips),
        encoder_first=(phase.update or settings.train.update).encoder_first,
    )


def begin_next(state: State) -> None:
    """Move the state to the start of the next phase, whose best is still to come."""
    begun = State(step=state.step, phase=state.phase + 1, phase_start=state.step, inner=state.inner)
    vars(state).update(vars(begun))


def reset(model: TextVAE, stage: Stage, settings: Settings, step: int) -> None:
    """Draw the parts anew that the phase names, by the seed and the step at which it begins."""
    torch.manual_seed(mixed(settings.train.seed, step, -1))
    for part in stage.settings.reset:
        for name in MODULES.get(part, (part,)):
            if getattr(model, name) is not None:
                redraw(getattr(model, name), settings.model.init)
