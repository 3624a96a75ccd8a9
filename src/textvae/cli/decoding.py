"""The options of decoding, shared by all commands that decode."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding

MaxLength = Annotated[int, typer.Option(help="No text has more words; 0: the run's data.max_length.")]
NoUnknown = Annotated[bool, typer.Option("--no-unknown", help="Never write the unknown word.")]
# Every option with its type and default; a command that decodes has them in place of its argument `decoding`.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "decode": (
        Annotated[str, typer.Option("--decode", metavar="NAME", help="greedy, beam, sample, top-k or nucleus.")],
        "greedy",
    ),
    "temperature": (Annotated[float, typer.Option(help="Divides the logits: below 1 is sharper.")], 1.0),
    "top_k": (
        Annotated[int | None, typer.Option(help="top-k: how many of the likeliest words to draw from.")],
        None,
    ),
    "top_p": (
        Annotated[float | None, typer.Option(help="nucleus: the mass of words to draw from.")],
        None,
    ),
    "beam": (
        Annotated[int | None, typer.Option("--beam", help="beam: how many texts are kept.")],
        None,
    ),
    "normalisation": (
        Annotated[float, typer.Option(help="beam: the power of the length that log p is divided by.")],
        0.0,
    ),
    "min_length": (Annotated[int, typer.Option(help="No text ends before it has so many words.")], 0),
    "max_length": (MaxLength, 0),
    "no_unknown": (NoUnknown, False),
}
# What a way of decoding cannot do without, and a usual value.
NEEDED = {"top-k": ("--top-k", "40"), "nucleus": ("--top-p", "0.9"), "beam": ("--beam", "5")}
NBest = Annotated[
    int, typer.Option("--n-best", min=0, help="beam: so many texts of each code, log p(text|z) before each.")
]


def decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with `OPTIONS` in place of its keyword `decoding`, which it receives."""

    def with_options(**given: Any) -> None:
        decoding = _decoding(**{name: given.pop(name) for name in OPTIONS})
        command(**given, decoding=decoding)

    own = [one.replace(kind=one.KEYWORD_ONLY) for one in inspect.signature(command).parameters.values()]
    place = [one.name for one in own].index("decoding")
    own[place : place + 1] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in OPTIONS.items()
    ]
    shown: Any = with_options  # typer reads these four
    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__signature__ = inspect.Signature(own)
    shown.__annotations__ = {one.name: one.annotation for one in own}
    return with_options


def described(decoding: "Decoding") -> dict[str, Any]:
    """Return a decoding for JSON."""
    from dataclasses import asdict

    return asdict(decoding)


def decoding_of(text: str) -> "Decoding":
    """Return a decoding from one word: greedy, sample, sample:0.7 (temperature), top-k:15, nucleus:0.9, beam:5.

    Raises:
        RequestError: For an invalid one.
    """
    from textvae.generate.decoding import Decoding

    name, _, value = text.partition(":")
    options = {"sample": "temperature", "top-k": "top_k", "nucleus": "top_p", "beam": "beam"}
    if name in NEEDED and not value:
        raise RequestError(f"--decode {text}: give its number, for example {name}:{NEEDED[name][1]}")
    if not value or name not in options:
        plain = Decoding(name)  # refuses names that there are not
        if not value:
            return plain
        raise RequestError(f"--decode {text}: {name} decoding takes no number")
    try:
        number = float(value) if name in ("sample", "nucleus") else int(value)
    except ValueError:
        raise RequestError(f"--decode {text}: {value!r} is no number; write for example top-k:15") from None
    return Decoding(name, **{options[name]: number})  # type: ignore[arg-type]


def _decoding(
    decode: str,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    beam: int | None,
    normalisation: float,
    min_length: int,
    max_length: int,
    no_unknown: bool,
) -> "Decoding":
    from textvae.generate.decoding import Decoding

    given = {"top-k": top_k, "nucleus": top_p, "beam": beam}
    if decode in NEEDED and given[decode] is None:
        option, usual = NEEDED[decode]
        raise RequestError(f"--decode {decode}: give {option} too, for example {option} {usual}")
    for name, value in given.items():
        if value is not None and name != decode and decode in (*NEEDED, "greedy", "sample"):
            raise RequestError(f"{NEEDED[name][0]} {value}: is for --decode {name}, and --decode is {decode}")
    if 0 < max_length < min_length:
        raise RequestError(f"--min-length {min_length}: is more than --max-length {max_length}")
    top_p = 1.0 if top_p is None else top_p
    allow = not no_unknown
    return Decoding(decode, temperature, top_k or 0, top_p, allow, beam or 0, normalisation, min_length, max_length)
