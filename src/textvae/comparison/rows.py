"""The rows of a comparison: the numbers of each run, and their mean over seeds."""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from os.path import commonprefix
from typing import Any

from textvae.comparison.members import Member, read_scores
from textvae.comparison.methods import descriptions, flattened, is_vanilla
from textvae.errors import RequestError
from textvae.evaluation.evaluate import NUMBERS
from textvae.run import Run
from textvae.run.records import is_number
from textvae.settings import Settings

Value = float | int | str | None

# Columns that a row has: those that are averaged over seeds, and those that describe how they were measured.
AVERAGED = (
    "nll",
    "nll_relative_percent",
    "bound_iw_sentences",
    "bound",
    "reconstruction",
    "kl",
    "mutual_information",
    "mutual_information_lower",
    "active_units_0.01",
    "active_units_0.2",
    "shuffle_gap",
    "log_det_covariance",
    "mean_squared_norm",
    "kl_moment_matched",
    "mmd_squared",
    "tokens_per_second",
    "relative_speed",
    "final_kl_weight",
)
DESCRIBED = (
    "nll_kind",
    "iw_samples",
    "iw_sentences",
    "rate_kind",
    "mutual_information_sentences",
    "mutual_information_ceiling",
    "latent",
    "sentences",
)
# Standard errors over sentences: a row of one run has them.
ERRORS = ("nll_standard_error", "shuffle_gap_standard_error", "kl_standard_error")
# Columns that an evaluation has under the same name.
LATENT = ("shuffle_gap", "log_det_covariance", "mean_squared_norm", "kl_moment_matched", "mmd_squared")
SCORED = (
    "bound",
    "reconstruction",
    "kl",
    "mutual_information",
    "mutual_information_lower",
    *LATENT,
    *ERRORS[1:],
    *DESCRIBED[1:],
)
MIXED = "mixed"
# Where an evaluation says why a number is null: in a table of reasons beside it, or in its own reason.
REASON = re.compile(r"(?P<part>.*\.)?(?:reasons\.(?P<name>.+)|reason)")


@dataclass(frozen=True, eq=False)
class Row:
    """One row: a run, or runs that only the seed tells apart.

    `values` has every column of AVERAGED, ERRORS and DESCRIBED, None where there is no number; `deviations` the
    standard deviation over seeds of the averaged ones, None for a single run. `chosen` are the scores that were
    asked for by name, averaged, each with its deviation.
    """

    name: str
    method: str
    members: tuple[Member, ...]
    values: Mapping[str, Value]
    deviations: Mapping[str, float | int | None]
    chosen: Mapping[str, tuple[float | int | None, float | None]]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [member.run.settings.train.seed for member in self.members]

    def document(self) -> dict[str, Any]:
        """The row as plain values for JSON."""
        return {
            "name": self.name,
            "method": self.method,
            "runs": [member.name for member in self.members],
            "seeds": self.seeds,
            **self.values,
            "deviations": dict(self.deviations),
            "scores": {name: {"value": v, "deviation": spread} for name, (v, spread) in self.chosen.items()},
            "reasons": self.reasons(),
        }

    def reasons(self) -> dict[str, str]:
        """Why a number of the row or a deviation is null, for each that is."""
        found = {name: self._reason(name) for name, value in self.values.items() if value is None}
        for name, spread in self.deviations.items():
            if spread is None:
                why = (
                    "one run has no deviation" if len(self.members) == 1 else "a run of the row has no such number"
                )
                found[f"deviations.{name}"] = why
        for name, (value, spread) in self.chosen.items():
            if value is None:
                found[f"scores.{name}.value"] = self._reason(name)
            if spread is None:
                why = (
                    "one run has no deviation" if len(self.members) == 1 else "a run of the row has no such number"
                )
                found[f"scores.{name}.deviation"] = why
        return found

    def _reason(self, name: str) -> str:
        """Why one number is null: an evaluation's own reason where it has one."""
        if name in ERRORS and len(self.members) > 1:
            return "one run has it; of several, see the deviation over seeds"
        if name in DESCRIBED and len({str(_numbers(member)[name]) for member in self.members}) > 1:
            return "the runs of the row differ in it"
        column = {"nll": "nll_iw", "nll_standard_error": "nll_iw_standard_error", "nll_kind": "nll_iw_kind"}
        for member in self.members:
            for path in (column.get(name, name), name.split("_0.")[0]):
                if (why := reason_of(member, path)) is not None:
                    return why
        if name == "nll_relative_percent":
            return "there is no NLL, or none of a run that it would be relative to"
        if name in ("tokens_per_second", "relative_speed"):
            return "the training log has no speeds, or that of the run to be relative to has none"
        if name == "final_kl_weight":
            return "no term of the objective pays for the KL by a weight, or the log does not say it"
        return "the evaluation does not have it; evaluate again (--again)"


