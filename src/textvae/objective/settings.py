"""All settings of a run: its tables together with the terms of its objectives."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, Field

from textvae.extensions import Registry
from textvae.parts.settings import ModelSettings
from textvae.settings.documents import parsed, spelled_out
from textvae.settings.problems import Problem, refuse
from textvae.settings.strict import Strict
from textvae.settings.tables import Data, Phase, Train

# Characters that TOML allows unescaped but that a terminal may take for commands or changes of direction.
_STEERING = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Settings(Strict):
    """All settings of a run. `objective` maps a term's name to the term."""

    data: Data = Data()
    model: ModelSettings = ModelSettings()
    objective: dict[str, Any] = Field(default_factory=dict)
    train: Train = Train()
    phase: Annotated[tuple[Phase, ...], Field(strict=False)] = ()

    def document(self) -> dict[str, Any]:
        """Return the settings as plain values with every default, as written to `settings.toml`."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        dumped["objective"] = _dumped(self.objective)
        for phase, table in zip(self.phase, dumped["phase"], strict=True):
            table["objective"] = _dumped(phase.objective)
        return dumped

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of the run; a run without phases is a single one."""
        return self.phase or (Phase(),)

    def phased(self) -> bool:
        """Return True if every phase has its own objective, so that the run's objective is unused."""
        return bool(self.phase) and all(phase.objective for phase in self.phase)

    def terms(self) -> dict[str, Any]:
        """Return the terms of all phases by name; they determine the heads that the model needs."""
        terms = dict(self.objective)
        for phase in self.phase:
            terms |= phase.objective
        return terms

    def toml(self) -> str:
        """Return the settings as a TOML document that `parse` reads back unchanged; safe to print."""
        return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", tomli_w.dumps(self.document()))


def _dumped(objective: Mapping[str, Any]) -> dict[str, Any]:
    """Return the terms of an objective as plain values."""
    return {name: term.model_dump(mode="json", exclude_none=True) for name, term in objective.items()}


def parse(document: Mapping[str, Any], terms: Registry[Any], absent: type[BaseModel] | None = None) -> Settings:
    """Return settings from a document; each table of an objective is read by the term that it names.

    A term that is not known is read as an `absent` one, if that is given.

    Raises:
        RequestError: Naming every wrong place, one a line.
    """
    document, problems = spelled_out(document), list[Problem]()
    settings = parsed(Settings, document, problems, default=Settings())
    assert settings is not None
    objective = _terms(document.get("objective", {}), terms, absent, "objective", problems)
    phases = document.get("phase", ())
    built = []
    for number, table in enumerate(phases if isinstance(phases, (list, tuple)) else ()):
        given = table.get("objective", {}) if isinstance(table, Mapping) else {}
        built.append(_terms(given, terms, absent, f"phase[{number}].objective", problems))
    refuse(problems)
    phased = [phase.model_copy(update={"objective": own}) for phase, own in zip(settings.phase, built, strict=True)]
    return settings.model_copy(update={"objective": objective, "phase": tuple(phased)})


def _terms(
    tables: Any, terms: Registry[Any], absent: type[BaseModel] | None, place: str, problems: list[Problem]
) -> dict[str, BaseModel]:
    """Return the terms of the objective at a place, and append their problems to `problems`."""
    built = {}
    for name, table in tables.items() if isinstance(tables, Mapping) else ():
        kind = terms[name] if name in terms else absent
        if kind is None:
            problems.append(Problem(f"{place}.{name}", terms.why_not(name, "term")))
            continue
        term = parsed(kind, table, problems, f"{place}.{name}")
        if term is not None:
            built[name] = term
    return built
