"""From TOML to settings: every error at once with its place and the nearest known name.

`parse` turns a document (what `tomllib` gives) into a frozen `Settings`. The terms of the objective describe
their own settings and are handed in, so that a new term needs no change here.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from textvae.errors import RequestError, shown
from textvae.settings.tables import Model, Settings

# Short forms.
ALIASES = {"train.lr": "train.optimizer.lr"}
# Tables of which there are several kinds, with the kind that one without a name is of.
NAMED = {
    "encoder": "lstm",
    "decoder": "lstm",
    "top": "lstm",
    "optimizer": "adam",
    "update": "joint",
    "posterior": "gaussian",
    "prior": "standard-normal",
    "inference": "amortized",
}
# Kinds that have the same settings.
ALIKE = {"gru": "lstm"}
# The field that says which kind of thing a table describes.
TAGS = ("name", "schedule")
KINDS = tuple(f".{tag}" for tag in TAGS)


def read_document(path: Path) -> dict[str, Any]:
    """A TOML file as plain values.

    Raises:
        RequestError: when there is no such file or it is not TOML.
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
    except (ValueError, RecursionError):  # a number of thousands of digits; tables in tables in tables
        raise RequestError(f"{path}: holds a number or a table that is no setting of any kind") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None


def spelled_out(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its short forms written in full.

    >>> spelled_out({"train": {"lr": 0.1}})
    {'train': {'optimizer': {'lr': 0.1}}}
    """
    result = dict(document)
    for short, full in ALIASES.items():
        table, name = short.split(".")
        if isinstance(result.get(table), Mapping) and name in result[table]:
            rest = {key: value for key, value in result[table].items() if key != name}
            long: Any = result[table][name]
            for key in reversed(full.split(".")):
                long = {key: long}
            result = merge({**result, table: rest}, long)
    return result


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two documents in one, the second on top; another kind of schedule or optimizer replaces the whole table.

    A decoder's word dropout is every decoder's, so another kind of decoder keeps it. Of a list of tables those are
    merged that the second document names by their numbers. False in place of a table takes it away.
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
        elif key in ("decoder", "top") and isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _with_word_keep(value, old)
        else:
            merged[key] = value
    return merged


def _with_word_keep(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """A decoder or top that replaces another, with that one's word dropout where it has words and says nothing."""
    top = below.get("top")
    given = {**(top if isinstance(top, Mapping) else {}), **below}.get("word_keep")
    name, top = above.get("name"), above.get("top", {})
    if given is None or name == "feed-forward":
        return dict(above)
    if name != "hybrid":
        return {"word_keep": given, **above}
    return {**above, "top": _with_word_keep(top, below)} if isinstance(top, Mapping) else dict(above)


def fitted(preset: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset as it applies to the decoder of the document below it, of whatever kind that is.

    Settings that the decoder does not have are left out: a convolutional one sees z at every position in any case.
    A hybrid's word dropout is that of its top.
    """
    model, under = preset.get("model"), below.get("model")
    if not isinstance(model, Mapping) or not isinstance(under, Mapping):
        return dict(preset)
    own, decoder = model.get("decoder"), under.get("decoder")
    if not isinstance(own, Mapping) or not isinstance(decoder, Mapping) or "name" in own:
        return dict(preset)
    table = _fitted("decoder", own, decoder, _field(Model, "decoder"))
    return {**preset, "model": {**model, "decoder": table}}


def _fitted(key: str, own: Mapping[str, Any], below: Mapping[str, Any], kinds: Any) -> dict[str, Any]:
    """Return the settings that the kind of table below has; `kinds` are all that could stand there."""
    here = _member(kinds, _kind(key, below))
    kept = {name: value for name, value in own.items() if name in _field_names(here)}
    if "word_keep" in own and "word_keep" not in kept and "top" in _field_names(here):
        top = below.get("top")
        given = {"word_keep": own["word_keep"]}
        kept["top"] = _fitted("top", given, top if isinstance(top, Mapping) else {}, _field(here, "top"))
    return kept


def _merged_list(key: str, below: list[Any], above: Mapping[str, Any]) -> list[Any]:
    """A list of tables with some of them, named by their number from 0, merged with others."""
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
    """What a table describes, where kinds differ in their settings; without a name it is of the kind below it."""
    if key in NAMED:
        name = table.get("name", _kind(key, below) if below is not None else NAMED[key])
        return ALIKE.get(name, name) if isinstance(name, str) else name  # what is no name is refused later
    return table.get("schedule", None if below is None else below.get("schedule"))


def override(document: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The document with `path=value` assignments on top; a value that is not TOML is taken as a string.

    Those that say which kind of thing a table describes come first, so that their order does not matter. An entry
    of a list is named by its number, `phase.0` or `phase[0]`; `false` takes a table away.

    >>> override({}, ["train.epochs=3", "data.corpus=ptb"])
    {'train': {'epochs': 3}, 'data': {'corpus': 'ptb'}}

    Raises:
        RequestError: when an assignment has no `=` or no path.
    """
    result = dict(document)
    for assignment in sorted(assignments, key=lambda one: not one.partition("=")[0].strip().endswith(KINDS)):
        path, equals, text = assignment.partition("=")
        path = re.sub(r"\[(\d+)\]", r".\1", path.strip())
        keys = ALIASES.get(path, path).split(".")
        if not equals or not all(keys):
            raise RequestError(f"--set {assignment}: expected path=value, such as train.epochs=3")
        try:
            (value,) = tomllib.loads(f"value = {text}").values()
        except (ValueError, RecursionError):  # not TOML, or more than one value
            value = text.strip()
        for key in reversed(keys):
            value = {key: value}
        result = merge(result, value)
    return result


def parse(document: Mapping[str, Any], terms: Mapping[str, type[BaseModel]]) -> Settings:
    """Settings from a document, the objective's tables through the given terms.

    Raises:
        RequestError: names every wrong place at once, one a line.
    """
    problems: list[str] = []
    settings = Settings()
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        # A default that depends on another setting is not missed where that one is wrong.
        wrong = [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]
        problems += [_problem(Settings, problem, document) for problem in wrong]
    objective = _terms(document.get("objective", {}), terms, "objective.", problems)
    phases = document.get("phase", ())
    built = []
    for number, table in enumerate(phases if isinstance(phases, (list, tuple)) else ()):
        given = table.get("objective", {}) if isinstance(table, Mapping) else {}
        built.append(_terms(given, terms, f"phase[{number}].objective.", problems))
    if problems:
        raise RequestError("\n".join(problems))
    phased = [phase.model_copy(update={"objective": own}) for phase, own in zip(settings.phase, built, strict=True)]
    return settings.model_copy(update={"objective": objective, "phase": tuple(phased)})


def _terms(
    tables: Any, terms: Mapping[str, type[BaseModel]], prefix: str, problems: list[str]
) -> dict[str, BaseModel]:
    """The terms of one objective; what is wrong with them goes to `problems`."""
    built = {}
    for name, table in tables.items() if isinstance(tables, Mapping) else ():
        if name not in terms:
            problems.append(f"{prefix}{name}: unknown term{did_you_mean(name, terms)}")
            continue
        try:
            built[name] = terms[name].model_validate(table)
        except ValidationError as error:
            problems += [_problem(terms[name], problem, table, f"{prefix}{name}.") for problem in error.errors()]
    return built


def _problem(model: type[BaseModel], error: Any, document: Any, prefix: str = "") -> str:
    """Return one line for one of pydantic's errors: place, problem, remedy."""
    place: list[str] = []
    here: Any = model
    kinds: Any = None
    value: Any = document
    names: list[str] = []
    for part in error["loc"]:
        names = _field_names(here)
        if isinstance(value, Mapping) and part in value:
            place, value, here = [*place, str(part)], value[part], _field(here, part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            place[-1:] = [f"{place[-1]}[{part}]"] if place else [f"[{part}]"]
            value = value[part]
        elif part in names:  # a required name that the document lacks
            place = [*place, str(part)]
        else:  # the tag of a union, which is no key of the document
            kinds, here = here, _member(here, part)
    where = prefix + ".".join(place) if place else prefix.rstrip(".")
    if error["type"] == "extra_forbidden":
        elsewhere = _elsewhere(kinds, prefix + ".".join(place[:-1]), place[-1])
        return f"{where}: {elsewhere or 'unknown setting' + did_you_mean(place[-1], names)}"
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):
        return f"{where} = {shown(value)}: too few values"
    if error["type"] == "missing":
        return f"{where}: is required"
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["discriminator"].strip("'")
        expected = error["ctx"]["expected_tags"].replace("'", "")
        known = [name.strip() for name in expected.split(",")]
        return f"{where}.{tag}: unknown value {shown(value.get(tag))}{did_you_mean(str(value.get(tag)), known)}"
    if error["type"] == "union_tag_not_found":
        tag = error["ctx"]["discriminator"].strip("'")
        return f"{where}.{tag}: is required: it says which kind of thing this is"
    if error["type"] == "literal_error":
        known = [word.strip("' ") for word in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{where}: unknown value {shown(value)}{did_you_mean(str(value), known)}"
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        known = [tag for member in _members(here) for tag in _tag(member)[1]]
        return f"{where} = {shown(value)}: a table is expected" + (f"; set {where}.name" if value in known else "")
    if error["type"] == "tuple_type":
        return f"{where} = {shown(value)}: a list in square brackets is expected"
    if error["type"] == "too_short":
        return f"{where} = {shown(value)}: too few values; give {error['ctx']['min_length']} or more"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where} = {shown(value)}: {message}"


def _elsewhere(kinds: Any, where: str, name: str) -> str:
    """What to say of a setting that other kinds of the thing there have; nothing if there are none."""
    having = [_tag(member) for member in _members(kinds) if name in member.model_fields]
    tags = [f"{tag!r}" for _, values in having for tag in values]
    return f"only {where}.{having[0][0]} = {' or '.join(tags)} has it" if tags else ""


def _tag(member: type[BaseModel]) -> tuple[str, tuple[str, ...]]:
    """The field that says which kind of thing a table describes, and what it says of this one."""
    for field in TAGS:
        if field in member.model_fields:
            return field, get_args(member.model_fields[field].annotation)
    return "", ()


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The settings tables that an annotation can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return []


def _member(here: Any, tag: Any) -> Any:
    """The member of a union of tables that a tag names; where there is none, the union."""
    for member in _members(here):
        if tag in _tag(member)[1] or member.__name__ == tag:
            return member
    return here


def _field(here: Any, name: Any) -> Any:
    """What a table's field can hold."""
    for member in _members(here):
        if name in member.model_fields:
            return member.model_fields[name].annotation
    return None


def _field_names(here: Any) -> list[str]:
    """The names that a table knows."""
    return [name for member in _members(here) for name in member.model_fields]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
