"""NumPy files of numbers; their header is parsed strictly and checked before anything is allocated."""

import math
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from textvae.errors import RequestError
from textvae.generate import origin

_MAGIC = b"\x93NUMPY"
# Versions of the format, with the size in bytes of the header's length field.
_LENGTHS = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
# NumPy itself refuses longer headers; the header of a plain array has about a hundred characters.
_LONGEST = 10_000
_MOST_DIMENSIONS = 4
# The three entries of a header's table, a Python literal, in any order.
_ITEMS = tuple(
    re.compile(rf"""\s*['"]{name}['"]\s*:\s*(?P<{name}>{value})\s*""", re.ASCII)
    for name, value in (
        ("descr", r"""'[^'"\\]*'|"[^'"\\]*\""""),
        ("fortran_order", "True|False"),
        ("shape", r"\(\s*(?:\d{1,19}\s*(?:,\s*\d{1,19}\s*)*,?\s*)?\)"),
    )
)
_NUMBERS = re.compile(r"[<>=|]?(?:f[248]|[iu][1248])", re.ASCII)


class _Header(NamedTuple):
    dtype: str
    fortran: bool
    shape: tuple[int, ...]
    end: int  # offset in the file of the numbers


def mapped(path: Path | str) -> np.ndarray:
    """Return the array in a `.npy` file, memory-mapped.

    The identity of a run may follow the numbers.

    Raises:
        RequestError: For a file that is missing or damaged, holds no numbers, or differs in size from its header.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, size = _header(path, file), path.stat().st_size
        if not _NUMBERS.fullmatch(header.dtype):
            raise RequestError(f"{path}: holds no numbers")
        count, dtype = math.prod(header.shape), np.dtype(header.dtype)
        expected = header.end + count * dtype.itemsize
        if len(header.shape) > _MOST_DIMENSIONS:
            raise RequestError(f"{path}: has {len(header.shape)} dimensions; codes have 2, a direction has 1")
        marked = 0 if origin.of_npy(path) is None else origin.LENGTH
        if size != expected + marked or max(header.shape, default=0) > size:
            raise RequestError(
                f"{path}: is {'cut short' if size < expected else 'damaged'}: its header says "
                f"shape {header.shape}, which takes {expected:,} bytes, and it has {size:,}"
            )
        if not count:
            return np.empty(header.shape, dtype)
        numbers = np.memmap(path, dtype, "r", header.end, count)
        return numbers.reshape(header.shape, order="F" if header.fortran else "C")
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from None


def _header(path: Path, file: BinaryIO) -> _Header:
    """Return the header of a file that is open at its beginning."""
    wrong = RequestError(f"{path}: is not a NumPy file of numbers, or cut short")
    begin = file.read(len(_MAGIC) + 2)
    if begin.startswith(b"PK"):
        raise RequestError(f"{path}: holds several arrays; a .npy file of one is expected")
    width = _LENGTHS.get(begin.removeprefix(_MAGIC))
    if width is None:
        raise wrong
    length = int.from_bytes(file.read(width), "little")
    text = file.read(length) if length <= _LONGEST else b""
    table = text.decode("ascii", "replace").strip()
    if len(text) < length or not (table.startswith("{") and table.endswith("}")):
        raise wrong
    rest, entries = table[1:-1].strip().removesuffix(","), dict[str, str]()
    while True:
        item = next((match for pattern in _ITEMS if (match := pattern.match(rest))), None)
        if item is None or item.lastgroup is None or item.lastgroup in entries:
            raise wrong
        entries[item.lastgroup] = item[item.lastgroup]
        rest = rest[item.end() :]
        if not rest:
            break
        if not rest.startswith(","):
            raise wrong
        rest = rest[1:]
    if len(entries) < len(_ITEMS):
        raise wrong
    shape = tuple(int(size) for size in re.findall(r"\d+", entries["shape"]))
    return _Header(entries["descr"][1:-1], entries["fortran_order"] == "True", shape, file.tell())
