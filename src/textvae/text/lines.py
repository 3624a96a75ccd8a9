"""Lines of text from files and streams, common to all readers."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from textvae.errors import RequestError

LONGEST_LINE = 1 << 24  # bytes; a longer line is not a sentence, and reading on would fill the memory
# Rows, and their characters, examined to detect a header, numbers and separators.
SAMPLE, _SAMPLE_CHARACTERS = 100, 1 << 20
_LOOKED_AT = 8192  # bytes examined behind text that is not UTF-8
# First bytes of other kinds of file: the kind and the remedy.
_OTHER = {
    b"\xff\xfe": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 IN > OUT"),
    b"\xfe\xff": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 IN > OUT"),
    b"\x1f\x8b": ("gzip data", "let its name end in .gz, or decompress it: gzip -dc"),
    b"BZh91AY&SY": ("bzip2 data", "decompress it: bzip2 -dc IN > OUT"),
    b"\xfd7zXZ\0": ("xz data", "decompress it: xz -dc IN > OUT"),
    b"\x28\xb5\x2f\xfd": ("zstd data", "decompress it: zstd -dc IN > OUT"),
    b"PK\x03\x04": ("a ZIP archive, as office files are", "unpack it, or save its table as CSV"),
}

Item = TypeVar("Item")


@runtime_checkable
class Stream(Protocol):
    """Source of lines: an open binary file, a pipe, or bytes in memory."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or at most `size` bytes of it; empty at the end."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...


def file_lines(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the decoded lines of a file with their numbers, from 1."""
    with opened(path) as stream:
        yield from _decoded(str(path), stream)


def decoded_lines(name: str, stream: Stream) -> Iterator[tuple[str, int]]:
    """Yield the decoded lines of a stream with their numbers, from 1.

    A line ends in LF or CRLF; the last one may have no end.
    """
    with _failures_of(name):
        yield from _decoded(name, stream)


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Open a file for reading bytes, those within a gzip file if its name ends in `.gz`.

    Raises:
        RequestError: Also while it is read: if the file cannot be read, or is no sound gzip file.
    """
    with _failures_of(str(path)), path.open("rb") as raw:
        gzipped = path.suffix.lower() == ".gz"
        yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if gzipped else raw


@contextmanager
def _failures_of(name: str) -> Iterator[None]:
    """Convert failures of reading in the block into requests that name the source."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RequestError(f"{name}: not a sound gzip file ({error}); compress it again or drop .gz") from error
    except EOFError as error:
        raise RequestError(f"{name}: the gzip file is cut short; copy or compress it again") from error
    except OSError as error:
        raise RequestError(f"{name}: cannot be read: {error.strerror or error}") from error


def _decoded(name: str, stream: Stream) -> Iterator[tuple[str, int]]:
    offset = number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            _refuse_other_data(name, line)
        if len(line) > LONGEST_LINE:
            raise RequestError(
                f"{name}:{number}: the line is longer than {LONGEST_LINE >> 20} MiB; put one sentence on a line"
            )
        if b"\0" in line:
            at = offset + line.index(0)
            raise RequestError(f"{name}:{number}: binary data, not text (NUL at byte {at}); give a text file")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8"), number
        except UnicodeDecodeError as error:
            if b"\0" in stream.read(_LOOKED_AT):
                raise RequestError(f"{name}: binary data, not text; give a text file") from error
            mark = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
            raise RequestError(
                f"{name}:{number}: not UTF-8 (byte {offset + error.start + mark} is "
                f"0x{error.object[error.start]:02x}); convert it: {_conversion(line)}"
            ) from error
        offset += len(line)


def _conversion(line: bytes) -> str:
    """Return the command that converts text of an unknown encoding that contains this line."""
    # Bytes 0x80 to 0x9f are control characters in Latin-1; in CP1252, otherwise the same, they are quotes, dashes
    # and the euro sign.
    likely = "CP1252" if any(0x80 <= byte <= 0x9F for byte in line) else "LATIN1"
    return f"if it is Western European text, iconv -f {likely} -t UTF-8 IN > OUT"


def _refuse_other_data(name: str, line: bytes) -> None:
    """Refuse data whose first line shows that it is not UTF-8 text."""
    for begin, (kind, remedy) in _OTHER.items():
        if line.startswith(begin):
            raise RequestError(f"{name}: is {kind}; {remedy}")
    if b"\0" in line:
        raise RequestError(f"{name}: is binary data, not text (a NUL at byte {line.index(0)}); give a text file")


def ahead(items: Iterator[Item], size: Callable[[Item], int]) -> tuple[list[Item], Iterator[Item]]:
    """Return the first items, as many as are examined, and an iterator over all items including these."""
    sample: list[Item] = []
    characters = 0
    for item in items:
        sample.append(item)
        characters += size(item)
        if len(sample) == SAMPLE or characters > _SAMPLE_CHARACTERS:
            break
    return sample, chain(sample, items)


def refuse_returns(name: str, line: int, text: str) -> None:
    """Refuse a carriage return within a line."""
    if "\r" in text and "\r" in text.strip():
        raise RequestError(returns(f"{name}:{line}"))


def returns(place: str) -> str:
    """Return the message on carriage returns within a line."""
    return (
        f"{place}: carriage returns (CR) within the line; lines end in LF or CRLF. If CR ends the lines, convert "
        "them: tr '\\r' '\\n' < IN > OUT"
    )
