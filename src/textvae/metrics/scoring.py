"""The scores of text by name, each with its signature: quality, diversity, and what is copied."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

import numpy as np

import textvae
from textvae.errors import RequestError
from textvae.extensions import Registry
from textvae.metrics import diversity
from textvae.metrics.bleu import (
    SMOOTHINGS,
    Matches,
    corpus_bleu,
    matches,
    sampled_matches,
    sampled_self_matches,
    self_matches,
    sentence_bleu,
)
from textvae.metrics.ngrams import Text, Tokens
from textvae.metrics.rouge import rouge, rouge_set
from textvae.metrics.signature import digest, parse, signature
from textvae.metrics.words import require_tokenization, tokenized

# Of references, in tokens: the buckets of prokhorov2019, Table 1. "all" has longer ones too.
BUCKETS = {"1-10": (0, 10), "11-20": (11, 20), "21-30": (21, 30), "all": (0, math.inf)}
# What that table has of each bucket.
RECONSTRUCTION = ("corpus-bleu-2", "corpus-bleu-4", "rouge-set-2", "rouge-set-4")

# What a metric needs beside the text: "pairs" are references line by line.
Needs = Literal["nothing", "references", "pairs", "training"]
# One value, or one for each draw of references.
Values = list[float | int]


@dataclass(frozen=True)
class How:
    """Options of scores: tokenization, case, smoothing, and how references are drawn.

    BLEU and Self-BLEU use `at_most` references, drawn by the seed, and are the mean over `draws` such draws, of the
    seeds `seed`, `seed` + 1, ...; with None they use all references, and nothing is random.

    Raises RequestError for a number below 1, an unknown smoothing, and as `require_tokenization`.
    """

    tokenization: str = "words"
    lowercase: bool = False
    smoothing: str = "none"
    at_most: int | None = None
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, count in (("at_most", self.at_most), ("draws", self.draws)):
            if count is not None and count < 1:
                raise RequestError(f"{name} = {count}: must be 1 or more")
        if self.smoothing not in SMOOTHINGS:
            raise RequestError(f"smoothing: {self.smoothing!r} is not one of {', '.join(SMOOTHINGS)}")
        require_tokenization(self.tokenization)

    def seeds(self, available: int) -> range | None:
        """Return the seeds of the draws from so many references; None where all are used."""
        if self.at_most is None or self.at_most >= available:
            return None
        return range(self.seed, self.seed + self.draws)


PLAIN = How()


@dataclass(frozen=True)
class Given:
    """Sentences to be scored and what they are compared with, as tokens; `lengths` says which bucket they are."""

    sentences: Sequence[Tokens]
    references: Sequence[Tokens] | None = None
    training: Sequence[Tokens] | None = None
    how: How = PLAIN
    lengths: str = "all"

    @cached_property
    def known(self) -> Text:
        """The references that are not empty."""
        references = Text.of(self.references or ())
        sizes = references.sizes()
        return references if sizes.all() else references.chosen(np.flatnonzero(sizes))

    @cached_property
    def against(self) -> str:
        """Digest of the references."""
        return digest(map(" ".join, self.references or ()))

    @cached_property
    def trained_on(self) -> str:
        """Digest of the training text."""
        return digest(map(" ".join, self.training or ()))

    @cached_property
    def against_references(self) -> list[Matches]:
        """The sentences against the references that are not empty: once, or once for each draw of some."""
        if not self.known:
            return []
        seeds = self.how.seeds(len(self.known))
        if seeds is None:
            return [matches(self.sentences, self.known)]
        return [sampled_matches(self.sentences, self.known, self.how.at_most or 1, seed) for seed in seeds]

    @cached_property
    def against_others(self) -> list[Matches]:
        """Each sentence against the others: once, or once for each draw of some."""
        if len(self.sentences) < 2:
            return []
        seeds = self.how.seeds(len(self.sentences) - 1)
        if seeds is None:
            return [self_matches(self.sentences)]
        return [sampled_self_matches(self.sentences, self.how.at_most or 1, seed) for seed in seeds]


def given(
    texts: Iterable[str],
    references: Iterable[str] | None = None,
    training: Iterable[str] | None = None,
    how: How = PLAIN,
) -> Given:
    """Tokenize texts to be scored, as `words.tokenized` does, one at a time.

    Raises RequestError without a text, and as `tokenized`.
    """
    found: dict[str, Text | None] = {}
    for name, some in (("sentences", texts), ("references", references), ("training", training)):
        tokens = found[name] = None if some is None else tokenized(some, how.tokenization, how.lowercase)
        if tokens is not None and not len(tokens):
            raise RequestError(f"{name}: 0 given; at least one is needed")
    return Given(found["sentences"] or [], found["references"], found["training"], how)


class TextScore(NamedTuple):
    """A score, or None and the reason why; one by several draws is their mean, with their deviation."""

    value: float | int | None
    sentences: int
    signature: str
    reason: str | None = None
    draws: int | None = None
    standard_deviation: float | None = None

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON, without what does not apply."""
        fields = self._asdict()
        return {name: value for name, value in fields.items() if value is not None or name == "value"}


