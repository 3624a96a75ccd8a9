"""Attributes of texts: a classifier of labels, content kept, and the attributes known to the embedded grammar."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from textvae.errors import RequestError
from textvae.metrics.bleu import corpus_bleu
from textvae.metrics.signature import digest
from textvae.metrics.splits import groups_of, held_out
from textvae.metrics.words import tokenized
from textvae.text.grammar import reviews
from textvae.text.readers import require_texts

# One in this many labelled texts is held out to measure the classifier's accuracy.
HELD_OUT = 10
# Fewest texts of a label from which a classifier is trained.
FEWEST = 10


@dataclass(frozen=True)
class Classifier:
    """Classifier of a text's label by its words and pairs of words.

    Attributes:
        accuracy: Accuracy on `held_out` texts that were not used for training.
        majority: Accuracy on them of the label most common in training; ties by name.
        fingerprint: Identifier of the labelled texts and of the software.
    """

    labels: tuple[str, ...]
    trained_on: int
    held_out: int
    accuracy: float
    majority: float
    predict: Callable[[Sequence[str]], list[str]]
    fingerprint: str = "unknown"

    def about(self) -> dict[str, float | int]:
        """Return the sizes and accuracies by name."""
        return {name: getattr(self, name) for name in ("trained_on", "held_out", "accuracy", "majority")}


def train_classifier(
    texts: Sequence[str], labels: Sequence[str], tokenization: str = "words", seed: int = 0
) -> Classifier:
    """Train a logistic regression on the presence of words and pairs of neighbours.

    A tenth of the texts, drawn by the seed, is held out to measure accuracy. Texts with the same tokens are counted
    once; those that the classifier cannot distinguish are either all held out or all used for training.

    Raises:
        RequestError: Without a text, for a single label, and for labels of fewer than ten different texts.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = require_texts(texts), require_texts(labels, "labels")

    def grams(text: str) -> list[str]:
        words = tokenized([text], tokenization)[0]
        return [*words, *(f"{a} {b}" for a, b in zip(words, words[1:], strict=False))]

    different: dict[tuple[str, ...], tuple[str, str]] = {}
    for text, words, label in zip(texts, tokenized(texts, tokenization), labels, strict=True):
        different[tuple(words)] = (different.get(tuple(words), (text,))[0], label)
    pairs = list(different.values())
    counts = Counter(label for _, label in pairs)
    if not pairs:
        raise RequestError("classifier: no text to learn from; give labelled texts")
    if len(counts) < 2:
        raise RequestError(f"classifier: one label only, {next(iter(counts))!r}; it needs two")
    rare = [label for label, count in counts.items() if count < FEWEST]
    if rare:
        raise RequestError(
            f"classifier: {counts[rare[0]]} texts of label {rare[0]!r}; it needs {FEWEST} or more of each"
        )
    groups = groups_of([frozenset(grams(text)) for text, _ in pairs])
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    held, kept = held_out(groups, order, [len(pairs) // HELD_OUT])
    if not len(held) or len({pairs[at][1] for at in kept}) < 2:
        raise RequestError(
            "classifier: too many texts have the same words and pairs of words: none is left to be held out, or "
            "one label only to learn from; give more different texts"
        )
    counter = CountVectorizer(analyzer=grams, binary=True, min_df=2 if len(kept) >= 1000 else 1)
    model: Any = make_pipeline(counter, LogisticRegression(solver="newton-cg", max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy shows the quality of the fit
        model.fit([pairs[at][0] for at in kept], [pairs[at][1] for at in kept])

    def predict(given: Sequence[str]) -> list[str]:
        return [str(label) for label in model.predict(list(given))] if given else []

    truth = [pairs[at][1] for at in held]
    predicted = predict([pairs[at][0] for at in held])
    right = sum(a == b for a, b in zip(predicted, truth, strict=True))
    commonest = Counter(sorted(pairs[at][1] for at in kept)).most_common(1)[0][0]
    majority = truth.count(commonest) / len(truth)
    made_from = f"sklearn-{version('scikit-learn')}-{digest(map(chr(9).join, pairs))}"
    return Classifier(tuple(sorted(counts)), len(kept), len(held), right / len(held), majority, predict, made_from)


def content_kept(texts: Sequence[str], references: Sequence[str], tokenization: str = "words") -> float:
    """Return the corpus BLEU of texts against one reference each, 0 to 100, by sacreBLEU's defaults.

    References:
        Papineni et al. 2002; Post 2018.

    >>> round(content_kept(["the food was bad ."], ["the food was good ."]), 2)
    42.73
    """
    predicted, expected = tokenized(texts, tokenization), tokenized(references, tokenization)
    return 100 * corpus_bleu(predicted, expected, smoothing="exp")


class GrammarScores(NamedTuple):
    """Scores of texts of the embedded grammar by its own parser, shares from 0 to 1.

    Attributes:
        in_language: Share of sentences of the grammar.
        wanted: Share that are, and have the wanted value.
        exact: Share that also have all other attributes unchanged.
        kept: Share, among those in the language, with each other attribute unchanged; None if there are none.
    """

    in_language: float
    wanted: float
    exact: float
    kept: dict[str, float] | None


def grammar_scores(before: Sequence[str], after: Sequence[str], attribute: str, wanted: str) -> GrammarScores:
    """Score sentences of the embedded grammar after a change of an attribute to the value `wanted`.

    Raises:
        RequestError: For an unknown attribute or value, and a sentence in `before` that is not of the grammar.
    """
    grammar = reviews()
    if attribute not in grammar.values:
        raise RequestError(f"grammar: no attribute {attribute!r}; it has {', '.join(grammar.values)}")
    if wanted not in grammar.values[attribute]:
        raise RequestError(f"{attribute}: no value {wanted!r}; it has {', '.join(grammar.values[attribute])}")
    pairs = []
    for old, new in zip(before, after, strict=True):
        was = grammar.attributes(old)
        if was is None:
            raise RequestError(f"{old[:60]!r}: is not a sentence of the embedded grammar")
        pairs.append((was, grammar.attributes(new)))
    parsed = [(was, now) for was, now in pairs if now is not None]
    others = [name for name in grammar.values if name != attribute]
    reached = [(was, now) for was, now in parsed if now[attribute] == wanted]
    exact = sum(all(was[name] == now[name] for name in others) for was, now in reached)
    kept = {name: sum(was[name] == now[name] for was, now in parsed) / len(parsed) for name in others if parsed}
    total = max(len(pairs), 1)
    return GrammarScores(len(parsed) / total, len(reached) / total, exact / total, kept or None)
