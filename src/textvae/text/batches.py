"""Batches: a corpus becomes a token store, and a store yields batches of similar lengths."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.text import readers
from textvae.text.conditions import Labels, Turns
from textvae.text.readers import Sentence, one_line, read
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
Source = Path | str | Sequence[str] | Sequence[Sentence] | None

_POOL = 100  # batches among which sentences are sorted by length


class Batch(NamedTuple):
    """A padded batch of sentences.

    A piece of running text is w1 ... wn, with end marks wherever lines end in it, and its length is n.

    Attributes:
        ids: Targets, (batch, time). A row is w1 ... wn `<eos>` `<pad>` ...; the decoder shifts them right itself.
        lengths: Tokens, n + 1 with the end mark and without padding, (batch,).
        index: Number of each sentence in its split, (batch,).
        condition: What the model is conditioned on, one row for each sentence; None without conditions.
    """

    ids: Int[Tensor, "batch time"]
    lengths: Int[Tensor, "batch"]
    index: Int[Tensor, "batch"]  # type: ignore[assignment]  # hides tuple.index, which is not used
    condition: Labels | Turns | None = None

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
    `vocabulary_of` gives a `tokenizer.json` to use unchanged. `column` and `label` are as in `read`;
    `condition_on` gives further columns of labels by name, on which a model is conditioned. Sentences of more than
    `max_length` tokens, the end mark not counted, are dropped or cut. With `right_to_left` the tokens of each
    sentence are stored in reverse, the end mark still last.

    A finished store made from the same bytes with the same arguments is used again; anything else in its place is
    replaced. Only one process at a time may build into a folder.

    Raises:
        RequestError: For unusable sources, and for a split without sentences.
        WorkError: If the folder cannot be written.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("folder", "sources")}
    given = {split: source for split in SPLITS if (source := sources.get(split)) is not None}
    _check(sources, given, arguments)
    key = _key(given, arguments)
    splits = list(given) if len(given) > 1 else ["train", *["valid"] * (valid > 0), *["test"] * (test > 0)]
    if (stores := finished(folder, key)) is not None and list(stores) == splits:
        return stores
    marks = condition_on or {}

    def rows() -> Iterator[tuple[str, Sentence]]:
        for split, source in given.items():
            for sentence in sentences_of(source, column, label, tuple(marks.values())):
                assigned = len(given) == 1 and sentence.text
                yield assigned_split(sentence.text, valid, test, seed) if assigned else split, sentence

    if vocabulary_of is not None:
        trained = Tokenizer.load(vocabulary_of, right_to_left)
    else:
        training = (sentence.text for split, sentence in rows() if split == "train" and sentence.text)
        trained = Tokenizer.train(tokenizer, training, vocabulary, min_count, lowercase, right_to_left)
    try:
        of_texts: dict[str, Any] = {"max_length": max_length, "too_long": too_long, "columns": tuple(marks)}
        return write_store(folder, rows(), trained, splits, key=key, **of_texts)
    except EmptySplit as error:
        if len(given) > 1:
            raise
        texts = [split_words(sentence.text) for _, sentence in rows() if sentence.text]
        different = len(set(texts))
        if different == len(texts):
            raise
        raise RequestError(
            f"{error}; of {len(texts):,} sentences {different:,} are different, and equal ones share a split"
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

    Padding counts among the ids. A single sentence longer than that is a batch of its own.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    for at in evaluation_places(store, tokens, rows):
        yield collate(store, rows[at])


def evaluation_places(store: TokenStore, tokens: int, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the positions in `rows` of each batch that `evaluation_batches` makes of them."""
    order = np.argsort(-store.lengths[rows], kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // int(store.lengths[rows[order[start]]]))
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
    condition = None if store.conditions is None else store.conditions.at(rows)
    return Batch(torch.from_numpy(ids), torch.from_numpy(lengths), torch.from_numpy(rows.copy()), condition)


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
    if arguments["max_length"] is not None and arguments["max_length"] < 1:
        raise RequestError(f"data.max_length: {arguments['max_length']} is too small; give 1 or more")
    valid, test = arguments["valid"], arguments["test"]
    if not (0 <= valid and 0 <= test and valid + test < 1):
        raise RequestError(f"data.split: shares of {valid} and {test} leave nothing to train on; sum below 1")


def sentences_of(
    source: Source, column: str | int | None, label: str | int | None, marks: Sequence[str | int] = ()
) -> Iterator[Sentence]:
    """Yield the sentences of one source; blank ones, of which only the number matters, come last."""
    if isinstance(source, str | Path):
        sentences = read(source, column, label, marks)
        yield from sentences
        yield from repeat(Sentence("", None, 0), sentences.blank)
        return
    for number, item in enumerate(source if source is not None else (), 1):
        sentence = _given(item, number)
        yield sentence._replace(text=one_line(sentence.text))


def _given(item: object, number: int) -> Sentence:
    """Return an item of a list as a sentence."""
    text = item.text if isinstance(item, Sentence) else item
    if not isinstance(text, str):
        raise RequestError(f"sentence {number}: is a {type(text).__name__}, not a string")
    return item if isinstance(item, Sentence) else Sentence(text, None, number)


def _key(given: Mapping[str, Source], arguments: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything a store is made from: source bytes, reader version and arguments."""
    unused = ("valid", "test", "seed") if len(given) > 1 else ()
    parts: dict[str, Any] = {name: value for name, value in arguments.items() if name not in unused}
    if not parts["condition_on"]:
        del parts["condition_on"]  # keys of stores without conditions stay as they were
    parts["reader"] = readers.VERSION
    if (vocabulary := parts.pop("vocabulary_of")) is not None:
        parts["vocabulary_of"] = file_digest(vocabulary)
    for split, source in given.items():
        if isinstance(source, str | Path):
            read(source)  # raises for unusable paths
            parts[f"source {split}"] = [file_digest(Path(source)), Path(source).suffixes]
        else:
            hashed = hashlib.sha256()
            for number, item in enumerate(source if source is not None else (), 1):
                text, label, _, marks = _given(item, number)
                hashed.update(json.dumps([text, label, *marks]).encode() + b"\n")
            parts[f"source {split}"] = [hashed.hexdigest(), []]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _pairs(edges: np.ndarray) -> list[tuple[int, int]]:
    ends: list[int] = edges.tolist()
    return list(zip(ends, ends[1:], strict=False))
