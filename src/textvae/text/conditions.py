"""Conditions of a model: labels of sentences, or texts before them, on disk and in batches."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from textvae.errors import RequestError, did_you_mean
from textvae.text.tokenizers import PAD

# Number of a label that a sentence does not have.
MISSING = -1
# Most different values of a column.
MOST_VALUES = 10_000


class Labels(NamedTuple):
    """Labels of a batch of sentences: the number of a value for each sentence and column, `MISSING` without one."""

    values: Int[Tensor, "batch columns"]

    def to(self, device: torch.device) -> "Labels":
        """Return the labels on a device."""
        return Labels(self.values.to(device))

    def at(self, rows: Int[Tensor, " rows"]) -> "Labels":
        """Return the labels of some sentences."""
        return Labels(self.values[rows])


class Turns(NamedTuple):
    """Texts before the sentences of a batch, first to last: contexts of dialogues, or one source text each.

    Attributes:
        ids: Tokens of each turn, with its end mark and padding.
        lengths: Tokens of each turn, end mark included; 0 beyond the turns that there are.
        counts: Number of turns of each sentence, at least 1.
        speakers: 1 where a turn is by the speaker of the sentence itself, else 0.
    """

    ids: Int[Tensor, "batch turns time"]
    lengths: Int[Tensor, "batch turns"]
    counts: Int[Tensor, " batch"]
    speakers: Int[Tensor, "batch turns"]

    def to(self, device: torch.device) -> "Turns":
        """Return the turns on a device."""
        return Turns(*(part.to(device) for part in self))

    def at(self, rows: Int[Tensor, " rows"]) -> "Turns":
        """Return the turns of some sentences."""
        return Turns(*(part[rows] for part in self))


class LabelNames(Mapping[str, list[str]]):
    """Names of the values of each column of labels, sorted: what turns labels into numbers and back."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = {column: list(values) for column, values in names.items()}
        self._place = {
            column: {value: number for number, value in enumerate(values)} for column, values in names.items()
        }

    def __getitem__(self, column: str) -> list[str]:
        return self._names[column]

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def number(self, column: str, value: object) -> int:
        """Return the number of a value of a column.

        Raises:
            RequestError: For an unknown value, with the nearest one.
        """
        text = str(value)
        if text not in self._place[column]:
            known = ", ".join(self._names[column][:20])
            near = did_you_mean(text, self._names[column], f"; it has {known}")
            raise RequestError(f"condition {column} = {text!r}: not among the labels trained on{near}")
        return self._place[column][text]

    def labels(self, given: object) -> Labels:
        """Return the numbers of labels given by column: one value for all sentences, or one value for each.

        Args:
            given: For every column a value, or a list of values, one for each sentence.

        Returns:
            Labels with one row, or with as many as the lists have.

        Raises:
            RequestError: For an unknown, missing or repeated column, unknown values, and lists of unequal lengths.
        """
        if not isinstance(given, Mapping):
            columns = ", ".join(f"{column!r}: ..." for column in self)
            raise RequestError(f"condition: is a {type(given).__name__}, not a dictionary; give {{{columns}}}")
        for column in given:
            if column not in self._names:
                near = did_you_mean(str(column), self._names, "")
                raise RequestError(f"condition: no column {column!r}; the model has {self.described()}{near}")
        for column in self:
            if column not in given:
                raise RequestError(f"condition: {column} is not given; it has {', '.join(self[column][:20])}")
        lists = {column: value for column, value in given.items() if _is_list(value)}
        sizes = {len(values) for values in lists.values()}
        if len(sizes) > 1:
            raise RequestError(f"condition: lists of {' and '.join(map(str, sorted(sizes)))} values; give as many")
        rows = sizes.pop() if sizes else 1
        numbers = [
            [self.number(column, one) for one in (given[column] if column in lists else [given[column]] * rows)]
            for column in self
        ]
        return Labels(torch.tensor(numbers, dtype=torch.long).reshape(len(self), rows).T.contiguous())

    def described(self) -> str:
        """Return the columns with some of their values."""
        return "; ".join(
            f"{column} ({', '.join(values[:10])}{', ...' if len(values) > 10 else ''})"
            for column, values in self._names.items()
        )


def _is_list(value: object) -> bool:
    return not isinstance(value, str) and hasattr(value, "__len__") and hasattr(value, "__iter__")


