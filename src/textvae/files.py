"""Files that are replaced whole or not at all: text, JSON and tensors."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textvae.errors import RequestError, WorkError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure of the disk into a WorkError that names the place."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WorkError(f"{path}: cannot be written: {reason}; what was there before is untouched") from error


@contextmanager
def replacement(path: Path | str) -> Iterator[Path]:
    """The name of a new file that takes the place of `path` in one step when the block ends well, and never else.

    The new file is on the disk before it takes its place, so that not even a power failure leaves half of one.

    Raises:
        WorkError: naming the path, when the disk is full or refuses; the file that was there stays as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` as `replacement` says."""
    with replacement(path) as part, part.open("wb") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically; it has the same bytes on every system."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically; numbers that JSON lacks (nan, inf) are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder: a table.

    Raises:
        RequestError: when it is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing; is {path.parent} a run folder?") from None
    except (ValueError, RecursionError):
        raise RequestError(f"{path}: damaged: not JSON; put an intact copy back, or train anew") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise RequestError(f"{path}: damaged: a table is expected; put an intact copy back, or train anew")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Replace a safetensors file atomically, with a JSON state in its header."""
    contiguous: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        shared = tensor.numel() and tensor.data_ptr() in written  # the format has no word for one tensor, two names
        written.add(tensor.data_ptr())
        contiguous[name] = tensor.clone() if shared else tensor
    with replacement(path) as part:
        save_file(contiguous, part, {"state": json.dumps(state or {})})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file and the state in its header.

    Raises:
        RequestError: when it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(json.loads((file.metadata() or {}).get("state", "{}")))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing") from None
    except (SafetensorError, ValueError, TypeError, RecursionError, OSError) as error:
        raise RequestError(f"{path}: damaged: {error}; put an intact copy back, or train anew") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file; RequestError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error
