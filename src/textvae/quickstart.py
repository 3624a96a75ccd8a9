"""`textvae quickstart`: a VAE that collapses beside one that does not, on the embedded corpus."""

import multiprocessing
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from textvae.errors import RequestError, WorkError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.opened import open_run
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.progress import PartProgress, Progress
from textvae.report.content import RunReport
from textvae.report.page import write_report
from textvae.report.run_report import attributes_of, labelled, run_report
from textvae.run import Run
from textvae.settings import merge
from textvae.text.corpus import open_corpus
from textvae.training.choice import AIMS
from textvae.training.launch import end_with_parent, interruptible
from textvae.training.loop import resume, train

# Methods, and the aim of each.
METHODS = {"vanilla": None, "auto": "generation"}
# Small enough for a few minutes on two cores.
TABLES: dict[str, Any] = {
    "data": {"corpus": "grammar"},
    "model": {
        "latent": 16,
        "embedding": 64,
        "encoder": {"hidden": 128},
        "decoder": {"hidden": 128, "dropout": 0.2},
    },
    "train": {"epochs": 5, "batch_size": 32, "optimizer": {"lr": 2e-3}},
}


def quickstart(out: Path, seed: int = 0, progress: PartProgress | None = None) -> list[RunReport]:
    """Train, evaluate, diagnose and sample both models; write `report.html` into `out`.

    The two models are trained side by side, each in its own process with one thread, because at this size a second
    thread gains nothing. Finished runs in `out` are used again and unfinished ones are resumed.

    Raises:
        RequestError: If `out` holds runs with other settings.
        WorkError: If training diverges or the disk fails.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with checkpoints saved.
    """
    corpus = open_corpus(settings_of("vanilla", seed).data)  # built once, before both need it
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    workers = [context.Process(target=_work, args=(out, method, seed, messages)) for method in METHODS]
    for worker in workers:
        worker.start()
    try:
        with interruptible() as interrupted:
            reports = _listen(workers, messages, progress, interrupted)
    except BaseException:
        for worker in workers:
            worker.terminate()  # SIGTERM: saves, then stops
        raise
    finally:
        for worker in workers:
            worker.join()
    attributes = attributes_of(corpus.tokenizer, corpus.split("test"))
    found = labelled([reports[method] for method in METHODS], attributes)
    write_report(out / "report.html", "textvae quickstart: does the code get used?", found)
    return found


def _work(out: Path, method: str, seed: int, messages: Any) -> None:
    """Train and evaluate one model; put progress, an error, or its report at the end into the queue."""
    end_with_parent()
    torch.set_num_threads(1)

    def report(part: str) -> Progress:
        return lambda now, total: messages.put((f"{part} {method}", now, total))

    try:
        run = _trained(out / method, settings_of(method, seed), report("training"))
        trained = open_run(run)
        evaluation = evaluate(trained, "test", progress=report("evaluating"))
        messages.put(run_report(trained, "test", evaluation, seed))
    except (RequestError, WorkError) as error:
        messages.put(error)
    except KeyboardInterrupt:  # the checkpoint is saved, and the parent reports the interruption
        messages.cancel_join_thread()  # the parent reads no more messages, or has ended


def _listen(
    workers: list[Any],
    messages: Any,
    progress: PartProgress | None,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[str, RunReport]:
    """Forward progress until every worker has sent its report; return the reports by name.

    Raises:
        RequestError, WorkError: The error of any worker.
    """
    reports = dict[str, RunReport]()
    while len(reports) < len(workers):
        if interrupted():
            raise KeyboardInterrupt
        try:
            message = messages.get(timeout=1.0)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers) and messages.empty():
                raise WorkError(
                    "quickstart: a training process ended without an error message; try again"
                ) from None
            continue
        if isinstance(message, RunReport):
            reports[message.name] = message
        elif isinstance(message, Exception):
            raise message
        elif progress is not None:
            progress(*message)
    return reports


def settings_of(method: str, seed: int) -> Settings:
    """Return the quickstart's settings for a method."""
    aim = METHODS[method]
    tables = merge(merge(TABLES, {"train": {"seed": seed}}), AIMS[aim] if aim else {})
    return load_settings(None, method, **tables)


def _trained(folder: Path, settings: Settings, progress: Progress) -> Run:
    """Return the finished run in a folder, after training or resuming it where necessary."""

    def step(now: int, total: int, record: dict[str, Any] | None) -> None:
        progress(now, total)

    if not (folder / "environment.json").exists():
        return train(settings, folder, step)
    existing = Run.open(folder).settings
    precision = {"precision": existing.train.precision}
    if existing != settings.model_copy(update={"train": settings.train.model_copy(update=precision)}):
        raise RequestError(f"{folder}: holds a run with other settings; give another --out or delete it")
    return resume(folder, step)
