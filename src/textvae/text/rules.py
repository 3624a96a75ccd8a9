"""Rules of a grammar, read from text in the notation of `grammar`. Attribute values are bits of integers."""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from textvae.errors import RequestError

_WEIGHT = re.compile(r"\d+(\.\d+)?")


class Alternative(NamedTuple):
    """One alternative of a rule."""

    number: int  # position in the whole grammar, so that a derivation is a tuple of alternatives
    name: str
    weight: float
    symbols: tuple[str, ...]
    allowed: int  # one bit per attribute value; all bits of an attribute that the rule does not mention
    guarded: tuple[int, ...]  # the bits of each attribute that the rule does mention


def union(sets: Iterable[int]) -> int:
    """Return the union of sets stored as bits."""
    return functools.reduce(int.__or__, sets, 0)


def read_rules(
    text: str, names: Mapping[str, int], fields: Mapping[str, int], possible: int
) -> tuple[str, dict[str, list[Alternative]]]:
    """Return the start symbol and the alternatives by rule, without those that no possible value allows.

    Args:
        text: Rules in the notation of `grammar`.
        names: Bits of every value and group of values.
        fields: Bits of all values of each attribute.
        possible: Bits of all values whose weight is above zero.

    Raises:
        RequestError: With the line, for rules that cannot be read.
    """
    rules: dict[str, list[Alternative]] = {}
    numbers = itertools.count()
    for line in filter(None, map(str.strip, text.splitlines())):
        head, equals, body = line.partition("=")
        name, *when = head.replace("[", " ").replace("]", " ").split() or [""]
        unknown = [value for value in when if value not in names]
        if not (equals and name.isupper()):
            raise RequestError(f"grammar rule '{line}': not of the form NAME [when] = alternative | alternative")
        if unknown:
            raise RequestError(f"grammar rule '{line}': '{unknown[0]}' is no value of {list(fields)}")
        values = union(names[value] for value in when)
        guarded = tuple(field for field in fields.values() if field & values)
        allowed = values | sum(field for field in fields.values() if not field & values)
        known = rules.setdefault(name, [])
        for part in body.split("|"):
            first, *rest = part.split() or ["-"]
            weight, symbols = (float(first), rest) if _WEIGHT.fullmatch(first) else (1.0, [first, *rest])
            if weight <= 0 or not symbols:
                raise RequestError(f"grammar rule '{line}': '{part.strip()}' needs a weight above 0 and symbols")
            if all(allowed & possible & field for field in guarded):
                words = () if symbols == ["-"] else tuple(symbols)
                known.append(Alternative(next(numbers), name, weight, words, allowed, guarded))
    for alternative in itertools.chain.from_iterable(rules.values()):
        for symbol in alternative.symbols:
            if symbol.isupper() and symbol not in rules:
                raise RequestError(f"grammar rule '{alternative.name}': there is no rule for '{symbol}'")
    if not rules:
        raise RequestError("grammar: there are no rules; write at least one, NAME = alternative")
    return next(iter(rules)), rules
