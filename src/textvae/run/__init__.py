"""The run folder: everything about a run, portable, no pickles, every file replaced atomically.

`settings.toml` (resolved), `environment.json`, `tokenizer.json`, `model.safetensors` (best weights),
`checkpoint/last.safetensors` (exact resume), `log.jsonl`, `evaluation/SPLIT.json`, `report.html`.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import textvae
from textvae.errors import RequestError, WorkError, shown
from textvae.files import file_digest, locked, read_json, read_tensors, sweep, write_json, write_text, writing
from textvae.model import TextVAE, build
from textvae.objective.settings import Settings, parse
from textvae.objective.terms import TERMS
from textvae.run.records import Environment, problem, read_log
from textvae.settings import read_document
from textvae.text.corpus import Corpus, open_corpus
from textvae.text.tokenizers import Tokenizer

FORMAT = 1
# Written once; `environment.json` holds their digests, so that half of one is never taken for the whole.
FIXED = ("settings.toml", "tokenizer.json")
# Held by the process that trains the run; the others may read it meanwhile.
LOCK = ".lock"


class Run:
    """A run folder that exists: its settings, tokenizer and files."""

    def __init__(self, folder: Path, settings: Settings, tokenizer: Tokenizer, environment: dict[str, Any]):
        self.folder, self.settings, self.tokenizer = folder, settings, tokenizer
        self.environment = environment

    @classmethod
    def create(cls, folder: Path, settings: Settings, tokenizer: Tokenizer, data: Mapping[str, Any]) -> "Run":
        """A new run folder; `environment.json`, written last, marks it as complete.

        What is left there of a run whose making was cut short is replaced.

        Raises:
            RequestError: when the folder holds something else already.
            WorkError: when it cannot be written.
        """
        check_vacant(folder)
        environment = {
            "format": FORMAT,
            **machine(settings.train.device),
            "seed": settings.train.seed,
            "data": dict(data),
        }
        try:
            with writing(folder):
                for left in folder.iterdir() if folder.exists() else ():
                    if left.name != LOCK:
                        left.rmdir() if left.is_dir() else left.unlink()
                (folder / "checkpoint").mkdir(parents=True)
            write_text(folder / "settings.toml", settings.toml())
            tokenizer.save(folder / "tokenizer.json")
            environment["files"] = {name: file_digest(folder / name) for name in FIXED}
            environment["values"] = {name: value_digest(folder / name) for name in FIXED}
            write_json(folder / "environment.json", environment)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # there was nothing of value before
            raise
        return cls(folder, settings, tokenizer, environment)

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """An existing run folder.

        Raises:
            RequestError: when it is missing, incomplete, damaged or of a newer format.
        """
        folder = Path(folder)
        check_named(folder)
        if not folder.is_dir():
            raise RequestError(f"{folder}: no such run folder; `textvae train` makes one")
        path = folder / "environment.json"
        if not path.exists() and half_made(folder):
            raise RequestError(
                f"{folder}: the making of this run was cut short, before anything was trained; start it anew with "
                f"`textvae train ... --out {folder}`"
            )
        environment = read_json(path)
        written_in, files = environment.get("format"), environment.get("files")
        if isinstance(written_in, int) and written_in > FORMAT:
            raise RequestError(
                f"{folder}: written by textvae {environment.get('textvae')} in format {written_in}, "
                f"this one reads up to {FORMAT}; update textvae"
            )
        if written_in != FORMAT or not isinstance(files, dict):
            raise RequestError(f"{path}: not one that textvae wrote; restore an intact copy, or train again")
        if (wrong := problem(Environment, environment)) is not None:
            raise RequestError(f"{path}: damaged: {wrong}; restore an intact copy, or train again")
        values = environment.get("values")
        for name in FIXED:
            said = values.get(name) if isinstance(values, dict) else None
            if (how := difference(folder / name, files.get(name), said)) is not None:
                raise RequestError(
                    f"{folder / name}: is not what the run was made with ({how}): damaged or edited; "
                    "restore an intact copy, or train again"
                )
        settings = parse(read_document(folder / "settings.toml"), TERMS)
        tokenizer = Tokenizer.load(folder / "tokenizer.json", settings.data.right_to_left)
        return cls(folder, settings, tokenizer, environment)

    def model(self) -> TextVAE:
        """The model with the best weights, ready for evaluation.

        Raises:
            RequestError: when there are none yet, or the file is damaged.
        """
        path = self.folder / "model.safetensors"
        if not path.exists():
            raise RequestError(f"{path}: not written yet; the run has not finished its first validation")
        tensors, _ = read_tensors(path)
        settings = self.settings
        model = build(settings.model, len(self.tokenizer), settings.terms(), settings.data.positions)
        load_weights(model, tensors, path)
        return model.eval()

    def log(self) -> list[dict[str, Any]]:
        """The records of `log.jsonl`; a last line cut short by a crash is left out."""
        return read_log(self.folder / "log.jsonl")


def half_made(folder: Path) -> bool:
    """Return True for a folder that holds only the rest of a run whose making was cut short."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    begun = LOCK in names or (folder / "checkpoint").is_dir()
    own = all(name in (LOCK, "checkpoint", *FIXED) or re.fullmatch(r"\..*\.part", name) for name in names)
    return begun and own and not ("checkpoint" in names and any((folder / "checkpoint").iterdir()))


