"""The historyless decoder: each word of the code's features at its position, whatever the other words."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textvae.parts.decoders.decoder import Decoder
from textvae.parts.kernels.layers import words_log_prob


class Unfolded(NamedTuple):
    """State between two steps: the features of each row, and the position."""

    features: Tensor
    position: int


class FeedForwardDecoder(Decoder):
    """p(x|z) = prod_t p(x_t|z): a softmax of the features that a hybrid decoder has at each position.

    References: Semeniuta et al. 2017, section 3.3 and figure 2 (a).
    """

    def __init__(self, vocabulary: int, features: int) -> None:
        super().__init__()
        self.words = nn.Linear(features, vocabulary)

    def log_prob(
        self, ids: Int[Tensor, "batch time"], z: Float[Tensor, "sample batch position features"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """Return log p(x_t | z) of every token in nats; padding is for the caller to mask."""
        assert z is not None  # settings refuse it without a code
        return words_log_prob(z[:, :, : ids.shape[1]].flatten(0, 1), self.words, ids)

    def start(self, z: Float[Tensor, "row position features"] | None, rows: int = 1) -> Unfolded:
        """Return the state before the first word of each code."""
        assert z is not None
        return Unfolded(z, 0)

    def advance(
        self, token: Int[Tensor, " row"], state: Unfolded
    ) -> tuple[Float[Tensor, "row features"], Unfolded]:
        """Return the features of the next word, which do not depend on `token`, and the state after it."""
        features, position = state
        return features[:, position], Unfolded(features, position + 1)

    def select(self, state: Unfolded, rows: Int[Tensor, " kept"] | Bool[Tensor, " row"]) -> Unfolded:
        """Return the state of some rows."""
        return Unfolded(state.features[rows], state.position)
