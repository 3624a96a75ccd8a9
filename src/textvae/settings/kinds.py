"""Tables of several kinds, selected by `name`: registries of kinds, and the field type that holds one of them."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, TypeVar, Union, get_args

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic_core import core_schema

from textvae.extensions import Registry, derived_from
from textvae.settings.strict import Strict


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
