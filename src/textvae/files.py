"""Atomic replacement of files (text, JSON, tensors), and locks held by processes."""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import socket
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from textvae.errors import RequestError, WorkError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

# Flag that refuses to follow a link, on systems that have it.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# Names of tensor types in safetensors files, in the order of that library, widest first.
DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert a disk failure in the block into a WorkError that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise WorkError(f"{path}: cannot be written: {reason}; what was there is unchanged") from error


@contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """Open a new binary file that replaces `path` atomically if the block ends without an error.

    The new file is on the disk before it is renamed, so not even a power failure leaves half of one. Its temporary
    name in the same folder belongs to this writer alone: of several writers of one path the last to end wins,
    whole. Leftovers of killed writers of the same path are removed. A link at `path` is itself replaced, and its
    target is left alone. The file has the permissions of the one that it replaces, else those of the umask.

    Raises:
        RequestError: If `path` is a folder, a device, a pipe or the like.
        WorkError: Naming the path, if the disk is full or refuses; the previous file stays unchanged.
    """
    path = Path(path)
    _refuse_other(path)
    with writing(path):
        sweep(path.parent, path.name)
        part, file = _claim(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                _take_permissions(part, path)
                if fcntl is None:  # these systems cannot rename an open file
                    file.close()
                os.replace(part, path)  # while the lock still protects it from `sweep`
        finally:
            part.unlink(missing_ok=True)


def _refuse_other(path: Path) -> None:
    """Refuse a path that is not a regular file, before anything is computed for it.

    Otherwise root would replace a device by a file.
    """
    try:
        own = os.lstat(path).st_mode
        mode = os.stat(path).st_mode
        folder = os.path.realpath(path.parent)
    except (OSError, ValueError):
        return  # nothing there, or an impossible name, which opening it reports
    if stat.S_ISDIR(own):
        raise RequestError(f"{path}: is a folder; give the name of a file")
    if folder == "/dev" or folder.startswith("/proc/") or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RequestError(f"{path}: is a device or a pipe, which cannot be replaced; give the name of a file")


def _claim(path: Path) -> tuple[Path, BinaryIO]:
    """Create a file beside `path` under a unique name, locked while it is open."""
    while True:
        part = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.part")
        number = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | getattr(os, "O_BINARY", 0), 0o666)
        if _lock(number) is not False and _leads_to(part, number):
            return part, os.fdopen(number, "w+b")
        os.close(number)  # removed by `sweep` before it was locked
        part.unlink(missing_ok=True)


def appending(path: Path) -> BinaryIO:
    """Open a binary file for appending, created if missing; links are not followed.

    Raises:
        WorkError: Naming the path.
    """
    with writing(path):
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags | NO_LINK, 0o666))


def sweep(folder: Path, name: str = "") -> None:
    """Remove the unlocked temporary files that killed writers left in a folder, for one file name or all."""
    ours = re.compile(rf"\.{re.escape(name[:50]) or '.+'}\.[0-9a-f]{{12}}\.part", re.DOTALL)
    with suppress(OSError), os.scandir(folder) as entries:
        parts = [entry.path for entry in entries if entry.name.endswith(".part") and ours.fullmatch(entry.name)]
        for part in parts:
            with suppress(OSError):
                number = os.open(part, os.O_RDWR | NO_LINK)
                try:
                    if _lock(number):
                        os.unlink(part)
                finally:
                    os.close(number)


def _take_permissions(part: Path, path: Path) -> None:
    """Give a new file the permissions of the regular file that it replaces."""
    with suppress(FileNotFoundError):
        old = os.lstat(path)
        if stat.S_ISREG(old.st_mode):
            os.chmod(part, stat.S_IMODE(old.st_mode) & 0o777)


