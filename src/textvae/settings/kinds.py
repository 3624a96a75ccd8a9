"""Tables of several kinds, selected by `name`: registries of kinds, and the field type that holds one of them."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter
from pydantic_core import core_schema

from textvae.extensions import Registry, derived_from
from textvae.settings.strict import Strict

# Fields that name the kind of a table.
TAGS = ("name", "schedule")


class Kind(Strict):
    """Settings of one kind of a part. A subclass narrows `name` to a `Literal` of its names."""

    name: str

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of this kind in settings."""
        return get_args(cls.model_fields["name"].annotation)


AnyKind = TypeVar("AnyKind", bound=Kind)


def kinds(group: str, base: type[AnyKind], own: Iterable[type[AnyKind]]) -> Registry[type[AnyKind]]:
    """Return the registry of a part: its own kinds under their names, and those of installed packages."""
    named = {name: kind for kind in own for name in kind.names()}
    return Registry(group, named, derived_from(base), lambda kind: kind.names())


class OneOf:
    """Annotation of a field that holds one of a registry's kinds; a table without a name is of the default kind."""

    def __init__(self, registry: Registry[Any], default: str) -> None:
        self.registry, self.default = registry, default

    @property
    def members(self) -> tuple[type[Kind], ...]:
        """The kinds, each once."""
        return tuple(dict.fromkeys(self.registry.values()))

    @cached_property
    def _union(self) -> Any:
        members = Union[self.members]  # type: ignore[name-defined]  # noqa: UP007
        return TypeAdapter(Annotated[members, Field(discriminator="name"), named(self.default)])

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Validate by the union of all kinds, which is built when it is first needed."""
        return core_schema.no_info_plain_validator_function(lambda value: self._union.validate_python(value))


def named(default: str) -> Any:
    """Return a validator that names a table without a name."""

    def name(value: Any) -> Any:
        return {"name": default, **value} if isinstance(value, Mapping) else value

    return BeforeValidator(name)


def members(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings tables that an annotation can hold."""
    if isinstance(annotation, OneOf):
        return list(annotation.members)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [one for argument in get_args(annotation) for one in members(argument)]
    return []


def member(here: Any, tag: Any) -> Any:
    """Return the member of a union of tables that a tag names; the union itself if there is none."""
    for one in members(here):
        if tag in tag_of(one)[1] or one.__name__ == tag:
            return one
    return here


def tag_of(table: type[BaseModel]) -> tuple[str, tuple[str, ...]]:
    """Return the field that names the kind of a table, and its values for this one."""
    for field in TAGS:
        if field in table.model_fields:
            return field, get_args(table.model_fields[field].annotation)
    return "", ()


def field_kinds(here: Any, name: Any) -> Any:
    """Return what a table's field can hold."""
    for one in members(here):
        if name in one.model_fields:
            field = one.model_fields[name]
            return next((mark for mark in field.metadata if isinstance(mark, OneOf)), field.annotation)
    return None


def field_names(here: Any) -> list[str]:
    """Return the names that a table knows."""
    return [name for one in members(here) for name in one.model_fields]
