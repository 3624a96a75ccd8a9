"""Provenance of files of codes and directions: a digest of the weights, written into the file."""

import re
from pathlib import Path

from textvae.errors import RequestError

# The key in the schema of a Parquet file.
KEY = b"textvae.run"
# Follows the numbers of a .npy file, where readers of such files ignore it.
_MARK = re.compile(rb"\ntextvae run ([0-9a-f]{64})\n")
LENGTH = 78


def mark(run: str) -> bytes:
    """Return the bytes at the end of a `.npy` file of the run with this digest."""
    return f"\ntextvae run {run}\n".encode()


def of_npy(path: Path) -> str | None:
    """Return the digest stored in a `.npy` file, or None if it has none, such as a file of `numpy.save`."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LENGTH))
            match = _MARK.fullmatch(file.read())
    except OSError:
        return None  # reading the numbers reports the error
    return None if match is None else match[1].decode()


def check(path: Path, found: str | None, run: str | None) -> None:
    """Refuse a file of other weights; accept it if it has no digest or no run is given.

    Raises:
        RequestError: For such a file.
    """
    if found is not None and run is not None and found != run:
        raise RequestError(
            f"{path}: was written by another run, or by this one before further training, and codes are "
            "meaningless to other weights; write it again with this run"
        )
