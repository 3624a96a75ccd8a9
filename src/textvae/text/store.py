"""Token ids on disk: memory-mapped files for each split, written as a stream and replaced whole."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from textvae.errors import RequestError, WorkError
from textvae.files import file_digest, replacing
from textvae.text.readers import Sentence
from textvae.text.tokenizers import EOS, Tokenizer

_FORMAT, _VERSION = "textvae token store", 1
_CHUNK = 4096  # sentences encoded and written at once
_MOST_LABELS = 10_000
_DTYPES = ("<u2", "<i4")
_COUNTS = ("sentences", "tokens", "dropped", "cut", "blank")
# Random stream of the positions of pieces, distinct from that of the order of batches.
_POSITIONS = 4


def spaced(sentences: int, wanted: int) -> np.ndarray:
    """Return the indices of up to `wanted` sentences, evenly spaced because files may be sorted."""
    return np.unique(np.linspace(0, sentences - 1, min(wanted, sentences)).astype(np.int64))


class TokenStore:
    """One split of a corpus as token ids in memory-mapped files; `store[i]` is a sentence with its end mark.

    Attributes:
        ids: Token ids of all sentences, concatenated.
        starts: Offset of each sentence in `ids`.
        lengths: Tokens of each sentence, end mark included.
        labels: Indices into `label_names`, or None.
        fingerprint: SHA-256 of all ids and sentence boundaries.
        label_hash: SHA-256 of the labels, or None.
        counts: Numbers of sentences and tokens, and of sentences that were dropped, cut or blank.
        window: Length of a piece, or None. In a store of `pieces` a piece takes the place of a sentence.
    """

    window: int | None = None

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        labels: np.ndarray | None,
        counts: dict[str, Any],
        label_names: list[str],
    ) -> None:
        self.ids = ids
        self.starts = offsets[:-1]
        self.lengths = np.diff(offsets)
        self.labels = labels
        self.label_names = label_names
        self.fingerprint: str = counts["fingerprint"]
        self.label_hash: str | None = counts.get("label_hash")
        self.counts = {name: counts[name] for name in _COUNTS}

    @classmethod
    def open(cls, folder: Path | str, split: str) -> "TokenStore":
        """Map one split of a finished store.

        Raises:
            RequestError: If there is no such split, or the store is unfinished, truncated, foreign or of another
            format.
        """
        folder = Path(folder)
        meta = _meta(folder)
        if split not in meta["splits"]:
            raise RequestError(f"{folder}: no split {split!r}; there are {', '.join(meta['splits'])}")
        counts = meta["splits"][split]
        ids = _mapped(folder / f"{split}.ids", meta["dtype"], counts["tokens"])
        offsets = _mapped(folder / f"{split}.offsets", "<i8", counts["sentences"] + 1)
        labels = _mapped(folder / f"{split}.labels", "<i4", counts["sentences"]) if counts["labels"] else None
        store = cls(ids, offsets, labels, counts, meta["label_names"])
        if offsets[0] != 0 or offsets[-1] != len(ids) or store.lengths.min() < 1:
            raise RequestError(f"{folder / split}.offsets: damaged; delete {folder} and build it again")
        if labels is not None and not 0 <= labels.min() <= labels.max() < len(store.label_names):
            raise RequestError(f"{folder / split}.labels: damaged; delete {folder} and build it again")
        return store

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> np.ndarray:
        if not -len(self) <= i < len(self):
            raise IndexError(f"sentence {i} of {len(self)}")
        i %= len(self)
        return self.ids[self.starts[i] : self.starts[i] + self.lengths[i]]

    def sentences(self, rows: np.ndarray | None = None) -> list[list[int]]:
        """Return the ids of all sentences, or of the given rows, as lists, end marks included."""
        return [self[row].tolist() for row in (range(len(self)) if rows is None else rows.tolist())]

    def pieces(self, window: int) -> "TokenStore":
        """Return the running text in pieces of `window` tokens: sentences with their end marks, concatenated.

        Pieces are adjacent and cover every token once; the last one may be shorter. They share the memory-mapped
        ids. A piece has no label, and no end mark but those of the text.
        """
        pieces = copy(self)
        pieces.window = window
        pieces.starts = np.arange(0, len(self.ids), window)
        pieces.lengths = np.minimum(window, len(self.ids) - pieces.starts)
        pieces.labels, pieces.label_names, pieces.label_hash = None, [], None
        pieces.fingerprint = fingerprint_of_pieces(self.fingerprint, window)
        pieces.counts = {**self.counts, "sentences": len(pieces.starts)}
        return pieces

    def drawn(self, seed: int, epoch: int) -> "TokenStore":
        """Return the training data of one epoch: pieces of full length at positions drawn uniformly over the text.

        There are as many as in the store. They depend on (seed, epoch) alone and may overlap. A store of sentences
        is returned unchanged.

        References:
            Semeniuta et al. 2017, section 4; they draw the pieces of validation too.
        """
        if self.window is None:
            return self
        pieces = copy(self)
        random = np.random.default_rng([seed, epoch, _POSITIONS])
        pieces.starts = random.integers(len(self.ids) - self.window + 1, size=len(self))
        pieces.lengths = np.full(len(self), self.window)
        return pieces

    def end_marks(self, rows: np.ndarray) -> int:
        """Return the number of end marks in the given rows: one a sentence, any number in a piece."""
        marks = np.flatnonzero(self.ids == EOS)
        begin = self.starts[rows]
        before, by_the_end = np.searchsorted(marks, begin), np.searchsorted(marks, begin + self.lengths[rows])
        return int((by_the_end - before).sum())


def write_store(
    folder: Path | str,
    rows: Iterable[tuple[str, Sentence]],
    tokenizer: Tokenizer,
    splits: Sequence[str],
    *,
    max_length: int | None = None,
    too_long: Literal["drop", "cut"] = "drop",
    key: str = "",
) -> dict[str, TokenStore]:
    """Write (split, sentence) pairs as a store, streamed in chunks; `meta.json`, written last, completes it.

    Blank sentences are counted and left out.

    Args:
        folder: Folder of the store.
        rows: Pairs of split and sentence.
        tokenizer: Saved with the store.
        splits: Names of the splits, each of which must come out with a sentence.
        max_length: Limit on tokens, end mark not counted; None for no limit.
        too_long: Treatment of longer sentences.
        key: Identifier kept in `meta.json`, by which `finished` recognises the store.

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
        dtype = _DTYPES[0] if len(tokenizer) < 65536 else _DTYPES[1]
        writers = {split: _SplitWriter(folder / split, files, dtype, label_names, tokenizer) for split in splits}
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
        counts = {split: writer.finish(rank) for split, writer in writers.items()}
    meta = {
        "format": _FORMAT,
        "version": _VERSION,
        "key": key,
        "tokenizer": file_digest(folder / "tokenizer.json"),
        "vocabulary": len(tokenizer),
        "dtype": dtype,
        "label_names": names,
        "splits": counts,
    }
    with replacing(folder / "meta.json") as file:
        file.write(json.dumps(meta, indent=1).encode())
    return {split: TokenStore.open(folder, split) for split in splits}


