"""Kernel discrepancy between codes and the standard normal prior, which needs neither densities nor moments.

The kernel is k(x, y) = exp(-|x - y|^2 / (2 s^2)) with s the bandwidth. Its expectations over y from N(0, I) are
known, so the prior's part is exact and no codes are drawn from it. The term `mmd` uses the same expressions.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError

# Codes whose kernels with all others are held in memory at once.
ROWS = 500


@dataclass(frozen=True)
class SquaredMmd:
    """Unbiased estimate of MMD^2, dimensionless; it may be negative.

    Attributes:
        standard_error: Standard error of the estimate; nan if undefined.
        prior_deviation: Exact standard deviation, about their mean of 0, of estimates from as many codes of the
        prior
            itself; nan if undefined. Near the prior, where the standard error is somewhat too large, compare with
            it.
    """

    value: float
    standard_error: float
    prior_deviation: float
    bandwidth: float
    sentences: int


def squared_mmd(z: Float[Tensor, "sentence latent"], bandwidth: float | None = None) -> SquaredMmd:
    """Estimate MMD^2(q(z), N(0, I)) from sampled codes, one for each sentence.

    It is the mean over pairs of h(z, z') = k(z, z') - E k(z, y) - E k(z', y) + E k(y, y'), never a code with
    itself. The default bandwidth is the square root of the latent size, at which two draws from the prior have a
    kernel of about 1/e. The standard error comes from the two parts of the variance of a mean over pairs, Var E[h |
    z] and the rest, each unbiased; it needs five codes. The result is nan if a code is not finite.

    Raises:
        RequestError: For fewer than two codes, and for a bandwidth that is not above 0 and finite.

    References:
        Gretton et al. 2012, lemma 6 (the estimate); Hoeffding 1948 (the variance); Zhao et al. 2019 (its use).
    """
    sentences, latent = z.shape
    s = math.sqrt(latent) if bandwidth is None else bandwidth
    if sentences < 2:
        raise RequestError(f"squared_mmd: {sentences} codes given; at least two are needed")
    if not 0 < s < math.inf:
        raise RequestError(f"squared_mmd: bandwidth {s} given; it must be above 0 and finite")
    codes = z.detach().double()
    squares = codes.square().sum(1)
    expected = to_prior(squares, s, latent)
    both = within_prior(s, latent)
    sums, square_sum = torch.empty_like(squares), 0.0
    for start in range(0, sentences, ROWS):
        rows = slice(start, start + ROWS)
        distances = (squares[rows, None] + squares - 2 * codes[rows] @ codes.mT).clamp(min=0)
        h = (-distances / (2 * s * s)).exp() - expected[rows, None] - expected + both
        own = torch.arange(len(h))
        h[own, own + start] = 0.0
        sums[rows] = h.sum(1)
        square_sum += h.square().sum().item()
    pairs = sentences * (sentences - 1)
    value = sums.sum().item() / pairs
    return SquaredMmd(
        value=value,
        standard_error=_standard_error(sums / (sentences - 1), square_sum / pairs - value**2),
        prior_deviation=math.sqrt(2 * _prior_variance(s, latent) / pairs),
        bandwidth=s,
        sentences=sentences,
    )


def to_prior(squares: Float[Tensor, " *n"], bandwidth: float, latent: int) -> Float[Tensor, " *n"]:
    """Return E k(z, y) over y from N(0, I), for codes z given by their squared norms.

    It is (s^2 / (s^2 + 1))^(d/2) exp(-|z|^2 / (2 (s^2 + 1))) for d dimensions.
    """
    variance = bandwidth**2
    return (-squares / (2 * (variance + 1))).exp() * _power(1 / variance, latent)


def within_prior(bandwidth: float, latent: int) -> float:
    """Return E k(y, y') over independent y and y' from N(0, I): (s^2 / (s^2 + 2))^(d/2)."""
    return _power(2 / bandwidth**2, latent)


def _standard_error(means: Float[Tensor, " n"], variance: float) -> float:
    """Return the standard error of a mean over pairs, from each code's mean and the variance of the pairs.

    With a = Var E[h | z] and b = Var h - 2a the variance is 4a/N + 2b/(N (N - 1)), and the variance of the codes'
    means is expected to be (N - 2) / (N - 1)^2 ((N - 2) a + b).
    """
    n = len(means)
    if n < 5 or not math.isfinite(variance):
        return math.nan
    spread = means.var(correction=1).item() * (n - 1) ** 2 / (n - 2)
    alone = max(0.0, (spread - variance) / (n - 4))
    together = max(0.0, variance - 2 * alone)
    return math.sqrt(4 * alone / n + 2 * together / (n * (n - 1)))


def _prior_variance(bandwidth: float, latent: int) -> float:
    """Return Var h(y, y') over the prior: E k(y, y')^2 - 2 E (E k(y, y'))^2 + (E k)^2, where E[h | y] is 0."""
    v = bandwidth**2
    squared = _power(4 / v, latent)  # the squared kernel has variance s^2 / 2
    halfway = _power((4 * v + 3) / v**2, latent)  # (s^4 / ((s^2 + 1) (s^2 + 3)))^(d/2)
    return max(0.0, squared - 2 * halfway + within_prior(bandwidth, latent) ** 2)


def _power(ratio: float, latent: int) -> float:
    """Return (1 + ratio)^(-latent / 2): s^2 / (s^2 + c) of ratio c / s^2, for many dimensions."""
    return math.exp(-latent / 2 * math.log1p(ratio))
