"""Tables that come in kinds, named by `name`: registries of kinds, and the field that holds one of them."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, TypeVar, Union, get_args

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic_core import core_schema

from textvae.extensions import installed
from textvae.settings.strict import Strict


class Kind(Strict):
    """Settings of one kind of a part. A subclass narrows `name` to a `Literal` of the names it goes by."""

    name: str

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names that settings call this kind by."""
        return get_args(cls.model_fields["name"].annotation)


Entry = TypeVar("Entry")


class Registry(Mapping[str, type[Entry]]):
    """Classes by the name that settings call them by: the library's own, and those of installed packages.

    A package's class goes by the names of its kind, or by that of its entry point in `group`. Packages are looked
    for when the registry is first read, not when the library is imported: so they may import any of its modules.
    """

    def __init__(self, group: str, base: type[Entry], own: Mapping[str, type[Entry]]) -> None:
        self.group, self.base, self.own = group, base, own

    def __getitem__(self, name: str) -> type[Entry]:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def _fits(self, entry: object) -> bool:
        return isinstance(entry, type) and issubclass(entry, self.base)

    @cached_property
    def _all(self) -> dict[str, type[Entry]]:
        found = dict(self.own)
        for point, entry in installed(self.group, self._fits):
            names = entry.names() if issubclass(entry, Kind) else (point,)
            if not names or found.keys() & set(names):
                warnings.warn(f"{self.group}: {point} is left out: its name is missing or taken", stacklevel=2)
            else:
                found |= dict.fromkeys(names, entry)
        return found


AnyKind = TypeVar("AnyKind", bound=Kind)


def kinds(group: str, base: type[AnyKind], own: Iterable[type[AnyKind]]) -> Registry[AnyKind]:
    """Return the registry of a part: its own kinds under their names, and those of installed packages."""
    return Registry(group, base, {name: kind for kind in own for name in kind.names()})


class OneOf:
    """Marks a field that holds one of the kinds of a registry; a table without a name is of the default kind."""

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
        """Validate by the union of all kinds, which is made when it is first needed."""
        return core_schema.no_info_plain_validator_function(lambda value: self._union.validate_python(value))


def named(default: str) -> Any:
    """Return a validator that names a table without a name."""

    def name(value: Any) -> Any:
        return {"name": default, **value} if isinstance(value, Mapping) else value

    return BeforeValidator(name)