def finished(folder: Path | str, key: str | None = None) -> dict[str, TokenStore] | None:
    """Return the splits of an intact, finished store, and with a key only if it was written with it; else None.

    A store is intact if its files have the digests recorded when they were written; a damaged one is built again.
    """
    folder = Path(folder)
    try:
        meta = _meta(folder)
        if key not in (None, meta["key"]) or meta["tokenizer"] != file_digest(folder / "tokenizer.json"):
            return None
        stores = {split: TokenStore.open(folder, split) for split in meta["splits"]}
        return stores if all(_intact(folder / split, meta["splits"][split]) for split in stores) else None
    except RequestError:
        return None


def fingerprints(folder: Path) -> dict[str, str]:
    """Return the fingerprints of the splits of a finished store; none if there is no such store."""
    try:
        return {split: counts["fingerprint"] for split, counts in _meta(folder)["splits"].items()}
    except RequestError:
        return {}


def fingerprint_of_pieces(fingerprint: str, window: int) -> str:
    """Return the fingerprint of the pieces of a running text with a fingerprint."""
    return hashlib.sha256(f"{fingerprint} {window}".encode()).hexdigest()


def _intact(path: Path, counts: dict[str, Any]) -> bool:
    """Return True if the files of a split have their recorded digests.

    Earlier versions recorded no `label_hash`.
    """
    ids, offsets, labels = (path.with_name(f"{path.name}.{suffix}") for suffix in ("ids", "offsets", "labels"))
    both = bytes.fromhex(file_digest(ids)) + bytes.fromhex(file_digest(offsets))
    if hashlib.sha256(both).hexdigest() != counts["fingerprint"]:
        return False
    label_hash = counts.get("label_hash")
    return label_hash is None or label_hash == file_digest(labels)


