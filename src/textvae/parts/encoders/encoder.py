"""Interface of encoders and of their settings."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.settings.kinds import Kind
from textvae.settings.problems import Problem


class Encoder(nn.Module, ABC):
    """Turns each sentence into one vector of `size`, which parametrises its posterior; padding has no influence."""

    size: int
    embedding: nn.Embedding

    @abstractmethod
    def forward(
        self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the vector of each sentence; `lengths` count the end mark."""

    @abstractmethod
    def read(
        self, embedded: Float[Tensor, "batch time embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the same for sentences given as embeddings."""


class EncoderSettings(Kind, ABC):
    """Settings of an encoder: what it is built from, and what the other parts need to know about it."""

    fixed_length: ClassVar[bool] = False  # reads all positions, whatever a text's length
    batch_statistics: ClassVar[bool] = False  # batch-normalised: in training vectors depend on the batch

    @property
    def hidden_size(self) -> int:
        """The size of its state at a word; 0 if it has none."""
        return 0

    @abstractmethod
    def build(self, vocabulary: int, embedding: int, positions: int) -> Encoder:
        """Build it for texts of at most `positions` tokens, end mark included."""

    def problems(self, positions: int) -> list[Problem]:
        """Return what does not fit together, for texts of at most `positions` tokens.

        Paths are relative to the encoder.
        """
        return []
