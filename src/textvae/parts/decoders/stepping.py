"""The one step interface of all decoders, by which every way of decoding goes."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.kernels.products import linear


class Stepwise(nn.Module, ABC):
    """A decoder that goes on word by word: `advance` is its network's step, `words` its softmax."""

    words: nn.Linear

    @abstractmethod
    def advance(self, token: Int[Tensor, " row"], state: Any) -> tuple[Float[Tensor, "row size"], Any]:
        """What the softmax reads of the next word after `token`, and the state after it."""

    def step(self, token: Int[Tensor, " row"], state: Any) -> tuple[Float[Tensor, "row vocabulary"], Any]:
        """Logits of the next word after `token`, and the state after it."""
        read, state = self.advance(token, state)
        return self.logits(read), state

    def logits(self, read: Float[Tensor, "row size"]) -> Float[Tensor, "row vocabulary"]:
        """Logits of the next word."""
        return linear(read, self.words.weight, self.words.bias)
