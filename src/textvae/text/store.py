"""Token ids on disk: memory-mapped files for each split, as `writing` leaves them."""

import hashlib
import json
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.text.conditions import LabelColumns, LabelNames
from textvae.text.tokenizers import EOS

FORMAT, VERSION = "textvae token store", 1
DTYPES = ("<u2", "<i4")
COUNTS = ("sentences", "tokens", "dropped", "cut", "blank")
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
        conditions: Labels on which a model is conditioned, or None.
        condition_hash: SHA-256 of these, or None.
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
        conditions: LabelColumns | None = None,
    ) -> None:
        self.ids = ids
        self.starts = offsets[:-1]
        self.lengths = np.diff(offsets)
        self.labels = labels
        self.label_names = label_names
        self.fingerprint: str = counts["fingerprint"]
        self.label_hash: str | None = counts.get("label_hash")
        self.conditions = conditions
        self.condition_hash: str | None = counts.get("condition_hash")
        self.counts = {name: counts[name] for name in COUNTS}

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
        names, conditions = LabelNames(meta["conditions"]), None
        if names:
            values = _mapped(folder / f"{split}.conditions", "<i4", counts["sentences"] * len(names))
            conditions = LabelColumns(values.reshape(-1, len(names)), names)
        store = cls(ids, offsets, labels, counts, meta["label_names"], conditions)
        if offsets[0] != 0 or offsets[-1] != len(ids) or store.lengths.min() < 1:
            raise RequestError(f"{folder / split}.offsets: damaged; delete {folder} and build it again")
        if labels is not None and not 0 <= labels.min() <= labels.max() < len(store.label_names):
            raise RequestError(f"{folder / split}.labels: damaged; delete {folder} and build it again")
        if conditions is not None and not conditions.valid:
            raise RequestError(f"{folder / split}.conditions: damaged; delete {folder} and build it again")
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
        pieces.conditions, pieces.condition_hash = None, None
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

    Earlier versions recorded no `label_hash`, and no conditions.
    """
    ids, offsets, labels = (path.with_name(f"{path.name}.{suffix}") for suffix in ("ids", "offsets", "labels"))
    both = bytes.fromhex(file_digest(ids)) + bytes.fromhex(file_digest(offsets))
    if hashlib.sha256(both).hexdigest() != counts["fingerprint"]:
        return False
    kept = {
        labels: counts.get("label_hash"),
        path.with_name(f"{path.name}.conditions"): counts.get("condition_hash"),
    }
    return all(digest is None or digest == file_digest(file) for file, digest in kept.items())


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    if not path.exists():
        raise RequestError(f"{folder}: no complete token store (meta.json is missing); build it again")
    try:
        meta = json.loads(path.read_bytes())
        if meta["format"] != FORMAT:
            raise ValueError(meta["format"])
        version = int(meta["version"])
        table = {name: meta[name] for name in ("key", "tokenizer", "dtype", "label_names", "splits")}
        table["conditions"] = meta.get("conditions", {})
        if table["dtype"] not in DTYPES:  # NumPy has types that would read file bytes as pointers
            raise ValueError(table["dtype"])
        if not all(isinstance(name, str) for name in table["label_names"]):
            raise TypeError("label_names")
        if not all(isinstance(name, str) for names in table["conditions"].values() for name in names):
            raise TypeError("conditions")
        for counts in table["splits"].values():
            if not isinstance(counts["fingerprint"], str) or not isinstance(counts["labels"], bool):
                raise TypeError("fingerprint, labels")
            if not all(isinstance(counts[name], int) and 0 <= counts[name] < 2**62 for name in COUNTS):
                raise TypeError("counts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path}: not the table of a token store; delete {folder} and build it again") from error
    if version != VERSION:
        raise RequestError(
            f"{path}: format {version}, this program reads {VERSION}; delete {folder} and build it again"
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
