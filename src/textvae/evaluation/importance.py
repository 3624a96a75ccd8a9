"""Importance-weighted likelihood of sentences of a split."""

import numpy as np
import torch

from textvae.generate.likelihood import IW_TOKENS, Weighted, weigh
from textvae.inference import evaluating
from textvae.metrics.weights import SAMPLES
from textvae.model import TextVAE
from textvae.progress import Progress
from textvae.text.batches import TokenStore, evaluation_batches

__all__ = ["Weighted", "importance_weights", "subset"]


def importance_weights(
    model: TextVAE,
    store: TokenStore,
    rows: np.ndarray,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
    tokens: int = IW_TOKENS,
) -> Weighted | None:
    """Estimate -log p(x) of each of the sentences `rows` as `generate.likelihood.weigh` does.

    None for a posterior without density. `tokens`, how much is worked on at once, changes nothing.
    """
    found = torch.empty(3, len(store), dtype=torch.float64)
    done, weighs = 0, model.prior is not None
    with evaluating(model):
        for batch in evaluation_batches(store, max(1, tokens // samples), rows):
            weighted = weigh(model, batch.to(model.device), samples, seed, tokens)
            if weighted is None:
                return None
            for row, values in zip(found, weighted, strict=True):
                if values is not None:
                    row[batch.index] = values
            done += len(batch.index)
            if progress is not None:
                progress(done, len(rows))
    nll, effective, shapes = found[:, torch.as_tensor(rows)]
    return Weighted(nll, effective if weighs else None, shapes if weighs and samples >= SAMPLES else None)


def subset(sentences: int, wanted: int | None, seed: int) -> np.ndarray:
    """Draw the numbers of `wanted` sentences without replacement, by the seed; all of them for None."""
    if wanted is None or wanted >= sentences:
        return np.arange(sentences)
    return np.sort(np.random.default_rng([seed, 1]).choice(sentences, wanted, replace=False))
