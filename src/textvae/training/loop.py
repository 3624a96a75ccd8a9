"""The training loop, top to bottom: `train` starts a run, `resume` goes on with one, `Loop.run` is the loop."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from textvae.errors import WorkError
from textvae.files import appending, json_text, write_tensors, writing
from textvae.inference import restate, validation
from textvae.model import TextVAE, build, redraw
from textvae.objective.objective import Objective, criterion
from textvae.parts.gather import summed
from textvae.parts.noise import mixed, step_noise
from textvae.parts.refinement import frozen
from textvae.run import Run, corpus_of, load_weights
from textvae.settings import Aggressive, SemiImplicitPosterior, Settings
from textvae.text.batches import Batch, collate
from textvae.text.corpus import Corpus, epoch_data, open_corpus
from textvae.training.checkpoint import (
    FORMAT,
    State,
    check_phase,
    check_progress,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
)
from textvae.training.job import Job, join
from textvae.training.launch import (
    check_schedules,
    check_trainable,
    interruptible,
    planned_steps,
    precision_for,
)
from textvae.training.updates import encoder_updates, joint, optimizer_for, refining

# Called after every step with the step, the planned total and the newest log record, if there is a new one.
Progress = Callable[[int, int, dict[str, Any] | None], None]

# Keeps the random numbers of updates of the encoder alone apart from those of steps.
INNER = 3


def train(settings: Settings, out: Path | str, progress: Progress | None = None) -> Run:
    """Train a model from settings into a new run folder.

    Under `torchrun` every process calls this; together they take the steps that one process would.

    Raises:
        RequestError: when data or settings cannot be used, or the folder exists or is in use.
        WorkError: when training diverges or the disk fails; the last good checkpoint stays.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint saved.
    """
    corpus = open_corpus(settings.data)
    precision = precision_for(settings, len(corpus.tokenizer))
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"precision": precision})})
    job = join(settings)
    check_trainable(settings, corpus, job.world_size, job.device)
    with job.training(Path(out), new=True):
        if job.leads:
            Run.create(Path(out), settings, corpus.tokenizer, corpus.description())
        job.barrier()
        run = Run.open(out)
        Loop(run, corpus, job).run(progress)
    return run


def resume(folder: Path | str, progress: Progress | None = None) -> Run:
    """Go on with a run from its last checkpoint; it ends as it would have without the interruption.

    Raises:
        RequestError: when there is no such run, another process trains it, or its data has changed.
        WorkError: as `train`.
    """
    run = Run.open(folder)
    corpus = corpus_of(run)
    job = join(run.settings)
    check_trainable(run.settings, corpus, job.world_size, job.device)
    with job.training(run.folder):
        Loop(run, corpus, job).run(progress)
    return run


class Loop:
    """One run under way: the model, its optimizer and the state that a checkpoint holds."""

    def __init__(self, run: Run, corpus: Corpus, job: Job) -> None:
        settings = run.settings
        self.run_folder, self.settings, self.job = run, settings, job
        self.corpus, self.store = corpus, corpus.split("train")
        with job.undisturbed():
            torch.manual_seed(settings.train.seed)
            self.model: TextVAE = build(
                settings.model, len(corpus.tokenizer), settings.terms(), settings.data.positions
            )
        self.model.to(job.device)  # now, because a checkpoint's optimizer slots are put where the weights are
        self.state, self.sums = State(), dict[str, Any]()
        self.batches_of, self.batches = -1, list[np.ndarray]()
        self.prepared: dict[int, Batch] = {}  # batches of the epoch that have been collated
        self.steps_per_epoch = len(epoch_data(self.store, settings, 0)[1])  # every epoch has as many
        self.total = planned_steps(settings, self.steps_per_epoch)
        self.interval, self.saved, self.tokens_at = 0.0, 0.0, 0  # set when it runs
        self.log_path = run.folder / "log.jsonl"
        self.checkpoint = run.folder / "checkpoint" / "last.safetensors"
        if self.checkpoint.exists():
            self._load()
        else:
            self._enter()

    def run(self, progress: Progress | None = None) -> None:
        """Take the steps that are left; log, validate and save along the way."""
        state, train = self.state, self.settings.train
        validate_every = train.validate_every or self.steps_per_epoch
        with self._log_file(), self.job.undisturbed(), interruptible() as interrupted:
            while not state.finished:
                self._step()
                record = None
                state.finished = state.step == self.total
                if state.step % train.log_every == 0 or state.finished:
                    record = self._log_training()
                if state.step % validate_every == 0 or state.finished:
                    record = self._validate()
                    state.finished |= bool(self.last and train.patience and state.worse >= train.patience)
                if not state.finished and self._phase_is_over():
                    if state.sentences:  # a record is of one phase
                        self._log_training()
                    self._next_phase()
                if progress is not None:
                    progress(state.step, self.total, record)
                stop = self._agreed(interrupted())
                due = time.monotonic() - self.saved > train.checkpoint_seconds
                if state.finished or stop or due or (record and record["split"] == "valid"):
                    self._save()
                if stop and not state.finished:
                    raise KeyboardInterrupt

    def _enter(self) -> None:
        """Set up what the phase that the state is in has of its own."""
        settings, state = self.settings, self.state
        phases = settings.phases()
        phase, self.last = phases[state.phase], state.phase == len(phases) - 1
        planned = self.total - state.phase_start
        if not self.last:
            share = round(self.total * (phase.share or 0))
            planned = min(planned, phase.epochs * self.steps_per_epoch if phase.epochs else max(1, share))
        self.phase, self.planned = phase, planned
        self.objective = Objective(phase.objective or settings.objective, planned, self.steps_per_epoch)
        for name, term in self.objective.terms.items():
            if term.learned:
                state.multipliers.setdefault(name, term.multiplier(None, {}))
        self.update = phase.update or settings.train.update
        self.optimizer = optimizer_for(self.model.parameters(), phase.optimizer or settings.train.optimizer)
        check_schedules(self.objective, settings.model, planned, self.steps_per_epoch, self.job.leads)

    def _phase_is_over(self) -> bool:
        """Whether the phase has taken its steps, or has converged if it is to end then."""
        if self.last:
            return False
        converged = self.phase.until == "converged" and self.state.worse >= self.phase.patience
        return converged or self.state.step - self.state.phase_start >= self.planned

    def _next_phase(self) -> None:
        """Begin the next phase: its own objective and a fresh optimizer, parts reset, its best still to come."""
        state = self.state
        begun = State(step=state.step, phase=state.phase + 1, phase_start=state.step, inner=state.inner)
        vars(state).update(vars(begun))
        self._enter()
        torch.manual_seed(mixed(self.settings.train.seed, state.step, -1))
        parts = {
            "decoder": ("decoder", "expansion", "entering"),
            "encoder": ("encoder", "leaving"),
            "prior": ("prior_network",),
        }
        for part in self.phase.reset:
            for name in parts.get(part, (part,)):
                if getattr(self.model, name) is not None:
                    redraw(getattr(self.model, name), self.settings.model.init)

    def _step(self) -> None:
        """One update on the next global batch; its randomness depends on the seed and the step alone."""
        state = self.state
        epoch, position = divmod(state.step, self.steps_per_epoch)
        if self.batches_of != epoch:
            self.batches_of, self.prepared = epoch, {}
            self.store, self.batches = epoch_data(self.corpus.split("train"), self.settings, epoch)
        self._decay(state.step - state.phase_start)
        if self.update.name == "aggressive" and state.aggressive:
            encoder_updates(self._encoder_update, self.update)
        raw = self._updated(position, state.step, self._draws(state.step))
        rows = self.batches[position]
        for name, value in raw.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.double() * len(rows)
        for name, term in self.objective.terms.items():
            if term.learned:
                found = {part: float(value) for part, value in raw.items()}
                state.multipliers[name] = term.multiplier(state.multipliers.get(name), found)
        state.sentences += len(rows)
        state.tokens += int(self.store.lengths[rows].sum())
        state.step += 1

    def _decay(self, at: int) -> None:
        """Lower the learning rate at a step of the phase with which an epoch begins, if it falls there."""
        decay = self.settings.train.decay
        epochs, within = divmod(at, self.steps_per_epoch)
        if decay is not None and not within and decay.falls(epochs):
            for group in self.optimizer.param_groups:
                group["lr"] *= decay.factor

    def _encoder_update(self, number: int) -> tuple[float, int]:
        """One update of the encoder alone, on a batch drawn from the epoch's; its nats and tokens."""
        state, seed = self.state, self.settings.train.seed
        position = int(np.random.default_rng([seed, state.inner, INNER]).integers(len(self.batches)))
        samples, components = self._draws(state.step)
        assert isinstance(self.update, Aggressive)
        if components is not None:
            components = round(components * self.update.share(number))
        with frozen(self.model.generative()):
            raw = self._updated(position, state.inner, (samples, components), INNER)
        state.inner += 1
        rows = self.batches[position]
        return float(raw["loss"]) * len(rows), int(self.store.lengths[rows].sum())

    def _updated(
        self, position: int, number: int, draws: tuple[int, int | None], *stream: int
    ) -> dict[str, torch.Tensor]:
        """Update on one of the epoch's batches with the random numbers of this `number`; its loss and raw parts."""
        state, train, rows = self.state, self.settings.train, self.batches[position]
        rank, world = self.job.rank, self.job.world_size
        torch.manual_seed(mixed(train.seed, number, *stream, rank))  # dropout and word dropout
        edges = [len(rows) * r // world for r in (rank, rank + 1)]
        batch = self.prepared.get(position)
        if batch is None:
            batch = collate(self.store, rows[slice(*edges)]).to(self.job.device)
            if self.update.name == "aggressive":
                self.prepared[position] = batch
        noise = step_noise(train.seed, number, len(rows), slice(*edges), self.job.device, *stream)
        given = (self.job, self.model, self.objective, self.optimizer, batch, noise)
        step, clips = state.step - state.phase_start, (train.clip_norm, train.clip_value)
        if self.model.refinement is not None:
            return refining(*given, step, *clips, state.multipliers)
        return joint(*given, step, *clips, draws, state.multipliers)

    def _draws(self, step: int) -> tuple[int, int | None]:
        """How many codes a sentence gets at a step, and how many components a semi-implicit posterior."""
        posterior = self.settings.model.posterior
        if not isinstance(posterior, SemiImplicitPosterior):
            return 1, None
        at = step - self.state.phase_start
        return posterior.samples, round(posterior.components(at, self.planned, self.steps_per_epoch))

    def _log_training(self) -> dict[str, Any]:
        """One record for the steps since the last: means over sentences, raw and unweighted, in nats."""
        state = self.state
        means = {name: float(total) / state.sentences for name, total in self.sums.items()}
        self._check_finite(means)
        now = time.monotonic()
        record = {
            "step": state.step,
            "epoch": state.step / self.steps_per_epoch,
            "split": "train",
            **means,
            "weights": self.objective.weights(state.step - 1 - state.phase_start, state.multipliers),
            "lr": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": (state.tokens - self.tokens_at) / max(now - self.interval, 1e-9),
        }
        self.sums, state.sentences, state.tokens = {}, 0, 0
        self.tokens_at, self.interval = 0, now
        return self._write(record)

    def _validate(self) -> dict[str, Any]:
        """Score the validation split; keep the weights if its bound is the best; decay lr on a plateau."""
        state, train, store = self.state, self.settings.train, self.corpus.split("valid")
        began = time.monotonic()
        restate(self.model, self.store)
        found = validation(self.model, store, train.seed)
        self._check_finite(found, "the validation ")
        record = {
            "step": state.step,
            "epoch": state.step / self.steps_per_epoch,
            "split": "valid",
            **found,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        if self.update.name == "aggressive" and state.aggressive:
            record["inner"] = state.inner
            # The estimate from below, if there is one: that from above counts the component a code was drawn from.
            mutual = record.get("mutual_information_lower", record.get("mutual_information"))
            if self.update.until == "mi" and mutual is not None:
                # Source: He et al. 2019, section 4.2.
                state.aggressive = state.information is None or mutual > state.information
            state.information = mutual
        self._keep_best(record)
        if train.plateau and state.plateau >= train.plateau.patience:
            state.plateau = 0
            for group in self.optimizer.param_groups:
                decayed = max(group["lr"] * train.plateau.factor, train.plateau.min_lr)
                group["lr"] = min(group["lr"], decayed)  # a rate below min_lr from the start stays
        self.interval += time.monotonic() - began  # validation does not count in tokens per second
        return self._write(record)

    def _keep_best(self, record: dict[str, Any]) -> None:
        """Keep the weights if this validation is the best since schedules have settled, or if they have not yet.

        Before a weight or a target has come to its end a bound says how far it is on its way, not how good the
        model is: annealing starts with the best one.
        """
        state = self.state
        settled = state.step - state.phase_start >= self._settled()
        if settled and not state.settled:
            state.settled, state.best, state.worse, state.plateau = True, None, 0, 0
        value = criterion(record, self.objective)
        if not settled or state.best is None or value < state.best:
            state.best, state.best_step, state.worse, state.plateau = value, state.step, 0, 0
            if self.job.leads:
                weights = self.model.state_dict()
                self._check_tensors(weights)
                write_tensors(self.run_folder.folder / "model.safetensors", weights)
        else:
            state.worse, state.plateau = state.worse + 1, state.plateau + 1

    def _settled(self) -> float:
        """The step of the phase from which on nothing changes but the weights."""
        posterior, settled = self.settings.model.posterior, self.objective.settled()
        if isinstance(posterior, SemiImplicitPosterior):
            settled = max(settled, posterior.components.settled(self.planned, self.steps_per_epoch))
        return settled

    def _write(self, record: dict[str, Any]) -> dict[str, Any]:
        """Append a record to the log, with the number of its phase where there are several."""
        if self.settings.phase:
            record["phase"] = self.state.phase
        if self.log is not None:
            with writing(self.log_path):
                self.log.write((json_text(record, indent=None) + "\n").encode())
                self.log.flush()
        return record

    @contextmanager
    def _log_file(self) -> Iterator[None]:
        """The log, open for appending, cut back to what the checkpoint knows of."""
        self.log: BinaryIO | None = None
        self.interval = self.saved = time.monotonic()
        self.tokens_at = self.state.tokens
        if not self.job.leads:
            yield
            return
        self.log = appending(self.log_path)
        try:
            with writing(self.log_path):
                self.log.truncate(self.state.log_bytes)
            yield
        finally:
            with suppress(OSError):  # everything has been flushed, or the failure to do so reported
                self.log.close()

    def _save(self) -> None:
        """Replace the checkpoint, the log on the disk before it; never with anything that is not finite."""
        self.saved = time.monotonic()
        if not self.job.leads:
            return
        assert self.log is not None
        with writing(self.log_path):
            os.fsync(self.log.fileno())
        self.state.log_bytes = self.log_path.stat().st_size
        self.state.sums = {name: float(total) for name, total in self.sums.items()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        self.state.lr = [group["lr"] for group in self.optimizer.param_groups]
        slots = optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer.{name}": tensor for name, tensor in slots.items()}
        self._check_finite({f"the mean {name}": total for name, total in self.state.sums.items()})
        self._check_tensors(tensors)
        write_tensors(self.checkpoint, tensors, self.state.model_dump())

    def _load(self) -> None:
        """Put weights, optimizer and state back to where the checkpoint has them."""
        path = self.checkpoint
        weights, slots, self.state = read_checkpoint(path)
        load_weights(self.model, weights, path)
        check_progress(path, self.state, self.settings, self.total, self.log_path)
        multipliers = dict(self.state.multipliers)
        self._enter()
        self.state.multipliers = multipliers  # those that a phase begins with do not stand in for missing ones
        check_phase(path, self.state, self.objective, self.update, self.optimizer.param_groups[0]["lr"])
        restore_optimizer(path, self.optimizer, slots, self.state)
        self.state.format = FORMAT
        self.sums = {name: torch.tensor(total, dtype=torch.float64) for name, total in self.state.sums.items()}

    def _check_finite(self, numbers: dict[str, Any], prefix: str = "") -> None:
        """Refuse to go on with, or to save, numbers that are not finite."""
        wrong = [
            name for name, number in numbers.items() if isinstance(number, float) and not math.isfinite(number)
        ]
        if wrong:
            raise self._diverged(prefix + ", ".join(wrong))

    def _check_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Refuse to save tensors that are not finite."""
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise self._diverged(name)

    def _diverged(self, what: str) -> WorkError:
        """What to say when training has gone wrong."""
        folder = self.run_folder.folder
        kept = f"The last good checkpoint in {folder} stays" if self.checkpoint.exists() else "None is saved yet"
        lr = self.optimizer.param_groups[0]["lr"]
        return WorkError(
            f"training diverged: {what} is not finite by step {self.state.step}. {kept}. Train anew with a lower "
            f"rate, such as --set train.optimizer.lr={lr / 3:.1g}, or with --set train.clip_norm=1"
        )

    def _agreed(self, flag: bool) -> bool:
        """Whether to stop; with several processes decided together, at logging steps."""
        if self.job.world_size == 1:
            return flag
        if self.state.step % self.settings.train.log_every:
            return False
        return bool(summed(torch.tensor([float(flag)], device=self.job.device)).item())
