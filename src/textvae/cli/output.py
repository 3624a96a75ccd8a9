"""Output of the commands: results to stdout, notes and errors to stderr, and the exit code."""

import errno
import json
import os
import re
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from textvae.errors import RequestError, WorkError

# Any wrong usage; it lives in another module in some versions of typer, so it is named by its child.
UsageError: Any = typer.BadParameter.__base__

# What a path that was given can be refused for by the system.
_OF_THE_PATH = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)

# Parts of torch's messages about more memory than there is, or than there are addresses.
_TOO_LARGE = (
    "can't allocate memory",
    "out of memory",
    "Overflow when unpacking long",
    "Storage size calculation overflowed",
)
# Stands for a number that there is not.
DASH = "–"
# Least width of a last column that is wrapped.
LEAST = 24
# Marks that turn the direction of the text around them, and so can make a line read as another one.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _Helped:
    """A command whose help is written like a result, so that an unwritable stdout is reported."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.callback = _print_help
        return option


class Command(_Helped, TyperCommand):
    """A command that refuses an option given twice, unless it is one of several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments as ever; of an option given twice the last value would win without a word."""
        given = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option, count in Counter(given).items():
            single = option.param_type_name == "option" and not getattr(option, "multiple", False)
            if count > 1 and single and not option.is_eager:
                raise UsageError(f"Option {option.opts[0]!r} is given {count} times; it takes one value", ctx)
        return super().parse_args(ctx, args)


class Commands(_Helped, TyperGroup):
    """A group of commands whose errors end as one plain message on stderr and an exit code, never as a box."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> NoReturn:
        """Run the command that the arguments name and leave with 0 done, 1 failed, 2 wrong, 130 interrupted."""
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(arguments or ["--help"], *more, **{**extra, "standalone_mode": False})
        except UsageError as error:
            context = error.ctx
            hint = f" (see `{context.command_path} --help`)" if context is not None else ""
            code = _failed(error.format_message().strip().rstrip(".") + hint, 2)
        except RequestError as error:
            code = _failed(str(error), 2)
        except WorkError as error:
            code = _failed(str(error), 1)
        except OSError as error:
            place = "" if error.filename is None else f"{error.filename}: cannot be used: "
            code = _failed(f"{place}{error.strerror or error}", 2 if error.errno in _OF_THE_PATH else 1)
        except (MemoryError, RuntimeError, TypeError) as error:
            if not _out_of_memory(error):
                raise
            code = _failed(
                f"out of memory{_wanted(str(error))}: ask for less at once: fewer sentences or samples, a smaller "
                "train.batch_size, a smaller model",
                1,
            )
        for stream in (sys.stdout, sys.stderr):  # else the interpreter fails on what is left in them
            _can_be_written(stream)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C ends it with a message and exit code 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(130) from None


def _print_help(ctx: Any, option: Any, asked: bool | None) -> None:
    if asked and not ctx.resilient_parsing:
        result(ctx.get_help())
        ctx.exit()


def _out_of_memory(error: BaseException) -> bool:
    """Return True for a failed allocation, of Python, NumPy, Arrow or torch on CPU or GPU."""
    text = str(error)
    return isinstance(error, MemoryError) or any(part in text for part in _TOO_LARGE)


def _wanted(text: str) -> str:
    """Return the size of the allocation that failed, if its message has it."""
    found = re.search(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGT]i?B)", text)
    if found is None:
        return ""
    return f" ({found[2] or f'{int(found[1]) / 1e9:,.3g} GB'} at once)"


def leading() -> bool:
    """Return True if this process prints for the job: under `torchrun`, the first one."""
    return os.environ.get("RANK", "0") == "0"


