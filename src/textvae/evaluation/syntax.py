"""The syntactic test: which of two sentences that differ in grammar is likelier to a model, and by which code."""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

import textvae
from textvae.errors import RequestError
from textvae.generate.codes import ROWS, in_pieces
from textvae.generate.prefixes import log_ratios
from textvae.generate.trained import Trained
from textvae.inference import evaluating
from textvae.metrics.likelihood import standard_error
from textvae.metrics.signature import SOFTMAX, digest, signature
from textvae.metrics.splits import groups_of, numbered
from textvae.progress import Progress
from textvae.text.packed import PackedIds
from textvae.text.readers import one_line, read_table
from textvae.text.tokenizers import EOS, UNK, Tokenizer

# What is measured: by the code of the good sentence, of the bad one, and by both codes averaged; without codes.
CODED, PLAIN = ("p1", "p2", "p1_averaged", "p2_averaged"), ("accuracy",)
AVERAGED = ("p1_averaged", "p2_averaged")
ALL = "all"

# The templates of Marvin and Linzen 2018 by the row of prokhorov2019, Table 4, that they belong to.
TABLE_4 = {
    "simple_agrmt": "agreement: simple",
    "sent_comp": "agreement: in a sentential complement",
    "vp_coord": "agreement: short VP coordination",
    "long_vp_coord": "agreement: long VP coordination",
    "prep_anim": "agreement: across a prepositional phrase",
    "prep_inanim": "agreement: across a prepositional phrase",
    "subj_rel": "agreement: across a subject relative clause",
    "obj_rel_across_anim": "agreement: across an object relative clause",
    "obj_rel_across_inanim": "agreement: across an object relative clause",
    "obj_rel_no_comp_across_anim": "agreement: across an object relative (no that)",
    "obj_rel_no_comp_across_inanim": "agreement: across an object relative (no that)",
    "obj_rel_within_anim": "agreement: in an object relative clause",
    "obj_rel_within_inanim": "agreement: in an object relative clause",
    "obj_rel_no_comp_within_anim": "agreement: in an object relative (no that)",
    "obj_rel_no_comp_within_inanim": "agreement: in an object relative (no that)",
    "simple_reflexives": "reflexives: simple",
    "reflexive_sent_comp": "reflexives: in a sentential complement",
    "reflexives_across": "reflexives: across a relative clause",
    "simple_npi_anim": "polarity items: simple",
    "simple_npi_inanim": "polarity items: simple",
    "npi_across_anim": "polarity items: across a relative clause",
    "npi_across_inanim": "polarity items: across a relative clause",
}


class Pair(NamedTuple):
    """A grammatical and an ungrammatical sentence, and the category and sub-category that they are counted in."""

    good: str
    bad: str
    category: str = ALL
    condition: str = ""


