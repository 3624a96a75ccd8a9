"""Interface of decoders, used by training, scoring and all decoding methods, and of their settings."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textvae.parts.kernels.convolutions import Expansion
from textvae.parts.kernels.products import linear
from textvae.settings.kinds import Kind
from textvae.settings.problems import Problem


class Decoder(nn.Module, ABC):
    """p(x|z): `log_prob` of all positions at once, and `start`, `step` and `select` word by word.

    The code is z (..., latent) or features of every position (..., position, size). `words` is the softmax.
    `max_length` is the number of positions that there are, where these are limited.
    """

    words: nn.Linear
    embedding: nn.Embedding  # where it reads words
    max_length: int | None = None

    @abstractmethod
    def log_prob(
        self, ids: Int[Tensor, "batch time"], z: Float[Tensor, "sample batch *size"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """Return log p(x_t | x_<t, z) of every token in nats; padding is for the caller to mask.

        Without a code there is one sample.
        """

    @abstractmethod
    def start(self, z: Float[Tensor, "row *size"] | None, rows: int = 1) -> Any:
        """Return the state before the first word of `rows` sentences, or of one sentence for each code."""

    @abstractmethod
    def advance(self, token: Int[Tensor, " row"], state: Any) -> tuple[Float[Tensor, "row size"], Any]:
        """Return what the softmax reads for the word after `token`, and the state after it."""

    @abstractmethod
    def select(self, state: Any, rows: Int[Tensor, " kept"] | Bool[Tensor, " row"]) -> Any:
        """Return the state of some rows: sentences that go on, or the survivors of a beam."""

    def step(self, token: Int[Tensor, " row"], state: Any) -> tuple[Float[Tensor, "row vocabulary"], Any]:
        """Return the logits of the word after `token`, and the state after it."""
        read, state = self.advance(token, state)
        return self.logits(read), state

    def logits(self, read: Float[Tensor, "row size"]) -> Float[Tensor, "row vocabulary"]:
        """Return the logits of the next word."""
        return linear(read, self.words.weight, self.words.bias)


class DecoderSettings(Kind, ABC):
    """Settings of a decoder: what it is built from, and what the other parts need to know about it."""

    fixed_length: ClassVar[bool] = False  # has features of all positions that there can be

    @abstractmethod
    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> Decoder:
        """Build it for codes of `latent` dimensions, none for 0; `word_keep` is the rate of word dropout kept."""

    def expansion(self, latent: int, positions: int) -> Expansion | None:
        """Build what unfolds z into features of every position, which the decoder reads; None if it reads z."""
        return None

    @property
    @abstractmethod
    def softmax_size(self) -> int:
        """The size that the softmax reads; 0 if it reads the code itself."""

    @property
    def embeds(self) -> bool:
        """True if it reads words, and so has embeddings of them."""
        return True

    @property
    def alone(self) -> "DecoderSettings | None":
        """The same decoder as a language model, without a code; None if it writes nothing without one."""
        return self

    @property
    def batch_statistics(self) -> bool:
        """True if it is batch-normalised, so that in training a sentence's likelihood depends on its batch."""
        return False

    def problems(self, latent: int, positions: int) -> list[Problem]:
        """Return what does not fit codes of `latent` dimensions or texts of at most `positions` tokens.

        Paths are relative to the decoder.
        """
        return []
