"""Schemas of the files of a run folder, parsed like settings: environment and log."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from textvae.errors import RequestError
from textvae.files import numbers_of, read_json
from textvae.objective.settings import Settings
from textvae.settings import Train
from textvae.settings.documents import parsed
from textvae.settings.problems import Problem, refuse
from textvae.text.conditions import LabelNames

# Most characters of a wrong value in a message.
SHOWN = 60

Count = Annotated[int, Field(ge=0, lt=2**63)]
Error = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def is_number(value: object) -> bool:
    """Return True if a value from JSON is a finite number; True and False are not numbers.

    >>> [is_number(value) for value in (0, -1.5, 10**400, float("nan"), True, "1", None)]
    [True, True, True, False, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


class Stored(BaseModel):
    """A table of a file: strict about the types of known names, tolerant of unknown names."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class SplitData(Stored):
    """Data of one split that a run was made with."""

    fingerprint: str
    labels: str | None = None
    conditions: str | None = None
    sentences: Count = 0
    tokens: Count = 0
    dropped: Count = 0
    cut: Count = 0
    blank: Count = 0


class Places(Stored):
    """Places of a file that a run was made with; `relative` is from the run's folder."""

    absolute: str | None = None
    relative: str | None = None


class Start(Places):
    """The weights that a run started from: their file and its SHA-256."""

    weights: str


class Change(Stored):
    """Settings of `[train]` that changed when a run was resumed at a step."""

    step: Count
    train: dict[str, Any]


class RunData(Stored):
    """Data that a run was made with."""

    splits: dict[str, SplitData] | None = None
    corpus: str | None = None
    vocabulary: Count | None = None
    conditions: dict[str, list[str]] | None = None
    condition_counts: dict[str, list[Count]] | None = None


class Environment(Stored):
    """`environment.json`."""

    format: int
    files: dict[str, str]
    values: dict[str, str] | None = None
    textvae: str | None = None
    python: str | None = None
    torch: str | None = None
    lightning_fabric: str | None = None
    numpy: str | None = None
    system: str | None = None
    device: str | None = None
    cores: Count | None = None
    threads: Count | None = None
    seed: Count | None = None
    data: RunData | None = None
    text: dict[str, Places] | None = None
    packed: bool = False
    start: Start | None = None
    changes: list[Change] | None = None


class Record(Stored):
    """A line of `log.jsonl`; every name not listed here is that of a number."""

    __pydantic_extra__: dict[str, float | None]

    step: Count
    split: str | None = None
    epoch: Error | None = None
    rate_kind: str | None = None
    weights: dict[str, float] | None = None


def label_names(environment: Mapping[str, Any]) -> LabelNames:
    """Return the values of the columns of labels that a run's model is conditioned on; empty without such."""
    return LabelNames((environment.get("data") or {}).get("conditions") or {})


def with_changes(settings: Settings, changes: Iterable[Mapping[str, Any]]) -> Settings:
    """Return settings with changes of `[train]`, one after the other.

    Raises:
        RequestError: For a change that is none.
    """
    table, problems = settings.train.model_dump(mode="json", exclude_none=True), list[Problem]()
    for change in changes:
        table |= change
    train = parsed(Train, table, problems, "train", settings.train)
    refuse(problems)
    return settings.model_copy(update={"train": train})


def problem(kind: type[Stored], document: Any) -> str | None:
    """Return the first problem of a document from JSON, with its place and value; None if there is none."""
    if not isinstance(document, dict):
        return "a table is expected"
    for place, number in numbers_of(document):
        if not (abs(number) < 2**63 if isinstance(number, int) else math.isfinite(number)):
            return f"{place} = {_shown(number)}: is not a number that can be computed with"
    try:
        kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"{place}: is missing"
        reason = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
        return f"{place} = {_shown(first['input'])}: {reason}"
    return None


def read_stored(path: Path, kind: type[Stored], again: str) -> dict[str, Any]:
    """Return a document of a run's folder as plain values.

    Raises:
        RequestError: If it is not JSON of that kind; `again` is the remedy.
    """
    try:
        document = read_json(path)
    except RequestError:
        raise RequestError(f"{path}: damaged: not JSON; {again}") from None
    if (wrong := problem(kind, document)) is not None:
        raise RequestError(f"{path}: damaged: {wrong}; {again}")
    return document


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `log.jsonl`; a last line cut short by a crash is left out.

    Raises:
        RequestError: naming the file, the line and what is wrong there.
    """
    try:
        return parse_log(path, path.read_bytes())
    except OSError:
        raise RequestError(f"{path}: cannot be read; is {path.parent} a run folder?") from None


def parse_log(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Return the records in the content of a `log.jsonl`, as `read_log` does.

    Raises:
        RequestError: naming the file, the line and what is wrong there.
    """
    try:
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise RequestError(f"{path}: cannot be read; is {path.parent} a run folder?") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise RequestError(f"{path}, line {number}: damaged; delete the line") from None
        if (wrong := problem(Record, record)) is not None:
            raise RequestError(f"{path}, line {number}: damaged: {wrong}; delete the line")
        records.append(record)
    return records


def _shown(value: Any) -> str:
    """Return a wrong value for a message."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"{str(value)[:20]}..." if abs(value) < 10**4000 else "a number of thousands of digits"
    text = json.dumps(value, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
