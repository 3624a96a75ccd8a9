"""Batches: a corpus becomes a token store, and a store yields batches of similar lengths."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textvae.errors import RequestError
from textvae.text.conditions import Labels, Turns
from textvae.text.dialogues import DialogueColumns, Unit
from textvae.text.sources import Columns, Source, key_of, units_of
from textvae.text.splits import assigned_split, split_words
from textvae.text.store import TokenStore, finished
from textvae.text.tokenizers import BOS, EOS, PAD, UNK, Tokenizer
from textvae.text.writing import EmptySplit, write_store

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Batch",
    "TokenStore",
    "assigned_split",
    "build",
    "collate",
    "epoch_batches",
    "equal_length_batches",
    "evaluation_batches",
    "padded",
    "write_store",
]

SPLITS = ("train", "valid", "test")

_POOL = 100  # batches among which sentences are sorted by length


class Batch(NamedTuple):
    """A padded batch of sentences.

    A piece of running text is w1 ... wn, with end marks wherever lines end in it, and its length is n.

    Attributes:
        ids: Targets, (batch, time). A row is w1 ... wn `<eos>` `<pad>` ...; the decoder shifts them right itself.
        lengths: Tokens, n + 1 with the end mark and without padding, (batch,).
        index: Number of each sentence in its split, (batch,).
        condition: What the model is conditioned on, one row for each sentence, or the vectors that it has computed
            of it, (batch, size); None without conditions.
    """

    ids: Int[Tensor, "batch time"]
    lengths: Int[Tensor, "batch"]
    index: Int[Tensor, "batch"]  # type: ignore[assignment]  # hides tuple.index, which is not used
    condition: Labels | Turns | Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        condition = None if self.condition is None else self.condition.to(device)
        return Batch(self.ids.to(device), self.lengths.to(device), self.index.to(device), condition)


def build(
    folder: Path | str,
    sources: Mapping[str, Source],
    *,
    tokenizer: str = "word",
    vocabulary: int | None = None,
    min_count: int = 1,
    lowercase: bool = False,
    column: str | int | None = None,
    label: str | int | None = None,
    condition_on: Mapping[str, str | int] | None = None,
    source: str | int | None = None,
    dialogue: DialogueColumns | None = None,
    max_length: int | None = None,
    too_long: Literal["drop", "cut"] = "drop",
    valid: float = 0.05,
    test: float = 0.05,
    seed: int = 0,
    right_to_left: bool = False,
    vocabulary_of: Path | None = None,
) -> dict[str, TokenStore]:
    """Build a finished store folder from sentences: `tokenizer.json`, the splits' files, and `meta.json` last.

    `sources` names a file or a list of sentences for `train` and optionally `valid` and `test`. With `train` alone,
    `assigned_split` distributes its sentences by the shares `valid` and `test`; 0 leaves a split out. The
    vocabulary is learned from train alone, including sentences that are too long (see `Tokenizer.train`), unless
    `vocabulary_of` gives a `tokenizer.json` to use unchanged. `column` and `label` are as in `read`. Sentences of
    more than `max_length` tokens, the end mark not counted, are dropped or cut. With `right_to_left` the tokens of
    each are stored in reverse, the end mark still last.

    A model is conditioned on one of three: `condition_on`, further columns of labels by name; `source`, a column of
    texts; and `dialogue`, columns of dialogues, for the utterances before each. Sources and dialogues are stored as
    utterances: see `TokenStore.responses`. All texts of a dialogue are in one split, and all targets of a source; a
    source and its target are dropped together.

    A finished store made from the same bytes with the same arguments is used again; anything else in its place is
    replaced. Only one process at a time may build into a folder.

    Raises:
        RequestError: For unusable sources, and for a split without sentences.
        WorkError: If the folder cannot be written.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("folder", "sources")}
    given = {split: text for split in SPLITS if (text := sources.get(split)) is not None}
    _check(sources, given, arguments)
    key = key_of(given, arguments)
    splits = list(given) if len(given) > 1 else ["train", *["valid"] * (valid > 0), *["test"] * (test > 0)]
    if (stores := finished(folder, key)) is not None and list(stores) == splits:
        return stores
    columns = Columns(column, label, condition_on, source, dialogue)
    units = partial(_units_by_split, given, columns, valid, test, seed)

    if vocabulary_of is not None:
        trained = Tokenizer.load(vocabulary_of, right_to_left)
    else:
        own = (unit for split, unit in units() if split == "train" and not unit.alone)
        training = (sentence.text for unit in own for sentence in unit.sentences if sentence.text)
        trained = Tokenizer.train(tokenizer, training, vocabulary, min_count, lowercase, right_to_left)
    of_texts: dict[str, Any] = {"max_length": max_length, "too_long": too_long}
    try:
        rows = ((split, sentence) for split, unit in units() for sentence in unit.sentences)
        return write_store(folder, rows, trained, splits, key=key, columns=tuple(condition_on or ()), **of_texts)
    except EmptySplit as error:
        if len(given) == 1:
            _refuse_copies(error, columns, [unit.key for _, unit in units() if unit.key])
        raise


