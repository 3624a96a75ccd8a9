"""Files of codes, written and read in pieces: NumPy arrays, or Parquet with the texts beside them."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Float32
from numpy.lib import format as npy

from textvae.errors import RequestError
from textvae.files import replacing
from textvae.generate import arrays, origin
from textvae.generate.codec import Codec
from textvae.generate.reading import Seen

# Sentences encoded, and codes read, at once: with 32 numbers per code, one megabyte.
ROWS = 8192
# Characters of texts encoded at once, beyond which there are fewer of them.
CHARACTERS = 2**24
_COLUMN = re.compile(r"z(\d+)")

Item = TypeVar("Item")


class Piece(NamedTuple):
    """Consecutive codes of a file, and their texts if the file has them."""

    codes: Float32[np.ndarray, "n latent"]
    texts: list[str] | None


# write(codes, texts) appends codes, and their texts if the file format stores them.
Write = Callable[[Float32[np.ndarray, "n latent"], Sequence[str] | None], None]


def encoded(trained: Codec, texts: Iterable[str], rows: int = ROWS) -> Iterator[Piece]:
    """Yield the codes of texts, `rows` at a time, fewer of long ones; texts are read only as they are encoded.

    Texts that are too long are cut, with one warning at the end, and one for those without a known word.

    Raises:
        RequestError: As `Codec.encode`.
    """
    total = Seen()
    for some in in_pieces(texts, rows, len):
        codes, seen = trained.encode_counted(some)
        total += seen
        yield Piece(codes, some)
    trained.warn_of(total)


def encode_file(
    trained: Codec,
    texts: Iterable[str],
    path: Path | str,
    progress: Callable[[int], None] | None = None,
    rows: int = ROWS,
) -> int:
    """Write the code of each text to a file as `writing_codes` does, and return their number.

    Texts are read, encoded and written `rows` at a time, so millions need no more memory than thousands. `progress`
    is called with the number done.

    Raises:
        RequestError: As `Codec.encode` and `writing_codes`.
        WorkError: If the file cannot be written; a previous file stays unchanged.
    """
    done = 0
    trained.draw(0)  # refuses a language model before a file is created
    with writing_codes(path, trained.latent, texted=True, run=trained.identity) as write:
        for codes, some in encoded(trained, texts, rows):
            write(codes, some)
            done += len(codes)
            if progress is not None:
                progress(done)
    return done


def save_codes(
    path: Path | str,
    codes: Float32[np.ndarray, "n latent"],
    texts: Sequence[str] | None = None,
    run: str | None = None,
) -> None:
    """Write codes to a file atomically: `.npy`, or `.parquet` with columns z0, z1, ...

    With `texts` a Parquet file also has a column `text`; a NumPy file does not store them. With `run`, the
    `Codec.identity` of the codes' model, the file is refused as codes of another model.

    Raises:
        RequestError: For another suffix, or if texts and codes differ in number.
        WorkError: If the file cannot be written.
    """
    if texts is not None and len(texts) != len(codes):
        raise RequestError(f"texts: {len(texts)} for {len(codes)} codes; give one for each")
    with writing_codes(path, codes.shape[1], texts is not None, run) as write:
        write(codes, texts)


@contextmanager
def writing_codes(path: Path | str, latent: int, texted: bool = False, run: str | None = None) -> Iterator[Write]:
    """Yield a function that appends codes to a file, which appears if the block ends without an error.

    The number of rows of a `.npy` file is written at the end. Each piece is a row group of a `.parquet` file, whose
    columns are z0, z1, ..., preceded by `text` if `texted`. Both store the identity of the `run`.

    Raises:
        RequestError: For another suffix.
        WorkError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".npy":
        with replacing(path) as file:
            rows = 0

            def append(codes: Float32[np.ndarray, "n latent"], texts: Sequence[str] | None) -> None:
                nonlocal rows
                rows += len(codes)
                file.write(np.ascontiguousarray(codes, "<f4").tobytes())

            _npy_header(file, rows, latent)
            yield append
            file.write(b"" if run is None else origin.mark(run))
            file.seek(0)
            _npy_header(file, rows, latent)  # of the same length: NumPy reserves space for any number of rows
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        fields = [("text", pyarrow.string())] if texted else []
        fields += [(f"z{number}", pyarrow.float32()) for number in range(latent)]
        schema = pyarrow.schema(fields, metadata=None if run is None else {origin.KEY: run})
        with replacing(path) as file, parquet.ParquetWriter(file, schema, write_page_checksum=True) as writer:

            def write(codes: Float32[np.ndarray, "n latent"], texts: Sequence[str] | None) -> None:
                columns = [pyarrow.array(texts, pyarrow.string())] if texted else []
                columns += [pyarrow.array(column) for column in codes.astype(np.float32).T]
                writer.write_table(pyarrow.table(columns, schema=schema))

            yield write
    else:
        raise RequestError(f"{path}: unknown suffix {path.suffix!r}; codes are written as .npy or .parquet")


