"""The run folder: all files of a run, portable, without pickles, each replaced atomically.

`settings.toml` (resolved), `environment.json`, `tokenizer.json`, `model.safetensors` (the weights that are used),
`checkpoint/last.safetensors` (exact resume), `log.jsonl`, `evaluation/SPLIT.json`, `report.html`,
`fitted/` (a prior fitted afterwards, and results under it), `text/` (text that was given in memory).
"""

import hashlib
import json
import shutil
import tomllib
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textvae.errors import RequestError, did_you_mean, shown
from textvae.files import file_digest, read_json, read_tensors, write_json, write_text, writing
from textvae.model import TextVAE, build
from textvae.objective.settings import Settings, parse
from textvae.objective.terms import TERMS
from textvae.objective.terms.absent import Absent
from textvae.parts.multi_rate import MultiRateSettings
from textvae.run.fitted import FOLDER, Fitted, read_fitted, refit
from textvae.run.folder import CHECKPOINT, FIXED, LOCK, TEXT, check_named, check_vacant, half_made
from textvae.run.hardware import machine
from textvae.run.records import Environment, label_names, problem, read_log, with_changes
from textvae.settings import read_document
from textvae.text.corpus import FilePlaces, file_places
from textvae.text.tokenizers import Tokenizer

FORMAT = 1
# Remedy for a part or term that is not known.
PACKAGE = "if an installed package provided it, install that"
PRIORS_OF_A_RUN = ("usual", "own", "fitted")


