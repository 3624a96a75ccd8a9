"""What recipes share: runs that are trained and evaluated once, and gone on with when interrupted."""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from textvae.objective.settings import Settings
    from textvae.run import Run


class Job(NamedTuple):
    """A run to be: its folder, method, `path=value` assignments and tables of settings, and how it is evaluated.

    `judge` writes what a recipe measures to the file `result` of the folder, if that is not the evaluation of
    `split`; it is given the run, the job, and the processor seconds of training, None for a run gone on with.
    """

    folder: Path
    method: str | None
    assignments: tuple[str, ...]
    tables: dict[str, Any]
    split: str = "test"
    iw_samples: int = 100
    iw_sentences: int = 200
    judge: "Callable[[Run, Job, float | None], None] | None" = None
    result: str | None = None

    @property
    def finished(self) -> bool:
        """True once what is measured of the run is there."""
        return (self.folder / (self.result or f"evaluation/{self.split}.json")).exists()


def parser_of(description: str | None, corpora: Collection[str], runs: Path) -> argparse.ArgumentParser:
    """Return a parser of what recipes over several corpora and seeds are asked: corpora, seeds, processes, runs."""

    def known(name: str) -> str:
        if name not in corpora:
            raise argparse.ArgumentTypeError(f"{name}: unknown; known: {', '.join(corpora)}")
        return name

    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", metavar="CORPUS", type=known)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin no run after so long")
    parser.add_argument("--runs", type=Path, default=runs)
    return parser


def texts_of(corpus: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write evenly spaced sentences of each split to files, and return the settings that name them."""
    from textvae.files import write_text
    from textvae.text import grammar, registry
    from textvae.text.readers import read
    from textvae.text.store import spaced

    name, label = corpus["corpus"], corpus.get("label")
    data: dict[str, Any] = {"column": "text", **({"label": label} if label else {})}
    files = {} if name == "grammar" else registry.files(name, None, label)
    column = None if label is None else registry.find(name).label_column(label)
    for split, count in corpus["first"].items():
        data[split] = str(folder / f"{split}.jsonl")
        if Path(data[split]).exists():
            continue
        if name == "grammar":
            lines = [{"text": text} for text in grammar.splits()[split]]
        else:
            found = read(files[split], None, column)
            lines = [{"text": one.text, **({label: one.label} if label else {})} for one in found]
        kept = [json.dumps(lines[number], ensure_ascii=False) for number in spaced(len(lines), count)]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(Path(data[split]), "\n".join(kept) + "\n")
    return data


def slug(name: str) -> str:
    """A row's name as part of a folder's."""
    return "".join(letter if letter.isalnum() or letter == "." else "_" for letter in name)


def done(jobs: Sequence[Job], processes: int, minutes: float | None = None) -> list[str]:
    """Train and evaluate the runs, each in a process of one thread; what went wrong, a line for each that did.

    Finished runs are used again, unfinished ones are gone on with. After so many `minutes` no run is begun: those
    that are left are named among what went wrong.
    """
    from textvae.training.launch import end_with_parent

    until = None if minutes is None else time.time() + 60 * minutes
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, end_with_parent, maxtasksperchild=1) as pool:
        found = pool.imap(_in_time, [(job, until) for job in jobs], chunksize=1)
        failed = [problem for problem in found if problem]
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    return failed


def used(settings: "Settings") -> dict[str, Any]:
    """The settings that decide on a run: without what `precision = "auto"` became, and what no phase uses."""
    document = settings.document()
    del document["train"]["precision"]
    if settings.phased():
        del document["objective"]
    return document


def _in_time(given: tuple[Job, float | None]) -> str | None:
    """One run, unless it is too late to begin it; what went wrong, if something did."""
    job, until = given
    if until is not None and time.time() > until and not job.finished:
        return f"{job.folder.name}: not begun, the time was over"
    return _done(job)


def _done(job: Job) -> str | None:
    """Train and evaluate one run, unless that has been done; what went wrong, if something did."""
    import torch

    from textvae.errors import RequestError, WorkError
    from textvae.evaluation.evaluate import evaluate
    from textvae.objective.presets import load_settings
    from textvae.run import Run
    from textvae.training.loop import resume, train

    torch.set_num_threads(1)
    began: float | None = time.process_time()
    try:
        settings = load_settings(None, job.method, job.assignments, **job.tables)
        if not (job.folder / "environment.json").exists():
            train(settings, job.folder)
        elif used(Run.open(job.folder).settings) != used(settings):
            return f"{job.folder.name}: was made with other settings; delete {job.folder} to train it anew"
        elif job.finished:
            return None
        else:
            began = None
            resume(job.folder)
        if job.judge is None:
            evaluate(job.folder, job.split, job.iw_samples, job.iw_sentences)
        else:
            job.judge(Run.open(job.folder), job, None if began is None else time.process_time() - began)
    except (RequestError, WorkError) as error:
        return f"{job.folder.name}: {error}"
    except Exception:
        return f"{job.folder.name}: {traceback.format_exc()}"
    print(f"done: {job.folder.name}", file=sys.stderr, flush=True)
    return None
