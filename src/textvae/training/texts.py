"""`textvae.train`: a run from texts in memory, a file, a corpus or settings."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from textvae.errors import RequestError, shown
from textvae.files import replacing, writing
from textvae.objective.settings import Settings
from textvae.parts.settings import ModelSettings
from textvae.progress import StepProgress, visible
from textvae.run import Run
from textvae.run.folder import TEXT
from textvae.settings import Data, Train
from textvae.text.readers import each_text, elements
from textvae.training import loop
from textvae.training.choice import AUTO, default_method, load_chosen
from textvae.training.start import start_document

# Texts in memory, the name or path of a file or of a registered corpus.
Given: TypeAlias = Iterable[str] | Path | str
SPLITS = ("train", "valid", "test")
# Endings of a file of sentences that say nothing about which sentences they are.
ENDINGS = (".gz", ".txt", ".tsv", ".csv", ".jsonl", ".ndjson", ".json")
# Settings that name texts and their columns.
SOURCES, COLUMNS = ("corpus", *SPLITS), ("column", "label")
_NOTHING = object()


def train(
    texts: Settings | Given | None = None,
    out: Path | str | None = None,
    progress: StepProgress | bool | None = True,
    start: Path | str | Run | None = None,
    *,
    labels: Iterable[Any] | None = None,
    valid: Given | None = None,
    test: Given | None = None,
    valid_labels: Iterable[Any] | None = None,
    test_labels: Iterable[Any] | None = None,
    settings: Settings | Path | str | Mapping[str, Any] | None = None,
    method: str | None = None,
    aim: str | None = None,
    assignments: Iterable[str] = (),
    **tables: Any,
) -> Run:
    """Train a model on texts, and return its run.

    Texts in memory are written into the run's folder (`text/*.jsonl`), where everything that is done with the run
    later finds them. Without `valid` they are split as a single file is (`data.split`).

    Args:
        texts: Sentences: a list, generator, array or column of a table; or the path of a file, or the name of a
            registered corpus; or finished settings, from `textvae.load_settings`.
        out: The new run folder; by default `runs/NAME-METHOD`, where NAME is `texts` for texts in memory, else that
            of the file or corpus, and a number is added if the folder exists.
        progress: True for a bar in a notebook or terminal, None or False for none, or a function of the step, the
            planned steps, and the newest record of the log or None.
        start: A run to take weights, tokenizer and settings from, as `textvae train --from`.
        labels: A string or number for each text in memory. That of a file is a column: `data={"label": NAME}`.
        valid: Sentences to validate on, given like `texts`.
        test: Sentences to test on, given like `texts`.
        valid_labels: Labels of `valid`.
        test_labels: Labels of `test`.
        settings: A settings file, a document or finished settings, below what is given otherwise.
        method: A preset; by default that of `default_method` without settings and a run to start from.
        aim: What `auto` is to make the model for: `representation`, `balance` (the default) or `generation`.
        assignments: Settings as `path=value`, above all others.
        **tables: Tables of settings, such as `model={"latent": 16}` and `train={"epochs": 5}`.

    Raises:
        RequestError: When texts, labels or settings cannot be used, or the folder exists or is in use.
        WorkError: When training diverges or the disk fails; the last good checkpoint stays.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint saved.
    """
    if texts is None and isinstance(settings, Settings):
        texts, settings = settings, None
    assignments = tuple(assignments)
    if not isinstance(texts, Settings) and method is None and settings is None and start is None:
        method = default_method(assignments, **tables)
    if method == AUTO and isinstance(texts, Iterator):
        texts = list(texts)  # read twice
    given = {"train": texts, "valid": valid, "test": test}
    marks = {"train": labels, "valid": valid_labels, "test": test_labels}
    name = str(texts) if isinstance(texts, str | Path) else "texts"
    if isinstance(texts, Settings):
        others = {"valid": valid, "test": test, **_named(marks), "settings": settings, "method": method, "aim": aim}
        _refuse_beside(others | tables | ({"assignments": assignments} if assignments else {}))
        loaded, name, memory = texts, texts.data.train or texts.data.corpus or "text", None
    folder = Path(out) if out is not None else new_folder(name, method)
    if not isinstance(texts, Settings):
        memory = None if isinstance(texts, str | Path) else _Memory(folder, given, marks)
        sources = memory.sources() if memory else _files(given, marks)
        _check_tables(tables)
        tables["data"] = _data(tables.get("data", {}), sources, bool(memory or start is not None))
        below, read = _below(settings, start), memory.texts("train") if memory else None
        loaded, _ = load_chosen(below, method, assignments, aim, read, **tables)
    with visible(progress, str(folder), "step") as told:
        return loop.train(loaded, folder, told, start, memory.write if memory is not None else lambda: None)


def new_folder(source: str, method: str | None = None) -> Path:
    """Return `runs/CORPUS-METHOD`, or with -2, -3 and so on if that exists.

    Raises:
        RequestError: For one of several processes, which must agree.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError("--out: several processes must agree on the run folder; give --out runs/NAME")
    corpus = Path(source).name
    while (path := Path(corpus)).suffix.lower() in ENDINGS:
        corpus = path.stem
    first = Path("runs") / "-".join(filter(None, (corpus or "text", method)))
    folder, count = first, 1
    while folder.exists() or folder.is_symlink():
        count += 1
        folder = first.with_name(f"{first.name}-{count}")
    return folder


