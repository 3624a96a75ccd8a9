"""The Kullback-Leibler term of the evidence lower bound."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term, rate, without_rate
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem


class Kl(Term):
    """E_n KL(q(z|x_n) || p(z)), nats per sentence.

    Its weight is beta: 1 gives the bound itself, a rising schedule is KL cost annealing.

    References:
        Bowman et al. 2016, sections 2.2 and 3.1; Prokhorov et al. 2019, section 2.2 (beta).
    """

    is_rate: ClassVar[bool] = True
    linear_in_kl: ClassVar[bool] = True

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the mean rate of the global batch."""
        return gathered(rate(out)).mean()

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a posterior without a KL."""
        return without_rate(settings)
