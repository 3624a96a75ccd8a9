"""Entry points by which installed packages extend the library, and the registries that are open to them.

The groups are `textvae.terms` (`objective/terms/__init__.py`), `textvae.posteriors`, `textvae.priors`,
`textvae.encoders`, `textvae.decoders` (`parts/*/__init__.py`), `textvae.metrics` (`metrics/scoring.py`) and
`textvae.commands` (`cli/__init__.py`).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, TypeVar

Entry = TypeVar("Entry")


def installed(group: str, fits: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """Return the objects that installed packages register under an entry-point group, each with its point's name.

    One that cannot be imported, or does not fit, is left out with a warning: a broken package must not keep the
    library from starting.
    """
    entries = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            loaded = point.load()
        except Exception as error:
            warnings.warn(f"{group}: {point.value} is left out: {error}", stacklevel=3)
            continue
        if fits(loaded):
            entries.append((point.name, loaded))
        else:
            warnings.warn(f"{group}: {point.value} is left out: it is of another kind", stacklevel=3)
    return entries


class Registry(Mapping[str, Entry]):
    """Objects by name: the library's own, and those that installed packages register under an entry-point group.

    Packages are looked for when the registry is first read, not when the library is imported: so they may import
    any of its modules. An object goes by `names(object)`, by default by the name of its entry point.
    """

    def __init__(
        self,
        group: str,
        own: Mapping[str, Entry],
        fits: Callable[[Any], bool],
        names: Callable[[Entry], Sequence[str]] | None = None,
    ) -> None:
        self.group, self.own, self.fits, self.names = group, own, fits, names

    def __getitem__(self, name: str) -> Entry:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @cached_property
    def _all(self) -> dict[str, Entry]:
        entries = dict(self.own)
        for point, entry in installed(self.group, self.fits):
            names = (point,) if self.names is None else self.names(entry)
            if not names or entries.keys() & set(names):
                warnings.warn(f"{self.group}: {point} is left out: its name is missing or taken", stacklevel=2)
            else:
                entries |= dict.fromkeys(names, entry)
        return entries


def derived_from(base: type) -> Callable[[Any], bool]:
    """Return the condition that an object is a class derived from `base`."""
    return lambda entry: isinstance(entry, type) and issubclass(entry, base)
