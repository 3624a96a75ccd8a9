"""Surroundings of the training loop: precision, planned steps, checks before the first step, and Ctrl-C."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from textvae.errors import RequestError
from textvae.objective.objective import Objective
from textvae.objective.settings import Settings
from textvae.objective.terms.mu_forcing import MuForcing
from textvae.parts.settings import ModelSettings
from textvae.settings import Data
from textvae.text.conditions import MISSING
from textvae.text.corpus import Corpus, sample_of
from textvae.text.coverage import MANY_UNKNOWN, fewer_unknown, unknown_tokens
from textvae.training.epochs import epoch_data
from textvae.training.memory import check_memory


def precision_for(settings: Settings, vocabulary: int) -> str:
    """Return the precision of a run; "auto" is bf16 where the hardware has it and the model is big enough.

    Below about 150,000 weights in the decoder's products, conversions cost more than they save: those of
    the vocabulary's projection, and about four times the square of its units.
    """
    if settings.train.precision != "auto":
        return settings.train.precision
    if settings.train.device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    hidden = settings.model.decoder.softmax_size
    large = hidden * (vocabulary + 4 * hidden) >= 150_000
    return "bf16" if large and has_bf16_units() else "fp32"


def has_bf16_units() -> bool:
    """Return True if this CPU multiplies bfloat16 matrices in hardware."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)


def planned_steps(settings: Settings, per_epoch: int) -> int:
    """Return the number of steps of a run unless it stops early, which schedules count in."""
    steps = settings.train.epochs * per_epoch
    return min(steps, settings.train.max_steps or steps)


def check_trainable(settings: Settings, corpus: Corpus, processes: int, device: torch.device) -> None:
    """Refuse what cannot be trained by so many processes on such a device.

    A corpus without validation or smaller than a batch, a batch smaller than there are processes, and a model that
    does not fit in memory.
    """
    if "valid" not in corpus.splits:
        raise RequestError(
            f"data: {corpus.name} has no validation split, which says when a model is best; "
            "give data.valid, or for a single file a data.split.valid above 0"
        )
    refuse_missing_labels(corpus, settings.model.conditioner.infers)
    sentences, size = len(corpus.split("train")), settings.train.batch_size
    if sentences < size:
        raise RequestError(
            f"train.batch_size = {size}: the training split of {corpus.name} has only {sentences} sentences; "
            f"give more text, or --set train.batch_size={sentences} or less"
        )
    store, batches = epoch_data(corpus.split("train"), settings, 0)
    smallest = min(len(rows) for rows in batches)
    if smallest < processes and settings.train.batches == "equal-length":
        raise RequestError(
            f"train.batches = 'equal-length': a length that few sentences have gives a batch of {smallest}, less "
            f"than a sentence for each of {processes} processes; train in one process, or with 'bucketed'"
        )
    if smallest < processes:
        raise RequestError(f"train.batch_size = {size}: is less than a sentence for each of {processes} processes")
    padded = max(len(rows) * int(store.lengths[rows].max()) for rows in batches)
    names = corpus.split("train").conditions
    check_memory(settings, len(corpus.tokenizer), padded, device, None if names is None else names.names)


def refuse_missing_labels(corpus: Corpus, infers: bool) -> None:
    """Refuse sentences without a label that the model is conditioned on, but for training ones if it infers it."""
    for name, store in corpus.splits.items():
        if store.conditions is None or (infers and name == "train"):
            continue
        for column, values in zip(store.conditions.names, store.conditions.values.T, strict=True):
            if missing := int((values == MISSING).sum()):
                raise RequestError(
                    f"data.condition_on: {missing:,} of {len(values):,} sentences of the {name} split have no "
                    f"{column!r}; leave them out, give them a label, or infer those of training sentences "
                    "(model.conditioner.infer = true, with objective.inferred-labels)"
                )


def warn_of_unknown_words(data: Data, corpus: Corpus) -> None:
    """Warn of a training or validation text with many unknown tokens, with what lowers their number."""
    shares = {name: unknown_tokens(corpus.split(name)) for name in ("train", "valid")}
    if max(shares.values()) >= MANY_UNKNOWN:
        told = " and ".join(f"{share:.1%} of {name}" for name, share in shares.items())
        warnings.warn(
            f"unknown words are {told}: {fewer_unknown(data, corpus.tokenizer, sample_of(data))}", stacklevel=2
        )


def check_schedules(
    objective: Objective, model: ModelSettings, planned: int, per_epoch: int, warn: bool = True
) -> None:
    """Refuse more cycles than a phase has steps; warn of schedules too long and a mu-forcing too weak."""
    named = {f"the weight of {name}": term.weight for name, term in objective.terms.items()}
    named |= {f"model.{name}": schedule for name, schedule in model.schedules().items()}
    for name, term in objective.terms.items():
        weight, settled = term.weight.settled(planned, per_epoch), term.settled(planned, per_epoch)
        if warn and settled > max(planned, weight):
            warnings.warn(
                f"{name} comes to its target at step {settled:,.0f} of {planned:,}, so it does not; lower its "
                "ramp_epochs, or train for longer",
                stacklevel=2,
            )
    for name, schedule in named.items():
        if schedule.schedule == "cyclical" and schedule.cycles > planned:
            raise RequestError(f"{name}: {schedule.cycles} cycles in {planned} steps; give fewer cycles")
        settled = schedule.settled(planned, per_epoch)
        if warn and settled > planned:
            last = schedule(planned - 1, planned, per_epoch)
            warnings.warn(
                f"{name} comes to its end at step {settled:,.0f} of {planned:,}: it gets to {last:.2g}; "
                "shorten it, or give its length in shares with unit = 'run'",
                stacklevel=2,
            )
    if warn:
        _check_forcing(objective, model)


def _check_forcing(objective: Objective, model: ModelSettings) -> None:
    """Warn of a mu-forcing that pulls means apart less hard than the KL pulls them together."""
    forcing, kl = objective.terms.get("mu-forcing"), objective.terms.get("kl")
    if isinstance(forcing, MuForcing) and kl is not None:
        own, balance = forcing.weight.final, forcing.balance(model.latent, kl.weight.final)
        if own < balance:
            warnings.warn(
                f"mu-forcing at weight {own:g} pulls the means apart {own / balance:.2g} times as hard as the KL "
                f"pulls them together, so they may not come to its margin; give it a weight of {balance:g} or more",
                stacklevel=3,
            )


# Seconds that a process has to save and end after the one that started it is gone.
GRACE = 30.0


def end_with_parent() -> None:
    """End this process of `multiprocessing` when the one that started it is gone, however that ended.

    It gets SIGTERM, on which training saves and stops, and after `GRACE` seconds it ends in any case. To be called
    first in the process; `initializer=end_with_parent` in those of a pool.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    watched = parent

    def watch() -> None:
        watched.join()  # a pipe that closes with the parent: nobody else's number can be taken for it
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


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