class Row(NamedTuple):
    """The pairs of a category, or of one of its conditions: shares of pairs where the good sentence is likelier.

    `condition` is None for a category as a whole. `unknown` counts pairs in which a word that tells the two apart
    is unknown to the model, `ties` for each measure the pairs that are equally likely, which count as not likelier.
    Standard errors count pairs with a sentence in common as one, which leaves `groups` of them; None for one alone.
    """

    category: str
    condition: str | None
    pairs: int
    unknown: int
    shares: dict[str, float]
    standard_errors: dict[str, float | None]
    ties: dict[str, int]
    groups: int

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON, with the reason for a standard error that is null."""
        if self.pairs == 1:
            why = "one pair has no deviation"
        elif self.groups == 1:
            why = "all pairs have sentences in common: one group has no deviation"
        else:
            why = "a mean over conditions, one of which has a single pair or a single group of pairs"
        reasons = {name: why for name, error in self.standard_errors.items() if error is None}
        if self.condition is None:
            reasons["condition"] = "these are the pairs of all conditions of the category"
        return {**self._asdict(), "reasons": reasons}


@dataclass(frozen=True)
class SyntacticTest:
    """The rows of a test: each category and its conditions, and all pairs first.

    Of the `given` pairs those of twice the same sentence (`alike`) and those with one longer than the model's
    (`too_long`) are left out; `unknown` of the others have an unknown word anywhere, and `left_out` one that tells
    the two apart, if such pairs are to be left out.
    """

    rows: list[Row]
    given: int
    alike: int
    too_long: int
    unknown: int
    left_out: int
    signature: str

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "rows": [row.document() for row in self.rows]}


class _Read:
    """The pairs that a test uses, as tokens, end marks included: arrays, so that millions fit into memory.

    `told` says of which an unknown word tells the two apart; `condition` is the place in `names` of each one's
    category and condition. Of the `given` pairs those `alike` and `too_long` are not used, nor, if only known ones
    are, the `left_out` told apart by an unknown word; `unknown` counts those with such a word anywhere.
    """

    def __init__(self) -> None:
        self.good, self.bad, self.told, self.condition = PackedIds(), PackedIds(), bytearray(), array("i")
        self.names: dict[tuple[str, str], int] = {}
        self.given = self.alike = self.too_long = self.unknown = self.left_out = 0

    def __len__(self) -> int:
        return len(self.told)

    def add(self, trained: Trained, pairs: Sequence[Pair], known_only: bool) -> None:
        """Add the usable ones of some pairs."""
        tokenizer = trained.tokenizer
        different = [pair for pair in pairs if one_line(pair.good) != one_line(pair.bad)]
        self.given, self.alike = self.given + len(pairs), self.alike + len(pairs) - len(different)
        good = tokenizer.encode([one_line(pair.good) for pair in different])
        bad = tokenizer.encode([one_line(pair.bad) for pair in different])
        for pair, a, b in zip(different, good, bad, strict=True):
            if not a or not b:
                raise RequestError(f"pairs: {pair.good!r} and {pair.bad!r}: one is empty; give both sentences")
            if max(len(a), len(b)) > trained.max_length:
                self.too_long += 1
                continue
            unknown = UNK in a or UNK in b
            told = unknown and _told_by_unknown(tokenizer, pair, a, b)
            self.unknown += unknown
            if known_only and told:
                self.left_out += 1
                continue
            self.good.append([*a, EOS])
            self.bad.append([*b, EOS])
            self.told.append(told)
            self.condition.append(self.names.setdefault(pair[2:], len(self.names)))

    def require_some(self, trained: Trained) -> None:
        """Refuse a test without pairs."""
        if not self.given:
            raise RequestError("pairs: 0 given; at least one is needed")
        if self.alike == self.given:
            raise RequestError("pairs: each is twice the same sentence; give two that differ")
        if self.alike + self.too_long == self.given:
            most = f"{trained.max_length} tokens (data.max_length)"
            raise RequestError(
                f"pairs: every one has a sentence of more than {most}, the most that the model knows"
            )
        if not len(self):
            raise RequestError(
                "pairs: in each an unknown word tells the two sentences apart; "
                "train on text that has these words, or keep such pairs"
            )


def read_pairs(path: Path | str, rename: Mapping[str, str] | None = None) -> list[Pair]:
    """Return the pairs of a file, as `each_pair` yields them.

    Raises:
        RequestError: as `each_pair`.
    """
    return list(each_pair(path, rename))


def each_pair(
    path: Path | str, rename: Mapping[str, str] | None = None, left_out: Callable[[str], None] | None = None
) -> Iterator[Pair]:
    """Yield the pairs of a TSV or CSV file with columns `good` and `bad`.

    The first of the other columns, or `category` if there is one, is the category; the rest together say which
    condition, the sub-category, a pair belongs to. `rename` gives categories other names, one name to several if
    they are one (their own names are then part of the condition). Rows with an empty sentence are left out, and
    `left_out` is given the reason, if it is there.

    Raises:
        RequestError: as `read_table`, for a file without a usable row, a category that `rename` lacks, and an empty
            sentence if `left_out` is None.
    """
    pairs, empty, first = 0, 0, ""
    for cells, line in read_table(path, ("good", "bad")):
        good, bad = cells.pop("good"), cells.pop("bad")
        if not good or not bad:
            reason = f"{path}:{line}: {'bad' if good else 'good'} is empty; give both sentences"
            if left_out is None:
                raise RequestError(reason)
            left_out(reason)
            empty, first = empty + 1, first or reason
            continue
        name = "category" if "category" in cells else next(iter(cells), None)
        category = ALL if name is None else cells.pop(name)
        condition = [*cells.values()]
        if rename is not None:
            if category not in rename:
                raise RequestError(f"{path}:{line}: category {category!r} is in no row of that table")
            condition, category = [category, *condition], rename[category]
        pairs += 1
        yield Pair(good, bad, category, " ".join(condition))
    if not pairs and empty:
        every = f"; none of the {empty:,} rows can be used" if empty > 1 else ""
        raise RequestError(first + every)
    if not pairs:
        raise RequestError(f"{path}: no pair in it, only a header; give a file with pairs")


def syntactic_test(
    trained: Trained, pairs: Iterable[Pair], known_only: bool = False, progress: Progress | None = None
) -> SyntacticTest:
    """Shares of pairs in which a model finds the good sentence likelier than the bad one.

    Codes are posterior means, z+ of the good sentence, z- of the bad one. p1 is the share of pairs with
    p(x+|z+) > p(x-|z+), p2 that with p(x+|z-) > p(x-|z-), pooled over the pairs of a category. In the averaged
    versions the code is the mean over all sentences of the same kind in the condition, and the shares of a
    category's conditions are averaged. Of a language model it is the share with p(x+) > p(x-).

    With `known_only` pairs are left out in which an unknown word tells the two sentences apart.

    Raises RequestError by a model of windows, and where no pair is left.

    References: Prokhorov et al. 2019, section 3.4 and Table 4; the pairs of Marvin and Linzen 2018.
    """
    if trained.window is not None:
        raise RequestError(f"{trained.run.folder}: is a model of pieces of running text, not of sentences")
    read = _Read()

    def lines() -> Iterator[str]:
        for some in in_pieces(pairs, ROWS):
            read.add(trained, some, known_only)
            yield from map("\t".join, some)

    against = digest(lines())
    read.require_some(trained)
    found = preferences(trained, read, progress)
    return SyntacticTest(
        rows=_rows(read, found),
        given=read.given,
        alike=read.alike,
        too_long=read.too_long,
        unknown=read.unknown,
        left_out=read.left_out,
        signature=signature(
            "syntax",
            unit="share",
            unk="left-out" if known_only else "counted",
            vocabulary=len(trained.tokenizer),
            softmax=SOFTMAX,
            codes="posterior-means" if trained.model.prior is not None else "none",
            pairs=len(read),
            against=against,
            ties="not-likelier",
            textvae=textvae.__version__,
        ),
    )


def preferences(trained: Trained, read: _Read, progress: Progress | None = None) -> Float64[Tensor, "pair code"]:
    """log p(x+|z) - log p(x-|z) of each pair in nats, for z+, z-, and both averaged over the pair's condition.

    Of a language model, which has no codes, one column. Every sentence is encoded once, and beginnings that
    sentences have in common under a code are read once.
    """
    codes, which = None, torch.zeros(len(read), 1, dtype=torch.int32)
    if trained.model.prior is not None:
        codes, which = _codes(trained, read)
    with evaluating(trained.model):
        return log_ratios(trained.model, codes, which, read.good, read.bad, progress)


def _codes(trained: Trained, read: _Read) -> tuple[Float[Tensor, "code latent"], Int[Tensor, "pair 4"]]:
    """Return the codes that sentences are scored under, and those of each pair: z+, z-, and both averaged."""
    pairs, groups = len(read), len(read.names)
    group = torch.tensor(read.condition, dtype=torch.int32)
    codes = torch.empty(2 * (pairs + groups), trained.latent)
    for place, side in enumerate((read.good, read.bad)):
        sums = torch.zeros(groups, trained.latent, dtype=torch.float64)
        for begin in range(0, pairs, ROWS):
            means = trained.means_of(side[begin : begin + ROWS])
            codes[place * pairs + begin :][: len(means)] = means
            sums.index_add_(0, group[begin : begin + ROWS], means.double())
        average = sums / group.bincount()[:, None]
        codes[2 * pairs + place * groups :][:groups] = average.to(codes.dtype)
    own = torch.arange(pairs, dtype=torch.int32)
    return codes, torch.stack([own, pairs + own, 2 * pairs + group, 2 * pairs + groups + group], dim=1)


def _told_by_unknown(tokenizer: Tokenizer, pair: Pair, good: list[int], bad: list[int]) -> bool:
    """Return True for an unknown word between the common beginning and the common end of two sentences."""
    a, b = (tokenizer.pieces(one_line(text)) for text in (pair.good, pair.bad))
    if tokenizer.right_to_left:
        good, bad = good[::-1], bad[::-1]
    first = _common(a, b)
    last = min(_common(a[::-1], b[::-1]), min(len(a), len(b)) - first)
    return UNK in good[first : len(good) - last] or UNK in bad[first : len(bad) - last]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the number of words in the common beginning of two sentences."""
    for place, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return place
    return min(len(a), len(b))


