"""The folder of a run: what may become one, who trains in it, and folders within it that are its own."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from textvae.errors import RequestError
from textvae.files import locked, sweep, writing

# Written once; `environment.json` holds their digests, so that an incomplete file is always detected.
FIXED = ("settings.toml", "tokenizer.json")
# Folder of what training resumes from, and of text that was given in memory.
CHECKPOINT, TEXT = "checkpoint", "text"
# Held by the process that trains the run; other processes may read the run meanwhile.
LOCK = ".lock"


def half_made(folder: Path) -> bool:
    """Return True if a folder holds only the remains of a run whose creation was interrupted."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    begun = LOCK in names or (folder / CHECKPOINT).is_dir()
    own = all(name in (LOCK, TEXT, CHECKPOINT, *FIXED) or re.fullmatch(r"\..*\.part", name) for name in names)
    return begun and own and not (CHECKPOINT in names and any((folder / CHECKPOINT).iterdir()))


def check_named(folder: Path) -> None:
    """Raise RequestError if the name of a folder is not Unicode, which weights and tables are written in."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RequestError(f"{folder}: has a name that is not UTF-8; give the run folder another one") from None


def check_vacant(folder: Path) -> None:
    """Refuse a folder that already holds a run, or files that are not the program's own.

    Raises:
        RequestError: With the remedy.
    """
    check_named(folder)
    if (folder / "environment.json").exists():
        raise RequestError(f"{folder}: exists already; give another --out, or resume it with --resume {folder}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not half_made(folder))):
        raise RequestError(f"{folder}: exists already and is not a run folder; give another --out, or delete it")


@contextmanager
def training_alone(folder: Path, new: bool = False) -> Iterator[None]:
    """Hold the training lock of a run folder while the block runs; create the folder of a `new` run.

    If no new run comes of it, the folder is removed again.

    Raises:
        RequestError: If another process trains it, a new run's folder already holds something, or a link is in
            the place of one of its folders.
        WorkError: If the folder cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if new and not place.exists()]
    if new:
        check_vacant(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / LOCK, str(folder)):
            for name in (CHECKPOINT, TEXT):
                refuse_link(folder, name)
            for place in (folder, folder / CHECKPOINT):
                sweep(place)
            if new:
                shutil.rmtree(folder / TEXT, ignore_errors=True)  # of a creation that was interrupted
            try:
                yield
            finally:
                if new and not (folder / "environment.json").exists():
                    shutil.rmtree(folder / TEXT, ignore_errors=True)
    finally:
        for place in made:
            with suppress(OSError):  # it is not empty
                place.rmdir()


def refuse_link(run: Path, name: str) -> None:
    """Refuse to write into a folder within a run, `fitted/evaluation` say, that is a link, or lies behind one.

    Otherwise a run folder from elsewhere could make a command write outside it.

    Raises:
        RequestError: Naming the link.
    """
    place = run
    for part in Path(name).parts:
        place /= part
        if place.is_symlink():
            raise RequestError(
                f"{place}: is a link, and a run is written to in its own folder alone; put the folder that it "
                "leads to in its place, or remove it"
            )


def own_folder(run: Path, name: str) -> Path:
    """Return a folder within a run, created if it is missing.

    Raises:
        RequestError: As `refuse_link`.
        WorkError: If it cannot be created.
    """
    refuse_link(run, name)
    with writing(run / name):
        (run / name).mkdir(parents=True, exist_ok=True)
    return run / name
