"""Writing of token stores: sentences become files for each split, streamed, and replaced whole."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from textvae.errors import RequestError, WorkError
from textvae.files import file_digest, replacing
from textvae.text.conditions import Marks
from textvae.text.readers import Sentence
from textvae.text.store import COUNTS, DTYPES, FORMAT, VERSION, TokenStore
from textvae.text.tokenizers import EOS, Tokenizer

_CHUNK = 4096  # sentences encoded and written at once
_MOST_LABELS = 10_000


def write_store(
    folder: Path | str,
    rows: Iterable[tuple[str, Sentence]],
    tokenizer: Tokenizer,
    splits: Sequence[str],
    *,
    max_length: int | None = None,
    too_long: Literal["drop", "cut"] = "drop",
    key: str = "",
    columns: Sequence[str] = (),
) -> dict[str, TokenStore]:
    """Write (split, sentence) pairs as a store, streamed in chunks; `meta.json`, written last, completes it.

    Blank sentences are counted and left out, as are dialogues of one utterance. Sentences with a `turn` are
    utterances, those of a dialogue adjacent: of these all are dropped if one is too long.

    Args:
        folder: Folder of the store.
        rows: Pairs of split and sentence.
        tokenizer: Saved with the store.
        splits: Names of the splits, each of which must come out with a sentence.
        max_length: Limit on tokens, end mark not counted; None for no limit.
        too_long: Treatment of longer sentences.
        key: Identifier kept in `meta.json`, by which `finished` recognises the store.
        columns: Names of the columns of each sentence's `marks`, on which a model is conditioned.

    Raises:
        RequestError: For a split without sentences, and for unusable labels.
        WorkError: If the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "meta.json").unlink(missing_ok=True)  # until it is written again, the store is incomplete
    except OSError as error:
        raise WorkError(f"{folder}: cannot be written: {error.strerror or error}") from error
    tokenizer.save(folder / "tokenizer.json")
    label_names: dict[str, int] = {}
    with ExitStack() as files:
        dtype = DTYPES[0] if len(tokenizer) < 65536 else DTYPES[1]
        marks = Marks(columns)
        writers = {
            split: _SplitWriter(folder / split, files, dtype, label_names, marks, tokenizer) for split in splits
        }
        for chunk in _chunks(rows):
            encoded = tokenizer.encode([sentence.text for _, sentence in chunk])
            for split, writer in writers.items():
                mine = [i for i, (other, _) in enumerate(chunk) if other == split]
                writer.add([chunk[i][1] for i in mine], [encoded[i] for i in mine], max_length, too_long)
        for split, writer in writers.items():
            writer.refuse_empty(split, max_length)
        names = sorted(label_names)
        place = {name: i for i, name in enumerate(names)}
        rank = np.array([place[name] for name in label_names], dtype="<i4")
        marks.refuse_unseen()
        counts = {split: writer.finish(rank) for split, writer in writers.items()}
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "key": key,
        "tokenizer": file_digest(folder / "tokenizer.json"),
        "vocabulary": len(tokenizer),
        "dtype": dtype,
        "label_names": names,
        **({"conditions": marks.names()} if columns else {}),
        "splits": counts,
    }
    with replacing(folder / "meta.json") as file:
        file.write(json.dumps(meta, indent=1).encode())
    return {split: TokenStore.open(folder, split) for split in splits}


class EmptySplit(RequestError):
    """A split that came out without a sentence although there are sentences."""


