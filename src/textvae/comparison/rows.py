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
from textvae.evaluation import schema
from textvae.evaluation.entry import Score
from textvae.evaluation.record import known_names
from textvae.evaluation.showing import MIXED
from textvae.objective.settings import Settings
from textvae.run import Run
from textvae.run.records import is_number

Value = float | int | str | None

# Columns of a comparison's own that are averaged over seeds; all others are scores of the evaluations.
OWN = ("nll_relative_percent", "tokens_per_second", "relative_speed", "final_kl_weight")
# Where an evaluation says why a number is null: in a table of reasons beside it, or in its own reason.
REASON = re.compile(r"(?P<part>.*\.)?(?:reasons\.(?P<name>.+)|reason)")


@dataclass(frozen=True)
class Columns:
    """Columns of a row, each with the path of its score in an evaluation, None for a comparison's own.

    `averaged` are averaged over seeds, `errors` are given for rows of one run, `described` as they are.
    """

    averaged: Mapping[str, str | None]
    errors: Mapping[str, str | None]
    described: Mapping[str, str | None]

    @property
    def all(self) -> dict[str, str | None]:
        """Every column."""
        return {**self.averaged, **self.errors, **self.described}


def columns_of_scores() -> Columns:
    """Return the columns that the schema of scores asks for, and a comparison's own."""
    averaged = {column(path): path for score in by_importance() if score.averaged for path in score.paths}
    errors = {column(score.error): score.error for score in by_importance() if score.column and score.error}
    described = {column(score.name): score.name for score in schema.SCORES if score.described}
    return Columns({**averaged, **dict.fromkeys(OWN)}, errors, described)


def by_importance() -> list[Score]:
    """Return the scores in the order of the table: first the NLL and the bound of the same sentences."""
    first = ("nll_iw", "bound_iw_sentences")
    return sorted(schema.SCORES, key=lambda score: first.index(score.name) if score.name in first else len(first))


def column(path: str) -> str:
    """Return the name of the column of a score.

    >>> column("nll_iw_standard_error"), column("active_units.0.01")
    ('nll_standard_error', 'active_units_0.01')
    """
    return path.replace("nll_iw", "nll").replace(".", "_", 1)


@dataclass(frozen=True, eq=False)
class Row:
    """One row: a run, or runs that only the seed tells apart.

    `values` has all of the `columns`, None where there is no number; `deviations` the standard deviation over seeds
    of the averaged ones, None for a single run. `chosen` are the scores that were asked for by name, averaged, each
    with its deviation.
    """

    name: str
    method: str
    members: tuple[Member, ...]
    columns: Columns
    values: Mapping[str, Value]
    deviations: Mapping[str, float | int | None]
    chosen: Mapping[str, tuple[float | int | None, float | None]]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [member.run.settings.train.seed for member in self.members]

    def document(self) -> dict[str, Any]:
        """Return the row as plain values for JSON."""
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
        """Return the reason for each number or deviation of the row that is null."""
        found = {name: self._reason(name) for name, value in self.values.items() if value is None}
        lone = "one run has no deviation" if len(self.members) == 1 else "a run of the row has no such number"
        for name, spread in self.deviations.items():
            if spread is None:
                found[f"deviations.{name}"] = lone
        for name, (value, spread) in self.chosen.items():
            if value is None:
                found[f"scores.{name}.value"] = self._reason(name)
            if spread is None:
                found[f"scores.{name}.deviation"] = lone
        return found

    def _reason(self, name: str) -> str:
        """Return the reason for one null: an evaluation's own reason if it has one."""
        if name in self.columns.errors and len(self.members) > 1:
            return "one run has it; of several, see the deviation over seeds"
        path = self.columns.all.get(name) or name
        if name in self.columns.described and len({str(value_at(one.scores, path)) for one in self.members}) > 1:
            return "the runs of the row differ in it"
        for member in self.members:
            for place in (path, path.partition(".")[0]):
                if (why := reason_of(member, place)) is not None:
                    return why
        if name == "nll_relative_percent":
            return "there is no NLL, or none of a run that it would be relative to"
        if name in ("tokens_per_second", "relative_speed"):
            return "the training log has no speeds, or that of the run to be relative to has none"
        if name == "final_kl_weight":
            return "no term of the objective penalises the KL by a weight, or the log does not say it"
        return "the evaluation does not have it; evaluate again (--again)"


