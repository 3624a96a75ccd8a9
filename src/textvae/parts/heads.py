"""Auxiliary heads of a model: predictions from z that a term of the objective asks for."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.decoders.feed_forward import FeedForwardDecoder
from textvae.parts.kernels.layers import within
from textvae.text.tokenizers import EOS


class BagOfWords(nn.Module):
    """log p_bow(x|z): all words of a sentence from one softmax of z, whatever their order, in nats.

    `hidden` units of tanh stand between z and the vocabulary; with 0 the softmax is linear in z. Every token of the
    sentence counts as often as it occurs, unknown words too. End marks, of which every sentence has one and which
    so say nothing of it, and padding do not count: an empty sentence gives 0.

    References: Zhao et al. 2017, the bag-of-word loss, whose program has 400 hidden units.
    """

    sees = "z"

    def __init__(self, latent: int, vocabulary: int, hidden: int = 400) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent, hidden) if hidden else None
        self.words = nn.Linear(hidden or latent, vocabulary)

    def forward(
        self,
        z: Float[Tensor, "sample batch latent"],
        ids: Int[Tensor, "batch time"],
        lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "sample batch"]:
        """log p_bow of each sentence under each of its codes; `lengths` count the end mark, as in `Batch`."""
        logits = self.words(z if self.hidden is None else self.hidden(z).tanh())
        # Under autocast the products alone have less precision.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        inside = within(lengths, ids.shape[1])
        counted = inside & (ids != EOS)
        chosen = logits.gather(-1, ids.expand(len(z), *ids.shape))
        return torch.where(counted, chosen - logits.logsumexp(-1, keepdim=True), 0.0).sum(-1)


class Historyless(nn.Module):
    """sum_t log p(x_t|z): every word from the code's features at its position, whatever the other words, in nats.

    The end mark counts, padding does not.

    References: Semeniuta et al. 2017, eq. 2; its softmax is its own, linear in the features.
    """

    sees = "code"

    def __init__(self, features: int, vocabulary: int) -> None:
        super().__init__()
        self.softmax = FeedForwardDecoder(vocabulary, features)

    def forward(
        self,
        code: Float[Tensor, "sample batch position features"],
        ids: Int[Tensor, "batch time"],
        lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "sample batch"]:
        """Return the log-probability of each sentence under each of its codes."""
        inside = within(lengths, ids.shape[1])
        return self.softmax.log_prob(ids, code).masked_fill(~inside, 0.0).sum(-1)
