"""Do features of a sentence tell its label? Logistic regression, learned from few labels and from many."""

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
# Below this standard deviation a feature is a constant with rounding.
CONSTANT = 1e-6


@dataclass(frozen=True)
class Accuracy:
    """The share of test sentences whose label was found, after learning from `labels` sentences.

    The mean over `draws` drawn sets of so many; `standard_error` is over different test sentences, copies of one
    counted together, `standard_deviation` over draws, None for a single one.
    """

    labels: int
    accuracy: float
    standard_error: float | None
    draws: int
    standard_deviation: float | None

    def document(self) -> dict[str, Any]:
        """As plain values for JSON: what is null has its reason."""
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
    """How often logistic regression finds the label of a test sentence after learning from `labels` sentences.

    `train` and `test` are features, (sentence, feature), as an array or a sparse matrix; they are taken as they
    are. The penalty is |w|^2 / 2 for a loss summed over sentences (C = 1). Fewer labels than there are get drawn
    `draws` times, without replacement; a draw with one label alone always answers that one. `groups` numbers test
    sentences that are equal, for the standard error.
    Raises RequestError without a test sentence, for one label value only, and for more labels than there are.
    """
    if not len(test_labels):
        raise RequestError("probe: 0 test sentences given; at least one is needed")
    values = sorted(set(train_labels))
    if len(values) < 2:
        found = f"only {values[0]!r}" if values else "none"
        raise RequestError(f"probe: {found} among the labels to learn from; two different ones are needed")
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
    """How often the label that is commonest among those to learn from is right; of equals the first by name."""
    counts = Counter(sorted(train_labels))
    right = np.array(test_labels) == counts.most_common(1)[0][0]
    return Accuracy(len(train_labels), float(right.mean()), _error(right, groups), 1, None)


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with the training ones' mean taken off and divided by their standard deviation; constant ones are 0.

    So a probe does not depend on the scale of a code, and a code that is hardly used can still tell a label.
    """
    centre, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > CONSTANT)
    return (train - centre) * factor, (test - centre) * factor


def bags(train: Sequence[Sequence[Hashable]], test: Sequence[Sequence[Hashable]]) -> tuple[Any, Any]:
    """How often a sentence has each token of the training sentences, as sparse matrices; others are left out."""
    from sklearn.feature_extraction.text import CountVectorizer

    places: dict[Hashable, int] = {}
    for sentence in train:
        for token in sentence:
            places.setdefault(token, len(places))
    counter = CountVectorizer(analyzer=list, vocabulary=places or {"": 0}, dtype=np.float64)
    return counter.transform(train), counter.transform(test)


def _error(right: np.ndarray, groups: Int[np.ndarray, " test"] | None) -> float | None:
    """Standard error of their mean; None for a single test sentence, whatever the number of its copies."""
    error = standard_error(torch.from_numpy(right.astype(float)), groups)
    return None if math.isnan(error) else error


def _answers(features: Any, labels: np.ndarray, test: Any) -> np.ndarray:
    """The labels that a regression learned from these features gives the test sentences."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(set(labels)) == 1:
        return np.full(test.shape[0], labels[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its accuracy says how good it is
        return LogisticRegression(C=PENALTY, max_iter=1000).fit(features, labels).predict(test)
