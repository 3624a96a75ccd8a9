"""KL with a weight of every sentence's own, for a model that answers at any of them."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term, rate, without_rate
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem


class MultiRate(Term):
    """E_n beta_n KL(q(z|x_n; beta_n) || p(z)), nats per sentence, with the beta that each sentence has drawn.

    The interval is that of `model.multi_rate`; where no beta was drawn it is 1. `weight` multiplies all; leave it
    at 1.

    References:
        Bae et al. 2023, "Multi-Rate VAE", section 4.
    """

    is_rate: ClassVar[bool] = True

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the mean over the global batch."""
        nats = rate(out)
        return gathered(nats if out.beta is None else out.beta * nats).mean()

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a model without gates, and a posterior without a KL."""
        if settings.model.multi_rate is None:
            set_both = "set model.multi_rate.low and model.multi_rate.high"
            return [Problem("", "needs a model with gates by the KL weight", set_both)]
        return without_rate(settings)
