"""Information in the code about its sentence: the mutual information I(x; z) under the posterior."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError
from textvae.metrics.likelihood import standard_error

# Standard errors by which an inequality may be violated and still count as holding.
ERRORS = 3.0
# Nats below its ceiling ln N at which the estimate of I is still nearly unbiased: too low by about e^-2 if all
# sentences are equally informative.
ROOM = 2.0
# Nats lost to the rounding of float32 densities.
ROUNDING = 1e-3


@dataclass(frozen=True)
class MutualInformation:
    """Estimate of I(x; z), always to be reported with the number of posteriors in the mixture."""

    nats: float
    sentences: int  # N, the posteriors in the mixture; of a conditional model those of one condition

    @property
    def ceiling(self) -> float:
        """Largest possible estimate, ln N in nats, whatever the true value."""
        return math.log(self.sentences)


def mutual_information(
    log_q: Float[Tensor, "sentence"], log_mixture: Float[Tensor, "sentence"], mixed: int | None = None
) -> MutualInformation:
    """Estimate I = E_x KL(q(z | x) || p(z)) - KL(q(z) || p(z)) = E log q(z | x) - E log q(z), in nats.

    One code z_n is drawn from q(z | x_n) for each of N sentences; `log_q` is log q(z_n | x_n) and `log_mixture` is
    ln (1/N) sum_m q(z_n | x_m), including the sentence's own posterior m = n. So no term exceeds ln N, nor does the
    estimate, and a true value near ln N or above is underestimated: use thousands of sentences. If all posteriors
    are the same it is 0; a small sample can make it slightly negative. With the surrogate density of a
    semi-implicit posterior, in which a code's own component stands out, it is too high, the more so the narrower
    and fewer the components are; with components that the code was not drawn from it is too low.

    `mixed` is N where the mixture of a sentence is not one over all sentences but over those of its condition: the
    estimate is then I(x; z | c).

    Raises:
        RequestError: Without a sentence, or if a mixture leaves out the sentence's own posterior.

    References:
        Hoffman and Johnson 2016, "ELBO surgery"; He et al. 2019, "Lagging inference networks".
    """
    sentences = log_q.shape[0]
    if sentences == 0:
        raise RequestError("mutual_information: 0 sentences given; at least one is needed")
    ceiling = math.log(sentences)
    terms = log_q.double() - log_mixture.double()
    slack = ROUNDING + 1e-6 * log_q.double().abs()
    if bool((terms > ceiling + slack).any()):
        raise RequestError(
            f"mutual_information: a term of {terms.max().item():.4g} nats is above ln {sentences} = "
            f"{ceiling:.4g}; log_mixture must average over all posteriors, the sentence's own among them"
        )
    nats = terms.mean().item()
    # Any remaining excess over the ceiling is rounding. Written so that nan stays nan.
    return MutualInformation(ceiling if nats > ceiling else nats, sentences if mixed is None else mixed)


def estimates(value: str, lowest: str | None, upper: bool) -> str:
    """Return the information as text: one number, a range if there is a lower estimate, or an upper limit.

    `upper` marks `value` as an estimate from above, reported with the lower one if both are known.

    >>> estimates("0.56", "0.53", upper=True), estimates("0.56", None, upper=True), estimates("0.56", None, False)
    ('0.53 to 0.56', 'at most 0.56', '0.56')
    """
    if lowest is not None:
        return f"{lowest} to {value}"
    return f"at most {value}" if upper else value


@dataclass(frozen=True)
class InformationBounds:
    """H - D <= I <= R, nats per sentence, each gap with the standard error of a paired difference.

    `above_lower` is I - (H - D) and `below_upper` R - I: both are at least 0 up to sampling error. If there are two
    estimates of I, the lower one is `mutual_information_lower`, and `above_lower` uses it. `holds` is None if
    undecided, for the `reason` given.
    """

    entropy: float
    distortion: float
    rate: float
    mutual_information: float
    mutual_information_lower: float | None
    ceiling: float
    lower: float
    above_lower: float
    above_lower_standard_error: float
    below_upper: float
    below_upper_standard_error: float
    sentences: int
    holds: bool | None
    reason: str | None


def information_bounds(
    entropy: float,
    reconstruction: Float[Tensor, "sentence"],
    rate: Float[Tensor, "sentence"],
    log_q: Float[Tensor, "sentence"],
    log_mixture: Float[Tensor, "sentence"],
    below: tuple[Float[Tensor, "sentence"], Float[Tensor, "sentence"]] | None = None,
) -> InformationBounds:
    """Test H - D <= I <= R for sentences from a source of known entropy H, all terms with the same codes.

    D is the mean of -log p(x_n | z_n) and R that of the rates; I is the estimate of `mutual_information`, which
    cannot exceed ln N. The inequality holds if neither gap is more than 3 of its standard errors below 0, those of
    the means of log q(z_n | x_n) - log q(z_n) - log p(x_n | z_n) and of rate - log q(z_n | x_n) + log q(z_n). It is
    undecided if the lower one fails and H - D is above ln N - 2, or if numbers are not finite. For a semi-implicit
    posterior, whose `log_q` is known from above, `below` has `log_q` and `log_mixture` by components that the codes
    were not drawn from: the lower gap then uses these, and if it fails the inequality is undecided, unless it also
    fails by the estimate from above, when it does not hold.

    Raises:
        RequestError: As `mutual_information`.

    References:
        Alemi et al. 2018, eq. 1; Prokhorov et al. 2019, section 2.1.
    """
    mutual = mutual_information(log_q, log_mixture)
    lowest = None if below is None else mutual_information(*below)
    ratio = log_q.double() - log_mixture.double()
    least = ratio if below is None else below[0].double() - below[1].double()
    distortion = reconstruction.double().mean().item()
    above, surely = (some + reconstruction.double() - entropy for some in (least, ratio))
    under = rate.double() - ratio
    gaps = above.mean().item(), standard_error(above), under.mean().item(), standard_error(under)
    lower = entropy - distortion
    low, impossible, high = map(_below_zero, (above, surely, under))
    holds: bool | None = not (low or high)
    reason = None
    if not all(map(math.isfinite, gaps)):
        holds, reason = None, "a gap or its standard error is not finite"
    elif low and not high and lower > mutual.ceiling - ROOM:
        holds, reason = None, f"H - D = {lower:.2f}, and the estimate of I cannot pass ln N = {mutual.ceiling:.2f}"
    elif low and not high and not impossible and lowest is not None:
        holds, reason = (
            None,
            f"I is between {lowest.nats:.2f} and {mutual.nats:.2f}, by estimates from below and above",
        )
    return InformationBounds(
        entropy=entropy,
        distortion=distortion,
        rate=rate.double().mean().item(),
        mutual_information=mutual.nats,
        mutual_information_lower=None if lowest is None else lowest.nats,
        ceiling=mutual.ceiling,
        lower=lower,
        above_lower=gaps[0],
        above_lower_standard_error=gaps[1],
        below_upper=gaps[2],
        below_upper_standard_error=gaps[3],
        sentences=mutual.sentences,
        holds=holds,
        reason=reason,
    )


def _below_zero(gap: Float[Tensor, "sentence"]) -> bool:
    """Return True if the mean of a gap is more than 3 of its standard errors below 0."""
    return gap.mean().item() < -ERRORS * standard_error(gap) - ROUNDING
