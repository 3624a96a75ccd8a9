"""The syntactic test: which of two sentences that differ in grammar is likelier to a model, and by which code."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

import textvae
from textvae.errors import RequestError
from textvae.generate.prefixes import log_ratios
from textvae.generate.trained import Trained
from textvae.inference import evaluating
from textvae.metrics.likelihood import standard_error
from textvae.metrics.signature import SOFTMAX, digest, signature
from textvae.metrics.splits import groups_of
from textvae.progress import Progress
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


class _Read(NamedTuple):
    """A pair as tokens, end marks included, and whether an unknown word is in it, and tells the two apart."""

    pair: Pair
    good: list[int]
    bad: list[int]
    unknown: bool
    told_by_unknown: bool


def read_pairs(
    path: Path | str, rename: Mapping[str, str] | None = None, left_out: list[str] | None = None
) -> list[Pair]:
    """Return the pairs of a TSV or CSV file with columns `good` and `bad`.

    The first of the other columns, or `category` if there is one, is the category; the rest together say which
    condition, the sub-category, a pair belongs to. `rename` gives categories other names, one name to several if
    they are one (their own names are then part of the condition). Rows with an empty sentence are left out and
    named in `left_out`, if it is given.

    Raises:
        RequestError: as `read_table`, for a file without a usable row, a category that `rename` lacks, and an empty
            sentence if `left_out` is None.
    """
    pairs = []
    for cells, line in read_table(path, ("good", "bad")):
        good, bad = cells.pop("good"), cells.pop("bad")
        if not good or not bad:
            reason = f"{path}:{line}: {'bad' if good else 'good'} is empty; give both sentences"
            if left_out is None:
                raise RequestError(reason)
            left_out.append(reason)
            continue
        name = "category" if "category" in cells else next(iter(cells), None)
        category = ALL if name is None else cells.pop(name)
        condition = [*cells.values()]
        if rename is not None:
            if category not in rename:
                raise RequestError(f"{path}:{line}: category {category!r} is in no row of that table")
            condition, category = [category, *condition], rename[category]
        pairs.append(Pair(good, bad, category, " ".join(condition)))
    if not pairs and left_out:
        every = f"; none of the {len(left_out):,} rows can be used" if len(left_out) > 1 else ""
        raise RequestError(left_out[0] + every)
    if not pairs:
        raise RequestError(f"{path}: no pair in it, only a header; give a file with pairs")
    return pairs


def syntactic_test(
    trained: Trained, pairs: Sequence[Pair], known_only: bool = False, progress: Progress | None = None
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
    if not pairs:
        raise RequestError("pairs: 0 given; at least one is needed")
    different = [pair for pair in pairs if one_line(pair.good) != one_line(pair.bad)]
    if not different:
        raise RequestError("pairs: each is twice the same sentence; give two that differ")
    read = _read(trained, different)
    if not read:
        most = f"{trained.max_length} tokens (data.max_length)"
        raise RequestError(f"pairs: every one has a sentence of more than {most}, the most that the model knows")
    used = [one for one in read if not (known_only and one.told_by_unknown)]
    if not used:
        raise RequestError(
            "pairs: in each an unknown word tells the two sentences apart; "
            "train on text that has these words, or keep such pairs"
        )
    found = preferences(trained, used, progress)
    return SyntacticTest(
        rows=_rows(used, found),
        given=len(pairs),
        alike=len(pairs) - len(different),
        too_long=len(different) - len(read),
        unknown=sum(one.unknown for one in read),
        left_out=len(read) - len(used),
        signature=signature(
            "syntax",
            unit="share",
            unk="left-out" if known_only else "counted",
            vocabulary=len(trained.tokenizer),
            softmax=SOFTMAX,
            codes="posterior-means" if trained.model.prior is not None else "none",
            pairs=len(used),
            against=digest("\t".join(pair) for pair in pairs),
            ties="not-likelier",
            textvae=textvae.__version__,
        ),
    )


def preferences(
    trained: Trained, read: Sequence[_Read], progress: Progress | None = None
) -> Float64[Tensor, "pair code"]:
    """log p(x+|z) - log p(x-|z) of each pair in nats, for z+, z-, and both averaged over the pair's condition.

    Of a language model, which has no codes, one column. Every sentence is encoded once, and beginnings that
    sentences have in common under a code are read once.
    """
    good, bad = [one.good for one in read], [one.bad for one in read]
    codes, which = None, torch.zeros(len(read), 1, dtype=torch.long)
    if trained.model.prior is not None:
        codes, which = _codes(trained, read, good + bad)
    with evaluating(trained.model):
        return log_ratios(trained.model, codes, which, good, bad, progress)


def _codes(
    trained: Trained, read: Sequence[_Read], sentences: list[list[int]]
) -> tuple[Float[Tensor, "code latent"], Int[Tensor, "pair 4"]]:
    """Return the codes that sentences are scored under, and those of each pair: z+, z-, and both averaged."""
    pairs = len(read)
    good, bad = trained.means_of(sentences).split(pairs)
    places: dict[tuple[str, str], int] = {}
    group = torch.tensor([places.setdefault(one.pair[2:], len(places)) for one in read])
    own = torch.arange(pairs)
    which = torch.stack([own, pairs + own, 2 * pairs + group, 2 * pairs + len(places) + group], dim=1)
    return torch.cat([good, bad, _averaged(good, group), _averaged(bad, group)]), which


def _averaged(codes: Float[Tensor, "pair latent"], group: Int[Tensor, " pair"]) -> Float[Tensor, "group latent"]:
    """Return the mean code of each group."""
    sums = torch.zeros(int(group.max()) + 1, codes.shape[1], dtype=torch.float64)
    sums.index_add_(0, group, codes.double())
    return (sums / group.bincount()[:, None]).to(codes.dtype)


def _read(trained: Trained, pairs: Sequence[Pair]) -> list[_Read]:
    """Return the pairs as tokens, without those that have a sentence which is too long for the model."""
    tokenizer = trained.tokenizer
    good = tokenizer.encode([one_line(pair.good) for pair in pairs])
    bad = tokenizer.encode([one_line(pair.bad) for pair in pairs])
    found = []
    for pair, a, b in zip(pairs, good, bad, strict=True):
        if not a or not b:
            raise RequestError(f"pairs: {pair.good!r} and {pair.bad!r}: one is empty; give both sentences")
        if max(len(a), len(b)) > trained.max_length:
            continue
        unknown = UNK in a or UNK in b
        told = unknown and _told_by_unknown(tokenizer, pair, a, b)
        found.append(_Read(pair, [*a, EOS], [*b, EOS], unknown, told))
    return found


def _told_by_unknown(tokenizer: Tokenizer, pair: Pair, good: list[int], bad: list[int]) -> bool:
    """Return True for an unknown word between the common beginning and the common end of two sentences."""
    texts = [tokenizer.normalise(one_line(text)) for text in (pair.good, pair.bad)]
    a, b = (text.split() if tokenizer.name == "word" else list(text) for text in texts)
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


def _rows(read: Sequence[_Read], found: Float64[Tensor, "pair code"]) -> list[Row]:
    """Return a row for all pairs, then for each category and its conditions, in the order of the pairs."""
    categories: dict[str, dict[str, list[int]]] = {}
    for number, one in enumerate(read):
        categories.setdefault(one.pair.category, {}).setdefault(one.pair.condition, []).append(number)
    told = torch.tensor([one.told_by_unknown for one in read])
    together = groups_of([tuple(one.good) for one in read], [tuple(one.bad) for one in read])
    rows: list[Row] = []
    everything: list[Row] = []
    for category, conditions in categories.items():
        parts = [_row(category, name, found[at], told[at], together[at]) for name, at in conditions.items()]
        pooled = [number for at in conditions.values() for number in at]
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