def rows_of(
    members: Sequence[Member], baseline: Member | None, by_seed: bool, scores: Sequence[str] = ()
) -> tuple[list[Row], Row | None, Row | None]:
    """The rows, the row that NLLs are relative to and the one that speeds are; None where there is none."""
    groups = grouped(members) if by_seed else [(member,) for member in members]
    names = group_names([[member.name for member in group] for group in groups])
    methods = descriptions([group[0].run.settings for group in groups])
    numbers = [[_numbers(member) for member in group] for group in groups]
    reference = _first(groups, lambda m: m is baseline if baseline else not m.run.settings.model.latent)
    likelihood = None if reference is None else _mean([own["nll"] for own in numbers[reference]])
    vanilla = _first(groups, lambda m: is_vanilla(m.run.settings)) or 0
    speed = _mean([own["tokens_per_second"] for own in numbers[vanilla]])
    for own in (own for group in numbers for own in group):
        own["nll_relative_percent"] = _ratio(own["nll"], likelihood, lambda ratio: 100 * (ratio - 1))
        own["relative_speed"] = _ratio(own["tokens_per_second"], speed, lambda ratio: ratio)
    rows = [
        Row(name, method, tuple(group), _values(own), _deviations(own), averaged)
        for name, method, group, own, averaged in zip(
            names, methods, groups, numbers, chosen(groups, scores), strict=True
        )
    ]
    return (
        rows,
        None if likelihood is None or reference is None else rows[reference],
        rows[vanilla] if speed else None,
    )


def check_names(runs: Sequence[Run], split: str, names: Sequence[str], again: bool) -> None:
    """Refuse a name that neither an evaluation can have nor one that is there has.

    Raises:
        RequestError: for such a name, and for an evaluation that is damaged.
    """
    if not names:
        return
    known: set[str] = set()
    more = False
    for run in runs:
        path = run.folder / "evaluation" / f"{split}.json"
        every = path.with_name(f"{split}-all.json")
        more = more or every.exists()
        for file in [every, *([] if again else [path])]:
            known |= evaluated_paths(read_scores(file, run, split)) if file.exists() else set()
    for name in names:
        if name not in known | NUMBERS:
            raise _no_score(name, "no run's evaluation has it", known | NUMBERS, more)


def chosen(
    groups: Sequence[Sequence[Member]], names: Sequence[str]
) -> list[dict[str, tuple[float | int | None, float | None]]]:
    """The scores of each group by name: their mean and, of several runs, standard deviation.

    A name is a path into the evaluation, `kl_moment_matched` or `generated.greedy.scores.self-bleu-4`; where a
    score stands with its signature or error, the path leads to the score's own name.

    Raises:
        RequestError: for a name that no run's evaluation has a number for.
    """
    known = {id(member): _every_score(member) for group in groups for member in group}
    for name in names:
        if all(found.get(name) is None for found in known.values()):
            paths = {path for found in known.values() for path in found}
            why = "is null in every run" if name in paths else "no run's evaluation has it"
            raise _no_score(name, why, paths, any(member.more for group in groups for member in group))
    found = []
    for group in groups:
        values: dict[str, list[Any]] = {name: [known[id(member)].get(name) for member in group] for name in names}
        found.append(
            {
                name: (_mean(own), statistics.stdev(own) if len(own) > 1 and None not in own else None)
                for name, own in values.items()
            }
        )
    return found


def _no_score(name: str, why: str, paths: Set[str], more: bool) -> RequestError:
    """That there is no such score, and the nearest that there are; `more` where `evaluate --all` was among them."""
    known = sorted(paths)
    close = [path for path in known if path.endswith(f".{name}")][:3]
    close = close or get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close and name not in paths else ""
    return RequestError(f"--scores {name}: {why}{'' if more else ' (evaluate --all has more)'}{hint}")


def _every_score(member: Member) -> dict[str, Any]:
    """Every number of a run's evaluations by its path, and what is null; `evaluate`'s before those of `--all`."""
    flat = flattened(member.more) | flattened(member.scores)
    return {_path(path): value for path, value in flat.items() if value is None or is_number(value)}


def reason_of(member: Member, path: str) -> str | None:
    """Why the number of that path is null in a run's evaluations, or the part that it would be in."""
    flat = flattened(member.more) | flattened(member.scores)
    told: dict[str, str] = {}
    for place, value in flat.items():
        if isinstance(value, str) and (found := REASON.fullmatch(place)):
            told[f"{found['part'] or ''}{found['name'] or ''}".removesuffix(".")] = value
    if path in told or any(_path(place) == path for place in flat):
        return told.get(path)
    above = [path[: found.start()] for found in re.finditer(r"[.[]", path)]
    return next((told[part] for part in reversed(above) if part in told), None)


