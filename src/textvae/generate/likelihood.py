"""Likelihood of given texts: the bound, and the importance-weighted -log p(x), of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from textvae.errors import RequestError
from textvae.generate.codec import SCORED, Codec
from textvae.generate.reading import batches
from textvae.inference import evaluating
from textvae.metrics.likelihood import importance_weighted_nll
from textvae.metrics.weights import SAMPLES, effective_samples, error_of_log_mean, pareto_shape
from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.text.batches import Batch
from textvae.text.tokenizers import UNK

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


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of each of n texts under a model, in nats, the end mark counted.

    Attributes:
        nll: Importance-weighted estimate of -log p(x); exact for a language model.
        nll_standard_error: Standard error of `nll` over the importance samples, to first order; nan for one sample,
            0 for a language model.
        bound: Reconstruction + KL, by one code of each text: an upper bound on -log p(x) in expectation over
            codes, so that of a single text it may lie below `nll`.
        tokens: Tokens of each text, end mark included.
        unknown: How many of them are the unknown word, which counts as a word like any other.
    """

    nll: Float64[np.ndarray, " n"]
    nll_standard_error: Float64[np.ndarray, " n"]
    bound: Float64[np.ndarray, " n"]
    tokens: Int64[np.ndarray, " n"]
    unknown: Int64[np.ndarray, " n"]


def likelihood(codec: Codec, texts: Iterable[str], samples: int = 500, seed: int = 0, begin: int = 0) -> Likelihood:
    """Score whole texts, however long, by the numbers of `evaluate`: those of a split are the same here.

    Args:
        codec: A trained model.
        texts: The texts.
        samples: Importance samples a text, of a model with codes.
        seed: Of the codes; they depend on it and on the position of a text alone.
        begin: Position of the first text, for texts that are scored in several calls.

    Raises:
        RequestError: For an empty text, an element that is not a text, fewer than one sample, a model of windows or
            without density, and a text too long for a model that reads a fixed number of tokens.
    """
    if samples < 1:
        raise RequestError(f"samples = {samples}: must be 1 or more")
    codec.require_whole_texts()
    ids = codec.whole_ids(texts)
    _check_lengths(codec, ids, begin)
    found = torch.zeros(3, len(ids), dtype=torch.float64)
    with evaluating(codec.model):
        for batch in batches(ids, SCORED):
            found[0, batch.index] = _bound(codec, _numbered(batch, begin, codec), seed)
        for batch in batches(ids, max(1, IW_TOKENS // samples)):
            weighted = weigh(codec.model, _numbered(batch, begin, codec), samples, seed)
            if weighted is None:
                raise _without_density(codec)
            found[1, batch.index] = weighted.nll
            if weighted.effective is not None:
                found[2, batch.index] = error_of_log_mean(weighted.effective, samples)
    bound, nll, error = found.numpy()
    unknown = [one.count(UNK) for one in ids]
    return Likelihood(nll, error, bound, *(np.array(one, dtype=np.int64) for one in ([*map(len, ids)], unknown)))


def weigh(model: TextVAE, batch: Batch, samples: int, seed: int = 0, tokens: int = IW_TOKENS) -> Weighted | None:
    """Estimate -log (1/S) sum_s p(x, z_s) / q(z_s|x) of each sentence of a batch, in nats; z_s from q(z|x).

    An upper bound in expectation that falls to -log p(x) as S grows. Of a language model it is -log p(x); None for
    a posterior without density. For a semi-implicit posterior, q is the mixture of the draw's own component and K
    fresh ones, which leaves the weights unbiased. A sentence's codes depend on the seed and its number alone, so
    `tokens`, how much is worked on at once, changes nothing. To be called within `inference.evaluating`.

    References: Burda et al. 2016, eq. 8; the estimate of Fu et al. 2020, Table 2.
    """
    batch, noise = model.read(batch), sentence_noise(seed, batch.index, model.device)
    posterior, prior = model.encode(batch, noise, samples), model.prior
    if posterior is None or prior is None:
        return Weighted(importance_weighted_nll(model.log_px(batch, None).double().sum(-1)).cpu(), None, None)
    z = posterior.rsample(noise, samples)
    log_q = posterior.log_prob(z)
    if log_q is None:
        return None
    log_px = [model.log_px(batch, some).double().sum(-1) for some in z.split(max(1, tokens // batch.ids.numel()))]
    weights = torch.cat(log_px) + (prior.log_prob(z) - log_q).double()
    shape = pareto_shape(weights) if samples >= SAMPLES else None
    return Weighted(
        importance_weighted_nll(weights).cpu(),
        effective_samples(weights).cpu(),
        None if shape is None else shape.cpu(),
    )


def _bound(codec: Codec, batch: Batch, seed: int) -> Float64[Tensor, " batch"]:
    """Return reconstruction + rate of each text of a batch, by one code."""
    out = codec.model(batch, sentence_noise(seed, batch.index, codec.model.device), 1)
    reconstruction = -out.log_px.double().sum(-1)[0].cpu()
    if out.posterior is None:
        return reconstruction
    rate = out.posterior.rate(out.z, out.prior)
    if rate is None:
        raise _without_density(codec)
    return reconstruction + rate.nats.double().cpu()


def _numbered(batch: Batch, begin: int, codec: Codec) -> Batch:
    """Return a batch on the model's device, its texts numbered from `begin`."""
    return batch._replace(index=batch.index + begin).to(codec.model.device)


def _without_density(codec: Codec) -> RequestError:
    """Return the error for a model whose posterior has no density."""
    name = codec.run.settings.model.posterior.name
    return RequestError(
        f"{codec.run.folder}: the {name} posterior has no density, so a text has neither a bound nor an NLL; "
        "give a run with another posterior"
    )


def _check_lengths(codec: Codec, ids: list[list[int]], begin: int) -> None:
    """Refuse texts, numbered from `begin`, that are empty or longer than the model can read."""
    settings = codec.run.settings
    most = settings.data.positions if settings.model.fixed_length else None
    for number, one in enumerate(ids, begin):
        if len(one) == 1:
            raise RequestError(f"texts[{number}]: is empty; remove it")
        if most is not None and len(one) > most:
            raise RequestError(
                f"texts[{number}]: has {len(one) - 1} tokens, and this model reads at most {most - 1} "
                "(data.max_length); shorten or remove it"
            )