class EmptySplit(RequestError):
    """A split that came out without a sentence although there are sentences."""


class _SplitWriter:
    """Writer of the files of one split, which appear under their names when `files` closes."""

    def __init__(
        self, path: Path, files: ExitStack, dtype: str, label_names: dict[str, int], tokenizer: Tokenizer
    ) -> None:
        self.path = path
        self.tokenizer = tokenizer
        self.files = files
        self.dtype = dtype
        self.label_names = label_names  # label -> number by first appearance, common to all splits
        self.labels: list[np.ndarray] = []
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.shortest = 0  # tokens of the shortest dropped sentence
        self.ids = _HashedFile(path.with_name(f"{path.name}.ids"), files)
        self.offsets = _HashedFile(path.with_name(f"{path.name}.offsets"), files)
        self.offsets.write(np.zeros(1, dtype="<i8"))

    def add(
        self, sentences: list[Sentence], encoded: list[list[int]], max_length: int | None, too_long: str
    ) -> None:
        kept: list[list[int]] = []
        labels: list[int] = []
        for sentence, ids in zip(sentences, encoded, strict=True):
            if not ids:
                self.counts["blank"] += 1
                continue
            if max_length is not None and len(ids) > max_length:
                if too_long == "drop":
                    self.counts["dropped"] += 1
                    self.shortest = min(self.shortest or len(ids), len(ids))
                    continue
                self.counts["cut"] += 1
                ids = self.tokenizer.beginning(ids, max_length)
            kept.append([*ids, EOS])
            if sentence.label is not None:
                labels.append(self.label_names.setdefault(sentence.label, len(self.label_names)))
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
        self.counts["sentences"] += len(kept)
        self.counts["tokens"] += int(lengths.sum())

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


def _chunks(rows: Iterable[tuple[str, Sentence]]) -> Iterator[list[tuple[str, Sentence]]]:
    """Yield runs of rows, bounded in number and in characters."""
    chunk: list[tuple[str, Sentence]] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row[1].text)
        if len(chunk) == _CHUNK or characters > _CHUNK * 64:
            yield chunk
            chunk, characters = [], 0
    yield chunk


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    if not path.exists():
        raise RequestError(f"{folder}: no complete token store (meta.json is missing); build it again")
    try:
        meta = json.loads(path.read_bytes())
        if meta["format"] != _FORMAT:
            raise ValueError(meta["format"])
        version = int(meta["version"])
        table = {name: meta[name] for name in ("key", "tokenizer", "dtype", "label_names", "splits")}
        if table["dtype"] not in _DTYPES:  # NumPy has types that would read file bytes as pointers
            raise ValueError(table["dtype"])
        if not all(isinstance(name, str) for name in table["label_names"]):
            raise TypeError("label_names")
        for counts in table["splits"].values():
            if not isinstance(counts["fingerprint"], str) or not isinstance(counts["labels"], bool):
                raise TypeError("fingerprint, labels")
            if not all(isinstance(counts[name], int) and 0 <= counts[name] < 2**62 for name in _COUNTS):
                raise TypeError("counts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path}: not the table of a token store; delete {folder} and build it again") from error
    if version != _VERSION:
        raise RequestError(
            f"{path}: format {version}, this program reads {_VERSION}; delete {folder} and build it again"
        )
    return table


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    expected = np.dtype(dtype).itemsize * count
    size = path.stat().st_size if path.is_file() else 0
    if size != expected or not size:
        raise RequestError(
            f"{path}: {size} bytes, expected {expected}; delete {path.parent} and build the store again"
        )
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,)))
