"""Entry points by which installed packages extend the library, and the registries that are open to them.

The groups are `textvae.terms` (`objective/terms/__init__.py`), `textvae.posteriors`, `textvae.priors`,
`textvae.conditioners`, `textvae.encoders`, `textvae.decoders` (`parts/*/__init__.py`), `textvae.metrics`
(`metrics/scoring.py`) and `textvae.commands` (`cli/__init__.py`).
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, TypeVar

from textvae.errors import did_you_mean

Entry = TypeVar("Entry")
# Returns the reason why an object cannot be an entry of a group, or None if it can.
Check = Callable[[Any], str | None]


def installed(group: str, check: Check, left_out: dict[str, str] | None = None) -> list[tuple[str, Any]]:
    """Return the objects that installed packages register under an entry-point group, each with its point's name.

    One that cannot be imported, or fails the check, is left out with a warning: a broken package must not keep the
    library from starting. `left_out` gets the warnings by the names of their points.
    """
    entries = []
    left_out = {} if left_out is None else left_out
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            loaded = point.load()
            reason = check(loaded)
        except Exception as error:
            reason = _first_line(error)
        if reason is None:
            entries.append((point.name, loaded))
        else:
            left_out[point.name] = f"{point.value} is left out: {reason}"
            warnings.warn(f"{group}: {left_out[point.name]}", stacklevel=3)
    return entries


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message; of pydantic's about a field without a type, the remedy."""
    text = str(error)
    if untyped := re.search(r"non-annotated attribute was detected: `(\w+) = (.*?)`", text):
        name, value = untyped.groups()
        number = "float" if re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", value) else "TYPE"
        return f"`{name} = {value}` has no type; give it one: `{name}: {number} = {value}`"
    return text.splitlines()[0] if text else type(error).__name__


class Registry(Mapping[str, Entry]):
    """Objects by name: the library's own, and those that installed packages register under an entry-point group.

    Packages are looked for when the registry is first read, not when the library is imported: so they may import
    any of its modules. An object goes by `names(object)`, by default by the name of its entry point.
    """

    def __init__(
        self,
        group: str,
        own: Mapping[str, Entry],
        check: Check,
        names: Callable[[Entry], Sequence[str]] | None = None,
    ) -> None:
        self.group, self.own, self.check, self.names = group, own, check, names
        self._left_out: dict[str, str] = {}

    def __getitem__(self, name: str) -> Entry:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def why_not(self, name: str, kind: str) -> str:
        """Return why there is no `kind` of a name: the reason it was left out, or unknown and the nearest name."""
        unknown = f"unknown {kind}{did_you_mean(name, self)}"  # reads the entry points, if nothing has yet
        return self._left_out.get(name, unknown)

    @cached_property
    def _all(self) -> dict[str, Entry]:
        entries = dict(self.own)
        for point, entry in installed(self.group, self.check, self._left_out):
            names = (point,) if self.names is None else self.names(entry)
            if not names or entries.keys() & set(names):
                warnings.warn(f"{self.group}: {point} is left out: its name is missing or taken", stacklevel=2)
            else:
                entries |= dict.fromkeys(names, entry)
        return entries


def derived_from(base: type) -> Check:
    """Return the check that an object is a class derived from `base`."""

    def check(entry: Any) -> str | None:
        derived = isinstance(entry, type) and issubclass(entry, base)
        return None if derived else f"it is not a subclass of {base.__name__}"

    return check
