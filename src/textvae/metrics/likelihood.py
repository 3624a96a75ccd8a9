"""Likelihoods in nats per sentence, perplexities, and the importance-weighted estimate.

Sums and counts are kept separate and divided once, at the end: a mean of batch means would weight sentences
unequally. Everything is accumulated in float64.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from textvae.errors import RequestError


def log_mean_exp(log_weights: Float[Tensor, "sample *rest"]) -> Float64[Tensor, "*rest"]:
    """Return the natural logarithm of the mean of exp(log_weights) over the first axis, in float64.

    Raises:
        RequestError: Without a sample.

    >>> log_mean_exp(torch.tensor([0.0, math.log(3.0)])).item()  # ln((1 + 3) / 2)
    0.6931...
    """
    samples = log_weights.shape[0]
    if samples == 0:
        raise RequestError("log_mean_exp: 0 samples given; at least one is needed")
    return torch.logsumexp(log_weights.double(), dim=0) - math.log(samples)


def importance_weighted_nll(log_weights: Float[Tensor, "sample batch"]) -> Float64[Tensor, "batch"]:
    """Estimate -log p(x) by importance weighting, nats for each sentence; with one sample it is the plain bound.

    `log_weights` are log p(x, z_s) - log q(z_s | x) with z_s drawn from q(z | x). The expectation is never below
    -log p(x) and falls as samples are added.

    Raises:
        RequestError: Without a sample.

    References:
        Burda et al. 2016, "Importance weighted autoencoders", section 3.
    """
    return -log_mean_exp(log_weights)


def standard_error(values: Float[Tensor, "sentence"], groups: Int[np.ndarray, "sentence"] | None = None) -> float:
    """Return the standard error of the mean of `values` over sentences: sample deviation (N - 1) / sqrt(N).

    With `groups`, the group numbers of G groups of dependent values, it is that of independent groups: the square
    root of G / (G - 1) times the sum over groups of their squared sums of deviations from the mean, over N. Groups
    of one value each give the plain one. It has the unit of the values, and is nan for a single value or group.

    Raises:
        RequestError: Without a value.

    References:
        Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models" (the grouped one).

    >>> standard_error(torch.tensor([1.0, 3.0]))
    1.0
    >>> standard_error(torch.tensor([1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1]))
    0.0
    """
    count = values.shape[0]
    if count == 0:
        raise RequestError("standard_error: 0 values given; at least one is needed")
    if groups is None:
        return values.double().std(correction=1).item() / math.sqrt(count) if count > 1 else math.nan
    numbers = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
    independent = int(numbers.max()) + 1
    if independent == 1:
        return math.nan
    deviations = values.double().cpu() - values.double().cpu().mean()
    sums = torch.zeros(independent, dtype=torch.float64).index_add(0, numbers, deviations)
    return math.sqrt(independent / (independent - 1) * sums.square().sum().item()) / count


def cyclic_standard_error(values: Float[Tensor, "sentence"]) -> float:
    """Return the standard error of the mean of values in a cycle, each of which may depend on its neighbours.

    It is sqrt((1/N) (c0 + 2 c1) N / (N - 3)), with the variance c0 and the covariance c1 of neighbours, both over
    N; unbiased if neighbours are independent. It is nan for fewer than four values, and if the estimated variance
    is negative.

    >>> round(cyclic_standard_error(torch.tensor([0.0, 0.0, 4.0, 4.0])), 12)
    2.0
    """
    count = len(values)
    if count < 4:
        return math.nan
    deviations = values.double() - values.double().mean()
    total = (deviations * (deviations + 2 * deviations.roll(-1))).sum().item() / (count * (count - 3))
    return math.sqrt(total) if total >= 0 else math.nan


def perplexity(total_nats: float, tokens: int) -> float:
    """Return exp(total nats / total tokens), inf on overflow.

    Raises:
        RequestError: Without a token.

    >>> round(perplexity(2 * math.log(10.0), 2), 12)
    10.0
    """
    if tokens < 1:
        raise RequestError(f"perplexity: {tokens} tokens given; at least one is needed")
    try:
        return math.exp(total_nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_character(total_nats: float, characters: int) -> float:
    """Return total nats / ln 2 / characters.

    `characters` counts everything that was scored: end marks too if their nats are in the total.

    Raises:
        RequestError: Without a character.

    References:
        Semeniuta et al. 2017, figures 4 and 5.

    >>> bits_per_character(8 * math.log(2.0), 4)
    2.0
    """
    if characters < 1:
        raise RequestError(f"bits_per_character: {characters} characters given; at least one is needed")
    return total_nats / math.log(2.0) / characters
