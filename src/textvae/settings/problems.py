"""Problems of settings: the path, the value, what is wrong and what to do, made into one line."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from textvae.errors import RequestError, did_you_mean, shown
from textvae.settings.kinds import field_kinds, field_names, member, members, tag_of

_NO_VALUE: Any = object()


@dataclass(frozen=True)
class Problem:
    """A setting that cannot be used: where it is, why, and the remedy.

    `path` is relative to the table that was asked, and empty for the table itself; `under` puts the place of that
    table before it. `value` is part of the line if it is given.

    >>> str(Problem("latent", "a sphere needs 2 dimensions or more", value=1).under("model"))
    'model.latent = 1: a sphere needs 2 dimensions or more'
    >>> str(Problem("", "the prior is fixed", "use objective.kl").under("objective.mmd"))
    'objective.mmd: the prior is fixed; use objective.kl'
    """

    path: str
    message: str
    remedy: str = ""
    value: Any = field(default=_NO_VALUE, kw_only=True)

    def under(self, place: str) -> "Problem":
        """Return the problem with `place` before its path."""
        return dataclasses.replace(self, path=".".join(part for part in (place, self.path) if part))

    def __str__(self) -> str:
        """Return one line: path, value, message, remedy."""
        where = self.path if self.value is _NO_VALUE else f"{self.path} = {shown(self.value)}"
        return f"{where}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


def refuse(problems: Iterable[Problem]) -> None:
    """Raise one error that lists all problems, one a line; do nothing if there are none.

    Raises:
        RequestError: If there are problems.
    """
    if lines := [str(problem) for problem in problems]:
        raise RequestError("\n".join(lines))


def problem_of(model: type[BaseModel], error: Any, document: Any, place: str = "") -> Problem:
    """Return the problem that one of pydantic's errors describes, of a document at a place read as a `model`."""
    path = [place] if place else []
    here: Any = model
    kinds: Any = None
    value: Any = document
    names: list[str] = []
    for part in error["loc"]:
        names = field_names(here)
        if isinstance(value, Mapping) and part in value:
            path, value, here = [*path, str(part)], value[part], field_kinds(here, part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            path[-1:] = [f"{path[-1] if path else ''}[{part}]"]
            value = value[part]
        elif part in names:  # a required name that the document lacks
            path = [*path, str(part)]
        else:  # the tag of a union, which is not a key of the document
            kinds, here = here, member(here, part)
    where = ".".join(path)
    match error["type"]:
        case "extra_forbidden":
            unknown = f"unknown setting{did_you_mean(path[-1], names)}"
            return Problem(where, _elsewhere(kinds, path) or unknown)
        case "missing" if isinstance(error["loc"][-1], int):
            return Problem(where, "too few values", value=value)
        case "missing":
            return Problem(where, "is required")
        case "union_tag_invalid":
            tag = error["ctx"]["discriminator"].strip("'")
            return Problem(tag, *_unknown(value.get(tag), error["ctx"]["expected_tags"])).under(where)
        case "union_tag_not_found":
            tag = error["ctx"]["discriminator"].strip("'")
            return Problem(tag, "is required: it names the kind").under(where)
        case "literal_error":
            return Problem(where, *_unknown(value, error["ctx"]["expected"]))
        case "model_type" | "model_attributes_type" | "dict_type":
            known = [tag for one in members(here) for tag in tag_of(one)[1]]
            field = "name" if value in known else "weight" if "weight" in field_names(here) else ""
            remedy = f"set {where}.{field}" if field else ""
            return Problem(where, "a table is expected", remedy, value=value)
        case "tuple_type":
            return Problem(where, "a list in square brackets is expected", value=value)
        case "too_short":
            least = error["ctx"]["min_length"]
            return Problem(where, "too few values", f"give {least} or more", value=value)
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return Problem(where, message, value=value)


def _unknown(value: Any, expected: str) -> tuple[str, str]:
    """Return the message and the remedy of an unknown value, where pydantic lists the known ones."""
    known = [name.strip("' ") for name in expected.replace(" or ", ", ").split(",")]
    return f"unknown value {shown(value)}", did_you_mean(str(value), known).removeprefix("; ")


def _elsewhere(kinds: Any, path: list[str]) -> str:
    """Return a hint for a setting that other kinds at this place have; empty if there are none."""
    having = [tag_of(one) for one in members(kinds) if path[-1] in one.model_fields]
    tags = [f"{tag!r}" for _, values in having for tag in values]
    return f"only {'.'.join(path[:-1])}.{having[0][0]} = {' or '.join(tags)} has it" if tags else ""
