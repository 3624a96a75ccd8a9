"""A run's method in words, and the settings in which runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from textvae.comparison.members import Member
from textvae.objective.settings import Settings
from textvae.parts.settings import ModelSettings
from textvae.settings import Train

# The kinds of parts that a method does not name.
USUAL = {part: getattr(ModelSettings(), part).name for part in ("posterior", "prior", "inference")}


def is_vanilla(settings: Settings) -> bool:
    """Return True for the plain bound: KL at weight 1, a Gaussian posterior, every part updated together."""
    model, terms = settings.model, settings.objective
    return (
        bool(model.latent)
        and list(terms) == ["kl"]
        and _weight(terms["kl"].weight) == ""
        and not settings.phase
        and all(getattr(model, part).name == name for part, name in USUAL.items())
        and settings.train.update.name == Train().update.name
        and model.word_keep == 1.0
        and not model.feedforward.layers
    )


def descriptions(settings: Sequence[Settings]) -> list[str]:
    """Return the method of each run in a few words; equal ones are followed by up to three settings that differ."""
    found = [method(own) for own in settings]
    flat = [flattened(own.document()) for own in settings]
    told = []
    for text, own in zip(found, flat, strict=True):
        alike = [other for other, same in zip(flat, found, strict=True) if same == text]
        paths = [
            path
            for path in dict.fromkeys(path for other in alike for path in other)
            if any(other.get(path) != own.get(path) for other in alike) and path.split(".")[0] != "data"
        ]
        shown = [f"{path}={_plain(own.get(path))}" for path in paths[:3]] + ["…"] * (len(paths) > 3)
        told.append(", ".join([text, *shown]))
    return told


def method(settings: Settings) -> str:
    """Return a run's method in words: its objective, and every part that is not the usual one.

    >>> method(Settings())
    'reconstruction alone'
    """
    model = settings.model
    if not model.latent:
        parts = ["language model", _objective(settings.objective)] if settings.objective else ["language model"]
    else:
        parts = [", then ".join(_phase(settings, phase) for phase in settings.phases())]
        for part, name in USUAL.items():
            table = getattr(model, part)
            if table.name != name:
                parts.append(f"{table.name}{_options(table)}" + (f" {part}" if part != "inference" else ""))
        if settings.train.update.name != Train().update.name:
            parts.append(f"{settings.train.update.name} updates{_options(settings.train.update)}")
    if model.latent and model.feedforward.layers:
        kind = "highway" if model.feedforward.highway else "feed-forward"
        parts.append(f"{model.feedforward.layers} {kind} layers around z")
    if model.word_keep != 1.0:
        parts.append(f"word keep {model.word_keep:g}")
    return ", ".join(parts)


def _phase(settings: Settings, phase: Any) -> str:
    """Return a phase in words."""
    text = _objective(phase.objective or settings.objective)
    if phase.update is not None and phase.update.name != settings.train.update.name:
        text += f" by {phase.update.name} updates"
    return f"{text} ({' and '.join(phase.reset)} reset)" if phase.reset else text


def _objective(terms: Mapping[str, Any]) -> str:
    """Return the terms that stand beside the reconstruction, the rate first, with their weights and options."""
    order = sorted(terms.items(), key=lambda item: not item[1].is_rate)
    told = [f"{name}{_options(term, ('weight',))}{_weight(term.weight)}" for name, term in order]
    return " + ".join(told) or "reconstruction alone"


def _options(table: Any, without: Sequence[str] = ()) -> str:
    """Return the fields of a table that are not at their defaults."""
    own = {name: value for name, value in table if name != "name" and name not in without}
    usual = {
        name: field.get_default(call_default_factory=True, validated_data=dict(table))
        for name, field in type(table).model_fields.items()
    }
    return "".join(
        f" {name.replace('_', '-')}={_plain(value)}"
        for name, value in own.items()
        if name not in usual or value != usual[name]
    )


def _weight(schedule: Any) -> str:
    """Return a weight: nothing for 1, its number, or its schedule and where that goes."""
    if schedule.schedule == "constant":
        return "" if schedule.value == 1.0 else f" × {schedule.value:g}"
    return f" {_plain(schedule)}"


def _plain(value: Any) -> str:
    """Return a setting's value in a word or two."""
    if hasattr(value, "schedule"):
        if value.schedule == "constant":
            return f"{value.value:g}"
        return f"{value.schedule} {value.start:g}→{value.end:g}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "+".join(map(_plain, value))
    return "none" if value is None else str(value)


def flattened(table: Any, path: str = "") -> dict[str, Any]:
    """Return a document's values by their dotted paths; tables in a list are numbered.

    >>> flattened({"train": {"epochs": 3}, "phase": [{"epochs": 1}]})
    {'train.epochs': 3, 'phase[0].epochs': 1}
    """
    if isinstance(table, Mapping):
        parts = {f"{path}.{name}" if path else str(name): value for name, value in table.items()}
    elif isinstance(table, (list, tuple)) and any(isinstance(value, Mapping) for value in table):
        parts = {f"{path}[{place}]": value for place, value in enumerate(table)}
    else:
        return {path: table}
    return {inner: value for name, part in parts.items() for inner, value in flattened(part, name).items()}


def differences(members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    """Return the settings that differ among runs: for each dotted path every run's value, None for none."""
    flat = {member.name: flattened(member.run.settings.document()) for member in members}
    paths = sorted({path for own in flat.values() for path in own})
    found = {path: {name: own.get(path) for name, own in flat.items()} for path in paths}
    return {
        path: own for path, own in found.items() if any(value != next(iter(own.values())) for value in own.values())
    }