class Metric(NamedTuple):
    """A metric: what it needs beside the text, its unit, and the function that computes it."""

    needs: Needs
    unit: str
    compute: Callable[[Given], Values | str]
    parts: Mapping[str, str] = {}


def score(text: Given, metrics: Sequence[str]) -> dict[str, TextScore]:
    """Return the scores that are named.

    Raises RequestError for an unknown metric, and one that needs what was not given.
    """
    return {name: _scored(text, name, metric) for name, metric in asked(text, metrics).items()}


def over_draws(draws: Sequence[Mapping[str, TextScore]], **parts: str | int) -> dict[str, TextScore]:
    """Return means and standard deviations of scores over several texts drawn from the same model.

    A score that one text lacks is None, with that one's reason. `parts` say in the signature how they were drawn.
    Raises RequestError without a text.
    """
    if not draws:
        raise RequestError("draws: 0 given; at least one is needed")
    found = {}
    for name, first in draws[0].items():
        scores = [one[name] for one in draws]
        metric, own = parse(first.signature)
        signed = signature(metric, **{**own, **parts, "draws": len(draws)})
        values = [one.value for one in scores if one.value is not None]
        if len(values) < len(scores):
            reason = next(one.reason for one in scores if one.value is None)
            found[name] = TextScore(None, first.sentences, signed, reason)
        elif len(values) == 1:
            found[name] = TextScore(values[0], first.sentences, signed)
        else:
            found[name] = TextScore(fmean(values), first.sentences, signed, None, len(values), stdev(values))
    return found


def score_by_length(text: Given, metrics: Sequence[str] = RECONSTRUCTION) -> dict[str, dict[str, TextScore]]:
    """Return the scores of the sentences whose references have up to 10 tokens, 11 to 20, 21 to 30, and of all.

    Raises RequestError as `score`, and where there is not one reference for each sentence.

    Source: Prokhorov et al. 2019, Table 1.
    """
    asked(text, metrics)
    sentences, references = Text.of(text.sentences), Text.of(_paired(text, "by length"))
    sizes, found = references.sizes(), {}
    for bucket, (least, most) in BUCKETS.items():
        rows = np.flatnonzero((least <= sizes) & (sizes <= most))
        part = replace(text, sentences=sentences.chosen(rows), references=references.chosen(rows), lengths=bucket)
        found[bucket] = score(part, metrics)
    return found


def available(text: Given) -> list[str]:
    """Return the metrics that need no pairs and whose references or training text are given."""
    has = {"nothing": True, "references": text.references is not None, "training": text.training is not None}
    return [name for name, metric in METRICS.items() if has.get(metric.needs, False)]