def load_codes(path: Path | str, latent: int, run: str | None = None) -> Piece:
    """Return all codes of a file, and its texts if it has them.

    Raises:
        RequestError: As `read_codes`.
    """
    pieces = list(read_codes(path, latent, run=run))
    texts = None if pieces[0].texts is None else [text for piece in pieces for text in piece.texts or ()]
    return Piece(np.concatenate([piece.codes for piece in pieces]), texts)


def read_codes(path: Path | str, latent: int, rows: int = ROWS, run: str | None = None) -> Iterator[Piece]:
    """Yield the codes of a `.npy` or `.parquet` file, `rows` at a time; with `run` they must have that identity.

    Raises:
        RequestError: For a file that is missing, damaged, empty or of another kind, codes of another size than
        `latent`,
            numbers that are not finite, and a file of another run.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"{path}: no such file; `textvae encode` writes codes")
    if path.suffix == ".npy":
        pieces = _from_npy(path, latent, rows, run)
    elif path.suffix == ".parquet":
        pieces = _from_parquet(path, latent, rows, run)
    else:
        raise RequestError(f"{path}: unknown suffix {path.suffix!r}; codes are read from .npy or .parquet")
    return _checked(path, pieces)


def _checked(path: Path, pieces: Iterator[tuple[np.ndarray, list[str] | None]]) -> Iterator[Piece]:
    """Yield codes in float32 after checking that all are finite and that there is at least one."""
    row = 0
    for found, texts in pieces:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused
            codes = found.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(codes).all(axis=1))
        if len(bad):
            raise RequestError(f"{path}[{row + bad[0]}]: holds a number that is not finite")
        row += len(codes)
        if len(codes):
            yield Piece(codes, texts)
    if not row:
        raise RequestError(f"{path}: holds no code")


def _from_npy(
    path: Path, latent: int, rows: int, run: str | None
) -> Iterator[tuple[Float[np.ndarray, "n latent"], list[str] | None]]:
    codes = arrays.mapped(path)
    if codes.ndim != 2 or codes.shape[1] != latent:
        raise RequestError(f"{path}: has shape {codes.shape}; codes of shape (n, {latent}) are expected")
    origin.check(path, origin.of_npy(path), run)
    for start in range(0, len(codes), rows):
        yield np.array(codes[start : start + rows]), None


def _from_parquet(
    path: Path, latent: int, rows: int, run: str | None
) -> Iterator[tuple[Float[np.ndarray, "n latent"], list[str] | None]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            names = list(file.schema_arrow.names)
            width = sum(_COLUMN.fullmatch(name) is not None for name in set(names))
            columns = [f"z{number}" for number in range(width)]
            if not width or not set(names).issuperset(columns):
                raise RequestError(f"{path}: has no columns z0, z1, ...; `textvae encode` writes them")
            if width != latent:
                raise RequestError(f"{path}: holds codes of {width} numbers; the model's have {latent}")
            texted = ["text"] if "text" in names else []
            twice = next((name for name in [*columns, *texted] if names.count(name) > 1), None)
            if twice is not None:
                raise RequestError(f"{path}: has two columns {twice}")
            said = (file.schema_arrow.metadata or {}).get(origin.KEY)
            origin.check(path, None if said is None else said.decode(errors="replace"), run)
            row = 0
            for batch in file.iter_batches(rows, columns=[*columns, *texted]):
                codes = [batch.column(name).cast(pyarrow.float64()).to_numpy(False) for name in columns]
                texts = batch.column("text").cast(pyarrow.string()).to_pylist() if texted else None
                if texts is not None and None in texts:
                    raise RequestError(f"{path}[{row + texts.index(None)}]: has no text")
                row += len(batch)
                yield np.stack(codes, axis=1), texts
    except RequestError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"{path}: is not a Parquet file of numbers, or damaged: {reason}") from None


def _npy_header(file: Any, rows: int, latent: int) -> None:
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, latent)})


def in_pieces(
    items: Iterable[Item], size: int = ROWS, length: Callable[[Item], int] = lambda item: 0
) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last with the remainder; items are taken only as lists are requested.

    A list ends early once the items in it have `CHARACTERS` or more by `length`.
    """
    some: list[Item] = []
    characters = 0
    for item in items:
        some.append(item)
        characters += length(item)
        if len(some) == size or characters >= CHARACTERS:
            yield some
            some, characters = [], 0
    if some:
        yield some