def _check_tables(tables: Mapping[str, Any]) -> None:
    """Refuse keywords that are no table of settings, with the table that they belong into."""
    for name in tables.keys() - Settings.model_fields.keys():
        homes = {
            "train": {*Train.model_fields, "lr"},
            "model": ModelSettings.model_fields,
            "data": Data.model_fields,
        }
        home = next((table for table, own in homes.items() if name in own), None)
        if home is not None:
            raise RequestError(f"{name}: is a setting of the table {home}; give {home}={{{name!r}: ...}}")


def _below(
    settings: Settings | Path | str | Mapping[str, Any] | None, start: Path | str | Run | None
) -> Path | str | Mapping[str, Any] | None:
    """Return the settings below what is given otherwise: those of a run to start from if there are no others."""
    if settings is None and start is not None:
        return start_document(Run.open(start))
    return settings.document() if isinstance(settings, Settings) else settings


class _Memory:
    """Texts in memory on their way into a run's folder: a file for each split, or one that is split later."""

    def __init__(self, folder: Path, given: Mapping[str, Any], marks: Mapping[str, Any]) -> None:
        if given["train"] is None:
            raise RequestError("texts: none given; give a list of sentences, or the path of a file")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RequestError(
                "texts: several processes train on a file; write the texts to one, and give its path"
            )
        self.given = {split: texts for split, texts in given.items() if texts is not None}
        self.marks, self.labelled = marks, marks["train"] is not None
        for split, texts in self.given.items():
            name = _name(split)
            if isinstance(texts, Path | str):
                raise RequestError(f"{name} = {str(texts)!r}: is a path, but texts are in memory; give all alike")
            if (marks[split] is not None) != self.labelled:
                raise RequestError(f"{_name(split, labels=True)}: give labels for every split, or for none")
        for split, labels in marks.items():
            if labels is not None and split not in self.given:
                raise RequestError(f"{_name(split, labels=True)}: there are no texts {split}= to label")
        whole = list(self.given) == ["train"]
        self.files = {split: folder / TEXT / f"{'texts' if whole else split}.jsonl" for split in self.given}
        for split, texts in self.given.items():
            each_text(texts, _name(split))  # refuses what is no collection; the elements are read later

    def sources(self) -> dict[str, str | None]:
        """Return the settings that name the files and their columns."""
        paths = {split: str(file) for split, file in self.files.items()}
        files = {"corpus": paths["train"]} if len(paths) == 1 else paths
        return {**files, "column": "text", "label": "label" if self.labelled else None}

    def texts(self, split: str) -> Iterator[str]:
        """Yield the texts of a split.

        Raises:
            RequestError: For what is no text, by its position, and at the end if there was none.
        """
        count, blank = 0, 0
        for text in each_text(self.given[split], _name(split)):
            yield _encodable(text, f"{_name(split)}[{count}]")
            count, blank = count + 1, blank + (not text.strip())
        if count == blank:
            given = self.given[split]
            once = "; what has been read before, such as a generator, is empty" if iter(given) is given else ""
            reason = f"holds {count:,} blank texts alone" if count else f"is empty{once}"
            raise RequestError(f"{_name(split)}: {reason}; give sentences")

    def write(self) -> None:
        """Write the texts, one JSON object a line.

        Raises:
            RequestError: For what is no text or label, by its position, and for a split without text.
            WorkError: If the folder cannot be written.
        """
        for split, file in self.files.items():
            with writing(file):
                file.parent.mkdir(exist_ok=True)
            with replacing(file) as lines:
                for row in self._rows(split):
                    lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def _rows(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split, its texts and labels side by side."""
        name, marks = _name(split, labels=True), self.marks[split]
        labels = None if marks is None else elements(marks, name, "labels")
        if labels is None:
            yield from ({"text": text} for text in self.texts(split))
            return
        pairs: Iterator[tuple[Any, Any]] = zip_longest(self.texts(split), labels, fillvalue=_NOTHING)
        for number, (text, label) in enumerate(pairs):
            if text is _NOTHING or label is _NOTHING:
                found = _counted(marks, number, label is _NOTHING)
                whole = _counted(self.given[split], number, text is _NOTHING)
                raise RequestError(f"{name}: {found} for {whole} texts; give one for each")
            yield {"text": text, "label": _label(label, f"{name}[{number}]")}


def _name(split: str, labels: bool = False) -> str:
    """Return the argument of a split's texts or labels."""
    if labels:
        return "labels" if split == "train" else f"{split}_labels"
    return "texts" if split == "train" else split


def _named(marks: Mapping[str, Any]) -> dict[str, Any]:
    return {_name(split, labels=True): labels for split, labels in marks.items()}


def _refuse_beside(others: Mapping[str, Any]) -> None:
    """Refuse arguments beside finished settings."""
    for name, value in others.items():
        if value is not None:
            raise RequestError(
                f"{name}: the first argument is finished settings; give {name} to textvae.load_settings, or texts"
            )


def _files(given: Mapping[str, Any], marks: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the settings that name files, or a registered corpus."""
    for name, labels in _named(marks).items():
        if labels is not None:
            raise RequestError(f"{name}: are of texts in memory; name the column of a file: data={{'label': NAME}}")
    files = {split: source for split, source in given.items() if source is not None}
    for split, source in files.items():
        if not isinstance(source, Path | str):
            raise RequestError(f"{split}: is a {type(source).__name__}, but texts are a file; give all alike")
    if len(files) == 1:
        return {"corpus": str(files["train"])}
    return {split: str(source) for split, source in files.items()}


def _data(own: Any, sources: Mapping[str, str | None], columns: bool) -> dict[str, Any]:
    """Return the table `data` with these sources of text, and with `columns` these columns, in place of others."""
    if not isinstance(own, Mapping):
        raise RequestError(f"data = {shown(own)}: is no table of settings; texts, or a file of them, come first")
    for name in own:
        if name in SOURCES or (name in COLUMNS and name in sources):
            raise RequestError(f"data.{name}: the texts are given; leave it out")
    return {**dict.fromkeys((*SOURCES, *COLUMNS) if columns else SOURCES), **sources, **own}


def _encodable(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = f"\\u{ord(text[error.start]):04x}"
        raise RequestError(f"{place}: a lone surrogate ({lone}) is not a character; remove it") from None
    return text


def _label(label: Any, place: str) -> str | int | float | bool:
    """Return a label as a value of JSON."""
    value = label.item() if hasattr(label, "item") else label  # of NumPy, and of tensors
    if isinstance(value, str) and value.strip():
        return _encodable(str(value), place)
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise RequestError(f"{place}: {shown(value)} is no label; give a string or a number for each text")


def _counted(given: Any, seen: int, ended: bool) -> str:
    """Return the number of elements, of which `seen` have been read, as far as it is known."""
    if hasattr(given, "__len__"):
        return f"{len(given):,}"
    return f"{seen:,}" if ended else f"{seen + 1:,} or more"