def _rows(read: _Read, found: Float64[Tensor, "pair code"]) -> list[Row]:
    """Return a row for all pairs, then for each category and its conditions, in the order of the pairs."""
    condition = np.array(read.condition)
    order, ends = np.argsort(condition, kind="stable"), np.cumsum(np.bincount(condition))
    categories: dict[str, dict[str, Int[np.ndarray, " pair"]]] = {}
    for (category, name), at in zip(read.names, np.split(order, ends[:-1]), strict=True):
        categories.setdefault(category, {})[name] = at
    told = torch.frombuffer(read.told, dtype=torch.bool)
    keys = (numbered(np.array(ids, np.int32).tobytes() for ids in side) for side in (read.good, read.bad))
    together = groups_of(*keys)
    rows: list[Row] = []
    everything: list[Row] = []
    for category, conditions in categories.items():
        parts = [_row(category, name, found[at], told[at], together[at]) for name, at in conditions.items()]
        pooled = np.concatenate([*conditions.values()])
        whole = _row(category, None, found[pooled], told[pooled], together[pooled])
        rows.append(_whole(category, parts, whole))
        everything += parts
        if list(conditions) != [""]:
            rows += parts
    if len(categories) == 1 and ALL in categories:
        return rows
    return [_whole(ALL, everything, _row(ALL, None, found, told, together)), *rows]


