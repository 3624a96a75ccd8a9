"""Evenness of importance weights: effective sample size, and the shape of their tail."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from textvae.errors import RequestError

# Effective samples below which the bias of a sentence's NLL, about half their reciprocal, is above 0.1 nats.
FEW = 5.0
# Quantile of the sentences that must have as many, and share of them that may have a heavy tail. With 500
# log-normal weights of log deviation 2, 64 % have one and the NLL is 0.03 nats too high; with 2.5, 0.1.
LOW, SHARE = 0.05, 0.5
# Fewest samples for a fit of the tail.
SAMPLES = 25
# A tail narrower than this, relative to the largest weight, is negligible.
NARROW = 1e-3


def effective_samples(log_weights: Float[Tensor, "sample batch"]) -> Float64[Tensor, " batch"]:
    """Return the effective sample size of importance weights, (sum w)^2 / sum w^2, from 1 to the number of samples.

    The variance of the estimated mean, relative to its square, is about 1 / ESS - 1 / S, so the logarithm of the
    mean is too low by about half of that. The size depends on the drawn weights alone, and is large if a heavy tail
    was not sampled: see `pareto_shape`.

    Raises:
        RequestError: Without a sample.

    References:
        Kong 1992; Owen 2013, "Monte Carlo theory, methods and examples", section 9.3.

    >>> effective_samples(torch.tensor([0.0, 0.0, -math.inf])[:, None]).tolist()
    [2.0]
    """
    if not len(log_weights):
        raise RequestError("effective_samples: 0 samples given; at least one is needed")
    double = log_weights.double()
    return (2 * double.logsumexp(0) - (2 * double).logsumexp(0)).exp()


def error_of_log_mean(effective: Float64[Tensor, " batch"], samples: int) -> Float64[Tensor, " batch"]:
    """Return the standard error of ln (1/S) sum w over S weights with so many effective samples, to first order.

    It is the standard error of the mean of the weights over that mean, sqrt((S / ESS - 1) / (S - 1)): nan for one
    weight.

    >>> weights = torch.tensor([1.0, 3.0])  # of mean 2, whose standard error is 1
    >>> round(error_of_log_mean(effective_samples(weights.log()[:, None]), 2).item(), 6)
    0.5
    """
    if samples == 1:
        return torch.full_like(effective, math.nan)
    return ((samples / effective - 1).clamp(min=0) / (samples - 1)).sqrt()


def pareto_shape(log_weights: Float[Tensor, "sample batch"]) -> Float64[Tensor, " batch"] | None:
    """Estimate the shape k of a generalised Pareto distribution for the largest of the importance weights.

    Moments of order 1 / k and above are infinite: above 1/2 the variance of the weights, from 1 on their mean. The
    fit uses the largest M = min(S / 5, 3 sqrt(S)) of S weights, with the prior of ten observations at 1/2; it is
    -inf if these are equal up to a thousandth of the largest, and None for fewer than 25 samples, whose tail is too
    short. It extrapolates the drawn samples: a second mode that no sample came near stays unseen.

    References:
        Vehtari et al. 2024, "Pareto smoothed importance sampling"; the fit of Zhang and Stephens 2009.
    """
    samples = len(log_weights)
    if samples < SAMPLES:
        return None
    size = math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    largest = log_weights.double().topk(size + 1, dim=0).values
    weights = (largest - largest[0]).exp()
    tail = (weights[:-1] - weights[-1]).flip(0)  # ascending
    narrow = tail[-1] < NARROW
    tail = torch.where(narrow, torch.arange(1.0, size + 1, dtype=torch.float64, device=tail.device)[:, None], tail)
    shape = _shape(tail)
    return torch.where(narrow, -math.inf, shape)


def heavy(samples: int) -> float:
    """Return the shape above which the mean of that many weights is unreliable: min(1 - 1 / log10 S, 0.7).

    References:
        Vehtari et al. 2024, section 3.2.4.

    >>> heavy(100), heavy(10_000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(samples), 0.7)


def caveat(scores: Mapping[str, Any]) -> str | None:
    """Return a warning that the weights of an evaluation's NLL are uneven, from its JSON; None if they are even."""
    low, share = scores.get("iw_effective_samples_low"), scores.get("iw_heavy_tailed")
    few, tailed = low is not None and low < FEW, share is not None and share > SHARE
    if not few and not tailed:
        return None
    samples = scores.get("iw_samples") or 0
    found = [f"one sentence in {1 / LOW:.0f} has at most {low:.1f} effective samples of {samples:,}"] if few else []
    if tailed and share is not None:
        found.append(
            f"{100 * share:.0f} % of the sentences have a heavy tail (Pareto k above {heavy(samples):.2f})"
        )
    return f"importance weights are uneven: {' and '.join(found)}, so the NLL can be too high; try more samples"


def _shape(tail: Float64[Tensor, "tail batch"]) -> Float64[Tensor, " batch"]:
    """Return the posterior mean of k for exceedances in ascending order, by Zhang and Stephens's grid."""
    size = len(tail)
    points = 30 + math.isqrt(size)
    grid = 1 - torch.sqrt(points / (torch.arange(1, points + 1, dtype=torch.float64, device=tail.device) - 0.5))
    quartile = tail[max(0, int(size / 4 + 0.5) - 1)].clamp(min=1e-10)
    b = grid[:, None] / (3 * quartile) + 1 / tail[-1]
    k = torch.log1p(-b[:, None] * tail).mean(1)
    likelihood = size * ((-b / k).log() - k - 1)
    at = (b * likelihood.softmax(0)).sum(0)
    shape = torch.log1p(-at * tail).mean(0)
    return (size * shape + 5) / (size + 10)
