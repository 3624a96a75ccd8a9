"""The run folder: everything about a run, portable, no pickles, every file replaced atomically.

`settings.toml` (resolved), `environment.json`, `tokenizer.json`, `model.safetensors` (best weights),
`checkpoint/last.safetensors` (exact resume), `log.jsonl`, `evaluation/SPLIT.json`, `report.html`.
"""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import textvae
from textvae.errors import RequestError
from textvae.files import read_json, read_tensors, write_json, write_text, writing
from textvae.model import TextVAE, build
from textvae.objective import TERMS
from textvae.settings import Settings, parse, read_document
from textvae.tokenizers import Tokenizer

FORMAT = 1


class Run:
    """A run folder that exists: its settings, tokenizer and files."""

    def __init__(self, folder: Path, settings: Settings, tokenizer: Tokenizer, environment: dict[str, Any]):
        self.folder, self.settings, self.tokenizer = folder, settings, tokenizer
        self.environment = environment

    @classmethod
    def create(cls, folder: Path, settings: Settings, tokenizer: Tokenizer, data: Mapping[str, Any]) -> "Run":
        """A new run folder; `environment.json`, written last, marks it as complete.

        Raises:
            RequestError: when the folder holds something already.
            WorkError: when it cannot be written.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RequestError(f"{folder}: exists already; give another --out, or --resume {folder} to go on")
        environment = {"format": FORMAT, **machine(), "seed": settings.train.seed, "data": dict(data)}
        with writing(folder):
            (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
        write_text(folder / "settings.toml", settings.toml())
        tokenizer.save(folder / "tokenizer.json")
        write_json(folder / "environment.json", environment)
        return cls(folder, settings, tokenizer, environment)

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """An existing run folder.

        Raises:
            RequestError: when it is missing, incomplete, damaged or of a newer format.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise RequestError(f"{folder}: no such run folder; `textvae train` makes one")
        environment = read_json(folder / "environment.json")
        if environment.get("format", 0) > FORMAT:
            raise RequestError(
                f"{folder}: written by textvae {environment.get('textvae')} in format {environment['format']}, "
                f"this one reads up to {FORMAT}; update textvae"
            )
        settings = parse(read_document(folder / "settings.toml"), TERMS)
        return cls(folder, settings, Tokenizer.load(folder / "tokenizer.json"), environment)

    def model(self) -> TextVAE:
        """The model with the best weights, ready for evaluation.

        Raises:
            RequestError: when there are none yet, or the file is damaged.
        """
        path = self.folder / "model.safetensors"
        if not path.exists():
            raise RequestError(f"{path}: not written yet; the run has not finished its first validation")
        tensors, _ = read_tensors(path)
        model = build(self.settings.model, len(self.tokenizer))
        load_weights(model, tensors, path)
        return model.eval()

    def log(self) -> list[dict[str, Any]]:
        """The records of `log.jsonl`; a last line cut short by a crash is left out."""
        path = self.folder / "log.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            raise RequestError(f"{path}: cannot be read; is {self.folder} a run folder?") from None
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                if number < len(lines):
                    raise RequestError(f"{path}, line {number}: damaged") from None
        return records


def machine() -> dict[str, Any]:
    """The versions and the hardware that numbers were measured with."""
    import lightning_fabric
    import numpy

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    return {
        "textvae": textvae.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning_fabric": lightning_fabric.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def load_weights(model: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into a model of the same shape.

    Raises:
        RequestError: when names or shapes differ from what the run's settings say.
    """
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RequestError(f"{path}: does not fit the run's settings.toml: {reason}") from None
