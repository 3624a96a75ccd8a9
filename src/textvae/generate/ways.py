"""Ways of decoding as text, NAME or NAME:NUMBER: one grammar, in Python and in the commands.

Commands import this for their help, so torch, which `Decoding` comes with, is imported when a text is read.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding

WAYS = "greedy, beam:5, sample or sample:0.7, top-k:15, nucleus:0.9"


class Own(NamedTuple):
    """The number in NAME:NUMBER: the option that it stands for, its type, and a usual value."""

    option: str
    kind: Callable[[str], float]
    usual: str
    needed: bool = True


OWN = {
    "beam": Own("beam", int, "5"),
    "sample": Own("temperature", float, "0.7", needed=False),
    "top-k": Own("top_k", int, "15"),
    "nucleus": Own("top_p", float, "0.9"),
}


def decoding_of(decoding: "Decoding | str") -> "Decoding":
    """Return a way of decoding that is given as text, NAME or NAME:NUMBER; a `Decoding` stays as it is.

    >>> decoding_of("nucleus:0.9").top_p, decoding_of("sample").name
    (0.9, 'sample')

    Raises:
        RequestError: For an unknown way, and for a wrong or missing number.
    """
    from textvae.generate.decoding import Decoding

    if isinstance(decoding, Decoding):
        return decoding
    place = f"decoding = {decoding!r}"
    if not isinstance(decoding, str):
        raise RequestError(f"{place}: is neither a Decoding nor a text; known: {WAYS}")
    name, number = way_of(decoding, place)
    require_number(name, number, place)
    return Decoding(name, **number)


def way_of(text: str, place: str) -> tuple[str, dict[str, Any]]:
    """Return the name of NAME or NAME:NUMBER, and the number by the option that it stands for.

    Raises:
        RequestError: At `place`, for an unknown way, and for a number that is none or not for this way.
    """
    from textvae.generate.decoding import Decoding

    name, colon, value = text.partition(":")
    if not name:
        raise RequestError(f"{place}: names no way of decoding; known: {WAYS}")
    if "," in text:
        raise RequestError(f"{place}: names several ways of decoding; give one")
    if name not in OWN:
        Decoding(name)  # refuses an unknown name
        if colon:
            raise RequestError(f"{place}: {name} decoding takes no number")
    if not colon:
        return name, {}
    own = OWN[name]
    try:
        return name, {own.option: own.kind(value)}
    except ValueError:
        kind = "whole number" if own.kind is int else "number"
        raise RequestError(f"{place}: {value!r} is no {kind}; write for example {name}:{own.usual}") from None


def require_number(name: str, given: "dict[str, Any]", place: str) -> None:
    """Refuse a way without the number that it needs.

    Raises:
        RequestError: At `place`, with an example.
    """
    if name in OWN and OWN[name].needed and OWN[name].option not in given:
        raise RequestError(f"{place}: give its number, for example {name}:{OWN[name].usual}")


def spelled(decoding: "Decoding") -> str:
    """Return a way of decoding as NAME or NAME:NUMBER."""
    if decoding.name not in OWN or (decoding.name == "sample" and decoding.temperature == 1.0):
        return decoding.name
    return f"{decoding.name}:{getattr(decoding, OWN[decoding.name].option)}"
