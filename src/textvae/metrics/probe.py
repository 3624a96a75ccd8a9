"""Probes: logistic regression from features of a sentence to its label, trained on few or many labels."""

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from textvae.errors import RequestError
from textvae.metrics.likelihood import standard_error

# Inverse strength of the penalty |w|^2 / 2, scikit-learn's C.
PENALTY = 1.0
# A feature with a smaller standard deviation is constant up to rounding.
CONSTANT = 1e-6


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on test sentences of a regression trained on `labels` sentences, averaged over `draws`.

    Attributes:
        standard_error: Standard error over different test sentences, copies of one counted together.
        standard_deviation: Standard deviation over draws, None for a single one.
    """

    labels: int
    accuracy: float
    standard_error: float | None
    draws: int
    standard_deviation: float | None

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON, with a reason for each null."""
        reasons = {}
        if self.standard_error is None:
            reasons["standard_error"] = (
                "there is one test sentence, or copies of one: no deviation between sentences"
            )
        if self.standard_deviation is None:
            reasons["standard_deviation"] = "of one draw there is none"
        return {**asdict(self), "reasons": reasons}


def probe(
    train: Any,
    train_labels: Sequence[str],
    test: Any,
    test_labels: Sequence[str],
    labels: int | None = None,
    draws: int = 5,
    seed: int = 0,
    groups: Int[np.ndarray, " test"] | None = None,
) -> Accuracy:
    """Return the accuracy of logistic regression on test sentences after training on `labels` sentences.

    The penalty is |w|^2 / 2 for a loss summed over sentences (C = 1). With fewer labels than available, training
    sets are drawn `draws` times without replacement; a draw with a single label value always predicts it.

    Args:
        train: Features, (sentence, feature), an array or a sparse matrix, used without scaling.
        train_labels: Labels of the training sentences.
        test: Features of the test sentences.
        test_labels: Labels of the test sentences.
        labels: Training sentences, None for all.
        draws: Number of training sets.
        seed: Seed of the draws.
        groups: Group numbers of equal test sentences, for the standard error.

    Raises:
        RequestError: Without a test sentence, for a single label value, and for more labels than available.
    """
    if not len(test_labels):
        raise RequestError("probe: 0 test sentences given; at least one is needed")
    values = sorted(set(train_labels))
    if len(values) < 2:
        present = f"only {values[0]!r}" if values else "none"
        raise RequestError(f"probe: {present} among the labels to learn from; two different ones are needed")
    known, truth = np.array(train_labels), np.array(test_labels)
    size = len(known) if labels is None else labels
    if not 1 <= size <= len(known):
        raise RequestError(
            f"probe: {size:,} labels asked for, and there are {len(known):,}; ask for 1 or more of them"
        )
    right = []
    for draw in range(draws if size < len(known) else 1):
        rows = np.random.default_rng([seed, size, draw]).permutation(len(known))[:size]
        rows.sort()
        right.append(_answers(train[rows], known[rows], test) == truth)
    shares = [float(one.mean()) for one in right]
    return Accuracy(
        labels=size,
        accuracy=fmean(shares),
        standard_error=_error(np.mean(right, axis=0), groups),
        draws=len(right),
        standard_deviation=stdev(shares) if len(shares) > 1 else None,
    )


def majority(
    train_labels: Sequence[str], test_labels: Sequence[str], groups: Int[np.ndarray, " test"] | None = None
) -> Accuracy:
    """Return the accuracy of always predicting the most common training label; ties by name."""
    counts = Counter(sorted(train_labels))
    right = np.array(test_labels) == counts.most_common(1)[0][0]
    return Accuracy(len(train_labels), float(right.mean()), _error(right, groups), 1, None)


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features centred and divided by their training standard deviation; constant ones become 0.

    So a probe does not depend on the scale of a code, and a hardly used code can still predict a label.
    """
    centre, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > CONSTANT)
    return (train - centre) * factor, (test - centre) * factor


def bags(train: Sequence[Sequence[Hashable]], test: Sequence[Sequence[Hashable]]) -> tuple[Any, Any]:
    """Return counts of the training sentences' tokens in each sentence as sparse matrices; ignore other tokens."""
    from sklearn.feature_extraction.text import CountVectorizer

    places: dict[Hashable, int] = {}
    for sentence in train:
        for token in sentence:
            places.setdefault(token, len(places))
    counter = CountVectorizer(analyzer=list, vocabulary=places or {"": 0}, dtype=np.float64)
    return counter.transform(train), counter.transform(test)


def _error(right: np.ndarray, groups: Int[np.ndarray, " test"] | None) -> float | None:
    """Return the standard error of the mean; None for a single test sentence, whatever the number of its copies."""
    error = standard_error(torch.from_numpy(right.astype(float)), groups)
    return None if math.isnan(error) else error


def _answers(features: Any, labels: np.ndarray, test: Any) -> np.ndarray:
    """Return the labels that a regression trained on these features predicts for the test sentences."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(set(labels)) == 1:
        return np.full(test.shape[0], labels[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy shows the quality of the fit
        return LogisticRegression(C=PENALTY, max_iter=1000).fit(features, labels).predict(test)