class Run:
    """An existing run folder: its settings, tokenizer and files.

    `text` is where its text is to be looked for, if that was given: a file, or a folder of its files. `made` are
    the settings that it was made with, `settings` those of today, with what has changed when it was resumed.
    `fitted` is the prior in place of its own, if any; `beta` the KL weight that its model answers at, if that was
    asked for (`at_beta`). `prior_chosen` is True once `under` has been told which prior to take.
    """

    prior_chosen = False

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        tokenizer: Tokenizer,
        environment: dict[str, Any],
        text: Path | None = None,
        fitted: Fitted | None = None,
        beta: float | None = None,
    ) -> None:
        self.folder, self.settings, self.tokenizer = folder, settings, tokenizer
        self.environment, self.text, self.fitted, self.beta = environment, text, fitted, beta
        self.made = settings
        self.settings = self.settings_at(None)

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: Settings,
        tokenizer: Tokenizer,
        data: Mapping[str, Any],
        start: Mapping[str, Any] | None = None,
    ) -> "Run":
        """Create a run folder; `environment.json`, written last, marks it as complete.

        The remains of a run whose creation was interrupted are replaced. `start` records the weights that the run
        starts from, if it starts from those of another run.

        Raises:
            RequestError: If the folder holds something else.
            WorkError: If it cannot be written.
        """
        check_vacant(folder)
        environment = {
            "format": FORMAT,
            **machine(settings.train.device),
            "seed": settings.train.seed,
            "data": dict(data),
            "text": file_places(settings.data, folder),
            **({} if start is None else {"start": dict(start)}),
        }
        try:
            with writing(folder):
                for left in folder.iterdir() if folder.exists() else ():
                    if left.name not in (LOCK, TEXT):
                        left.rmdir() if left.is_dir() else left.unlink()
                (folder / CHECKPOINT).mkdir(parents=True)
            write_text(folder / "settings.toml", settings.toml())
            tokenizer.save(folder / "tokenizer.json")
            environment["files"] = {name: file_digest(folder / name) for name in FIXED}
            environment["values"] = {name: value_digest(folder / name) for name in FIXED}
            write_json(folder / "environment.json", environment)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # it held nothing of value before
            raise
        return cls(folder, settings, tokenizer, environment)

    @classmethod
    def open(cls, folder: "Path | str | Run", text: Path | str | None = None) -> "Run":
        """Open an existing run folder; a run that is open stays as it is.

        Args:
            folder: The run folder.
            text: The file of its text, or the folder of its files, if they are no longer where they were.

        Raises:
            RequestError: If it is missing, incomplete, damaged or of a newer format.
        """
        if isinstance(folder, Run):
            return folder
        folder = Path(folder)
        check_named(folder)
        if folder.name.endswith((".tar.gz", ".tgz")) and folder.is_file():
            raise RequestError(
                f"{folder}: is an archive; unpack it with `tar -xzf {folder}`, and give the run folder"
            )
        if not folder.is_dir():
            raise RequestError(f"{folder}: no such run folder; `textvae train` makes one")
        path = folder / "environment.json"
        if not path.exists() and half_made(folder):
            raise RequestError(
                f"{folder}: the creation of this run was interrupted before training began; start it again with "
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
            raise RequestError(f"{path}: was not written by textvae; restore an intact copy, or train again")
        if (wrong := problem(Environment, environment)) is not None:
            raise RequestError(f"{path}: damaged: {wrong}; restore an intact copy, or train again")
        values = environment.get("values")
        for name in FIXED:
            recorded = values.get(name) if isinstance(values, dict) else None
            if (reason := difference(folder / name, files.get(name), recorded)) is not None:
                raise RequestError(
                    f"{folder / name}: differs from the file the run was made with ({reason}): damaged or edited; "
                    "restore an intact copy, or train again"
                )
        settings = _read_settings(folder / "settings.toml")
        tokenizer = Tokenizer.load(folder / "tokenizer.json", settings.data.right_to_left)
        return cls(folder, settings, tokenizer, environment, None if text is None else Path(text))

    def settings_at(self, step: int | None) -> Settings:
        """Return the settings by which the run came to a step; of None, those by which it goes on."""
        changes = self.environment.get("changes") or ()
        return with_changes(self.made, [one["train"] for one in changes if step is None or one["step"] < step])

    def change(self, step: int, train: Mapping[str, Any]) -> None:
        """Record settings of `[train]` that change at a step; they hold from then on."""
        changes = [*(self.environment.get("changes") or ()), {"step": step, "train": dict(train)}]
        self.environment["changes"] = changes
        write_json(self.folder / "environment.json", self.environment)

    @property
    def places(self) -> dict[str, FilePlaces]:
        """Recorded places of the files that `[data]` names, by setting; empty in runs of earlier versions."""
        return self.environment.get("text") or {}

    def under(self, prior: str = "usual") -> "Run":
        """Return the run under its `own` prior or the `fitted` one, which its settings then have.

        The `usual` one is the fitted prior of a run that was trained with `train.fit_prior`, if it was kept; else
        the run's own. A run that was put under one of the two stays there if the usual one is asked for.

        Raises:
            RequestError: For another name, for a fitted prior of a language model, or one that needs a library that
                is not installed, and as `read_fitted`.
        """
        if prior not in PRIORS_OF_A_RUN:
            raise RequestError(f"prior = {prior!r}: unknown{did_you_mean(prior, PRIORS_OF_A_RUN)}")
        if prior == "fitted" and self.beta is not None:
            raise RequestError(f"prior = 'fitted': was not fitted to codes at beta = {self.beta:g}; leave out one")
        if prior == "usual" and not self.prior_chosen:
            asked = self.settings.train.fit_prior and self.beta is None
            prior = "fitted" if asked and (self.folder / FOLDER / "prior.json").exists() else "own"
        if prior == "usual" or (prior == "fitted") == (self.fitted is not None):
            return self._chosen()
        if prior == "own":
            return Run.open(self.folder, self.text)._chosen()
        require_code(self)
        fitted = read_fitted(self.folder)
        if (missing := fitted.settings.missing) is not None:
            raise RequestError(f"{self.folder / FOLDER}: {missing}; or use the run's own prior (--prior own)")
        model = self.settings.model.model_copy(update={"prior": fitted.settings})
        settings = self.settings.model_copy(update={"model": model})
        return Run(self.folder, settings, self.tokenizer, self.environment, self.text, fitted)._chosen()

    def _chosen(self) -> "Run":
        """Return the run as it is, under the prior that it has whatever its usual one is."""
        chosen = copy(self)
        chosen.prior_chosen = True
        return chosen

    def at_beta(self, beta: float) -> "Run":
        """Return the run at a KL weight of the interval that its model was trained for, under its own prior.

        Raises:
            RequestError: For a weight outside it, and a run that was trained at one weight.
        """
        gates = require_rates(self)
        if not gates.low <= beta <= gates.high:
            inside = f"{self.folder} was trained for KL weights from {gates.low:g} to {gates.high:g}"
            raise RequestError(f"beta = {beta:g}: {inside}; give one of these")
        if self.fitted is not None:
            raise RequestError(f"beta = {beta:g}: the prior in use was fitted to codes at another; leave out one")
        model = self.settings.model.model_copy(update={"multi_rate": gates.model_copy(update={"beta": beta})})
        settings = self.settings.model_copy(update={"model": model})
        return Run(self.folder, settings, self.tokenizer, self.environment, self.text, None, beta)

    def result(self, name: str) -> Path:
        """Return the path of a file of results; those under a fitted prior, or at a beta, have a folder each."""
        if self.beta is not None:
            return self.folder / "at" / f"{self.beta:.6g}" / name
        return self.folder / name if self.fitted is None else self.folder / FOLDER / name

    def model(self) -> TextVAE:
        """Return the model with the weights that are kept, ready for evaluation.

        Raises:
            RequestError: If there are none yet, or the file is damaged.
        """
        path = self.folder / "model.safetensors"
        if not path.exists():
            raise RequestError(f"{path}: not written yet; the run has not finished its first validation")
        tensors, _ = read_tensors(path)
        if self.fitted is not None:
            tensors = self.fitted.put_into(tensors)
        settings = self.settings
        heads = tuple(f"heads.{name}." for name, term in settings.terms().items() if isinstance(term, Absent))
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
        known, size = label_names(self.environment), len(self.tokenizer)
        model = build(settings.model, size, settings.terms(), settings.data.positions, known)
        if self.fitted is not None:
            self._check_fitted(model.prior_network, self.fitted)
        load_weights(model, tensors, path)
        return model.eval()

    def _check_fitted(self, prior: torch.nn.Module | None, fitted: Fitted) -> None:
        """Load the tensors of a fitted prior, so that a message about them names their files."""
        assert prior is not None
        path = self.folder / FOLDER / "prior.safetensors"
        try:
            load_weights(prior, fitted.tensors, path, "prior.json")
        except RequestError as error:
            raise RequestError(f"{error}; {refit(self.folder)}") from None

    def log(self) -> list[dict[str, Any]]:
        """Return the records of `log.jsonl`; a last line cut short by a crash is left out."""
        return read_log(self.folder / "log.jsonl")


def require_rates(run: Run) -> MultiRateSettings:
    """Return the interval of KL weights that a run was trained for.

    Raises:
        RequestError: If it was trained at one weight.
    """
    gates = run.settings.model.multi_rate
    if gates is None:
        raise RequestError(
            f"{run.folder}: was trained at one KL weight; runs of `train --method multi-rate` have many"
        )
    return gates


def require_code(run: Run) -> None:
    """Refuse a language model.

    Raises:
        RequestError: For such a run.
    """
    if not run.settings.model.latent:
        raise RequestError(f"{run.folder}: is a language model: it has no code, and so no prior to fit")


def value_digest(path: Path) -> str | None:
    """Return the SHA-256 of the value of a TOML or JSON file, whatever its layout; None if it cannot be read."""
    try:
        return value_digest_of(path.read_bytes(), path.suffix == ".toml")
    except OSError:
        return None


def value_digest_of(data: bytes, toml: bool) -> str | None:
    """Return the SHA-256 of the value of a TOML or JSON document, whatever its layout; None if it is neither."""
    try:
        text = data.decode("utf-8-sig")
        value = tomllib.loads(text) if toml else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _read_settings(path: Path) -> Settings:
    """Return the settings of a run.

    They were valid when they were written, so what is unknown now may be a part of a package. Terms of the
    objective that are unknown are read as absent: only training needs them (`training.changes.require_terms`).

    Raises:
        RequestError: Naming the file, every wrong place and the remedy.
    """
    document = read_document(path)
    try:
        return parse(document, TERMS, Absent)
    except RequestError as error:
        lines = [f"{path}: {line}; {PACKAGE}" for line in str(error).split("\n")]
        raise RequestError("\n".join(lines)) from None


def difference(path: Path, digest: object, value: object) -> str | None:
    """Return how a file differs in content from the recorded one, or None if it does not.

    Line ends, comments and spaces make no difference.

    Args:
        path: The file.
        digest: Recorded digest of its bytes.
        value: Recorded digest of its value; None in runs of earlier versions.
    """
    if file_digest(path) == digest:
        return None
    if hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest() == digest:
        return None
    toml = path.suffix == ".toml"
    if (current := value_digest(path)) is None:
        return f"it is not {'TOML' if toml else 'JSON'}"
    if current == value:
        return None
    if value is None and toml:
        try:
            text = parse(read_document(path), TERMS, Absent).toml()
        except RequestError:
            return "it holds other settings"
        return None if hashlib.sha256(text.encode()).hexdigest() == digest else "it holds other settings"
    return "it holds other settings" if toml else "it holds another vocabulary"


def load_weights(
    model: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path, of: str = "the run's settings.toml"
) -> None:
    """Load tensors into a model of the same shape; floats of another precision are converted.

    Messages name `path`, the file of the tensors, and `of`, that of the model's sizes.

    Raises:
        RequestError: Naming the first tensors, if names, shapes or types differ from those of the model, or a
            number is not finite.
    """
    own = model.state_dict()
    both = [name for name in own if name in tensors]
    wrong = {
        "lacks": [name for name in own if name not in tensors],
        "has, but the model does not,": [name for name in tensors if name not in own],
        "has in another shape": [name for name in both if tensors[name].shape != own[name].shape],
        "has in a type other than floating point": [
            name
            for name in both
            if own[name].is_floating_point() != tensors[name].is_floating_point() or tensors[name].is_complex()
        ],
    }
    for problem_found, names in wrong.items():
        if names:
            raise RequestError(f"{path}: does not fit {of}: it {problem_found} {_first(names)}")
    if infinite := [name for name in both if not tensors[name].to(own[name].dtype).isfinite().all()]:
        raise RequestError(
            f"{path}: damaged: holds numbers that are not finite in {_first(infinite)}; restore an intact copy"
        )
    model.load_state_dict(dict(tensors))


def _first(names: list[str]) -> str:
    """Return the first names of a list on one line, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name if name.isprintable() else shown(name) for name in names[:3]) + more


def model_of(run: Run) -> TextVAE:
    """Return the run's model on the device of its settings, if that is available."""
    device = run.settings.train.device
    return run.model().to("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