def plain(text: str) -> str:
    r"""Return text made safe for a terminal: control characters, line breaks and direction marks are escaped.

    >>> print(plain("a\x1b[31m b"))
    a\x1b[31m b
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) if _controls(character) else character for character in text)


def note(message: str) -> None:
    """Print a line on stderr, from the leading process, safe for a terminal."""
    if leading():
        _told(plain(message))


def result(text: str) -> None:
    """Print a result on stdout, from the leading process, as one or several lines.

    Raises:
        WorkError: As `written`.
    """
    written(text + "\n")


def written(text: str) -> None:
    """Print a part of a result on stdout, unchanged, from the leading process.

    If the reader has closed the pipe, the program ends quietly with success.

    Raises:
        WorkError: If stdout cannot be written, as on a full disk.
    """
    if not leading():
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        raise typer.Exit from None
    except OSError as error:
        _discard(sys.stdout)
        raise WorkError(f"standard output: cannot be written: {error.strerror or error}") from None


def document(value: Any) -> None:
    """Print a result as JSON.

    Raises:
        WorkError: As `written`, and for a number that is not finite.
    """
    result(_json(value))


def long_document(about: Mapping[str, Any], name: str, rows: Iterable[Any]) -> None:
    """Print `about` and a last field of any number of rows as JSON, rows as they come.

    The last field of a row may be an iterator over rows too. The text is that of `document`. If making a row fails,
    the output is an incomplete document.
    """
    for part in _parts({**about, name: iter(rows)}):
        written(part)
    result("")


def _parts(value: Any) -> Iterator[str]:
    """Yield a value as JSON in parts: the last field of a mapping may be an iterator over rows."""
    name, rows = next(reversed(value.items())) if isinstance(value, dict) and value else ("", None)
    if not isinstance(rows, Iterator):
        yield _json(value)
        return
    head = _json({**value, name: []}).removesuffix("]\n}")
    before = head
    for row in rows:
        yield before + "\n    "
        for part in _parts(row):
            yield part.replace("\n", "\n    ")
        before = ","
    yield head + "]\n}" if before == head else "\n  ]\n}"


def _json(value: Any) -> str:
    """Return a value as JSON; WorkError for a number that is not finite."""
    try:
        return json.dumps(value, indent=2, allow_nan=False)
    except ValueError:
        from textvae.files import json_text  # which names it, and takes a second to import

        return json_text(value)


def blocks(texts: Iterable[str]) -> None:
    """Print results of some lines each as they come, with a blank line between them."""
    between = ""
    for text in texts:
        result(between + text)
        between = "\n"


def sentences(texts: Iterable[str]) -> None:
    """Print sentences, one a line: escaped for a terminal, unchanged for a file or pipe, line breaks as spaces."""
    if sys.stdout.isatty():
        result("\n".join(map(plain, texts)))
    else:
        result("\n".join(map(on_one_line, texts)))


def on_one_line(text: str) -> str:
    """Return a text without the characters that no line has for `text.readers`: ends of lines, and NUL."""
    text = text.rstrip("\r\n").replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    return text.replace("\0", " ")


def number(value: float | int | None, digits: int = 2) -> str:
    """Return a number as text; a dash for None."""
    return DASH if value is None else f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells aligned: the first and last cell to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if place in (0, len(row) - 1) else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as `columns` does; on a terminal that is too narrow for them as `stacked`."""
    return stacked(rows, shutil.get_terminal_size().columns) if sys.stdout.isatty() else columns(rows)


def stacked(rows: Sequence[Sequence[str]], width: int) -> str:
    """Return rows as tables of at most `width`, each with the first column; the last column is wrapped.

    >>> rows = [["run", "KL", "MI", "method"], ["vae", "1.0", "0.5", "bound at weight 1 from the start"]]
    >>> print(stacked(rows, 34))
    run   KL   MI
    vae  1.0  0.5
    <BLANKLINE>
    run  method
    vae  bound at weight 1 from the
         start
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    parts, used = [[0]], widths[0]
    for place in range(1, last + 1):
        wanted = min(widths[place], LEAST) if place == last else widths[place]
        if used + 2 + wanted > width and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(place)
        used += 2 + widths[place]
    texts = []
    for part in parts:
        cells = [[row[place] for place in part] for row in rows]
        if part[-1] == last:
            before = sum(widths[place] + 2 for place in part[:-1])
            cells = [line for row in cells for line in _wrapped(row, max(width - before, LEAST))]
        else:
            cells = [[*row, ""] for row in cells]  # the last column is to the left
        texts.append(columns(cells))
    return "\n\n".join(texts)


def _wrapped(row: Sequence[str], width: int) -> list[list[str]]:
    """Return a row whose last cell is wrapped as several rows."""
    first, *more = wrap(row[-1], width, break_on_hyphens=False) or [""]
    return [[*row[:-1], first], *([*([""] * (len(row) - 1)), line] for line in more)]


def _failed(message: str, code: int) -> int:
    """Print an error, one line for each of its problems, and return the exit code.

    Every process of a job prints it: the launcher ends the others at once, so the first one may not reach it.
    """
    begin = "error: " if leading() else f"error in process {os.environ['RANK']}: "
    _told("\n".join(begin + plain(line) for line in message.split("\n")))
    return code


def _told(message: str) -> None:
    """Print to stderr; continue if nobody reads it any more."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        pass


def open_streams() -> None:
    """Replace standard streams that were closed when the program was started.

    Otherwise the next file opened would get their number, and with it the output. A closed stdin is empty, a closed
    stdout fails when a result is written to it, and notes to a closed stderr are discarded.
    """
    if sys.stdin is None:
        sys.stdin = open(_null(os.O_RDONLY), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = open(_null(os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(_null(os.O_WRONLY), "w", encoding="utf-8")


def _null(flags: int) -> int:
    """Open the null device under the lowest free number, inherited by processes started from here."""
    number = os.open(os.devnull, flags)
    os.set_inheritable(number, number <= 2)
    return number


def _can_be_written(stream: Any) -> bool:
    """Flush a stream; discard its content and return False if it cannot be written."""
    try:
        stream.flush()
    except (OSError, ValueError):
        _discard(stream)
        return False
    return True


def _discard(stream: Any) -> None:
    """Discard the content left in a stream, so that the interpreter does not fail on it at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        pass


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
