"""The training loop, top to bottom: `train` starts a run, `resume` goes on with one, `Loop.run` is the loop."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from lightning_fabric import Fabric

from textvae.batches import TokenStore, collate, epoch_batches
from textvae.data import Corpus, open_corpus
from textvae.errors import RequestError, WorkError
from textvae.files import read_tensors, write_tensors, writing
from textvae.metrics.latent import active_units
from textvae.metrics.likelihood import perplexity
from textvae.model import TextVAE, build
from textvae.objective import Objective
from textvae.parts.gather import summed
from textvae.parts.noise import mixed, step_noise
from textvae.run import Run, check_same_data, load_weights
from textvae.scores import information, on, score
from textvae.settings import Settings
from textvae.updates import joint, optimizer_for

# Called after every step with the step, the planned total and the newest log record, if there is a new one.
Progress = Callable[[int, int, dict[str, Any] | None], None]

# Posteriors mixed in the validation MI; its ceiling ln N is printed beside it.
MI_SENTENCES = 2000


@dataclass
class State:
    """All that a run needs, beside weights and optimizer, to go on as if it had never stopped."""

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    worse: int = 0  # validations since the best one
    plateau: int = 0  # validations since the best one or the last decay
    finished: bool = False
    log_bytes: int = 0
    sentences: int = 0  # of the logging interval under way, as the next two
    tokens: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def train(settings: Settings, out: Path, progress: Progress | None = None) -> Run:
    """Train a model from settings into a new run folder.

    Under `torchrun` every process calls this; together they take the steps that one process would.

    Raises:
        RequestError: when data or settings cannot be used, or the folder exists.
        WorkError: when training diverges or the disk fails; the last good checkpoint stays.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint saved.
    """
    corpus = open_corpus(settings.data)
    precision = precision_for(settings, len(corpus.tokenizer))
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"precision": precision})})
    fabric = launched(settings)
    check_trainable(settings, corpus, fabric.world_size)
    if fabric.is_global_zero:
        Run.create(out, settings, corpus.tokenizer, corpus.description())
    fabric.barrier()
    run = Run.open(out)
    Loop(run, corpus, fabric).run(progress)
    return run


def resume(folder: Path, progress: Progress | None = None) -> Run:
    """Go on with a run from its last checkpoint; it ends as it would have without the interruption.

    Raises:
        RequestError: when there is no such run, or its data has changed.
        WorkError: as `train`.
    """
    run = Run.open(folder)
    corpus = open_corpus(run.settings.data)
    fabric = launched(run.settings)
    check_same_data(run, corpus)
    check_trainable(run.settings, corpus, fabric.world_size)
    Loop(run, corpus, fabric).run(progress)
    return run


class Loop:
    """One run under way: the model, its optimizer and the state that a checkpoint holds."""

    def __init__(self, run: Run, corpus: Corpus, fabric: Fabric) -> None:
        settings = run.settings
        self.run_folder, self.settings, self.fabric = run, settings, fabric
        self.corpus, self.store = corpus, corpus.split("train")
        with torch.random.fork_rng(used(fabric)):
            torch.manual_seed(settings.train.seed)
            self.model: TextVAE = build(settings.model, len(corpus.tokenizer))
        fabric.to_device(self.model)  # now, because a checkpoint's optimizer slots are put where the weights are
        self.optimizer = optimizer_for(self.model.parameters(), settings.train.optimizer)
        self.state, self.sums = State(), dict[str, Any]()
        self.batches_of, self.batches = -1, list[np.ndarray]()
        self.steps_per_epoch = math.ceil(len(self.store) / settings.train.batch_size)
        self.total = planned_steps(settings, len(self.store))
        self.objective = Objective(settings.objective, self.total)
        self.interval = self.saved = time.monotonic()
        self.tokens_at = 0
        self.log_path = run.folder / "log.jsonl"
        self.checkpoint = run.folder / "checkpoint" / "last.safetensors"
        if self.checkpoint.exists():
            self._load()
        self.module, self.wrapped_optimizer = fabric.setup(self.model, self.optimizer)

    def run(self, progress: Progress | None = None) -> None:
        """Take the steps that are left; log, validate and save along the way."""
        state, train = self.state, self.settings.train
        validate_every = train.validate_every or self.steps_per_epoch
        with self._log_file(), torch.random.fork_rng(used(self.fabric)), interruptible() as interrupted:
            while not state.finished:
                self._step()
                record = None
                state.finished = state.step == self.total
                if state.step % train.log_every == 0 or state.finished:
                    record = self._log_training()
                if state.step % validate_every == 0 or state.finished:
                    record = self._validate()
                    state.finished |= bool(train.patience and state.worse >= train.patience)
                if progress is not None:
                    progress(state.step, self.total, record)
                stop = self._agreed(interrupted())
                due = time.monotonic() - self.saved > train.checkpoint_seconds
                if state.finished or stop or due or (record and record["split"] == "valid"):
                    self._save()
                if stop and not state.finished:
                    raise KeyboardInterrupt

    def _step(self) -> None:
        """One update on the next global batch; its randomness depends on the seed and the step alone."""
        state, train = self.state, self.settings.train
        epoch, position = divmod(state.step, self.steps_per_epoch)
        if self.batches_of != epoch:
            self.batches_of = epoch
            self.batches = epoch_batches(self.store.lengths, train.batch_size, train.seed, epoch)
        rows = self.batches[position]
        rank, world = self.fabric.global_rank, self.fabric.world_size
        torch.manual_seed(mixed(train.seed, state.step, rank))  # dropout and word dropout
        edges = [len(rows) * r // world for r in (rank, rank + 1)]
        batch = on(self.fabric.device, collate(self.store, rows[slice(*edges)]))
        noise = step_noise(train.seed, state.step, len(rows), slice(*edges), self.fabric.device)
        raw = joint(
            self.fabric,
            self.module,
            self.objective,
            self.wrapped_optimizer,
            batch,
            noise,
            state.step,
            train.clip_norm,
            train.clip_value,
        )
        for name, value in raw.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.double() * len(rows)
        state.sentences += len(rows)
        state.tokens += int(self.store.lengths[rows].sum())
        state.step += 1

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
            "weights": self.objective.weights(state.step - 1),
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
        found = validation(self.model, store, train.seed)
        self._check_finite(found, "the validation ")
        record = {
            "step": state.step,
            "epoch": state.step / self.steps_per_epoch,
            "split": "valid",
            **found,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        if record["bound"] < state.best:
            state.best, state.best_step, state.worse, state.plateau = record["bound"], state.step, 0, 0
            if self.fabric.is_global_zero:
                weights = self.model.state_dict()
                self._check_tensors(weights)
                write_tensors(self.run_folder.folder / "model.safetensors", weights)
        else:
            state.worse, state.plateau = state.worse + 1, state.plateau + 1
        if train.plateau and state.plateau >= train.plateau.patience:
            state.plateau = 0
            for group in self.optimizer.param_groups:
                decayed = max(group["lr"] * train.plateau.factor, train.plateau.min_lr)
                group["lr"] = min(group["lr"], decayed)  # a rate below min_lr from the start stays
        self.interval += time.monotonic() - began  # validation does not count in tokens per second
        return self._write(record)

    def _write(self, record: dict[str, Any]) -> dict[str, Any]:
        """Append a record to the log."""
        if self.log is not None:
            with writing(self.log_path):
                self.log.write((json.dumps(record, allow_nan=False) + "\n").encode())
                self.log.flush()
        return record

    @contextmanager
    def _log_file(self) -> Iterator[None]:
        """The log, open for appending, cut back to what the checkpoint knows of."""
        self.log: BinaryIO | None = None
        self.interval = self.saved = time.monotonic()
        self.tokens_at = self.state.tokens
        if not self.fabric.is_global_zero:
            yield
            return
        with writing(self.log_path):
            self.log = open(self.log_path, "ab")
        try:
            if self.log.tell() < self.state.log_bytes:
                raise RequestError(f"{self.log_path}: cut short; put an intact copy back, or train anew")
            with writing(self.log_path):
                self.log.truncate(self.state.log_bytes)
            yield
        finally:
            with suppress(OSError):  # everything has been flushed, or the failure to do so reported
                self.log.close()

    def _save(self) -> None:
        """Replace the checkpoint, the log on the disk before it; never with anything that is not finite."""
        self.saved = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        assert self.log is not None
        with writing(self.log_path):
            os.fsync(self.log.fileno())
        self.state.log_bytes = self.log_path.stat().st_size
        self.state.sums = {name: float(total) for name, total in self.sums.items()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        for number, slots in optimizer["state"].items():
            for name, value in slots.items():
                if value is not None:  # sgd without momentum has an empty slot
                    tensors[f"optimizer.{number}.{name}"] = value
        self._check_finite({f"the mean {name}": total for name, total in self.state.sums.items()})
        self._check_tensors(tensors)
        lr = [group["lr"] for group in optimizer["param_groups"]]
        write_tensors(self.checkpoint, tensors, {**asdict(self.state), "lr": lr})

    def _load(self) -> None:
        """Put weights, optimizer and state back to where the checkpoint has them."""
        tensors, state = read_tensors(self.checkpoint)
        weights = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        load_weights(self.model, weights, self.checkpoint)
        slots: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, slot = name.split(".", 2)
                slots.setdefault(int(number), {})[slot] = tensor
        try:
            groups = self.optimizer.state_dict()["param_groups"]
            for group, lr in zip(groups, state.pop("lr"), strict=True):
                group["lr"] = lr
            self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
            self.state = State(**state)
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"{self.checkpoint}: damaged: {error}") from None
        self.sums = {name: torch.tensor(total, dtype=torch.float64) for name, total in self.state.sums.items()}

    def _check_finite(self, numbers: dict[str, Any], prefix: str = "") -> None:
        """Refuse to go on with, or to save, numbers that are not finite."""
        wrong = [name for name, number in numbers.items() if number is not None and not math.isfinite(number)]
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
        if self.fabric.world_size == 1:
            return flag
        if self.state.step % self.settings.train.log_every:
            return False
        return bool(summed(torch.tensor([float(flag)], device=self.fabric.device)).item())


def validation(model: TextVAE, store: TokenStore, seed: int) -> dict[str, Any]:
    """What a validation logs: weight 1, dropout off, float32, every sentence once; nats per sentence."""
    scores = score(model, store, seed)
    bound = scores.bound.sum().item()
    words = perplexity(bound, scores.tokens)
    found: dict[str, Any] = {
        "reconstruction": scores.reconstruction.mean().item(),
        "bound": bound / len(scores),
        # Of a bound that is finite and huge, as before the KL has a weight, the perplexity overflows.
        "perplexity_bound": words if math.isfinite(words) else None,
    }
    if scores.rate is not None and scores.posterior is not None and scores.z is not None:
        mutual = information(scores, MI_SENTENCES)
        found |= {
            "kl": scores.rate.mean().item(),
            "mutual_information": mutual.nats,
            "mutual_information_sentences": mutual.sentences,
            "active_units": active_units(scores.posterior.mean, 0.01),
        }
    return found


def launched(settings: Settings) -> Fabric:
    """Fabric on the device that settings ask for; under `torchrun` one of its processes."""
    wanted = settings.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("train.device = 'cuda': no CUDA device is visible; use 'cpu' or 'auto'")
    accelerator = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
    world, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    precision: Literal["bf16-mixed", "32-true"]
    precision = "bf16-mixed" if settings.train.precision == "bf16" else "32-true"
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric


def precision_for(settings: Settings, vocabulary: int) -> str:
    """What `precision = "auto"` means here: bf16 where the hardware has it and the model is big enough.

    Below about a hundred thousand weights in the vocabulary's projection, conversions cost more than they save.
    """
    if settings.train.precision != "auto":
        return settings.train.precision
    if settings.train.device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    large = vocabulary * settings.model.decoder.hidden >= 100_000
    return "bf16" if large and has_bf16_units() else "fp32"


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)


def planned_steps(settings: Settings, sentences: int) -> int:
    """How many steps a run takes unless it stops early: schedules count in these."""
    steps = settings.train.epochs * math.ceil(sentences / settings.train.batch_size)
    return min(steps, settings.train.max_steps or steps)


def used(fabric: Fabric) -> list[torch.device]:
    """The devices beside the CPU whose random numbers training draws."""
    return [fabric.device] if fabric.device.type == "cuda" else []


def check_trainable(settings: Settings, corpus: Corpus, processes: int) -> None:
    """Refuse a corpus without validation or smaller than a batch, and a batch smaller than there are processes."""
    if "valid" not in corpus.splits:
        raise RequestError(
            f"data: {corpus.name} has no validation split, which says when a model is best; "
            "give data.valid, or for a single file a data.split.valid above 0"
        )
    sentences, size = len(corpus.split("train")), settings.train.batch_size
    if sentences < size:
        raise RequestError(
            f"train.batch_size = {size}: the training split of {corpus.name} has only {sentences} sentences; "
            f"give more text, or --set train.batch_size={sentences} or less"
        )
    smallest = sentences // math.ceil(sentences / size)
    if smallest < processes:
        raise RequestError(f"train.batch_size = {size}: is less than a sentence for each of {processes} processes")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after its step; another Ctrl-C, a second later, stops at once.

    Within that second it may be the same one: `torchrun` hands a Ctrl-C on to processes that have had it already.
    """
    asked: list[float] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(time.monotonic())
        if number == signal.SIGINT and asked[-1] - asked[0] > 1:
            raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):  # ignored, as with nohup, or not Python's to put back
                signal.signal(number, ask)
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
