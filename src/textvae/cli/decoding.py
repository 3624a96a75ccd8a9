"""The options of decoding, shared by all commands that decode: one grammar of `--decode`, and options beside it."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.errors import RequestError
from textvae.generate.ways import WAYS, require_number, spelled, way_of

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding

# Options with a number of some ways of decoding; None where the option is not given.
NUMBERS: dict[str, Any] = {
    "temperature": Annotated[
        float | None, typer.Option(help="sample, top-k, nucleus: divides the logits, below 1 is sharper; 1.")
    ],
    "top_k": Annotated[int | None, typer.Option(help="top-k: how many of the likeliest words to draw from.")],
    "top_p": Annotated[float | None, typer.Option(help="nucleus: the mass of words to draw from.")],
    "beam": Annotated[int | None, typer.Option(help="beam: how many texts are kept.")],
    "normalisation": Annotated[
        float | None, typer.Option(help="beam: the power of the length that log p is divided by; 0.")
    ],
}
# Options of every way of decoding.
COMMON: dict[str, tuple[Any, Any]] = {
    "min_length": (Annotated[int, typer.Option(help="No text ends before it has so many words.")], 0),
    "max_length": (Annotated[int, typer.Option(help="No text has more words; 0: the run's data.max_length.")], 0),
    "no_repeat": (
        Annotated[int, typer.Option(metavar="N", help="Against loops: no N words come twice in a text.")],
        0,
    ),
    "allow_unk": (
        Annotated[bool, typer.Option("--allow-unk/--no-unknown", help="Also write the unknown word, <unk>.")],
        False,
    ),
}
NBest = Annotated[
    int, typer.Option("--n-best", min=0, help="beam: so many texts of each code, log p(text|z) before each.")
]


def decoding_options(allow_unk: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command with the options of decoding in place of its keyword `decoding`, which it receives.

    `allow_unk` is for commands that measure what models write.
    """
    decode = Annotated[str, typer.Option("--decode", metavar="NAME[:NUMBER]", help=f"{WAYS}.")]
    read = lambda text, given: decodings_of([text], given)[0]  # noqa: E731
    return lambda command: _with_options(command, "decoding", decode, "greedy", read, allow_unk)


def decodings_options(*usual: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that measures several ways of decoding, `usual` ones by default.

    It has them in its keyword `decodings`, which by default allow the unknown word.
    """
    told = f"{WAYS}; again for several ways."
    decode = Annotated[list[str], typer.Option("--decode", metavar="NAME[:NUMBER]", help=told)]

    def decodings(texts: list[str], given: Mapping[str, Any]) -> "list[Decoding]":
        return decodings_of([one.strip() for text in texts for one in text.split(",")], given)

    return lambda command: _with_options(command, "decodings", decode, list(usual), decodings, allow_unk=True)


def _with_options(
    command: Callable[..., None],
    keyword: str,
    decode: Any,
    usual: str | list[str],
    read: Callable[[Any, Mapping[str, Any]], Any],
    allow_unk: bool,
) -> Callable[..., None]:
    """Return the command with `--decode` and the options beside it in place of a keyword."""
    options = {"decode": (decode, usual), **{name: (kind, None) for name, kind in NUMBERS.items()}, **COMMON}
    options["allow_unk"] = (options["allow_unk"][0], allow_unk)

    def with_options(**given: Any) -> None:
        values = {name: given.pop(name) for name in options}
        command(**given, **{keyword: read(values.pop("decode"), values)})

    own = [one.replace(kind=one.KEYWORD_ONLY) for one in inspect.signature(command).parameters.values()]
    place = [one.name for one in own].index(keyword)
    own[place : place + 1] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    shown: Any = with_options  # typer reads these four
    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__signature__ = inspect.Signature(own)
    shown.__annotations__ = {one.name: one.annotation for one in own}
    return with_options


def decodings_of(texts: Sequence[str], given: Mapping[str, Any]) -> "list[Decoding]":
    """Return the ways of decoding that `--decode` names, with the options beside it.

    Args:
        texts: Each NAME or NAME:NUMBER.
        given: Values of the options in `NUMBERS` and `COMMON`. A number applies to every way that has a use for it.

    Raises:
        RequestError: For an unknown way, a wrong or missing number, and an option that no way has a use for.
    """
    from textvae.generate.decoding import USED_BY, Decoding

    ways = [way_of(text, f"--decode {text}".rstrip()) for text in texts]
    numbers = {name: given[name] for name in NUMBERS if given[name] is not None}
    for name, value in numbers.items():
        users = USED_BY[name][1]
        if not any(way in users for way, _ in ways):
            wanted = " or ".join(filter(None, (", ".join(users[:-1]), users[-1])))
            raise RequestError(
                f"{_option(name)} {value:g}: is for --decode {wanted}, and --decode is {','.join(texts)}"
            )
    if 0 < given["max_length"] < given["min_length"]:
        raise RequestError(f"--min-length {given['min_length']}: is more than --max-length {given['max_length']}")
    common = {
        "allow_unknown": given["allow_unk"],
        "min_length": given["min_length"],
        "max_length": given["max_length"],
        "no_repeat": given["no_repeat"],
    }
    found = []
    for text, (way, own) in zip(texts, ways, strict=True):
        beside = {name: value for name, value in numbers.items() if way in USED_BY[name][1]}
        for name, value in own.items():
            if beside.get(name, value) != value:
                raise RequestError(
                    f"--decode {text}: {_option(name)} {beside[name]:g} says otherwise; leave out one of the two"
                )
        require_number(way, own | beside, f"--decode {text}")
        found.append(Decoding(way, **own, **{name: beside[name] for name in beside if name not in own}, **common))
    return found


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def by_name(decodings: "Iterable[Decoding]") -> "dict[str, Decoding]":
    """Return ways of decoding by their names, which have the number where two are of one name."""
    ways = list(dict.fromkeys(decodings))
    count = Counter(one.name for one in ways)
    return {one.name if count[one.name] == 1 else spelled(one): one for one in ways}
