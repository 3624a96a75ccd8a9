"""Interface of conditioners and of their settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.encoders import Encoder
from textvae.settings.kinds import Kind


class Conditioner(nn.Module, ABC):
    """Turns the condition of each sentence into one vector of `size`."""

    size: int

    @abstractmethod
    def forward(self, condition: Any) -> Float[Tensor, "batch size"]:
        """Return the vector of each row of a batch's condition."""


class ConditionerSettings(Kind, ABC):
    """Settings of a conditioner: what it is built from, and what it reads of the data.

    A new kind is a file with its module and its settings, and a line in `CONDITIONERS`.
    """

    reads: ClassVar[str | None] = None  # the setting of `[data]` that names its condition; None for no condition

    @property
    def infers(self) -> bool:
        """True if labels that sentences lack are inferred in training."""
        return False

    @abstractmethod
    def build(self, names: Mapping[str, Sequence[str]], reader: Callable[[bool], Encoder]) -> Conditioner | None:
        """Build it; None for a model without a condition.

        Args:
            names: Values of each column of labels.
            reader: Returns an encoder of texts: with True the one of the posterior, with False another.
        """


class NoConditioner(ConditionerSettings):
    """No condition: p(z) p(x|z)."""

    name: Literal["none"] = "none"

    def build(self, names: Mapping[str, Sequence[str]], reader: Callable[[bool], Encoder]) -> None:
        """Return None."""