def _lock(number: int) -> bool | None:
    """Lock an open file for this process until it is closed.

    Returns:
        False if another process has it, None if the system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _leads_to(path: Path, number: int) -> bool:
    """Return True if the path still names the open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(number))
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically, with the same bytes on every system.

    Raises:
        RequestError: For text that UTF-8 cannot encode, such as a file name in another encoding.
        WorkError: As `replacing`.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 40) : error.end + 20].strip()
        raise RequestError(
            f"{path}: cannot store {around!r}, which is not Unicode; give files and folders names in UTF-8"
        ) from None
    with replacing(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically.

    Raises:
        WorkError: For numbers that JSON lacks (nan, inf), and as `replacing`.
    """
    write_text(path, json_text(value) + "\n")


def json_text(value: Any, indent: int | None = 2) -> str:
    """Return a value as JSON, which has no nan or infinity.

    Raises:
        WorkError: Naming the place of the first number that is not finite.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        wrong = next(((place, number) for place, number in numbers_of(value) if not math.isfinite(number)), None)
        if wrong is None:
            raise
        raise WorkError(
            f"{wrong[0]} = {wrong[1]}: is not finite, because the weights give numbers too large to compute with; "
            "train again with a lower train.optimizer.lr"
        ) from None


def numbers_of(value: Any, place: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield every number of a document with its place; the recursion is bounded by the nesting that JSON allows."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield place, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers_of(inner, f"{place}.{name}" if place else name)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from numbers_of(inner, f"{place}[{number}]")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a run folder, which must be an object.

    Raises:
        RequestError: If it is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing; is {path.parent} a run folder?") from None
    except (ValueError, RecursionError):
        raise RequestError(f"{path}: damaged: not JSON; restore an intact copy, or train again") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise RequestError(f"{path}: damaged: a table is expected; restore an intact copy, or train again")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Replace a safetensors file atomically, with a JSON state in its header.

    The format is written here because its library writes to a temporary file of its own, which a killed process
    leaves behind, and whose permissions are not those of the umask.
    """
    names = sorted(tensors, key=lambda name: (list(DTYPES).index(tensors[name].dtype), name))  # aligned
    header: dict[str, Any] = {"__metadata__": {"state": json.dumps(state or {})}}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            file.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and the state in its header.

    Raises:
        RequestError: If it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(json.loads((file.metadata() or {}).get("state", "{}")))
    except FileNotFoundError:
        raise RequestError(f"{path}: missing") from None
    except (SafetensorError, ValueError, TypeError, RecursionError, OSError) as error:
        raise RequestError(f"{path}: damaged: {error}; restore an intact copy, or train again") from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        RequestError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs, against all processes that see the file.

    The kernel releases a lock when its process ends, so a lock file left by a killed process on this machine is
    taken over. The file names its holder and is removed at the end. If the file system has no locks, the holder is
    looked up by its process id and start time.

    Args:
        path: The lock file.
        what: Resource that is in use while the lock is held, for messages.

    Raises:
        RequestError: Naming the holder, if another process has the lock, or one on another machine left it behind.
        WorkError: If the file cannot be written.
    """
    with writing(path):
        number = _open_lock(path)
    try:
        mine = _lock(number)
        while mine and not _leads_to(path, number):  # the last holder has just removed it
            os.close(number)
            with writing(path):
                number = _open_lock(path)
            mine = _lock(number)
        holder = _holder(number)
        if mine is False:
            raise RequestError(f"{what}: in use by {_holder_name(holder)}; wait until it ends, or stop it")
        if holder and not (_here(holder) if mine else _ended(holder)):
            raise RequestError(
                f"{what}: in use by {_holder_name(holder)}, which did not release it and cannot be checked from "
                f"here; if that process has ended, delete {path}"
            )
        with writing(path):
            os.ftruncate(number, 0)
            os.pwrite(number, json.dumps(_self()).encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()  # before the lock is released, so that no other process's file is removed
    finally:
        os.close(number)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)


def _self() -> dict[str, Any]:
    """Return the content of a lock file held by this process."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    pid = os.getpid()
    return {"pid": pid, "began": _began(pid), "host": socket.gethostname(), "boot": _boot(), "since": since}


def _holder(number: int) -> dict[str, Any]:
    """Return the content of a lock file; empty if it is new, damaged, or was just taken."""
    try:
        holder = json.loads(os.pread(number, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _holder_name(holder: Mapping[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


def _here(holder: Mapping[str, Any]) -> bool:
    """Return True if the holder was a process of this machine, before or after its last start."""
    return holder.get("host") == socket.gethostname() or (holder.get("boot") or "-") == _boot()


def _ended(holder: Mapping[str, Any]) -> bool:
    """Return True if the holder is known to have ended; another process may have its id by now."""
    if not _here(holder):
        return False
    return holder.get("boot") != _boot() or (bool(_boot()) and holder.get("began") != _began(holder.get("pid")))


def _boot() -> str:
    """Return the identifier of the machine's current boot, empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _began(pid: Any) -> str:
    """Return the start time of a process in the system's clock ticks; empty if it is unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, ValueError, IndexError):
        return ""
