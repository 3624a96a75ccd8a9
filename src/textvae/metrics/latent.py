"""Use of the latent space: active units, and statistics of the aggregated posterior q(z) against the prior.

The aggregated posterior is the mean of q(z | x) over x, known by its samples: one code z for each sentence. The
caller averages over draws (Prokhorov et al. 2019: five).
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from textvae.errors import RequestError

# A posterior whose mean KL is below this, nats per sentence, says next to nothing.
LITTLE_KL = 0.5
# A dimension whose mean KL is below this, nats, is off.
DIMENSION_OFF = 0.01


def variance_of_means(
    means: Float[Tensor, "sentence latent"], noise: Float[Tensor, "sentence latent"] | None = None
) -> Float64[Tensor, "latent"]:
    """Return the population variance (divided by N) of each dimension of the posterior means over sentences.

    `noise` is the variance of each mean about its true value if means are estimates; its average contribution is
    subtracted, so the result may be slightly negative.

    Raises:
        RequestError: Without a sentence.

    >>> variance_of_means(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [1.0, 0.0]
    """
    _require_sentences("variance_of_means", means)
    return less_noise(means.double().var(dim=0, correction=0), None if noise is None else noise.double())


def less_noise(
    variance: Float[Tensor, "latent"], noise: Float[Tensor, "sentence latent"] | None
) -> Float[Tensor, "latent"]:
    """Return a population variance over sentences minus the average contribution of estimation `noise`."""
    return variance if noise is None else variance - (1 - 1 / len(noise)) * noise.mean(0)


def active_units(
    means: Float[Tensor, "sentence latent"], threshold: float, noise: Float[Tensor, "sentence latent"] | None = None
) -> int:
    """Return the number of dimensions whose posterior mean varies over sentences by more than `threshold`.

    The variance is the population variance, corrected for `noise` (`variance_of_means`); common thresholds are 0.01
    and 0.2. It must exceed the threshold, as in Fu et al. 2020; Prokhorov et al. 2019 also count a variance equal
    to it.

    Raises:
        RequestError: Without a sentence, or if the threshold is negative or not a number.

    References:
        Burda et al. 2016, "Importance weighted autoencoders", section 5.

    >>> active_units(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), threshold=0.01)
    1
    """
    if not threshold >= 0:
        raise RequestError(f"active_units: threshold {threshold} given; it must be 0 or more")
    return int((variance_of_means(means, noise) > threshold).sum().item())


def log_det_covariance(z: Float[Tensor, "sentence latent"]) -> float:
    """Return the log-determinant (ln) of the full covariance of sampled codes, one per sentence; divided by N - 1.

    It is -inf if the covariance is singular, as for no more sentences than dimensions, and nan if a code is not
    finite.

    Raises:
        RequestError: Without a sentence.

    References:
        Prokhorov et al. 2019, section 3.2 (LogDetCov, figure 1 and table 1).
    """
    _require_sentences("log_det_covariance", z)
    sentences, latent = z.shape
    if not bool(z.isfinite().all()):
        return math.nan
    if sentences <= latent:
        return -math.inf
    codes = z.double()
    deviation = codes.std(dim=0, correction=1)
    if bool((deviation == 0).any()):  # a constant dimension
        return -math.inf
    # The determinant of the correlation, so that singularity means dependence and not merely unequal scales.
    standard = (codes - codes.mean(dim=0)) / deviation
    eigenvalues = torch.linalg.eigvalsh(standard.mT @ standard / (sentences - 1))
    rounding = sentences * torch.finfo(torch.float64).eps * eigenvalues[-1]
    if bool(eigenvalues[0] <= rounding):
        return -math.inf
    return (eigenvalues.log().sum() + 2 * deviation.log().sum()).item()


def mean_squared_norm(z: Float[Tensor, "sentence latent"]) -> float:
    """Return the squared norm of the mean of sampled codes, ||mean over n of z_n||^2, one code per sentence.

    It measures the distance of the centre of the aggregated posterior from the prior's. It is the norm of the mean,
    not the mean of the norms: the paper's values, 0.00 to 1.27 at 64 dimensions, admit no other reading. For N
    codes from the prior itself it is latent / N on average, not 0.

    Raises:
        RequestError: Without a sentence.

    References:
        Prokhorov et al. 2019, section 3.2 and table 1.

    >>> mean_squared_norm(torch.tensor([[3.0, 1.0], [3.0, -1.0]]))
    9.0
    """
    _require_sentences("mean_squared_norm", z)
    return z.double().mean(dim=0).square().sum().item()


def kl_moment_matched(z: Float[Tensor, "sentence latent"]) -> float:
    """Return KL(N(m, S) || N(0, I)) in nats, with m and S the mean and full covariance of sampled codes.

    (||m||^2 + tr S - latent - ln det S) / 2, one code per sentence. The paper specifies only a "moment-matching
    Gaussian fit"; S is taken to be full, as in its ln det Cov[q(z)], and divided by N - 1. For N codes from the
    prior itself it is about latent (latent + 3) / 4N on average, not 0. It is inf if S is singular, as for no more
    sentences than dimensions, and nan if a code is not finite.

    Raises:
        RequestError: Without a sentence.

    References:
        Prokhorov et al. 2019, section 3.2.
    """
    _require_sentences("kl_moment_matched", z)
    log_det = log_det_covariance(z)
    if not math.isfinite(log_det):  # -inf or nan; a single code has no variance
        return -log_det
    trace = z.double().var(dim=0, correction=1).sum().item()
    return (mean_squared_norm(z) + trace - z.shape[1] - log_det) / 2


def _require_sentences(place: str, codes: Float[Tensor, "sentence latent"]) -> None:
    if codes.shape[0] == 0:
        raise RequestError(f"{place}: 0 sentences given; at least one is needed")
