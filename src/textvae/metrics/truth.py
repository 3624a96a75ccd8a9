"""Distance of sentences from the distribution that a grammar defines: exact probabilities and attributes."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch

from textvae.errors import RequestError
from textvae.metrics.likelihood import standard_error
from textvae.text.grammar import Grammar

# Added to the count of every value, so that unobserved values have a positive probability.
SMOOTHING = 0.5
# Sentences per combination of values that a joint histogram needs.
SENTENCES_A_CELL = 5


@dataclass(frozen=True)
class Divergences:
    """KL divergences in nats between the smoothed frequencies of values in sentences and their true probabilities.

    `of_true_sentences` is the approximate value of either for as many sentences of the grammar itself: (values - 1)
    / 2n.
    """

    reverse: float  # KL(sentences || grammar)
    forward: float  # KL(grammar || sentences)
    of_true_sentences: float
    values: int


@dataclass(frozen=True)
class TrueDistance:
    """Sentences compared with the grammar that generated the data; surprisals in nats per sentence.

    Attributes:
        inside: Share of sentences that the grammar can generate.
        surprisal: Mean true -log p of those, to be compared with `entropy`, its value for the grammar's own
        sentences. attributes: Divergences of each attribute, of those inside; None without any.
        joint: Divergences over the attributes `joint_of` together: as many of those with few values as there are
            sentences for.
    """

    sentences: int
    inside: float
    inside_standard_error: float
    surprisal: float | None
    surprisal_standard_error: float | None
    entropy: float
    surprisal_above_entropy: float | None
    attributes: Mapping[str, Divergences] | None
    joint: Divergences | None
    joint_of: tuple[str, ...]
    smoothing: float

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON; values that are not finite become null, and each null has its reason."""
        found = asdict(self) | {"joint_of": list(self.joint_of)}
        found = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in found.items()}
        few = "too few sentences are of the language" if self.inside else "no sentence is of the language"
        reasons = {name: few for name, value in found.items() if value is None}
        if "inside_standard_error" in reasons:
            reasons["inside_standard_error"] = "of one sentence there is none"
        return {**found, "reasons": reasons}


def true_distance(sentences: Sequence[str], language: Grammar) -> TrueDistance:
    """Compare sentences with the language: share inside, surprisal, and divergences of their attributes.

    A surprisal below the entropy means that likely sentences are too frequent, one above it that rare ones are;
    either is possible with divergences near 0. A single sentence outside the language makes KL(sentences ||
    grammar) of whole sentences infinite, so the share comes first.

    Raises:
        RequestError: Without a sentence.
    """
    if isinstance(sentences, str) or not sentences:
        raise RequestError("true_distance: no sentences given; a list of at least one is needed")
    parsed = {text: (language.log_prob(text), language.attributes(text)) for text in dict.fromkeys(sentences)}
    surprisals = -torch.tensor([parsed[text][0] for text in sentences], dtype=torch.float64)
    is_inside = surprisals.isfinite()
    inside = surprisals[is_inside]
    found = [attributes for text in sentences if (attributes := parsed[text][1]) is not None]
    names = joined(language, len(found))
    mean = inside.mean().item() if len(inside) else None
    return TrueDistance(
        sentences=len(sentences),
        inside=is_inside.double().mean().item(),
        inside_standard_error=standard_error(is_inside.double()),
        surprisal=mean,
        surprisal_standard_error=standard_error(inside) if len(inside) else None,
        entropy=language.entropy,
        surprisal_above_entropy=None if mean is None else mean - language.entropy,
        attributes={name: _divergences(language, found, (name,)) for name in language.values} if found else None,
        joint=_divergences(language, found, names) if len(names) > 1 else None,
        joint_of=names if len(names) > 1 else (),
        smoothing=SMOOTHING,
    )


def joined(language: Grammar, sentences: int) -> tuple[str, ...]:
    """Return the attributes whose joint histogram that many sentences can fill, smallest first."""
    chosen: list[str] = []
    cells = 1
    for name, values in sorted(language.values.items(), key=lambda item: len(item[1])):
        cells *= len(values)
        if cells * SENTENCES_A_CELL > sentences:
            break
        chosen.append(name)
    return tuple(name for name in language.values if name in chosen)


def divergences(counts: Mapping[Any, int], truth: Mapping[Any, float]) -> Divergences:
    """Return the KL both ways between counts, with 1/2 added to each, and the probabilities of the same values.

    Raises:
        RequestError: If nothing was counted.
    """
    total = sum(counts.values())
    if not total:
        raise RequestError("divergences: nothing was counted; at least one value is needed")
    size = total + SMOOTHING * len(truth)
    reverse = forward = 0.0
    for value, p in truth.items():
        q = (counts.get(value, 0) + SMOOTHING) / size
        reverse += q * math.log(q / p)
        forward += p * math.log(p / q)
    return Divergences(reverse, forward, (len(truth) - 1) / (2 * total), len(truth))


def _divergences(language: Grammar, found: Sequence[Mapping[str, str]], names: Sequence[str]) -> Divergences:
    """Return the divergences of the attributes together; in the grammar they are independent."""
    marginal = [language.values[name] for name in names]
    cells = product(*(probabilities.items() for probabilities in marginal))
    truth = {tuple(value for value, _ in cell): math.prod(p for _, p in cell) for cell in cells}
    return divergences(Counter(tuple(one[name] for name in names) for one in found), truth)
