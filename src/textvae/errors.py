"""Exceptions, a wrong request (exit code 2) and failed work (exit code 1), and parts of their messages."""

from collections.abc import Iterable
from difflib import get_close_matches

# Most lines of a message, one a problem, and most characters of a line.
MOST_PROBLEMS, LONGEST = 20, 600
# Most characters of a wrong value in a message.
SHOWN = 60


class RequestError(ValueError):
    """A wrong request: the message names the place, the value and the remedy. Exit code 2.

    Long messages are shortened, since they may quote input of any length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_shortened(message))


class WorkError(RuntimeError):
    """A failure of the work itself after a valid request, such as a full disk or a diverged loss. Exit code 1."""


def shown(value: object) -> str:
    """Return a wrong value for a message, cut short.

    >>> shown("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ..."
    """
    try:
        text = repr(value)
    except ValueError:  # TOML has integers in hexadecimal of any length, and Python writes none of that many digits
        text = "an integer of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return the end of a message about an unknown name: the nearest known one.

    If none is near, `otherwise`, or all known names without one.

    >>> did_you_mean("grul", ["gru", "lstm"]), did_you_mean("x", ["gru", "lstm"])
    ("; did you mean 'gru'?", '; known: gru, lstm')
    """
    names = sorted(set(known)) if otherwise is None else list(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if otherwise is None else otherwise


def _shortened(message: str) -> str:
    """Return the first problems of a message, each with its beginning and its end, where the remedy stands."""
    lines = message.split("\n")
    kept = [line if len(line) <= LONGEST else f"{line[:380]} ... {line[-200:]}" for line in lines[:MOST_PROBLEMS]]
    more = len(lines) - MOST_PROBLEMS
    return "\n".join([*kept, f"and {more:,} more problem{'s' if more > 1 else ''}"] if more > 0 else kept)
