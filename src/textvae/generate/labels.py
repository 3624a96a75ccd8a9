"""Labels of texts by a conditional model: p(c|x) by Bayes' rule from p(c) and p(x|c)."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from textvae.errors import RequestError
from textvae.generate.codec import Codec
from textvae.generate.likelihood import likelihood
from textvae.generate.reading import encoded_together
from textvae.inference import evaluating
from textvae.run.records import label_names
from textvae.text.readers import require_texts

# Most combinations of labels that are tried, each of which scores every text; importance samples for it.
MOST, SAMPLES = 1_000, 20


@dataclass(frozen=True)
class InferredLabels:
    """The most probable labels of n texts.

    Attributes:
        labels: For each column the label of each text: a condition for other methods.
        probability: p(c|x) of these labels together, (n,).
        marginals: For each column p(value|x), (n, values), the values in alphabetical order.
    """

    labels: dict[str, list[str]]
    probability: Float64[np.ndarray, " n"]
    marginals: dict[str, Float64[np.ndarray, "n values"]]


def infer_labels(
    codec: Codec, given: Callable[[Any], Codec], texts: Iterable[str], samples: int = SAMPLES, seed: int = 0
) -> InferredLabels:
    """Compute p(c|x), in proportion to p(c) p(x|c), for every combination c of labels.

    p(x|c) is estimated by importance sampling as in `likelihood`, and p(c) is the product over columns of the
    shares in the training text. Of a model that has learned a classifier it is that, q(c|x), column by column.

    Args:
        codec: A model conditioned on labels.
        given: Returns the model under a condition.
        texts: Texts.
        samples: Importance samples for each text and combination.
        seed: Of the codes.

    Raises:
        RequestError: For a model without labels, one of more than 1,000 combinations, and as `likelihood`.

    References:
        Kingma et al. 2014, "Semi-supervised learning with deep generative models", section 3 (M2 as a classifier).
    """
    names = label_names(codec.run.environment)
    if not names:
        raise RequestError(f"{codec.run.folder}: is conditioned on no labels that could be inferred")
    combinations = list(itertools.product(*names.values()))
    if len(combinations) > MOST:
        raise RequestError(
            f"{codec.run.folder}: has {len(combinations):,} combinations of labels, and at most {MOST:,} are "
            "tried; give the condition"
        )
    texts = require_texts(texts)
    if (classified := _classified(codec, texts)) is not None:
        return _of_marginals(dict(names), classified)
    shares = _log_shares(codec, dict(names))
    joint = np.empty((len(texts), len(combinations)))
    for place, values in enumerate(combinations):
        own = dict(zip(names, values, strict=True))
        log_prior = sum(shares[column][names.number(column, value)] for column, value in own.items())
        joint[:, place] = log_prior - likelihood(given(own), texts, samples, seed).nll
    joint = np.exp(joint - joint.max(1, keepdims=True))
    joint /= joint.sum(1, keepdims=True)
    best = joint.argmax(1)
    shape = (len(texts), *(len(values) for values in names.values()))
    marginals = {}
    for axis, column in enumerate(names, 1):
        others = tuple(other for other in range(1, len(shape)) if other != axis)
        marginals[column] = joint.reshape(shape).sum(others)
    labels = {column: [combinations[at][axis] for at in best] for axis, column in enumerate(names)}
    return InferredLabels(labels, joint[np.arange(len(texts)), best], marginals)


def _classified(codec: Codec, texts: list[str]) -> list[Float64[np.ndarray, "n values"]] | None:
    """Return q(c|x) by column, of a model that has a classifier; else None."""
    conditioning = codec.model.conditioning
    if conditioning is None or conditioning.classifier is None:
        return None
    ids, _ = codec.token_ids(texts)
    found: list[np.ndarray] = []
    with evaluating(codec.model):
        for batch in encoded_together(ids, codec.model.device):
            log_q = conditioning.classifier.log_probs(codec.model.vector(batch.to(codec.model.device)))
            found = found or [np.empty((len(ids), own.shape[1])) for own in log_q]
            for column, own in zip(found, log_q, strict=True):
                column[batch.index.numpy()] = own.double().exp().cpu().numpy()
    return found


def _of_marginals(names: dict[str, list[str]], marginals: list[Float64[np.ndarray, "n values"]]) -> InferredLabels:
    """Return the most probable labels by columns that are independent given the text."""
    best = [column.argmax(1) for column in marginals]
    labels = {name: [names[name][at] for at in own] for name, own in zip(names, best, strict=True)}
    each = [column[np.arange(len(column)), own] for column, own in zip(marginals, best, strict=True)]
    return InferredLabels(labels, np.prod(each, axis=0), dict(zip(names, marginals, strict=True)))


def _log_shares(codec: Codec, names: dict[str, list[str]]) -> dict[str, list[float]]:
    """Return the log share of each value of each column in the training text."""
    counts = codec.run.environment["data"].get("condition_counts") or {}
    found = {}
    for column, values in names.items():
        own = counts.get(column, [1] * len(values))
        found[column] = [math.log(max(count, 1) / max(sum(own), 1)) for count in own]
    return found