def _units_by_split(
    given: Mapping[str, Source], columns: Columns, valid: float, test: float, seed: int
) -> Iterator[tuple[str, Unit]]:
    """Yield the units of all sources with their splits, those of a single source by their keys."""
    for split, source in given.items():
        for unit in units_of(source, columns):
            assigned = len(given) == 1 and unit.key
            yield assigned_split(unit.key, valid, test, seed) if assigned else split, unit


def _refuse_copies(error: EmptySplit, columns: Columns, keys: list[str]) -> None:
    """Refuse a single source with an empty split because many units are equal, as far as that is the reason."""
    different = len(set(map(split_words, keys)))
    if different < len(keys):
        what = "dialogues" if columns.dialogue else "sources" if columns.source is not None else "sentences"
        raise RequestError(
            f"{error}; of {len(keys):,} {what} {different:,} are different, and equal ones share a split"
        ) from None


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one epoch as sentence numbers: shuffled by (seed, epoch), similar lengths together.

    n sentences give ceil(n / batch_size) batches whose sizes differ by at most one, so that no short last batch
    disturbs a batch statistic. All sentences are permuted, cut into pools of about 100 batches and sorted by length
    within a pool; the batches then come in random order. They are the batches of the whole job, not of one process.

    Raises:
        RequestError: For a batch size below 1.
    """
    if batch_size < 1:
        raise RequestError(f"train.batch_size: {batch_size} is too small; give 1 or more")
    n = len(lengths)
    random = np.random.default_rng([seed % 2**64, epoch])
    order = random.permutation(n)
    batches = -(-n // batch_size)
    edges = np.arange(batches + 1) * n // max(batches, 1)
    pools = -(-batches // _POOL)
    for start, end in _pairs(edges[np.arange(pools + 1) * batches // max(pools, 1)]):
        pool = order[start:end]
        order[start:end] = pool[np.argsort(lengths[pool], kind="stable")]
    cuts = _pairs(edges)
    return [order[cuts[i][0] : cuts[i][1]] for i in random.permutation(batches).tolist()]


def equal_length_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one epoch as sentence numbers, each of one length, shuffled by (seed, epoch).

    The n sentences of a length form ceil(n / batch_size) batches whose sizes differ by at most one, so a rare
    length has a small batch. Every epoch has the same number of batches. They are the batches of the whole job.

    Raises:
        RequestError: For a batch size below 1.
    """
    if batch_size < 1:
        raise RequestError(f"train.batch_size: {batch_size} is too small; give 1 or more")
    random = np.random.default_rng([seed % 2**64, epoch])
    order = random.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches: list[np.ndarray] = []
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else ():
        batches += np.array_split(same, -(-len(same) // batch_size))
    return [batches[i] for i in random.permutation(len(batches)).tolist()]


def evaluation_batches(store: TokenStore, tokens: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
    """Yield every sentence (or each of `rows`) once, longest first, in batches of at most `tokens` ids.

    Padding counts among the ids, and so do the tokens of contexts. A single sentence longer than that is a batch of
    its own.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    for at in evaluation_places(store, tokens, rows):
        yield collate(store, rows[at])


def evaluation_places(store: TokenStore, tokens: int, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the positions in `rows` of each batch that `evaluation_batches` makes of them."""
    order = np.argsort(-store.lengths[rows], kind="stable")
    contexts = None if store.turns is None else store.turns.tokens(rows[order])
    start = 0
    while start < len(order):
        longest = int(store.lengths[rows[order[start]]])
        size = max(1, tokens // longest)
        if contexts is not None:
            read = (
                np.cumsum(contexts[start : start + size]) + longest * np.arange(1, size + 1)[: len(order) - start]
            )
            size = max(1, int(np.searchsorted(read, tokens, side="right")))
        yield order[start : start + size]
        start += size


def collate(store: TokenStore, rows: np.ndarray, pad_to: int | None = None) -> Batch:
    """Return the sentences `rows` as one batch, padded to the longest of them, or to `pad_to` tokens.

    Raises:
        RequestError: If `pad_to` is shorter than a sentence with its end mark.
    """
    rows = np.asarray(rows, dtype=np.int64)
    lengths = store.lengths[rows]
    longest = int(lengths.max(initial=0))
    width = longest if pad_to is None else pad_to
    if width < longest:
        raise RequestError(f"pad_to: {pad_to} is shorter than a sentence of {longest} tokens, end mark included")
    steps = np.arange(width)
    inside = steps < lengths[:, None]
    ids = np.full((len(rows), width), PAD, dtype=np.int64)
    ids[inside] = store.ids[(store.starts[rows][:, None] + steps)[inside]]
    index = torch.from_numpy(rows.copy())
    return Batch(torch.from_numpy(ids), torch.from_numpy(lengths), index, store.condition(rows))


def padded(sentences: Sequence[list[int]], index: Sequence[int]) -> Batch:
    """Return sentences, as ids with end marks, in one batch padded to the longest; `index` gives their numbers."""
    rows = [torch.tensor(ids) for ids in sentences]
    lengths = torch.tensor([len(row) for row in rows])
    return Batch(pad_sequence(rows, batch_first=True, padding_value=PAD), lengths, torch.tensor(index))


def _check(sources: Mapping[str, Source], given: Mapping[str, Source], arguments: Mapping[str, Any]) -> None:
    if unknown := set(sources) - set(SPLITS):
        raise RequestError(f"data: unknown split {min(unknown)!r}; there are {', '.join(SPLITS)}")
    if "train" not in given:
        raise RequestError("data.train: no source to train on; give a file or sentences")
    if arguments["too_long"] not in ("drop", "cut"):
        raise RequestError(f"data.too_long: {arguments['too_long']!r} is neither 'drop' nor 'cut'")
    if (
        arguments["dialogue"] is not None
        and arguments["too_long"] == "drop"
        and arguments["max_length"] is not None
    ):
        raise RequestError("data.too_long: a dropped utterance would break the contexts after it; set 'cut'")
    if arguments["max_length"] is not None and arguments["max_length"] < 1:
        raise RequestError(f"data.max_length: {arguments['max_length']} is too small; give 1 or more")
    valid, test = arguments["valid"], arguments["test"]
    if not (0 <= valid and 0 <= test and valid + test < 1):
        raise RequestError(f"data.split: shares of {valid} and {test} leave nothing to train on; sum below 1")


def _pairs(edges: np.ndarray) -> list[tuple[int, int]]:
    ends: list[int] = edges.tolist()
    return list(zip(ends, ends[1:], strict=False))
