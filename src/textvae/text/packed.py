"""Strings, and lists of token ids, in one block of memory: for as many as there are lines in a file."""

from array import array
from collections.abc import Iterable, Sequence
from operator import eq
from typing import SupportsIndex, overload

import numpy as np
from jaxtyping import Int32, Int64


class Packed(Sequence[str]):
    """Strings as the bytes of their UTF-8 one after the other, and eight bytes for the end of each.

    A list of short strings takes more than twice as much.

    >>> texts = Packed(["good food", "", "so"])
    >>> texts[0], list(texts[1:]), texts == ["good food", "", "so"]
    ('good food', ['', 'so'], True)
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])
        self.extend(texts)

    def extend(self, texts: Iterable[str]) -> None:
        """Add strings at the end."""
        for text in texts:
            self._bytes += text.encode(errors="surrogatepass")
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[row] for row in range(len(self))[at]]
        row = range(len(self))[at]
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode(errors="surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))


class PackedIds(Sequence[list[int]]):
    """Lists of token ids as one array, four bytes an id, and eight bytes for the end of each.

    >>> rows = PackedIds([[4, 5], [6]])
    >>> rows[-1], len(rows), rows.ids.tolist(), rows.ends.tolist()
    ([6], 2, [4, 5, 6], [0, 2, 3])
    """

    def __init__(self, rows: Iterable[Iterable[int]] = ()) -> None:
        self._ids, self._ends = array("i"), array("q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Iterable[int]) -> None:
        """Add a list at the end."""
        self._ids.extend(row)
        self._ends.append(len(self._ids))

    @property
    def ids(self) -> Int32[np.ndarray, " id"]:
        """All ids; nothing can be added while they are in use."""
        return np.frombuffer(self._ids, np.int32)

    @property
    def ends(self) -> Int64[np.ndarray, " end"]:
        """0, and the place after the last id of each list; likewise."""
        return np.frombuffer(self._ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: SupportsIndex) -> list[int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[int]]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> list[int] | list[list[int]]:
        if isinstance(at, slice):
            return [self[row] for row in range(len(self))[at]]
        row = range(len(self))[at]
        return self._ids[self._ends[row] : self._ends[row + 1]].tolist()
