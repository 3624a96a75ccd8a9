"""Importance-weighted likelihood of sentences."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from textvae.inference import evaluating
from textvae.metrics.likelihood import importance_weighted_nll
from textvae.metrics.weights import SAMPLES, effective_samples, pareto_shape
from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.progress import Progress
from textvae.text.batches import TokenStore, evaluation_batches

# Padded tokens, over sentences and samples, that are worked on at once.
IW_TOKENS = 16_384


class Weighted(NamedTuple):
    """The importance-weighted -log p(x) of each sentence, in nats, and how even its weights are.

    `effective` are the effective samples and `shape` Pareto's k of their tail (`metrics.weights`); None for a
    language model, whose likelihood is exact, and `shape` for fewer than 25 samples.
    """

    nll: Float64[Tensor, " n"]
    effective: Float64[Tensor, " n"] | None
    shape: Float64[Tensor, " n"] | None


def importance_weights(
    model: TextVAE,
    store: TokenStore,
    rows: np.ndarray,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
    tokens: int = IW_TOKENS,
) -> Weighted | None:
    """Estimate -log (1/S) sum_s p(x, z_s) / q(z_s|x) of each of the sentences `rows`, in nats; z_s from q(z|x).

    An upper bound in expectation that falls to -log p(x) as S grows. Of a language model it is -log p(x); None for
    a posterior without density. For a semi-implicit posterior, q is the mixture of the draw's own component and K
    fresh ones, which leaves the weights unbiased. A sentence's codes depend on the seed and its number alone, so
    `tokens`, how much is worked on at once, changes nothing.

    References: Burda et al. 2016, eq. 8; the estimate of Fu et al. 2020, Table 2.
    """
    found = torch.empty(3, len(store), dtype=torch.float64)
    done, weighs, tailed = 0, model.prior is not None, samples >= SAMPLES
    with evaluating(model):
        prior = model.prior
        for batch in evaluation_batches(store, max(1, tokens // samples), rows):
            index, batch = batch.index, batch.to(model.device)
            noise = sentence_noise(seed, index, model.device)
            posterior = model.encode(batch, noise, samples)
            if posterior is None or prior is None:
                weights = model.log_px(batch, None).double().sum(-1)
            else:
                z = posterior.rsample(noise, samples)
                log_q = posterior.log_prob(z)
                if log_q is None:
                    return None
                log_px = [
                    model.log_px(batch, some).double().sum(-1)
                    for some in z.split(max(1, tokens // batch.ids.numel()))
                ]
                weights = torch.cat(log_px) + (prior.log_prob(z) - log_q).double()
            found[0, index] = importance_weighted_nll(weights).cpu()
            if weighs:
                found[1, index] = effective_samples(weights).cpu()
                if (shape := pareto_shape(weights)) is not None:
                    found[2, index] = shape.cpu()
            done += len(index)
            if progress is not None:
                progress(done, len(rows))
    nll, effective, shapes = found[:, torch.as_tensor(rows)]
    return Weighted(nll, effective if weighs else None, shapes if weighs and tailed else None)


def subset(sentences: int, wanted: int | None, seed: int) -> np.ndarray:
    """Draw the numbers of `wanted` sentences without replacement, by the seed; all of them for None."""
    if wanted is None or wanted >= sentences:
        return np.arange(sentences)
    return np.sort(np.random.default_rng([seed, 1]).choice(sentences, wanted, replace=False))
