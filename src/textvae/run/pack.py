"""A run packed to travel: all that it takes to use it, without what only resuming needs and without its text."""

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textvae.errors import RequestError
from textvae.files import json_text, replacing, writing
from textvae.run import Run, value_digest_of
from textvae.run.folder import FIXED, TEXT
from textvae.text.corpus import file_places, named_files

ENDINGS = (".tar.gz", ".tgz")
# Folders of a run that stay behind: the checkpoint, the texts and language models of `textvae fce`, and the text of
# a run on texts in memory.
LEFT = ("checkpoint", "fce", TEXT)
# Time of every file of an archive, 1980-01-01, so that equal runs make equal archives.
TIME = 315532800


@dataclass(frozen=True)
class Packed:
    """A packed run: its archive or folder, the bytes of its files, and those of what was left out, by name.

    `text` names the files of its text, which are left out too.
    """

    out: Path
    files: Mapping[str, int]
    left_out: Mapping[str, int]
    text: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"out": str(self.out), "files": dict(self.files), "left_out": dict(self.left_out), "text": self.text}


def pack(folder: Path | str | Run, out: Path | str | None = None) -> Packed:
    """Copy a run into an archive or a folder, without its checkpoint and without the absolute paths of its text.

    Args:
        folder: The run folder.
        out: A name that ends in `.tar.gz` or `.tgz`, which is replaced, or a folder that does not exist yet;
            `NAME.tar.gz` in the working directory if it is not given.

    Raises:
        RequestError: If the run has no weights yet, or `out` cannot be used.
        WorkError: If it cannot be written.
    """
    run = Run.open(folder)
    run.model()  # refuses weights that are missing or damaged
    name = run.folder.resolve().name
    out = Path(f"{name}.tar.gz" if out is None else out)
    archive = out.name.endswith(ENDINGS)
    if run.folder.resolve() in (place := out.resolve(), *place.parents):
        raise RequestError(f"--out {out}: is in the run itself; give another place")
    if not archive and (out.exists() or out.is_symlink()):
        raise RequestError(f"--out {out}: exists already; give another folder, or a name that ends in .tar.gz")
    content, left_out = _content(run)
    if archive:
        with replacing(out) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            _write_archive(packed, name, content)
    else:
        _write_folder(out, content)
    files = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in content.items()}
    text = tuple(
        Path(file).name for name, file in named_files(run.settings.data).items() if name != "vocabulary_of"
    )
    return Packed(out, files, left_out, text)


def _content(run: Run) -> tuple[dict[str, bytes | Path], dict[str, int]]:
    """Return the files of a packed run by name, and the bytes of what stays behind."""
    content: dict[str, bytes | Path] = {}
    left_out = dict.fromkeys(LEFT, 0)
    for path in sorted(run.folder.rglob("*")):
        name = path.relative_to(run.folder)
        if path.is_symlink() or not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        if name.parts[0] in LEFT:
            left_out[name.parts[0]] += path.stat().st_size
        else:
            content[name.as_posix()] = path
    data = run.settings.data
    named = {setting: os.path.basename(os.path.abspath(file)) for setting, file in named_files(data).items()}
    settings = run.made.model_copy(update={"data": data.model_copy(update=named)})
    fixed = {
        "settings.toml": settings.toml().encode(),
        "tokenizer.json": (run.folder / "tokenizer.json").read_bytes(),
    }
    environment = dict(run.environment)
    places = run.places or file_places(data, run.folder)
    environment["text"] = {
        setting: {"relative": own["relative"]} for setting, own in places.items() if "relative" in own
    }
    if "start" in environment:
        environment["start"] = {"weights": environment["start"]["weights"]}
    environment["files"] = {name: hashlib.sha256(fixed[name]).hexdigest() for name in FIXED}
    environment["values"] = {name: value_digest_of(fixed[name], name.endswith(".toml")) for name in FIXED}
    environment["packed"] = True
    content |= fixed
    content["environment.json"] = (json_text(environment) + "\n").encode()
    return dict(sorted(content.items())), {name: size for name, size in left_out.items() if size}


def _write_archive(file: Any, name: str, content: Mapping[str, bytes | Path]) -> None:
    """Write a tar archive whose bytes depend on the names and contents of its files alone."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for own, one in content.items():
            entry = tarfile.TarInfo(f"{name}/{own}")
            entry.mtime, entry.mode = TIME, 0o644
            data = one if isinstance(one, bytes) else one.read_bytes()
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _write_folder(out: Path, content: Mapping[str, bytes | Path]) -> None:
    """Write the files into a new folder; remove it again if that fails."""
    with writing(out):
        out.mkdir(parents=True)  # fails if another process has just made it, whose folder it then stays
    try:
        for name, one in content.items():
            with writing(out / name):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(out / name) as file:
                file.write(one if isinstance(one, bytes) else one.read_bytes())
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
