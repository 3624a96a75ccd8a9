"""What every term of the objective is."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.schedules import Constant, Schedule
from textvae.settings import Strict


class Term(Strict):
    """A scalar of the whole global batch in nats per sentence, weighted by a schedule when it is summed up.

    A term owns no parameters and logs nothing; its fields are its settings. `is_rate` marks the terms that say
    how the rate is paid, of which a run has exactly one.
    """

    is_rate: ClassVar[bool] = False
    needs_posterior: ClassVar[bool] = True

    weight: Schedule = Constant()

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """The unweighted value for a batch at a step."""
        raise TypeError(f"{type(self).__name__} does not say what it computes")
