"""No rate at all: the sequence autoencoder's objective."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.terms.term import Term


class Autoencoder(Term):
    """Zero: reconstruction alone is trained, as for the `point` posterior and in a phase of pre-training.

    Any other posterior works too, and then nothing keeps its scale from falling to that of a point.

    Source: Bowman et al. 2016, section 2.1 (sequence autoencoders).
    """

    is_rate: ClassVar[bool] = True
    pays: ClassVar[bool] = False

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Zero, without a gradient."""
        return out.log_px.new_zeros(())