def rows_of(
    members: Sequence[Member], baseline: Member | None, by_seed: bool, scores: Sequence[str] = ()
) -> tuple[list[Row], Row | None, Row | None]:
    """Return the rows, the row that NLLs are relative to and the one that speeds are; None where there is none."""
    groups = grouped(members) if by_seed else [(member,) for member in members]
    names = group_names([[member.name for member in group] for group in groups])
    methods = descriptions([group[0].run.settings for group in groups])
    columns = columns_of_scores()
    numbers = [[_numbers(member, columns) for member in group] for group in groups]
    reference = _first(groups, lambda m: m is baseline if baseline else not m.run.settings.model.latent)
    likelihood = None if reference is None else _mean([own["nll"] for own in numbers[reference]])
    vanilla = _first(groups, lambda m: is_vanilla(m.run.settings)) or 0
    speed = _mean([own["tokens_per_second"] for own in numbers[vanilla]])
    for own in (own for group in numbers for own in group):
        own["nll_relative_percent"] = _ratio(own["nll"], likelihood, lambda ratio: 100 * (ratio - 1))
        own["relative_speed"] = _ratio(own["tokens_per_second"], speed, lambda ratio: ratio)
    rows = [
        Row(name, method, tuple(group), columns, _values(own, columns), _deviations(own, columns), averaged)
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
        path = run.result(f"evaluation/{split}.json")
        every = path.with_name(f"{split}-all.json")
        more = more or every.exists()
        for file in [every, *([] if again else [path])]:
            known |= evaluated_paths(read_scores(file, run, split)) if file.exists() else set()
    known |= known_names()
    for name in names:
        if name not in known:
            raise _no_score(name, "no run's evaluation has it", known, more)


def chosen(
    groups: Sequence[Sequence[Member]], names: Sequence[str]
) -> list[dict[str, tuple[float | int | None, float | None]]]:
    """Return the scores of each group by name: their mean and, of several runs, standard deviation.

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
    """Return the error for an unknown score, with the nearest names; `more` if `evaluate --all` was read."""
    known = sorted(paths)
    close = [path for path in known if path.endswith(f".{name}")][:3]
    close = close or get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close and name not in paths else ""
    return RequestError(f"--scores {name}: {why}{'' if more else ' (evaluate --all has more)'}{hint}")


def _every_score(member: Member) -> dict[str, Any]:
    """Every number of a run's evaluations by its path, and what is null; `evaluate`'s before those of `--all`."""
    flat = flattened(member.more) | flattened(member.scores)
    return {_path(path): value for path, value in flat.items() if value is None or is_number(value)}


def value_of(member: Member, name: str) -> float | int | None:
    """Return a number of a run's evaluations by its path; None if there is none."""
    if name == "bound_iw_sentences":
        return _bound_of_drawn(member.scores)
    return _every_score(member).get(name)


def reason_of(member: Member, path: str) -> str | None:
    """Return the reason why the number at a path, or the part around it, is null in a run's evaluations."""
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
    """Return the paths of the numbers of one evaluation, and of what is null."""
    return {_path(path) for path, value in flattened(scores).items() if value is None or is_number(value)}


def _path(path: str) -> str:
    """Return the path of a score, less that of its value beside a signature or an error."""
    return re.sub(r"\.(value|accuracy)$", "", path)


def _first(groups: Sequence[Sequence[Member]], wanted: Callable[[Member], bool]) -> int | None:
    """Return the first group that has such a run."""
    return next((place for place, group in enumerate(groups) if any(map(wanted, group))), None)


def _ratio(value: Any, reference: float | int | None, of: Callable[[float], float]) -> float | None:
    return None if value is None or not reference else of(value / reference)


def _numbers(member: Member, columns: Columns) -> dict[str, Any]:
    """Return the columns of one run but for those that are relative to another."""
    training = [record for record in member.log if record.get("split") == "train"]
    speeds = [record["tokens_per_second"] for record in training if is_number(record.get("tokens_per_second"))]
    return {
        **{name: value_at(member.scores, path) for name, path in columns.all.items() if path is not None},
        "bound_iw_sentences": _bound_of_drawn(member.scores),
        # Records are of equally many steps: over all of them, not their median, which hides a costly beginning.
        "tokens_per_second": statistics.harmonic_mean(speeds) if speeds and min(speeds) > 0 else None,
        "final_kl_weight": final_kl_weight(member.run.settings, training),
    }


def value_at(scores: Mapping[str, Any], path: str) -> Any:
    """Return the value at the path of a score, or of a part of one; None if there is none.

    >>> value_at({"kl": 2.0, "active_units": {"0.01": 3}}, "active_units.0.01")
    3
    """
    name, _, part = path.partition(".")
    return (scores.get(name) or {}).get(part) if part else scores.get(name)


def _bound_of_drawn(scores: Mapping[str, Any]) -> Any:
    """Return the bound of the sentences that the NLL is of; older evaluations have it only if these are all."""
    every = scores.get("iw_sentences") == scores.get("sentences")
    return scores.get("bound_iw_sentences", scores.get("bound") if every else None)


def final_kl_weight(settings: Settings, training: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the weight of the rate term at the end of the log; None where nothing penalises the KL."""
    terms = settings.phases()[-1].objective or settings.objective
    rates = [name for name, term in terms.items() if term.is_rate and term.penalises_kl]
    weights = next((record["weights"] for record in reversed(training) if "weights" in record), None)
    value = weights.get(rates[0]) if rates and isinstance(weights, Mapping) else None
    return float(value) if value is not None and is_number(value) else None


def _values(runs: Sequence[Mapping[str, Any]], columns: Columns) -> dict[str, Value]:
    """Return a row's columns from those of its runs: means, and descriptions where all runs have the same."""
    values: dict[str, Value] = {name: _mean([own[name] for own in runs]) for name in columns.averaged}
    values |= {name: runs[0][name] if len(runs) == 1 else None for name in columns.errors}
    for name in columns.described:
        found = {own[name] for own in runs}
        kind = name in ("nll_kind", "rate_kind")
        values[name] = found.pop() if len(found) == 1 else MIXED if kind else None
    return values


def _deviations(runs: Sequence[Mapping[str, Any]], columns: Columns) -> dict[str, float | int | None]:
    """Return the standard deviation over two runs or more of what is averaged and what all of them have."""
    whole = {name: [own[name] for own in runs] for name in columns.averaged}
    return {
        name: statistics.stdev(values) if len(values) > 1 and None not in values else None
        for name, values in whole.items()
    }


def _mean(values: Sequence[Any]) -> float | int | None:
    """Return the mean; None where one is missing, so that no mean is over fewer seeds than its row says."""
    if None in values:
        return None
    return values[0] if len(values) == 1 else statistics.fmean(values)


def grouped(members: Sequence[Member]) -> list[tuple[Member, ...]]:
    """Return groups of the runs whose settings differ in `train.seed` alone, in the order of their first."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        settings = member.run.settings
        alike = settings.model_copy(update={"train": settings.train.model_copy(update={"seed": 0})})
        groups.setdefault(alike.toml(), []).append(member)
    return [tuple(group) for group in groups.values()]


def group_names(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each group of names: what they begin with, less a seed at its end, else the first one.

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
