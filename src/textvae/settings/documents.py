"""TOML read into tables of settings: every error at once, with its place and the nearest known name.

A document is the output of `tomllib`; `parsed` converts it to a table, whatever its fields and kinds.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from textvae.errors import RequestError
from textvae.settings.kinds import TAGS, field_kinds, field_names, member
from textvae.settings.problems import Problem, problem_of

Table = TypeVar("Table", bound=BaseModel)

# Short forms, and former places of settings.
ALIASES = {
    "train.lr": "train.optimizer.lr",
    "model.decoder.word_keep": "model.word_keep",
    "model.decoder.top.word_keep": "model.word_keep",
}
# Tables of several kinds, with the default kind.
NAMED = {
    "encoder": "lstm",
    "decoder": "lstm",
    "top": "lstm",
    "optimizer": "adam",
    "update": "joint",
    "posterior": "gaussian",
    "prior": "standard-normal",
    "conditioner": "none",
    "inference": "amortized",
}
# Kinds with the same settings.
ALIKE = {"gru": "lstm"}
KINDS = tuple(f".{tag}" for tag in TAGS)


def read_document(path: Path) -> dict[str, Any]:
    """Return a TOML file as plain values.

    Raises:
        RequestError: If there is no such file or it is not TOML.
    """
    try:
        return spelled_out(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        raise RequestError(f"{path}: no such settings file") from None
    except IsADirectoryError:
        raise RequestError(f"{path}: is a folder; a settings file in TOML is expected") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text; a settings file in TOML is expected") from None
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path}: not valid TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; tables nested too deeply
        raise RequestError(f"{path}: holds a number or a table that cannot be a setting") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None


def spelled_out(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with its short forms written in full.

    >>> spelled_out({"train": {"lr": 0.1}})
    {'train': {'optimizer': {'lr': 0.1}}}
    """
    result = dict(document)
    for short, full in ALIASES.items():
        value, rest = _taken(result, short.split("."))
        if value is not None:
            result = merge(rest, _nested(full.split("."), value))
    return result


def _taken(table: Mapping[str, Any], path: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Return the value at a path, None if there is none, and the table without it."""
    name, *below = path
    if not below or not isinstance(table.get(name), Mapping):
        value = None if below else table.get(name)
        return value, {key: own for key, own in table.items() if value is None or key != name}
    value, rest = _taken(table[name], below)
    return value, {**table, name: rest}


def _nested(path: Sequence[str], value: Any) -> Any:
    """Return a value as a document that has it at a path."""
    for key in reversed(path):
        value = {key: value}
    return value


def leaves(table: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a document and of the tables in it, by path; an empty table is a value.

    >>> dict(leaves({"train": {"optimizer": {"lr": 0.1}, "epochs": 3}}))
    {'train.optimizer.lr': 0.1, 'train.epochs': 3}
    """
    for name, value in table.items():
        path = f"{place}.{name}" if place else name
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two documents merged, the second on top; another kind of schedule or optimizer replaces the table.

    Tables of a list are merged if the second document names them by number. False in place of a table removes it.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if value is False and isinstance(old, Mapping):
            del merged[key]
        elif isinstance(old, Mapping) and isinstance(value, Mapping) and _kind(key, old) == _kind(key, value, old):
            merged[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, Mapping):
            merged[key] = _merged_list(key, old, value)
        else:
            merged[key] = value
    return merged


def fitted(preset: Mapping[str, Any], below: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return a preset as it applies to the decoder of the document below it, whatever the decoder's kind.

    Settings that this kind lacks are left out: a convolutional decoder sees z at every position anyway. `model` is
    the class of the table at `model`.
    """
    table, under = preset.get("model"), below.get("model")
    if not isinstance(table, Mapping) or not isinstance(under, Mapping):
        return dict(preset)
    own, decoder = table.get("decoder"), under.get("decoder")
    if not isinstance(own, Mapping) or not isinstance(decoder, Mapping) or "name" in own:
        return dict(preset)
    known = field_names(member(field_kinds(model, "decoder"), _kind("decoder", decoder)))
    kept = {name: value for name, value in own.items() if name in known}
    return {**preset, "model": {**table, "decoder": kept}}


def _merged_list(key: str, below: list[Any], above: Mapping[str, Any]) -> list[Any]:
    """Return a list of tables with some of them, named by number from 0, merged with others."""
    merged = list(below)
    for number, value in above.items():
        if not number.isdecimal() or int(number) >= len(below):
            known = ", ".join(f"{key}.{n}" for n in range(len(below))) or "none"
            raise RequestError(f"{key}.{number}: is not in the list; there are {known}")
        old = below[int(number)]
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[int(number)] = merge(old, value) if both else value
    return merged


def _kind(key: str, table: Mapping[str, Any], below: Mapping[str, Any] | None = None) -> Any:
    """Return the kind of a table, if kinds differ in their settings; by default that of the table below."""
    if key in NAMED:
        name = table.get("name", _kind(key, below) if below is not None else NAMED[key])
        return ALIKE.get(name, name) if isinstance(name, str) else name  # other values are refused later
    return table.get("schedule", None if below is None else below.get("schedule"))


def override(document: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return the document with `path=value` assignments on top; a value that is not TOML is taken as a string.

    Assignments of a kind come first, so that their order does not matter. An entry of a list is named by its
    number, `phase.0` or `phase[0]`; `false` removes a table.

    >>> override({}, ["train.epochs=3", "data.corpus=ptb"])
    {'train': {'epochs': 3}, 'data': {'corpus': 'ptb'}}

    Raises:
        RequestError: If an assignment has no `=` or no path.
    """
    result = spelled_out(document)
    for assignment in sorted(assignments, key=lambda one: not one.partition("=")[0].strip().endswith(KINDS)):
        path, equals, text = assignment.partition("=")
        path = re.sub(r"\[(\d+)\]", r".\1", path.strip())
        keys = path.split(".")
        if not equals or not all(keys):
            raise RequestError(f"--set {assignment}: expected path=value, such as train.epochs=3")
        try:
            (value,) = tomllib.loads(f"value = {text}").values()
        except (ValueError, RecursionError):  # not TOML, or more than one value
            value = text.strip()
        result = merge(result, spelled_out(_nested(keys, value)))
    return result


def parsed(
    model: type[Table], document: Any, problems: list[Problem], place: str = "", default: Table | None = None
) -> Table | None:
    """Return a table of settings made from a document at a place, and append its problems to `problems`.

    `default` is returned for a document with problems.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        # A default that depends on an invalid setting is not reported as missing.
        wrong = [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]
        problems += [problem_of(model, problem, document, place) for problem in wrong]
    return default
