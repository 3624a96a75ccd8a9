"""The runs of a comparison, read and checked: each with its name, its evaluation and its log."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.importance import AUTO, iw_numbers
from textvae.evaluation.opened import beside, open_run
from textvae.evaluation.record import evaluation_record
from textvae.progress import PartProgress, of_part
from textvae.run import Run
from textvae.run.records import problem

# A number in a name.
NUMBER = re.compile(r"\d+(?:\.\d+)?")
# What a number depends on beside its data, of what `environment.json` knows.
MACHINE = ("textvae", "python", "torch", "numpy", "system", "device", "cores", "threads")


@dataclass(frozen=True, eq=False)
class Member:
    """One run of a comparison; `name` is its folder's, `finished` None where no checkpoint tells.

    `more` is what `evaluate --all` wrote beside the `scores`; empty where it did not.
    """

    name: str
    run: Run
    scores: Mapping[str, Any]
    more: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    finished: bool | None

    def document(self) -> dict[str, Any]:
        """Return what identifies the run and its evaluation, as plain values for JSON."""
        environment = self.run.environment
        reasons = dict(self.scores.get("reasons") or {})
        if self.finished is None:
            reasons["finished"] = "there is no checkpoint, which would tell"
        return {
            "folder": str(self.run.folder),
            "seed": self.run.settings.train.seed,
            "finished": self.finished,
            "signature": self.scores.get("signature"),
            "reasons": reasons,
            "environment": {name: environment.get(name) for name in MACHINE},
            "precision": self.run.settings.train.precision,
        }


def open_runs(
    folders: Sequence[Path], split: str, text: Path | str | None = None, prior: str | None = "usual"
) -> list[Run]:
    """Open finished runs of the same data, whose text is at `text` if that is given.

    Runs with a code are under a prior as in `Run.under`; with None a run comes under its own prior, and once more
    under the fitted one if it has one.

    Raises:
        RequestError: when a folder is no finished run or comes twice, the runs' data differ, and as `Run.under`.
    """
    for place, folder in enumerate(folders):
        for earlier in folders[:place]:
            if same_folder(folder, earlier):
                same = "" if str(folder) == str(earlier) else f", as {earlier}"
                raise RequestError(f"{folder}: given twice{same}; give each run once")
    runs = [Run.open(folder, text) for folder in folders]
    for run in runs:  # before any is evaluated, which takes minutes
        if not (run.folder / "model.safetensors").is_file():
            raise RequestError(
                f"{run.folder / 'model.safetensors'}: not written yet; the run has not finished its first "
                f"validation: go on with `textvae train --resume {run.folder}`"
            )
    check_same_text(runs, split)
    if prior is None:
        both = [(run.under("own"), beside(run)) for run in runs]
        return [one for pair in both for one in pair if one is not None]
    return [run.under(prior if run.settings.model.latent else "own") for run in runs]


def members(
    runs: Sequence[Run],
    split: str,
    numbers: Mapping[str, Any],
    again: bool,
    progress: PartProgress | None,
) -> list[Member]:
    """Return the runs of `open_runs`, those evaluated with these numbers that have not been yet under their prior.

    Raises:
        RequestError: when an evaluation is damaged.
        WorkError: when an evaluation cannot be written.
    """
    found = []
    written = [None if again else _written(run, split) for run in runs]
    alike = numbers_alike(runs, split, numbers, [scores for scores in written if scores is not None])
    for name, run, scores in zip(_names(runs), runs, written, strict=True):
        if scores is None:
            told = of_part(progress, f"evaluating {name}")
            scores = json.loads(json.dumps(evaluate(open_run(run), split, progress=told, **alike)))
        every = run.result(f"evaluation/{split}-all.json")
        more = read_scores(every, run, split) if every.exists() else {}
        more = more if same_prior(more, run) else {}
        found.append(Member(name, run, scores, more, run.log(), _finished(run)))
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, those of their folders; a run that comes twice names its fitted prior once."""
    folders = list(dict.fromkeys(run.folder for run in runs))
    names = dict(zip(folders, unique_names(folders), strict=True))
    own = {run.folder for run in runs if run.fitted is None}
    return [names[run.folder] + " (fitted prior)" * (run.fitted is not None and run.folder in own) for run in runs]


def _written(run: Run, split: str) -> dict[str, Any] | None:
    """Return the evaluation of a run that was written under its prior; None if there is none."""
    path = run.result(f"evaluation/{split}.json")
    scores = read_scores(path, run, split) if path.exists() else None
    return None if scores is None or not same_prior(scores, run) else scores


