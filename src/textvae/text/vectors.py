"""Vectors of words, read from files: text such as GloVe's and fastText's, and the binary format of word2vec."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from textvae.errors import RequestError, shown
from textvae.text.lines import Stream, file_lines, opened

# Bytes of a binary file read at once, and the most bytes of a word or a header: longer ones are damage.
_PIECE, _LONGEST_WORD = 1 << 20, 1 << 12
# Most numbers of a vector: a larger size in a header shows that it is no header.
_MOST_NUMBERS = 1 << 16


@dataclass(frozen=True)
class WordVectors:
    """Vectors of words, one a row of `table`.

    Attributes:
        rows: Row of each word.
        table: The vectors.

    Raises:
        RequestError: If a word's row is not one of the table.

    >>> vectors = WordVectors({"good": 0, "bad": 1}, np.array([[1, 0], [0.6, 0.8]], np.float32))
    >>> "good" in vectors.rows, vectors.size
    (True, 2)
    """

    rows: Mapping[str, int]
    table: Float32[np.ndarray, "row size"]

    def __post_init__(self) -> None:
        for word, row in self.rows.items():
            if not 0 <= row < len(self.table):
                raise RequestError(f"rows: {word!r} has row {row} of a table of {len(self.table)}; number from 0")

    @property
    def size(self) -> int:
        """Numbers of each vector."""
        return self.table.shape[1]


def read_vectors(path: Path | str, words: Collection[str]) -> WordVectors:
    """Read the vectors of the given words from a file; those of other words are not kept in memory.

    The name decides the format, a final `.gz` set aside:

    - `.bin` is the binary format of word2vec: a line with the numbers of words and of dimensions, and for each
      word its bytes in UTF-8, a space and 32-bit floats, little-endian.
    - All other files are text: each line a word and its numbers, with single spaces or tabs between them. A first
      line of two whole numbers is the header of word2vec's text format. Blank lines are skipped.

    A word is compared as it is written, and the first of several vectors of a word is taken. Every line must have
    as many numbers as the first; the numbers themselves are read, and checked, for the given words alone. Words
    with spaces in them, which some files have, are passed over.

    Args:
        path: The file.
        words: The words that are wanted; those without a vector are missing in the result.

    Returns:
        The vectors, by the order of the file.

    Raises:
        RequestError: With path and line, or in a binary file the number of the word: for a file that cannot be
            read, is empty, is cut short, or has not as many words as its header says; for a line of another width;
            for what is not a finite number; and if no wanted word has a vector.

    References:
        Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality",
        arXiv:1310.4546; Pennington et al. 2014, "GloVe: global vectors for word representation", D14-1162.
    """
    path = Path(path)
    wanted = frozenset(words)
    if not wanted:
        raise RequestError(f"{path}: vectors of no words are asked for; give words")
    binary = path.name.lower().removesuffix(".gz").endswith(".bin")
    rows: dict[str, int] = {}
    vectors: list[np.ndarray] = []
    for word, vector in (_binary if binary else _text)(path, wanted):
        if word not in rows:
            rows[word] = len(vectors)
            vectors.append(vector)
    if not rows:
        raise RequestError(
            f"{path}: has a vector for none of the {len(wanted):,} words asked for, such as {shown(min(wanted))}; "
            "give vectors of the text's language, in its case"
        )
    return WordVectors(rows, np.stack(vectors))


def _text(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the wanted words of a text file with their vectors."""
    told: int | None = None
    size = count = 0
    for line, number in file_lines(path):
        line = line.rstrip("\r\n \t").replace("\t", " ")
        place = f"{path}:{number}"
        if not line:
            continue
        if number == 1 and (header := _header(line)):
            told, size = header
            continue
        word, _, numbers = line.partition(" ")
        if not size:
            size = len(_vector(numbers.split(" "), f"{place}: {shown(word)}"))
        count += 1
        if line.count(" ") != size:
            _refuse_width(line, size, place)
        elif word in wanted:
            yield word, _vector(numbers.split(" "), f"{place}: {shown(word)}")
    if not count:
        raise RequestError(f"{path}: has no word vectors; give a file with a word and its numbers on each line")
    if told is not None and told != count:
        raise RequestError(f"{path}: its header says {told:,} words, and it has {count:,}; copy the file again")