class LabelColumns(NamedTuple):
    """Labels of all sentences of a split: numbers (n, columns), and the names of the values of each column."""

    values: np.ndarray
    names: LabelNames

    @property
    def valid(self) -> bool:
        """True if every number is that of a value, or `MISSING`."""
        sizes = np.array([len(names) for names in self.names.values()])
        return bool(((self.values >= MISSING) & (self.values < sizes)).all())

    def counts(self) -> dict[str, list[int]]:
        """Return the number of sentences with each value of each column."""
        return {
            column: np.bincount(values[values != MISSING], minlength=len(known)).tolist()
            for (column, known), values in zip(self.names.items(), self.values.T, strict=True)
        }

    def groups(self, rows: np.ndarray) -> np.ndarray:
        """Return a number for the condition of each of some sentences: the same for the same labels."""
        return np.unique(self.values[rows], axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def at(self, rows: np.ndarray) -> Labels:
        """Return the labels of some sentences as a batch has them."""
        return Labels(torch.from_numpy(self.values[rows].astype(np.int64)))


class TurnColumns(NamedTuple):
    """Dialogues of a split, from which contexts are taken: no utterance is kept more than once.

    Attributes:
        ids: Token ids of all utterances, concatenated.
        starts: Offset of each utterance in `ids`.
        lengths: Tokens of each utterance, end mark included.
        first: Number of the first utterance of each utterance's dialogue.
        speakers: Number of each utterance's speaker within the dialogue.
        responses: Number of the utterance that each sentence of the store is.
        window: Most utterances of a context and its response.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    first: np.ndarray
    speakers: np.ndarray
    responses: np.ndarray
    window: int

    def begins(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first utterance of the context of each of some sentences, and the utterance after it."""
        ends = self.responses[rows]
        return np.maximum(self.first[ends], ends - (self.window - 1)), ends

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of tokens in the context of each of some sentences, end marks included."""
        begins, ends = self.begins(rows)
        return self.starts[ends] - self.starts[begins]

    def at(self, rows: np.ndarray) -> Turns:
        """Return the contexts of some sentences as a batch has them."""
        begins, ends = self.begins(rows)
        counts = ends - begins
        turn = np.arange(counts.max(initial=0))
        present = turn < counts[:, None]
        numbers = np.where(present, begins[:, None] + turn, 0)
        lengths = np.where(present, self.lengths[numbers], 0)
        time = np.arange(lengths.max(initial=0))
        inside = time < lengths[..., None]
        ids = np.full(inside.shape, PAD, dtype=np.int64)
        ids[inside] = self.ids[(self.starts[numbers][..., None] + time)[inside]]
        own = present & (self.speakers[numbers] == self.speakers[ends][:, None])
        parts = (ids, lengths, counts, own)
        return Turns(*(torch.from_numpy(part.astype(np.int64)) for part in parts))


class Marks:
    """Labels of sentences while they are written, by split: text becomes numbers."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._numbers: list[dict[str, int]] = [{} for _ in columns]  # by first appearance, common to all splits
        self._rows: dict[str, array[int]] = {}

    def add(self, split: str, marks: Sequence[str]) -> None:
        """Add the labels of the next sentence of a split; an empty one is missing.

        Raises:
            RequestError: For a column of too many different values.
        """
        if not self.columns:
            return
        numbers = tuple(
            known.setdefault(mark, len(known)) if mark else MISSING
            for known, mark in zip(self._numbers, marks, strict=True)
        )
        self._rows.setdefault(split, array("i")).extend(numbers)
        for column, known in zip(self.columns, self._numbers, strict=True):
            if len(known) > MOST_VALUES:
                raise RequestError(
                    f"data.condition_on: {column!r} has over {MOST_VALUES:,} different values; is it a label?"
                )

    def names(self) -> dict[str, list[str]]:
        """Return the values of each column in alphabetical order."""
        return {column: sorted(known) for column, known in zip(self.columns, self._numbers, strict=True)}

    def refuse_unseen(self) -> None:
        """Refuse columns without a label, or with a single one, and labels that the training split lacks.

        Raises:
            RequestError: For the first such column.
        """
        seen = self._numbered("train")
        for at, (column, known) in enumerate(zip(self.columns, self._numbers, strict=True)):
            trained = set(seen[:, at].tolist()) - {MISSING}
            if len(trained) < 2:
                only = next(
                    (f"the value {value!r} alone" for value, n in known.items() if n in trained), "no value"
                )
                raise RequestError(
                    f"data.condition_on: {column!r} has {only} in the training text; name one of several labels"
                )
            unseen = [value for value, number in known.items() if number not in trained]
            if unseen:
                raise RequestError(
                    f"data.condition_on: {column!r} has the label {unseen[0]!r} in no training sentence, only in "
                    "those held out; leave these sentences out, or merge rare labels"
                )

    def values(self, split: str) -> np.ndarray:
        """Return the labels of a split, (n, columns), numbered in alphabetical order."""
        rows = self._numbered(split)
        for at, known in enumerate(self._numbers):
            place = {name: number for number, name in enumerate(sorted(known))}
            rank = np.array([*(place[name] for name in known), MISSING], dtype="<i4")  # -1 is the last
            rows[:, at] = rank[rows[:, at]]
        return rows

    def _numbered(self, split: str) -> np.ndarray:
        """Return the labels of a split, (n, columns), numbered by first appearance."""
        numbers = np.array(self._rows.get(split, ()), dtype="<i4")
        return numbers.reshape(len(numbers) // max(1, len(self.columns)), len(self.columns))
