"""Files that are replaced whole or not at all: text, JSON and tensors."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        raise WorkError(f"{path}: cannot be written: {reason}; what was there before is untouched") from None


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, flush it to the disk, then put it in place in one move.

    Raises:
        WorkError: when the disk is full or refuses; the file that was there stays as it was.
    """
    temporary = path.with_name(f".{path.name}.new")
    with writing(path):
        try:
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically; numbers that JSON lacks (nan, inf) are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder.

    Raises:
        RequestError: when it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing; is {path.parent} a finished run folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise RequestError(f"{path}: damaged; it is not JSON") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Replace a safetensors file atomically, with a JSON state in its header."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(state or {})}
    replace_file(path, lambda temporary: save_file(contiguous, temporary, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file and the state in its header.

    Raises:
        RequestError: when it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("state", "{}"))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing") from None
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise RequestError(f"{path}: damaged: {error}") from None