def evaluated_paths(scores: Mapping[str, Any]) -> set[str]:
    """The paths of the numbers of one evaluation, and of what is null."""
    return {_path(path) for path, value in flattened(scores).items() if value is None or is_number(value)}


def _path(path: str) -> str:
    """The path of a score, less that of its value beside a signature or an error."""
    return re.sub(r"\.(value|accuracy)$", "", path)


def _first(groups: Sequence[Sequence[Member]], wanted: Callable[[Member], bool]) -> int | None:
    """The first group that has such a run."""
    return next((place for place, group in enumerate(groups) if any(map(wanted, group))), None)


def _ratio(value: Any, reference: float | int | None, of: Callable[[float], float]) -> float | None:
    return None if value is None or not reference else of(value / reference)


def _numbers(member: Member) -> dict[str, Any]:
    """The columns of one run but for those that are relative to another."""
    scores, units = member.scores, member.scores.get("active_units") or {}
    training = [record for record in member.log if record.get("split") == "train"]
    speeds = [record["tokens_per_second"] for record in training if is_number(record.get("tokens_per_second"))]
    return {
        "nll": scores.get("nll_iw"),
        "nll_standard_error": scores.get("nll_iw_standard_error"),
        "nll_kind": scores.get("nll_iw_kind"),
        "bound_iw_sentences": _bound_of_drawn(scores),
        "active_units_0.01": units.get("0.01"),
        "active_units_0.2": units.get("0.2"),
        # Records are of equally many steps: over all of them, not their median, which hides a costly beginning.
        "tokens_per_second": statistics.harmonic_mean(speeds) if speeds and min(speeds) > 0 else None,
        "final_kl_weight": final_kl_weight(member.run.settings, training),
        **{name: scores.get(name) for name in SCORED},
    }


def _bound_of_drawn(scores: Mapping[str, Any]) -> Any:
    """The bound of the sentences that the NLL is of; older evaluations have it only if these are all."""
    every = scores.get("iw_sentences") == scores.get("sentences")
    return scores.get("bound_iw_sentences", scores.get("bound") if every else None)


def final_kl_weight(settings: Settings, training: Sequence[Mapping[str, Any]]) -> float | None:
    """The weight of the rate term at the end of the log; None where nothing pays for the KL."""
    terms = settings.phases()[-1].objective or settings.objective
    rates = [name for name, term in terms.items() if term.is_rate and term.pays]
    weights = next((record["weights"] for record in reversed(training) if "weights" in record), None)
    value = weights.get(rates[0]) if rates and isinstance(weights, Mapping) else None
    return float(value) if value is not None and is_number(value) else None


def _values(runs: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    """A row's columns from those of its runs: means, and descriptions where all runs have the same."""
    values: dict[str, Value] = {name: _mean([own[name] for own in runs]) for name in AVERAGED}
    values |= {name: runs[0][name] if len(runs) == 1 else None for name in ERRORS}
    for name in DESCRIBED:
        found = {own[name] for own in runs}
        kind = name in ("nll_kind", "rate_kind")
        values[name] = found.pop() if len(found) == 1 else MIXED if kind else None
    return values


def _deviations(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """The standard deviation over runs of what is averaged, for two runs or more that all have the number."""
    whole = {name: [own[name] for own in runs] for name in AVERAGED}
    return {
        name: statistics.stdev(values) if len(values) > 1 and None not in values else None
        for name, values in whole.items()
    }


def _mean(values: Sequence[Any]) -> float | int | None:
    """The mean; None where one is missing, so that no mean is over fewer seeds than its row says."""
    if None in values:
        return None
    return values[0] if len(values) == 1 else statistics.fmean(values)


def grouped(members: Sequence[Member]) -> list[tuple[Member, ...]]:
    """The runs whose settings differ in `train.seed` alone put together, in the order in which they come first."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        settings = member.run.settings
        alike = settings.model_copy(update={"train": settings.train.model_copy(update={"seed": 0})})
        groups.setdefault(alike.toml(), []).append(member)
    return [tuple(group) for group in groups.values()]


def group_names(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group of names: what they begin with, less a seed at its end, else the first one.

    >>> group_names([["vae-seed0", "vae-seed1"], ["lm"]])
    ['vae', 'lm']
    """
    names: list[str] = []
    for own in groups:
        name = own[0]
        if len(own) > 1:
            begin = commonprefix(own)
            if any(one[len(begin) : len(begin) + 1].isdigit() for one in own):
                begin = begin.rstrip("0123456789")  # no number is cut in two
            name = re.sub(r"([-_. ]+(seed|s)?|seed)[-_. =]*$", "", begin).rstrip("/") or own[0]
        names.append(own[0] if name in names else name)
    return names
