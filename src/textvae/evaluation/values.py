"""Values of scores: a number, a number with its error, or the reason why there is none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_FINITE = "not finite"
ONE_SENTENCE = "one sentence has no deviation"
NO_CODE = "a language model has no code"


@dataclass(frozen=True)
class Missing:
    """A score that is undefined, and why."""

    reason: str


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error or standard deviation."""

    value: float | Missing
    error: float | Missing


def finite(value: float, reason: str = NOT_FINITE) -> float | Missing:
    """Return the value, or Missing for the reason if it is nan or infinite."""
    return value if math.isfinite(value) else Missing(reason)


def follow(value: Any, path: str) -> Any:
    """Follow a path of attributes, as far as the first that is missing or None."""
    for name in path.split("."):
        value = getattr(value, name)
        if value is None or isinstance(value, Missing):
            break
    return value


def resolved(values: Mapping[str, Any], path: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """Replace what is missing or not finite by None, and give the reasons by path.

    >>> resolved({"kl": Missing("no code"), "units": {"0.01": 3, "0.2": Missing("few")}})
    ({'kl': None, 'units': {'0.01': 3, '0.2': None}}, {'kl': 'no code', 'units.0.2': 'few'})
    """
    plain: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, float):
            value = finite(value)
        if isinstance(value, Mapping):
            plain[name], inner = resolved(value, f"{path}{name}.")
            reasons |= inner
        elif isinstance(value, Missing):
            plain[name], reasons[f"{path}{name}"] = None, value.reason
        else:
            plain[name] = value
    return plain, reasons