def asked(text: Given, names: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics by name, once what they need is found to be given.

    Raises RequestError as `score`.
    """
    require_metrics(names, text.references is not None, text.training is not None)
    for name in names:
        if METRICS[name].needs == "pairs":
            _paired(text, name)
    return {name: METRICS[name] for name in names}


def require_metrics(names: Sequence[str], references: bool, training: bool) -> None:
    """Refuse names of metrics that can be known to fail before any text is read.

    Raises RequestError for an unknown metric, and one that needs references or training text which are not given.
    """
    for name in names:
        if name not in METRICS:
            raise RequestError(f"metrics = {name!r}: {METRICS.why_not(name, 'metric')}")
        needs = METRICS[name].needs
        if needs == "references" and not references:
            raise RequestError(f"{name}: needs references; give --references FILE")
        if needs == "pairs" and not references:
            raise RequestError(f"{name}: needs a reference for each sentence; give --references FILE")
        if needs == "training" and not training:
            raise RequestError(f"{name}: needs the training text; give --train FILE")


def _paired(text: Given, name: str) -> Sequence[Tokens]:
    """Return the references, one for each sentence."""
    if text.references is None:
        raise RequestError(f"{name}: needs a reference for each sentence; give --references FILE")
    if len(text.references) != len(text.sentences):
        raise RequestError(
            f"{name}: compares line by line, and there are {len(text.sentences):,} sentences for "
            f"{len(text.references):,} references; give one for each"
        )
    return text.references


def _scored(text: Given, name: str, metric: Metric) -> TextScore:
    sentences = len(text.sentences)
    values = metric.compute(text) if sentences else "no sentence is of this length"
    signed = signature(name, **_parts(text, metric, values))
    if isinstance(values, str):
        return TextScore(None, sentences, signed, values)
    if len(values) == 1:
        return TextScore(values[0], sentences, signed)
    return TextScore(fmean(values), sentences, signed, draws=len(values), standard_deviation=stdev(values))


def _parts(text: Given, metric: Metric, values: Values | str) -> dict[str, str | int]:
    """Return the parts of the score's signature."""
    parts: dict[str, str | int] = {
        "unit": metric.unit,
        "unk": "counted",
        **metric.parts,
        "tokenize": _versioned(text.how.tokenization),
        "case": "lower" if text.how.lowercase else "mixed",
        "sentences": len(text.sentences),
        "textvae": textvae.__version__,
    }
    if text.lengths != "all":
        parts["lengths"] = text.lengths
    if metric.needs in ("references", "pairs"):
        parts["against"] = text.against
    if metric.needs == "training":
        parts["training"] = text.trained_on
    if "references" in parts:  # a metric that uses all or some of a set
        parts["smoothing"] = text.how.smoothing
        available = len(text.known) if metric.needs == "references" else len(text.sentences) - 1
        if (seeds := text.how.seeds(available)) is not None:
            parts |= {"references": text.how.at_most or 1, "seed": text.how.seed, "draws": len(seeds)}
    if "by" in parts:
        parts["by"] = _versioned(metric.parts["by"])
    return parts


def _versioned(name: str) -> str:
    """Return the name, with the version where a package of that name does the work."""
    return f"{name}-{version(name)}" if name in ("jieba", "sacrebleu") else name


def _too_short(n: int, *texts: Sequence[Tokens]) -> str | None:
    """Return the reason why there is no n-gram, where there is none."""
    some = any(Text.of(sentences).sizes().max(initial=0) >= n for sentences in texts)
    return None if some else f"no sentence has {n} tokens" if n > 1 else "there is no token"


def _bleu(n: int, text: Given) -> Values | str:
    if not text.against_references:
        return "every reference is empty"
    return _too_short(n, text.sentences, text.known) or [
        float(sentence_bleu(found, n, text.how.smoothing).mean()) for found in text.against_references
    ]


def _self_bleu(n: int, text: Given) -> Values | str:
    if not text.against_others:
        return "one sentence has no others to be compared with"
    return _too_short(n, text.sentences) or [
        float(sentence_bleu(found, n, text.how.smoothing).mean()) for found in text.against_others
    ]


def _corpus_bleu(n: int, text: Given) -> Values | str:
    references = text.references or ()
    return _too_short(n, text.sentences, references) or [corpus_bleu(text.sentences, references, n)]


def _rouge(measure: Callable[..., Any], n: int, text: Given) -> Values | str:
    references = text.references or ()
    return _too_short(n, text.sentences, references) or [float(measure(text.sentences, references, n).mean())]


def _alone(measure: Callable[[Sequence[Tokens]], float | int], text: Given) -> Values | str:
    return [measure(text.sentences)]


def _unknown(text: Given) -> Values | str:
    return _too_short(1, text.sentences) or [diversity.unknown_share(text.sentences)]


def _distinct(measure: Callable[[Sequence[Tokens], int], float], n: int, text: Given) -> Values | str:
    return _too_short(n, text.sentences) or [measure(text.sentences, n)]


def _copied(text: Given) -> Values | str:
    return [diversity.copied(text.sentences, text.training or ())]


def _overlap(n: int, text: Given) -> Values | str:
    return _too_short(n, text.sentences) or [diversity.overlap(text.sentences, text.training or (), n)]


def _each(
    stem: str, orders: Sequence[int], needs: Needs, compute: Callable[[int, Given], Values | str], **parts: str
) -> dict[str, Metric]:
    """Return a metric for each order, by name."""
    return {f"{stem}-{n}": Metric(needs, "share", partial(compute, n), parts) for n in orders}


_OWN: dict[str, Metric] = {
    **_each("bleu", (2, 3, 4, 5), "references", _bleu, references="all"),
    **_each("self-bleu", (2, 3, 4, 5), "nothing", _self_bleu, references="others"),
    **_each("corpus-bleu", (2, 3, 4, 5), "pairs", _corpus_bleu, smoothing="none", by="sacrebleu"),
    **_each("rouge", (1, 2, 4), "pairs", partial(_rouge, rouge), form="multiset-f1"),
    **_each("rouge-set", (1, 2, 4), "pairs", partial(_rouge, rouge_set), form="set-f1"),
    **_each("distinct", (1, 2), "nothing", partial(_distinct, diversity.distinct_across), over="text"),
    **_each("distinct-within", (1, 2), "nothing", partial(_distinct, diversity.distinct_within), over="sentence"),
    "repeated": Metric("nothing", "share", partial(_alone, diversity.repeated)),
    "copied": Metric("training", "share", _copied),
    **_each("overlap", (1, 2, 3, 4), "training", _overlap),
    "unknown": Metric("nothing", "share", _unknown),
    "vocabulary": Metric("nothing", "tokens", partial(_alone, diversity.vocabulary), {"unk": "left-out"}),
    "length": Metric("nothing", "tokens", partial(_alone, diversity.mean_length)),
}
METRICS = Registry(
    "textvae.metrics", _OWN, lambda entry: None if isinstance(entry, Metric) else "it is not a Metric"
)
