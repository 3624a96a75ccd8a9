"""The transformer encoder: self-attention over the whole sentence, averaged over its tokens."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.encoders.encoder import Encoder, EncoderSettings
from textvae.parts.kernels.attention import DEVIATION, Transformer, attending, draw, head_problems
from textvae.parts.kernels.layers import within
from textvae.settings.fields import Depth, Fraction, Size
from textvae.settings.problems import Problem


class TransformerEncoder(Encoder):
    """The mean of a bidirectional transformer's outputs over the sentence's own tokens, its end mark among them.

    Embeddings pass a linear layer if their size is not `hidden`. In training, dropout falls on what each branch of
    a block adds and, at a rate of their own if `embedding_dropout` is given, on the input words.

    References: Li et al. 2020, "Optimus" (whose encoder takes the output at a mark before the sentence, where this
    one takes the mean).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int = 256,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
        embedding_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.dropout, self.size = dropout, hidden
        self.embedding_dropout = dropout if embedding_dropout is None else embedding_dropout
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.entry = None if embedding == hidden else nn.Linear(embedding, hidden)
        self.network = Transformer(hidden, layers, heads)
        self.begin()

    def begin(self) -> None:
        """Draw the first weights outside the blocks; words enter these at their own scale."""
        draw(self.embedding, DEVIATION)
        if self.entry is not None:
            draw(self.entry, self.entry.in_features**-0.5)

    def forward(
        self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the mean output of each sentence; padding has no influence."""
        return self.read(F.dropout(self.embedding(ids), self.embedding_dropout, self.training), lengths)

    def read(
        self, embedded: Float[Tensor, "batch time embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the same for sentences that are embeddings already."""
        inside = within(lengths, embedded.shape[1])
        inputs = embedded if self.entry is None else self.entry(embedded)
        outputs = self.network(inputs, attending(inside), self.dropout if self.training else 0.0)
        return outputs.masked_fill(~inside[:, :, None], 0.0).sum(1) / lengths[:, None]


class TransformerEncoderSettings(EncoderSettings):
    """Self-attention over the whole sentence, averaged over its tokens.

    `embedding_dropout` is that of input words' embeddings alone; None is as much as `dropout`.
    """

    name: Literal["transformer"]
    hidden: Size = 256
    layers: Depth = 4
    heads: Size = 4
    dropout: Fraction = 0.1
    embedding_dropout: Fraction | None = None

    @property
    def hidden_size(self) -> int:
        """The hidden size."""
        return self.hidden

    def build(self, vocabulary: int, embedding: int, positions: int) -> TransformerEncoder:
        """Build it; texts may be of any length."""
        return TransformerEncoder(vocabulary, embedding, **self.model_dump(exclude={"name"}))

    def problems(self, positions: int) -> list[Problem]:
        """Refuse heads that do not divide the hidden size."""
        return head_problems(self.heads, self.hidden)
