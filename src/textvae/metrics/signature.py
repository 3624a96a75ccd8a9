"""Signatures: one line that names everything a number depends on, in the manner of sacreBLEU."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

from textvae.errors import RequestError

# The support of every decoder's softmax: all ids, including padding and the begin mark, which no text has.
# Generation never writes these two, and a beam's log p still counts their probability as lost.
SOFTMAX = "all-ids"

_FIRST = ("bound", "unit", "eos", "unk", "vocabulary", "softmax", "split")
_LAST = ("textvae",)
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVED = re.compile(r"[%|\s\x00-\x1f\x7f]")


def signature(metric: str, /, **parts: str | int | float) -> str:
    """Return the metric's name and its parts, `name:value`, in an order independent of the call's.

    First come bound, unit, eos, unk, vocabulary, softmax and split, then all others by name, and last `textvae`,
    the version. A bar, a percent sign, blanks and control characters within a value are percent-encoded.

    Raises:
        RequestError: For an empty value, or a name with other characters than a-z, 0-9, _ and -.

    >>> signature("nll", textvae="0.1.0", split="ab12cd", eos="counted", bound="iw500")
    'nll|bound:iw500|eos:counted|split:ab12cd|textvae:0.1.0'
    """
    _require_name("metric", metric)
    for name, value in parts.items():
        _require_name("name", name)
        if str(value) == "":
            raise RequestError(f"signature: {name} is empty; leave it out or give its value")
    fields = [f"{name}:{_escaped(str(parts[name]))}" for name in sorted(parts, key=_place)]
    return "|".join([metric, *fields])


def digest(lines: Iterable[str]) -> str:
    """Return six digits that identify text: the first of the SHA-256 of its lines."""
    hashed = hashlib.sha256()
    for number, line in enumerate(lines):
        hashed.update(f"{chr(10) if number else ''}{line}".encode(errors="surrogatepass"))
    return hashed.hexdigest()[:6]


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Return the metric's name and the parts of a signature, all values as text.

    `signature(metric, **parts)` gives the signature again.

    Raises:
        RequestError: If the text is not a signature.

    >>> parse("nll|bound:iw500|vocabulary:10004")
    ('nll', {'bound': 'iw500', 'vocabulary': '10004'})
    """
    metric, *fields = text.split("|")
    _require_name("metric", metric)
    parts: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not value:
            raise RequestError(f"signature: {field!r} given between bars; it must be NAME:VALUE")
        _require_name("name", name)
        if name in parts:
            raise RequestError(f"signature: {name} is given twice; each name stands once")
        parts[name] = unquote(value)
    return metric, parts


def shared(signatures: Sequence[str]) -> tuple[str, list[str]]:
    """Return what signatures have in common, as one signature, and the other parts of each.

    The common one is of the metric that all are of, or else of `scores`.

    >>> shared(["bleu|case:mixed|n:2", "bleu|case:mixed|n:4"])
    ('bleu|case:mixed', ['n:2', 'n:4'])
    """
    parsed = [parse(one) for one in signatures]
    first = dict(parsed[0][1])
    common = {name: value for name, value in first.items() if all(own.get(name) == value for _, own in parsed)}
    metrics = {metric for metric, _ in parsed}
    name = metrics.pop() if len(metrics) == 1 else "scores"
    others = [
        "|".join(f"{part}:{_escaped(value)}" for part, value in own.items() if part not in common)
        for _, own in parsed
    ]
    return signature(name, **common), others


def _place(name: str) -> tuple[int, str]:
    if name in _FIRST:
        return _FIRST.index(name), name
    return (len(_FIRST) + 1 if name in _LAST else len(_FIRST)), name


def _escaped(value: str) -> str:
    return _RESERVED.sub(lambda match: quote(match.group(), safe=""), value)


def _require_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RequestError(f"signature: {kind} {name!r} given; use a-z, 0-9, _ and -, a letter first")
