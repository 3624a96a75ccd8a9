"""The Kullback-Leibler term of the evidence lower bound."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.parts.gather import gathered
from textvae.terms.term import Term


class Kl(Term):
    """E_n KL(q(z|x_n) || p(z)), nats per sentence.

    Its weight is beta: 1 is the bound itself, a rising schedule is KL cost annealing.

    Source: Bowman et al. 2016, sections 2.2 and 3.1; Prokhorov et al. 2019, section 2.2 (beta).
    """

    is_rate: ClassVar[bool] = True

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """The mean rate of the global batch."""
        assert out.posterior is not None and out.prior is not None and out.z is not None
        return gathered(out.posterior.rate(out.z, out.prior).nats).mean()
