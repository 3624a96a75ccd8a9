"""What installed packages add to the library by entry points."""

import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any


def installed(group: str, fits: Callable[[object], bool]) -> list[tuple[str, Any]]:
    """Return the objects that installed packages register under an entry-point group, each with its point's name.

    One that cannot be imported, or does not fit, is left out with a warning: a broken package must not keep the
    library from starting.
    """
    found = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            loaded = point.load()
        except Exception as error:
            warnings.warn(f"{group}: {point.value} is left out: {error}", stacklevel=3)
            continue
        if fits(loaded):
            found.append((point.name, loaded))
        else:
            warnings.warn(f"{group}: {point.value} is left out: it is of another kind", stacklevel=3)
    return found
