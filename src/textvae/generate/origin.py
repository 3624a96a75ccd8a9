"""Which run a file of codes or a direction is of: a digest of the weights, written into the file."""

import re
from pathlib import Path

from textvae.errors import RequestError

# The key in the schema of a Parquet file.
KEY = b"textvae.run"
# Stands behind the numbers of a .npy file, where every reader of such files leaves it alone.
_MARK = re.compile(rb"\ntextvae run ([0-9a-f]{64})\n")
LENGTH = 78


def mark(run: str) -> bytes:
    """What stands at the end of a `.npy` file of the run with this digest."""
    return f"\ntextvae run {run}\n".encode()


def of_npy(path: Path) -> str | None:
    """The digest that a `.npy` file carries; None of a file that says nothing, such as one of `numpy.save`."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LENGTH))
            found = _MARK.fullmatch(file.read())
    except OSError:
        return None  # who reads the numbers will say so
    return None if found is None else found[1].decode()


def check(path: Path, found: str | None, run: str | None) -> None:
    """Refuse a file of other weights; nothing is known of a file without a digest, nor where no run is given.

    Raises:
        RequestError: for such a file.
    """
    if found is not None and run is not None and found != run:
        raise RequestError(
            f"{path}: was written by another run, or by this one before it was trained further; "
            "write it anew with this run: codes mean nothing to other weights"
        )