def numbers_alike(
    runs: Sequence[Run], split: str, numbers: Mapping[str, Any], written: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the numbers to evaluate runs with; `auto` ones are the same for all runs.

    They are those of the evaluations that are there, if these agree, else the least of the runs' own.
    """
    own = [
        iw_numbers(run, split, numbers["iw_samples"], numbers["iw_sentences"])
        for run in runs
        if AUTO in (numbers["iw_samples"], numbers["iw_sentences"])
    ]
    if not own:
        return dict(numbers)
    least = min(own, key=lambda one: (one.samples, one.sentences or 0))
    alike = {"iw_samples": least.samples, "iw_sentences": least.sentences}
    for name in alike:
        there = {scores.get(name) for scores in written} - {0, None}  # a language model has no samples
        if numbers[name] == AUTO and len(there) == 1:
            alike[name] = there.pop()
    return {**numbers, **alike}


def same_prior(scores: Mapping[str, Any], run: Run) -> bool:
    """Return True if an evaluation is under the run's prior, which may have been fitted again since."""
    return scores.get("prior") == (None if run.fitted is None else run.fitted.name)


def same_folder(one: Path, other: Path) -> bool:
    """Return True if two paths lead to one folder."""
    return one.resolve() == other.resolve()


def unique_names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names; those that are equal with as many of the folders above as make them different.

    >>> unique_names([Path("/a/one/vae"), Path("/a/two/vae"), Path("/a/lm")])
    ['one/vae', 'two/vae', 'lm']
    """
    parts = [folder.resolve().parts for folder in folders]
    depth = [1] * len(parts)
    while True:
        names = ["/".join(own[-n:]) for own, n in zip(parts, depth, strict=True)]
        again = [place for place, name in enumerate(names) if names.count(name) > 1]
        deeper = [place for place in again if depth[place] < len(parts[place])]
        if not deeper:
            return names
        for place in deeper:
            depth[place] += 1


def in_natural_order(names: Sequence[str]) -> list[int]:
    """Return the places of names in the order in which to show them: as given, but numbers in their own order.

    Names that differ in nothing but numbers exchange their places.

    >>> names = ["C12", "lm", "C3"]
    >>> [names[place] for place in in_natural_order(names)]
    ['C3', 'lm', 'C12']
    """
    alike: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        alike.setdefault(NUMBER.sub("0", name), []).append(place)
    order = list(range(len(names)))
    for places in alike.values():
        ranked = sorted(places, key=lambda place: [float(number) for number in NUMBER.findall(names[place])])
        for place, own in zip(places, ranked, strict=True):
            order[place] = own
    return order


def check_same_text(runs: Sequence[Run], split: str) -> None:
    """Refuse runs of different data.

    Raises:
        RequestError: naming two runs and the first thing that differs, or a run without the split.
    """
    splits = []
    for run in runs:
        try:
            found = {name: own["fingerprint"] for name, own in run.environment["data"]["splits"].items()}
        except (KeyError, TypeError, AttributeError):
            path = run.folder / "environment.json"
            raise RequestError(
                f"{path}: damaged: it does not say what the data was; restore an intact copy"
            ) from None
        if split not in found:
            raise RequestError(f"--split {split}: {run.folder} has only {', '.join(found)}")
        splits.append(found)
    first = runs[0]
    for run, found in zip(runs[1:], splits[1:], strict=True):
        names = dict.fromkeys([split, *splits[0], *found])  # the one that is scored first
        different = [f"{name} split" for name in names if splits[0].get(name) != found.get(name)]
        if run.tokenizer.tokens != first.tokenizer.tokens:
            different.insert(0, "vocabulary")
        if different:
            raise RequestError(
                f"{first.folder} and {run.folder}: not of the same data: the {different[0]} differs; "
                "compare runs that were trained on the same text with the same tokenizer"
            )


def read_scores(path: Path, run: Run, split: str) -> dict[str, Any]:
    """Return an evaluation that was written earlier.

    Raises:
        RequestError: when it is damaged, or of other sentences than the run's split has.
    """
    try:
        scores = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "not JSON") from None
    if (wrong := problem(evaluation_record(), scores)) is not None:
        raise _damaged(path, wrong)
    if scores["split"] != split:
        raise _damaged(path, f"it does not say that it is of the {split} split")
    fingerprint = str(run.environment["data"]["splits"][split]["fingerprint"])
    said = [part[6:] for part in str(scores.get("signature")).split("|") if part.startswith("split:")]
    if said and not fingerprint.startswith(said[0]):
        raise _damaged(path, "its signature is of another split's sentences")
    return scores


def _damaged(path: Path, reason: str) -> RequestError:
    return RequestError(f"{path}: damaged: {reason}; delete it, or give --again to evaluate anew")


def _finished(run: Run) -> bool | None:
    """Return True if training has finished; None without a readable checkpoint."""
    try:
        with safe_open(run.folder / "checkpoint" / "last.safetensors", framework="pt") as file:
            state = json.loads((file.metadata() or {}).get("state", "{}"))
            return bool(state["finished"])
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError):
        return None  # the weights are there, so that a run without a checkpoint can be compared
