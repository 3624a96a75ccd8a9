"""How much a code says about its sentence: the mutual information I(x; z) under the posterior."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError
from textvae.metrics.likelihood import standard_error

# Standard errors by which an inequality may fail and still be said to hold.
ERRORS = 3.0
# Nats below its ceiling ln N where the estimate of I is not much too low yet: by about e^-2 where all sentences
# say equally much.
ROOM = 2.0
# Nats that float32 densities lose by rounding.
ROUNDING = 1e-3


@dataclass(frozen=True)
class MutualInformation:
    """An estimate of I(x; z), never to be printed without the number of posteriors that it mixed."""

    nats: float
    sentences: int  # N, the posteriors in the mixture

    @property
    def ceiling(self) -> float:
        """The largest value it can take, ln N in nats, whatever the truth is."""
        return math.log(self.sentences)


def mutual_information(
    log_q: Float[Tensor, "sentence"], log_mixture: Float[Tensor, "sentence"]
) -> MutualInformation:
    """I = E_x KL(q(z | x) || p(z)) - KL(q(z) || p(z)) = E log q(z | x) - E log q(z), in nats.

    One code z_n from q(z | x_n) for each of N sentences; `log_q` is log q(z_n | x_n) and `log_mixture` is
    ln (1/N) sum_m q(z_n | x_m), the sentence's own posterior m = n among them. So no term passes ln N, nor
    does the estimate, and a truth near ln N or above it comes out too low: use thousands of sentences. Where
    every posterior is the same it is 0; a small sample can bring it a little below 0. With the surrogate density of
    a semi-implicit posterior, in which a code's own component stands out, it is too high, the more so the narrower
    components are and the fewer; by components that the code was not drawn from it is too low.
    Raises RequestError without a sentence, or where a mixture leaves out the sentence's own posterior.

    Source: Hoffman and Johnson 2016, "ELBO surgery"; He et al. 2019, "Lagging inference networks".
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
    # What passes the ceiling by now is rounding. Written so that nan stays nan.
    return MutualInformation(nats=ceiling if nats > ceiling else nats, sentences=sentences)


def estimates(value: str, lowest: str | None, upper: bool) -> str:
    """How the information is told: by one number, by two where one is from below, or as the most that it can be.

    The numbers as text; `upper` says that `value` is an estimate from above, which has the other beside it where
    both are known.

    >>> estimates("0.56", "0.53", upper=True), estimates("0.56", None, upper=True), estimates("0.56", None, False)
    ('0.53 to 0.56', 'at most 0.56', '0.56')
    """
    if lowest is not None:
        return f"{lowest} to {value}"
    return f"at most {value}" if upper else value


@dataclass(frozen=True)
class InformationBounds:
    """H - D <= I <= R, nats per sentence, each gap with the standard error of a paired difference.

    `above_lower` is I - (H - D) and `below_upper` R - I: both are at least 0 but for sampling. Where there are two
    estimates of I, that from below is `mutual_information_lower`, and `above_lower` is by it. `holds` is None where
    it cannot be told, for the `reason` that is given.
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
    """Whether H - D <= I <= R holds, of sentences from a source of known entropy H, all by the same codes.

    D is the mean of -log p(x_n | z_n) and R that of the rates; I is the estimate of `mutual_information`, which
    cannot pass ln N. The inequality is said to hold where neither gap is more than 3 of its standard errors below
    0, those of the means of log q(z_n | x_n) - log q(z_n) - log p(x_n | z_n) and of rate - log q(z_n | x_n) + log
    q(z_n). It cannot be told where the lower one fails and H - D is above ln N - 2, or numbers are not finite. Of a
    semi-implicit posterior, whose `log_q` is known from above, `below` has `log_q` and `log_mixture` by components
    that the codes were not drawn from: then the lower gap is by these, and where it fails it cannot be told, but
    where it fails by the estimate from above too it does not hold.
    Raises RequestError as `mutual_information`.

    Source: Alemi et al. 2018, eq. 1; Prokhorov et al. 2019, section 2.1.
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
    """Whether the mean of a gap is more than 3 of its standard errors below 0."""
    return gap.mean().item() < -ERRORS * standard_error(gap) - ROUNDING