class _SplitWriter:
    """Writer of the files of one split, which appear under their names when `files` closes."""

    def __init__(
        self,
        path: Path,
        files: ExitStack,
        dtype: str,
        label_names: dict[str, int],
        marks: Marks,
        tokenizer: Tokenizer,
    ) -> None:
        self.path = path
        self.marks = marks
        self.tokenizer = tokenizer
        self.files = files
        self.dtype = dtype
        self.label_names = label_names  # label -> number by first appearance, common to all splits
        self.labels: list[np.ndarray] = []
        self.counts = dict.fromkeys(COUNTS, 0)
        self.shortest = 0  # least limit that would keep a dropped sentence
        self.turns: list[np.ndarray] = []  # first utterance of the dialogue, and speaker, of each utterance
        self.alone = 0  # dialogues of one utterance
        self.ids = _HashedFile(path.with_name(f"{path.name}.ids"), files)
        self.offsets = _HashedFile(path.with_name(f"{path.name}.offsets"), files)
        self.offsets.write(np.zeros(1, dtype="<i8"))

    def add(
        self, sentences: list[Sentence], encoded: list[list[int]], max_length: int | None, too_long: str
    ) -> None:
        kept: list[list[int]] = []
        labels: list[int] = []
        turns: list[tuple[int, int]] = []
        for unit in _units(sentences, encoded):
            first = self.counts["sentences"] + len(kept)
            for sentence, ids in self._fitting(unit, max_length, too_long):
                kept.append([*ids, EOS])
                self.marks.add(self.path.name, sentence.marks)
                if sentence.label is not None:
                    labels.append(self.label_names.setdefault(sentence.label, len(self.label_names)))
                if sentence.turn is not None:
                    turns.append((first, sentence.turn.speaker))
        if labels and len(labels) != len(kept):
            raise RequestError(f"data.label: some sentences of {self.path.name} have a label and some have none")
        if len(self.label_names) > _MOST_LABELS:
            raise RequestError(f"data.label: over {_MOST_LABELS} different labels; is it the right column?")
        if not kept:
            return
        lengths = np.fromiter(map(len, kept), dtype="<i8", count=len(kept))
        self.ids.write(np.fromiter(chain.from_iterable(kept), dtype=self.dtype, count=int(lengths.sum())))
        self.offsets.write(self.counts["tokens"] + np.cumsum(lengths))
        self.labels.append(np.array(labels, dtype="<i4"))
        if turns:
            self.turns.append(np.array(turns, dtype="<i4"))
        self.counts["sentences"] += len(kept)
        self.counts["tokens"] += int(lengths.sum())

    def _fitting(self, unit: "_Encoded", max_length: int | None, too_long: str) -> "_Encoded":
        """Return what is kept of sentences that belong together, cut if they are to be, and count the rest."""
        filled = [(sentence, ids) for sentence, ids in unit if ids]
        self.counts["blank"] += len(unit) - len(filled)
        if len(filled) == 1 and filled[0][0].turn is not None:
            self.alone += 1
            return []
        longest = max((len(ids) for _, ids in filled), default=0)
        if max_length is None or longest <= max_length:
            return filled
        if too_long == "drop":
            self.counts["dropped"] += 1
            self.shortest = min(self.shortest or longest, longest)
            return []
        self.counts["cut"] += sum(len(ids) > max_length for _, ids in filled)
        return [
            (sentence, self.tokenizer.beginning(ids, max_length) if len(ids) > max_length else ids)
            for sentence, ids in filled
        ]

    def refuse_empty(self, split: str, max_length: int | None) -> None:
        if self.counts["sentences"]:
            return
        if self.counts["dropped"]:
            raise RequestError(
                f"data.max_length: {max_length} drops every sentence of {split}, the shortest of which has "
                f"{self.shortest} tokens; set at least {self.shortest}, or data.too_long = 'cut'"
            )
        remedy = "" if split == "train" else f", a larger data.split.{split}, or a file of its own"
        raise EmptySplit(f"data: the {split} split came out empty; give more sentences{remedy}")

    def finish(self, rank: np.ndarray) -> dict[str, Any]:
        """Write the labels, numbered in alphabetical order, and return the split's entry of `meta.json`."""
        labels = np.concatenate(self.labels)
        if len(labels) not in (0, self.counts["sentences"]):
            raise RequestError(f"data.label: some sentences of {self.path.name} have a label and some have none")
        entry: dict[str, Any] = {**self.counts, "labels": len(labels) > 0}
        if len(labels):
            file = _HashedFile(self.path.with_name(f"{self.path.name}.labels"), self.files)
            file.write(rank[labels])
            entry["label_hash"] = file.hash.hexdigest()
        if self.marks.columns:
            file = _HashedFile(self.path.with_name(f"{self.path.name}.conditions"), self.files)
            file.write(self.marks.values(self.path.name))
            entry["condition_hash"] = file.hash.hexdigest()
        if self.turns:
            file = _HashedFile(self.path.with_name(f"{self.path.name}.turns"), self.files)
            file.write(np.concatenate(self.turns))
            first = np.concatenate(self.turns)[:, 0]
            entry |= {"dialogues": len(np.unique(first)), "alone": self.alone, "turn_hash": file.hash.hexdigest()}
        both = self.ids.hash.digest() + self.offsets.hash.digest()
        return {**entry, "fingerprint": hashlib.sha256(both).hexdigest()}


class _HashedFile:
    """A file written through `replacing` and hashed while it is written."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        self.path = path
        self.file: BinaryIO = files.enter_context(replacing(path))
        self.hash = hashlib.sha256()

    def write(self, array: np.ndarray) -> None:
        data = array.tobytes()
        self.hash.update(data)
        try:
            self.file.write(data)
        except OSError as error:  # raised here, where the file is known
            raise WorkError(f"{self.path}: cannot be written: {error.strerror or error}") from error


_Encoded = list[tuple[Sentence, list[int]]]


def _units(sentences: list[Sentence], encoded: list[list[int]]) -> Iterator[_Encoded]:
    """Yield the utterances of each dialogue together, and other sentences one by one."""
    unit: _Encoded = []
    for sentence, ids in zip(sentences, encoded, strict=True):
        if unit and not _continues(sentence):
            yield unit
            unit = []
        unit.append((sentence, ids))
    if unit:
        yield unit


def _continues(sentence: Sentence) -> bool:
    """Return True for an utterance that is not the first of its dialogue."""
    return sentence.turn is not None and sentence.turn.place > 0


def _chunks(rows: Iterable[tuple[str, Sentence]]) -> Iterator[list[tuple[str, Sentence]]]:
    """Yield runs of rows, bounded in number and in characters, but for the rest of a dialogue."""
    chunk: list[tuple[str, Sentence]] = []
    characters = 0
    for row in rows:
        if (len(chunk) >= _CHUNK or characters > _CHUNK * 64) and not _continues(row[1]):
            yield chunk
            chunk, characters = [], 0
        chunk.append(row)
        characters += len(row[1].text)
    yield chunk
