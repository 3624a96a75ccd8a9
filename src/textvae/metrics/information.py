"""How much a code says about its sentence: the mutual information I(x; z) under the posterior."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError


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
    every posterior is the same it is 0; a small sample can bring it a little below 0.
    Raises RequestError without a sentence, or where a mixture leaves out the sentence's own posterior.

    Source: Hoffman and Johnson 2016, "ELBO surgery"; He et al. 2019, "Lagging inference networks".
    """
    sentences = log_q.shape[0]
    if sentences == 0:
        raise RequestError("mutual_information: 0 sentences given; at least one is needed")
    ceiling = math.log(sentences)
    terms = log_q.double() - log_mixture.double()
    slack = 1e-3 + 1e-6 * log_q.double().abs()  # more than float32 densities lose by rounding
    if bool((terms > ceiling + slack).any()):
        raise RequestError(
            f"mutual_information: a term of {terms.max().item():.4g} nats is above ln {sentences} = "
            f"{ceiling:.4g}; log_mixture must average over all posteriors, the sentence's own among them"
        )
    nats = terms.mean().item()
    # What passes the ceiling by now is rounding. Written so that nan stays nan.
    return MutualInformation(nats=ceiling if nats > ceiling else nats, sentences=sentences)