def check_named(folder: Path) -> None:
    """Raise RequestError if the name of a folder is not Unicode, in which weights and tables are written."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RequestError(f"{folder}: has a name that is not UTF-8; give the run folder another one") from None


def check_vacant(folder: Path) -> None:
    """Refuse a folder that holds something already: a run, or what is not the program's own.

    Raises:
        RequestError: says what would do.
    """
    check_named(folder)
    if (folder / "environment.json").exists():
        raise RequestError(f"{folder}: exists already; give another --out, or --resume {folder} to go on")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not half_made(folder))):
        raise RequestError(f"{folder}: exists already and is no run folder; give another --out, or delete it")


@contextmanager
def training_alone(folder: Path, new: bool = False) -> Iterator[None]:
    """Keep other processes from training the run in a folder while the block runs; a `new` one's is made.

    Raises:
        RequestError: when another process trains it, or a new one's folder holds something already.
        WorkError: when the folder cannot be written.
    """
    if new:
        check_vacant(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, str(folder)):
        for place in (folder, folder / "checkpoint"):
            sweep(place)
        yield


def keep(path: Path, write: Callable[[Path], None]) -> None:
    """Write what was found to a file of a run; warn where that cannot be, as in one that may only be read."""
    try:
        with writing(path.parent):
            path.parent.mkdir(exist_ok=True)
        write(path)
    except WorkError as error:
        warnings.warn(f"the results are complete, but not kept in the run: {error}", stacklevel=3)


def value_digest(path: Path) -> str | None:
    """SHA-256 of what a TOML or JSON file says, in whatever words; None where it says nothing that can be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        value = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def difference(path: Path, digest: object, value: object) -> str | None:
    """How a file differs from the one with this digest that said what has the digest `value`; None if not in kind.

    Other line ends, comments and spaces make no difference. A run of an earlier version has no `value`.
    """
    if file_digest(path) == digest:
        return None
    if hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest() == digest:
        return None
    toml = path.suffix == ".toml"
    if (found := value_digest(path)) is None:
        return f"it is not {'TOML' if toml else 'JSON'}"
    if found == value:
        return None
    if value is None and toml:
        try:
            text = parse(read_document(path), TERMS).toml()
        except RequestError:
            return "it holds other settings"
        return None if hashlib.sha256(text.encode()).hexdigest() == digest else "it holds other settings"
    return "it holds other settings" if toml else "it holds another vocabulary"


def machine(device: str = "auto") -> dict[str, Any]:
    """The versions and the hardware that numbers were measured with, on the `device` that settings ask for."""
    import numpy

    cuda = device != "cpu" and torch.cuda.is_available()
    return {
        "textvae": textvae.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """What the CPU calls itself, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    named = next((line for line in lines if line.startswith("model name")), "")
    return named.partition(":")[2].strip() or platform.processor() or platform.machine() or "cpu"


def load_weights(model: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into a model of the same shape; floats of another precision are converted.

    Raises:
        RequestError: when names, shapes or types differ from what the run's settings say, or a number is not
            finite; names the first tensors.
    """
    own = model.state_dict()
    both = [name for name in own if name in tensors]
    wrong = {
        "lacks": [name for name in own if name not in tensors],
        "has, and the model has not,": [name for name in tensors if name not in own],
        "has in another shape": [name for name in both if tensors[name].shape != own[name].shape],
        "has as another type than numbers with a fraction": [
            name
            for name in both
            if own[name].is_floating_point() != tensors[name].is_floating_point() or tensors[name].is_complex()
        ],
    }
    for what, names in wrong.items():
        if names:
            raise RequestError(f"{path}: does not fit the run's settings.toml: it {what} {_first(names)}")
    if infinite := [name for name in both if not tensors[name].to(own[name].dtype).isfinite().all()]:
        raise RequestError(
            f"{path}: damaged: holds numbers that are not finite in {_first(infinite)}; restore an intact copy"
        )
    model.load_state_dict(dict(tensors))


def _first(names: list[str]) -> str:
    """Return the first of some names, on one line, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name if name.isprintable() else shown(name) for name in names[:3]) + more


def corpus_of(run: Run) -> Corpus:
    """The text that a run was trained on, tokenized as `open_corpus` does it.

    Raises:
        RequestError: where it is not there, or not what it was when the run was made: it was usable then.
    """
    data = run.settings.data
    try:
        corpus = open_corpus(data)
    except RequestError as error:
        own = [data.train, data.valid, data.test, data.vocabulary_of] if data.train else [data.corpus]
        if not all(os.access(file, os.R_OK) for file in own if file is not None):
            raise  # a file that is gone or closed says so itself
        name = Path(data.train or data.corpus or "").name
        reason = str(error).partition(";")[0]  # what it says to do is of no use here
        raise RequestError(
            f"{name}: has changed since {run.folder} was made with it, and cannot be used as it is now ({reason}); "
            "put the old file back, or train again"
        ) from None
    check_same_data(run, corpus)
    return corpus


def check_same_data(run: Run, corpus: Corpus) -> None:
    """Refuse to go on, or to evaluate, with other text than the run was trained on.

    Raises:
        RequestError: names the first difference.
    """
    try:
        recorded = {name: split["fingerprint"] for name, split in run.environment["data"]["splits"].items()}
    except (KeyError, TypeError, AttributeError):
        path = run.folder / "environment.json"
        raise RequestError(f"{path}: damaged: it does not say what the data was; restore an intact copy") from None
    found = {name: store.fingerprint for name, store in corpus.splits.items()}
    different = [f"its {name} split" for name in recorded if recorded[name] != found.get(name)]
    if run.tokenizer.tokens != corpus.tokenizer.tokens:  # the numbers of words may agree where words do not
        different.append("its vocabulary")
    if different:
        raise RequestError(
            f"{corpus.name}: {different[0]} is not the one that {run.folder} was made with: the text has changed; "
            "put the old file back, or train again"
        )


def model_of(run: Run) -> TextVAE:
    """The run's best model, on the device that its settings ask for where there is one."""
    wanted = run.settings.train.device
    return run.model().to("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