def _header(line: str) -> tuple[int, int] | None:
    """Return the numbers of words and of dimensions of a header; None if the line is none."""
    fields = line.split(" ")
    if len(fields) != 2 or not all(field.isdecimal() and field.isascii() for field in fields):
        return None
    words, size = map(int, fields)
    return (words, size) if 1 <= size <= _MOST_NUMBERS else None


def _refuse_width(line: str, size: int, place: str) -> None:
    """Refuse a line that has not as many numbers as the first, unless its word has spaces in it."""
    fields = line.split(" ")
    if len(fields) <= size or _is_number(fields[-size - 1]):
        raise RequestError(
            f"{place}: {len(fields) - 1} numbers where the lines above have {size}; all vectors need one size"
        )


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _vector(fields: list[str], place: str) -> Float32[np.ndarray, "size"]:
    """Return the vector that some fields spell."""
    for field in fields:
        if not _is_number(field):
            raise RequestError(f"{place} has {shown(field)} in its vector, not a number; correct the line")
    return _finite(np.array([float(field) for field in fields]), place)


def _finite(vector: np.ndarray, place: str) -> Float32[np.ndarray, "size"]:
    """Return a vector in 32 bits, where it has to be finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        vector = vector.astype(np.float32)
    if not np.isfinite(vector).all():
        raise RequestError(f"{place} has a number that is not finite in 32 bits; correct it or leave the word out")
    return vector


def _binary(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the wanted words of a file in word2vec's binary format with their vectors."""
    names = {word.encode("utf-8", "surrogatepass"): word for word in wanted}
    with opened(path) as stream:
        source = _Bytes(stream)
        line = source.until(b"\n")
        header = _header(line.decode("ascii", "replace").rstrip("\r ")) if line is not None else None
        if header is None:
            raise RequestError(
                f"{path}:1: no header of word2vec's binary format, two whole numbers on a line; let the name of a "
                "text file not end in .bin"
            )
        words, size = header
        for number in range(1, words + 1):
            written = source.until(b" ")
            numbers = source.take(4 * size) if written is not None else None
            if written is None or numbers is None:
                raise RequestError(
                    f"{path}: is cut short or damaged at word {number:,} of {words:,}; copy it again"
                )
            if word := names.get(written.lstrip(b"\n")):
                yield word, _finite(np.frombuffer(numbers, "<f4"), f"{path}: word {number:,}, {shown(word)},")
        if source.take(1) not in (None, b"\n") or source.take(1) is not None:
            raise RequestError(f"{path}: goes on after the {words:,} words of its header; copy the file again")


class _Bytes:
    """Bytes of a stream, taken by number or up to a mark."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._held, self._at = stream, b"", 0

    def until(self, mark: bytes) -> bytes | None:
        """Return the bytes before the next mark, and pass it over; None if it is far or never comes."""
        while (end := self._held.find(mark, self._at, self._at + _LONGEST_WORD)) < 0:
            if len(self._held) - self._at >= _LONGEST_WORD or not self._more():
                return None
        begin, self._at = self._at, end + 1
        return self._held[begin:end]

    def take(self, number: int) -> bytes | None:
        """Return the next bytes; None if there are fewer."""
        while len(self._held) - self._at < number:
            if not self._more():
                return None
        begin, self._at = self._at, self._at + number
        return self._held[begin : self._at]

    def _more(self) -> bool:
        """Read on, and return whether there was more."""
        more = self._stream.read(_PIECE)
        self._held, self._at = self._held[self._at :] + more, 0
        return bool(more)
