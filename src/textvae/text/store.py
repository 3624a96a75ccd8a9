"""Token ids on disk: memory-mapped files for each split, as `writing` leaves them."""

import hashlib
import json
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.text.conditions import LabelColumns, LabelNames, Labels, TurnColumns, Turns
from textvae.text.tokenizers import EOS

FORMAT, VERSION = "textvae token store", 1
DTYPES = ("<u2", "<i4")
COUNTS = ("sentences", "tokens", "dropped", "cut", "blank")
# Counts that only dialogues have: dialogues, those left out because they are a single utterance, utterances.
DIALOGUE_COUNTS = ("dialogues", "alone", "utterances")
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
        dialogues: For each utterance of dialogues the first one of its dialogue, and its speaker's number, (n, 2);
            None for other sentences, and for `responses`.
        turn_hash: SHA-256 of these, or None.
        turns: What precedes each sentence of a store of `responses`, or None.
        counts: Numbers of sentences and tokens, and of sentences that were dropped, cut or blank.
        window: Length of a piece, or None. In a store of `pieces` a piece takes the place of a sentence.
    """

    window: int | None = None
    turns: TurnColumns | None = None

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        labels: np.ndarray | None,
        counts: dict[str, Any],
        label_names: list[str],
        conditions: LabelColumns | None = None,
        dialogues: np.ndarray | None = None,
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
        self.dialogues = dialogues
        self.turn_hash: str | None = counts.get("turn_hash")
        self.counts = {name: counts[name] for name in (*COUNTS, *DIALOGUE_COUNTS) if name in counts}

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
        turns = None
        if "turn_hash" in counts:
            turns = _mapped(folder / f"{split}.turns", "<i4", counts["sentences"] * 2).reshape(-1, 2)
        store = cls(ids, offsets, labels, counts, meta["label_names"], conditions, turns)
        if offsets[0] != 0 or offsets[-1] != len(ids) or store.lengths.min() < 1:
            raise RequestError(f"{folder / split}.offsets: damaged; delete {folder} and build it again")
        if labels is not None and not 0 <= labels.min() <= labels.max() < len(store.label_names):
            raise RequestError(f"{folder / split}.labels: damaged; delete {folder} and build it again")
        if conditions is not None and not conditions.valid:
            raise RequestError(f"{folder / split}.conditions: damaged; delete {folder} and build it again")
        if turns is not None and not _sound(turns):
            raise RequestError(f"{folder / split}.turns: damaged; delete {folder} and build it again")
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
        pieces.dialogues = pieces.turn_hash = None
        pieces.counts = {name: self.counts[name] for name in COUNTS} | {"sentences": len(pieces.starts)}
        return pieces

    def responses(self, window: int) -> "TokenStore":
        """Return the utterances with others before them in their dialogue: sentences conditioned on these.

        The context of a response is up to `window` - 1 utterances. Contexts are read from the memory-mapped ids, so
        a store of responses takes no more memory for a larger window. Its `tokens` are those of responses.

        Raises:
            RequestError: If the sentences are not those of dialogues.
        """
        if self.dialogues is None:
            raise RequestError("responses: the text has no dialogues; name their columns (data.dialogue)")
        responses = copy(self)
        first, speakers = self.dialogues.T
        rows = np.flatnonzero(first < np.arange(len(first)))
        responses.turns = TurnColumns(self.ids, self.starts, self.lengths, first, speakers, rows, window)
        responses.starts, responses.lengths = self.starts[rows], self.lengths[rows]
        responses.labels = None if self.labels is None else self.labels[rows]
        responses.conditions = responses.condition_hash = responses.dialogues = None
        assert self.turn_hash is not None
        responses.fingerprint = fingerprint_of_responses(self.fingerprint, self.turn_hash, window)
        tokens = {"sentences": len(rows), "tokens": int(responses.lengths.sum())}
        responses.counts = {**self.counts, **tokens, "utterances": len(self)}
        return responses

    @property
    def given(self) -> str | None:
        """Name of the conditions in signatures: columns of labels, or `turns`; None without conditions."""
        return "+".join(self.conditions.names) if self.conditions is not None else "turns" if self.turns else None

    def condition(self, rows: np.ndarray) -> Labels | Turns | None:
        """Return the conditions of the given rows as a batch has them; None for a text without conditions."""
        own = self.conditions if self.turns is None else self.turns
        return None if own is None else own.at(rows)

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


def fingerprints(folder: Path, window: int | None = None, responses: int | None = None) -> dict[str, str]:
    """Return the fingerprints of the splits of a finished store; none if there is no such store.

    Args:
        folder: Folder of the store.
        window: Length of the `pieces` whose fingerprints are asked for, instead of those of sentences.
        responses: Window of the `responses` whose fingerprints are asked for; none if there are no dialogues.
    """
    try:
        splits = _meta(folder)["splits"]
    except RequestError:
        return {}
    if responses is not None:
        return {
            split: fingerprint_of_responses(counts["fingerprint"], counts["turn_hash"], responses)
            for split, counts in splits.items()
            if "turn_hash" in counts
        }
    own = {split: counts["fingerprint"] for split, counts in splits.items()}
    if window is None:
        return own
    return {split: fingerprint_of_pieces(whole, window) for split, whole in own.items()}


def fingerprint_of_pieces(fingerprint: str, window: int) -> str:
    """Return the fingerprint of the pieces of a running text with a fingerprint."""
    return hashlib.sha256(f"{fingerprint} {window}".encode()).hexdigest()


def fingerprint_of_responses(fingerprint: str, turn_hash: str, window: int) -> str:
    """Return the fingerprint of the responses in dialogues with these fingerprints of utterances and turns."""
    return hashlib.sha256(f"{fingerprint} {turn_hash} {window}".encode()).hexdigest()


def _sound(turns: np.ndarray) -> bool:
    """Return True if utterances of a dialogue are adjacent, name its first one, and have speakers."""
    first, speakers = turns.T
    rows = np.arange(len(first))
    begins = first == rows
    return bool(begins[0] and (begins[1:] | (first[1:] == first[:-1])).all() and speakers.min() >= 0)


def _intact(path: Path, counts: dict[str, Any]) -> bool:
    """Return True if the files of a split have their recorded digests.

    Earlier versions recorded no `label_hash`, no conditions and no turns.
    """
    ids, offsets = (path.with_name(f"{path.name}.{suffix}") for suffix in ("ids", "offsets"))
    both = bytes.fromhex(file_digest(ids)) + bytes.fromhex(file_digest(offsets))
    if hashlib.sha256(both).hexdigest() != counts["fingerprint"]:
        return False
    kept = {"labels": "label_hash", "conditions": "condition_hash", "turns": "turn_hash"}
    return all(
        counts[name] == file_digest(path.with_name(f"{path.name}.{suffix}"))
        for suffix, name in kept.items()
        if counts.get(name) is not None
    )


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
            if not isinstance(counts.get("turn_hash", ""), str):
                raise TypeError("turn_hash")
            if not all(isinstance(counts.get(name, 0), int) for name in DIALOGUE_COUNTS):
                raise TypeError("counts of dialogues")
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
