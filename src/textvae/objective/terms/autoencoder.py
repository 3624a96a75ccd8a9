"""Term without a rate: the objective of the sequence autoencoder."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.terms.term import Term


class Autoencoder(Term):
    """Zero: only reconstruction is trained, as for the `point` posterior and in a phase of pre-training.

    It works with any other posterior too, but then nothing keeps the posterior's scale from shrinking to a point.

    References:
        Bowman et al. 2016, section 2.1 (sequence autoencoders).
    """

    is_rate: ClassVar[bool] = True
    penalises_kl: ClassVar[bool] = False

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return zero, without a gradient."""
        return out.log_px.new_zeros(())
