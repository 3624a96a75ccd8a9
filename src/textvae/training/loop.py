"""The training loop, top to bottom: `train` starts a run, `resume` continues one, `Loop.run` is the loop."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from textvae.errors import RequestError
from textvae.files import write_tensors
from textvae.inference import restate, validation
from textvae.model import TextVAE, build
from textvae.objective.objective import criterion
from textvae.objective.settings import Settings
from textvae.parts.gather import summed
from textvae.parts.refinement import frozen
from textvae.progress import StepProgress, visible
from textvae.run import Run, load_weights
from textvae.run.data import corpus_of
from textvae.run.records import label_names, read_log, with_changes
from textvae.text.corpus import Corpus, open_corpus
from textvae.training.changes import changes_of, check_changes, ends, require_terms
from textvae.training.checkpoint import (
    FORMAT,
    State,
    check_phase,
    check_progress,
    diverged,
    finite,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
)
from textvae.training.epochs import INNER, Epochs
from textvae.training.finish import finish
from textvae.training.job import Job, join
from textvae.training.launch import (
    check_trainable,
    interruptible,
    planned_steps,
    precision_for,
    warn_of_unknown_words,
)
from textvae.training.log import Log
from textvae.training.looks import looks
from textvae.training.phase import Stage, begin_next, enter, reset
from textvae.training.start import check_labels, check_start, load_start, with_tokenizer_of
from textvae.training.updates import StepInput, encoder_updates


def train(
    settings: Settings,
    out: Path | str,
    progress: StepProgress | None = None,
    start: Path | str | Run | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Run:
    """Train a model from settings into a new run folder, from the weights of the run `start` if that is given.

    The tokenizer is then that of `start`, whose model must be that of the settings. Under `torchrun` every process
    calls this; together they take the steps that one process would. `prepare` is called once the folder is there
    and locked, before the text is read.

    Raises:
        RequestError: when data or settings cannot be used, or the folder exists or is in use.
        WorkError: when training diverges or the disk fails; the last good checkpoint stays.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint saved.
    """
    source = None if start is None else Run.open(start)
    if source is not None:
        settings = with_tokenizer_of(settings, source)
    record = None if source is None else check_start(settings, source, Path(out))
    job = join(settings)
    with job.training(Path(out), new=True):
        prepare()
        corpus = open_corpus(settings.data)
        if source is not None:
            check_labels(source, corpus)
        precision = precision_for(settings, len(corpus.tokenizer))
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"precision": precision})})
        job = replace(job, bf16=precision == "bf16")
        check_trainable(settings, corpus, job.world_size, job.device)
        if job.leads:
            warn_of_unknown_words(settings.data, corpus)
            Run.create(Path(out), settings, corpus.tokenizer, corpus.description(), record)
        job.barrier()
        run = Run.open(out)
        Loop(run, corpus, job).run(progress)
        finish(run, job)
    return run


def resume(
    folder: Path | str | Run, progress: StepProgress | bool | None = True, assignments: Iterable[str] = ()
) -> Run:
    """Continue a run from its last checkpoint; it ends as it would have without the interruption.

    `progress` is as in `textvae.train`. `assignments`, as `train.epochs=40`, change settings from this step on,
    those of `changes.MAY`.

    Raises:
        RequestError: when there is no such run, another process trains it, or its data has changed.
        WorkError: as `train`.
    """
    run = Run.open(folder)
    if run.environment.get("packed"):
        raise RequestError(
            f"{run.folder}: is a packed run, which leaves out the checkpoint that training resumes from; resume "
            f"the run that it was packed from, or start a new one from its weights with --from {run.folder}"
        )
    require_terms(run)
    changes = changes_of(run, assignments)
    settings = with_changes(run.settings, [changes])
    corpus = corpus_of(run)
    job = join(settings)
    check_trainable(settings, corpus, job.world_size, job.device)
    with job.training(run.folder):
        if changes:
            checkpoint = run.folder / "checkpoint" / "last.safetensors"
            state = read_checkpoint(checkpoint)[2] if checkpoint.exists() else State()
            check_changes(run, settings, state, Epochs(corpus.split("train"), settings, job).per_epoch)
            if job.leads:
                run.change(state.step, changes)
            job.barrier()
            run = Run.open(run.folder, run.text)
        with visible(progress, str(run.folder), "step") as told:
            Loop(run, corpus, job).run(told)
        finish(run, job)
    return run


class Loop:
    """One run under way: the model, the phase that it is in, its log and the state that a checkpoint holds."""

    def __init__(self, run: Run, corpus: Corpus, job: Job) -> None:
        settings = run.settings
        self.folder, self.settings, self.job, self.corpus = run.folder, settings, job, corpus
        with job.undisturbed():
            torch.manual_seed(settings.train.seed)
            self.model: TextVAE = build(
                settings.model,
                len(corpus.tokenizer),
                settings.terms(),
                settings.data.positions,
                label_names(run.environment),
            )
        self.model.to(job.device)  # now, because a checkpoint's optimizer slots are put where the weights are
        self.epochs = Epochs(corpus.split("train"), settings, job)
        self.total = planned_steps(settings, self.epochs.per_epoch)
        self.made_for = planned_steps(run.made, self.epochs.per_epoch)  # shares of the run stay shares of this
        self.before = settings  # as the checkpoint was saved by
        self.log = Log(run.folder / "log.jsonl", job.leads, bool(settings.phase))
        self.checkpoint = run.folder / "checkpoint" / "last.safetensors"
        self.state, self.saved = State(), 0.0
        if self.checkpoint.exists():
            self._load(run)
        else:
            load_start(self.model, run)
            self._enter()

    def run(self, progress: StepProgress | None = None) -> None:
        """Take the steps that are left; log, validate and save along the way."""
        state, train = self.state, self.settings.train
        validate_every = train.validate_every or self.epochs.per_epoch
        self.saved = time.monotonic()
        with self.log.opened(state), self.job.undisturbed(), interruptible() as interrupted:
            if self.before != self.settings:
                self._adopt()
            while not state.finished:
                self._step()
                self._look()
                record = None
                state.finished = state.step == self.total
                if state.step % train.log_every == 0 or state.finished:
                    record = self._log_training()
                if state.step % validate_every == 0 or state.finished:
                    record = self._validate()
                    state.finished |= bool(self.stage.last and train.patience and state.worse >= train.patience)
                if not state.finished and self.stage.is_over(state):
                    if state.sentences:  # a record is of one phase
                        self._log_training()
                    begin_next(state)
                    self._enter()
                    reset(self.model, self.stage, self.settings, state.step)
                if progress is not None:
                    progress(state.step, self.total, record)
                stop = self._agreed(interrupted())
                due = time.monotonic() - self.saved > train.checkpoint_seconds
                if state.finished or stop or due or (record and record["split"] == "valid"):
                    self._save()
                if stop and not state.finished:
                    raise KeyboardInterrupt

    def _enter(self) -> None:
        """Set up the phase that the state is in."""
        per_epoch = self.epochs.per_epoch
        total = self.made_for if self.made_for > self.state.phase_start else self.total
        self.stage: Stage = enter(self.settings, self.state, self.model, self.job, total, per_epoch)
        self.epochs.keep = self.stage.encoder_first is not None

    def _step(self) -> None:
        """Take one step on the next global batch; its randomness depends on the seed and the step alone."""
        state, stage, epochs = self.state, self.stage, self.epochs
        epoch, position = divmod(state.step, epochs.per_epoch)
        epochs.turn_to(epoch)
        self._decay(state.step - state.phase_start)
        if stage.encoder_first is not None and state.aggressive:
            encoder_updates(self._encoder_update, stage.encoder_first)
        raw = stage.update.step(self._given(position, state.step))
        for name, term in stage.objective.terms.items():
            if term.learned:
                values = {part: float(value) for part, value in raw.items()}
                state.multipliers[name] = term.multiplier(state.multipliers.get(name), values)
        self.log.add(state, raw, epochs.sentences(position), epochs.tokens(position))
        state.step += 1

    def _look(self) -> None:
        """Look at validation sentences for the terms that ask for it now, and change their weights."""
        state, valid = self.state, self.corpus.split("valid")
        for seconds, seen in looks(self.model, valid, self.stage, state, self.settings.train.seed):
            self._check_finite(seen, "at a look the ")
            epoch = state.step / self.epochs.per_epoch
            self.log.write(state, {"step": state.step, "epoch": epoch, "split": "look", **seen})
            self.log.pause(seconds)  # as validation

    def _given(self, position: int, number: int, share: float = 1.0, *stream: int) -> StepInput:
        """Return the input of an update on one of the epoch's batches, with the random numbers of `number`.

        `share` is that of the components that stand beside each code at this step.
        """
        state, model = self.state, self.settings.model
        step = state.step - state.phase_start
        at = (step, self.stage.planned, self.epochs.per_epoch)
        components = model.posterior.drawn(*at)
        components = None if components is None else round(components * share)
        batch, noise = self.epochs.given(position, number, *stream)
        beta = None if model.multi_rate is None else model.multi_rate.drawn(noise, *at)
        return StepInput(batch, noise, step, model.posterior.codes(), components, state.multipliers, beta)

    def _encoder_update(self, number: int) -> tuple[float, int]:
        """Update the encoder alone on a batch drawn from the epoch's; return its nats and tokens."""
        state, encoder_first = self.state, self.stage.encoder_first
        assert encoder_first is not None
        position = self.epochs.position_for(state.inner)
        with frozen(self.model.generative()):
            raw = self.stage.update.step(self._given(position, state.inner, encoder_first.share(number), INNER))
        state.inner += 1
        return float(raw["loss"]) * self.epochs.sentences(position), self.epochs.tokens(position)

    def _decay(self, at: int) -> None:
        """Lower the learning rate at a step of the phase with which an epoch begins, if it falls there."""
        decay = self.settings.train.decay
        epochs, within = divmod(at, self.epochs.per_epoch)
        if decay is not None and not within and decay.falls(epochs):
            for group in self.stage.optimizer.param_groups:
                group["lr"] *= decay.factor

    def _log_training(self) -> dict[str, Any]:
        """Write one record for the steps since the last: means over sentences, raw and unweighted, in nats."""
        state, stage = self.state, self.stage
        means = self.log.means(state)
        self._check_finite(means)
        record = {
            "step": state.step,
            "epoch": state.step / self.epochs.per_epoch,
            "split": "train",
            **means,
            "weights": stage.objective.weights(state.step - 1 - state.phase_start, state.multipliers),
            "lr": stage.optimizer.param_groups[0]["lr"],
            "tokens_per_second": self.log.end_interval(state),
        }
        return self.log.write(state, record)

    def _validate(self) -> dict[str, Any]:
        """Score the validation split; keep the weights if they are to be kept; decay lr on a plateau."""
        state, stage, train = self.state, self.stage, self.settings.train
        began = time.monotonic()
        restate(self.model, self.epochs.store)
        scores = validation(self.model, self.corpus.split("valid"), train.seed)
        self._check_finite(scores, "the validation ")
        record = {
            "step": state.step,
            "epoch": state.step / self.epochs.per_epoch,
            "split": "valid",
            **scores,
            "lr": stage.optimizer.param_groups[0]["lr"],
        }
        if stage.encoder_first is not None and state.aggressive:
            record["inner"] = state.inner
            # The estimate from below, if there is one: that from above counts the component a code was drawn from.
            mutual = record.get("mutual_information_lower", record.get("mutual_information"))
            if stage.encoder_first.until == "mi" and mutual is not None:
                # References: He et al. 2019, section 4.2.
                state.aggressive = state.information is None or mutual > state.information
            state.information = mutual
        self._keep(record)
        if train.plateau and state.plateau >= train.plateau.patience:
            state.plateau = 0
            for group in stage.optimizer.param_groups:
                decayed = max(group["lr"] * train.plateau.factor, train.plateau.min_lr)
                group["lr"] = min(group["lr"], decayed)  # a rate below min_lr from the start stays
        self.log.pause(time.monotonic() - began)  # validation does not count in tokens per second
        return self.log.write(state, record)

    def _keep(self, record: dict[str, Any]) -> None:
        """Keep the weights if this validation is the best since schedules have settled, or if they have not yet.

        With `train.keep = "last"` keep them in any case. While a weight or a target still changes, a validation
        tells how far it has come, not how good the model is: annealing starts with the lowest bound.
        """
        state = self.state
        settled = self._settled()
        if settled and not state.settled:
            state.settled, state.best, state.worse, state.plateau = True, None, 0, 0
        value = criterion(record, self.stage.objective, state.multipliers)
        better = not settled or state.best is None or value < state.best
        if better:
            state.best, state.best_step, state.worse, state.plateau = value, state.step, 0, 0
        else:
            state.worse, state.plateau = state.worse + 1, state.plateau + 1
        if better or self.settings.train.keep == "last":
            self._write_weights()

    def _settled(self) -> bool:
        """Return True once all schedules are constant, so that validations can be compared."""
        return self.state.step - self.state.phase_start >= self.stage.settled(self.settings)

    def _write_weights(self) -> None:
        """Make the present weights the model of the run."""
        if self.job.leads:
            weights = self.model.state_dict()
            self._check_finite(weights)
            write_tensors(self.folder / "model.safetensors", weights)

    def _adopt(self) -> None:
        """Go on by settings that have changed since the checkpoint: a new interval of the log, and a new end."""
        state, keep = self.state, self.settings.train.keep
        if state.sentences:
            self._log_training()
        state.settled = state.settled and self._settled()
        if keep != self.before.train.keep and keep == "last" and state.best_step:
            self._write_weights()
        elif keep != self.before.train.keep and not state.finished:  # the weights of the best so far are gone
            state.best, state.best_step, state.worse, state.plateau, state.settled = None, 0, 0, 0, False

    def _save(self) -> None:
        """Replace the checkpoint, the log on the disk before it; never with anything that is not finite."""
        self.saved = time.monotonic()
        if not self.job.leads:
            return
        state, optimizer = self.state, self.stage.optimizer
        self.log.sync(state)
        state.lr = [group["lr"] for group in optimizer.param_groups]
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
        self._check_finite({f"the mean {name}": total for name, total in state.sums.items()})
        self._check_finite(tensors)
        write_tensors(self.checkpoint, tensors, state.model_dump())

    def _load(self, run: Run) -> None:
        """Restore weights, optimizer and state from the checkpoint."""
        path = self.checkpoint
        weights, slots, self.state = read_checkpoint(path)
        load_weights(self.model, weights, path)
        self.before = run.settings_at(self.state.step)
        total = planned_steps(self.before, self.epochs.per_epoch)
        changed = [one["step"] for one in run.environment.get("changes") or () if one["step"] < self.state.step]
        check_progress(path, self.state, self.before, total, self.log.path, max(changed, default=0))
        if self.before != self.settings:
            self.state.finished = ends(self.settings, self.state, self.total)
        multipliers = dict(self.state.multipliers)
        self._enter()
        self.state.multipliers = multipliers  # those that a phase begins with do not stand in for missing ones
        stage = self.stage
        update = stage.settings.update or self.settings.train.update
        check_phase(path, self.state, stage.objective, update, stage.optimizer.param_groups[0]["lr"])
        restore_optimizer(path, stage.optimizer, slots, self.state)
        if self.state.format < 3 and self.state.best_step:  # judged by the bound then, whatever the KL weight
            best = (one for one in read_log(self.log.path) if one["split"] == "valid")
            record = next((one for one in best if one["step"] == self.state.best_step), None)
            self.state.best = self.state.best if record is None else criterion(record, stage.objective, multipliers)
        self.state.format = FORMAT
        self.log.restore(self.state)

    def _check_finite(self, values: Mapping[str, Any], prefix: str = "") -> None:
        """Raise WorkError for numbers and tensors that are not finite."""
        wrong = [name for name, value in values.items() if not finite(value)]
        if wrong:
            what, lr = prefix + ", ".join(wrong), self.stage.optimizer.param_groups[0]["lr"]
            raise diverged(what, self.state.step, lr, self.folder if self.checkpoint.exists() else None)

    def _agreed(self, flag: bool) -> bool:
        """Return whether to stop; several processes decide together, at logging steps."""
        if self.job.world_size == 1:
            return flag
        if self.state.step % self.settings.train.log_every:
            return False
        return bool(summed(torch.tensor([float(flag)], device=self.job.device)).item())