def _row(
    category: str,
    condition: str | None,
    found: Float64[Tensor, "pair code"],
    told: Tensor,
    together: Int[np.ndarray, " pair"],
) -> Row:
    """Return the row of some pairs; `together` numbers the groups of those that have a sentence in common."""
    measures = CODED if found.shape[1] == len(CODED) else PLAIN
    shares, errors, ties = {}, {}, {}
    for name, column in zip(measures, found.T, strict=True):
        likelier = (column > 0).double()
        error = standard_error(likelier, together)
        shares[name] = likelier.mean().item()
        errors[name] = None if math.isnan(error) else error
        ties[name] = int((column == 0).sum())
    groups = len(np.unique(together))
    return Row(category, condition, len(found), int(told.sum()), shares, errors, ties, groups)


def _whole(category: str, parts: Sequence[Row], pooled: Row) -> Row:
    """Return the row of a category: pooled over its pairs; for averaged codes the mean over conditions."""
    shares, errors = dict(pooled.shares), dict(pooled.standard_errors)
    for name in AVERAGED:
        if name in shares:
            known = [part.standard_errors[name] for part in parts]
            shares[name] = sum(part.shares[name] for part in parts) / len(parts)
            squares = [error**2 for error in known if error is not None]
            errors[name] = math.sqrt(sum(squares)) / len(parts) if len(squares) == len(parts) else None
    return pooled._replace(category=category, shares=shares, standard_errors=errors)
