"""The two ways in which a request can end badly; the command line turns them into exit codes 2 and 1."""

# A message has at most so many lines, one a problem, and a line so many characters.
MOST_PROBLEMS, LONGEST = 20, 390
# Characters of a wrong value that a message shows.
SHOWN = 60


class RequestError(ValueError):
    """The request was wrong: says the place, the value given and what would do. Exit code 2.

    Long messages are shortened: they may quote what was given, which may be of any length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_shortened(message))


class WorkError(RuntimeError):
    """The request was right and the work itself failed: a full disk, a diverged loss. Exit code 1."""


def shown(value: object) -> str:
    """Return a wrong value as a message shows it, cut short.

    >>> shown("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ..."
    """
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _shortened(message: str) -> str:
    """The first problems of a message, each with its beginning and, where the remedy is, its end."""
    lines = message.split("\n")
    kept = [line if len(line) <= LONGEST else f"{line[:240]} ... {line[-140:]}" for line in lines[:MOST_PROBLEMS]]
    more = len(lines) - MOST_PROBLEMS
    return "\n".join([*kept, f"and {more:,} more problem{'s' if more > 1 else ''}"] if more > 0 else kept)
