"""The recurrent encoder: an LSTM or GRU reads the sentence."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.encoders.encoder import Encoder, EncoderSettings
from textvae.parts.kernels.layers import Cell, Recurrent, norm_problems, reversed_within
from textvae.settings.fields import Depth, Fraction, Norm, Size
from textvae.settings.problems import Problem


class RecurrentEncoder(Encoder):
    """The last output of an LSTM or GRU that reads the sentence and its end mark, in one or both directions.

    References: Bowman et al. 2016, section 3 (one direction); Liu et al. 2019, section 5.2 (both).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        cell: Cell = "lstm",
        hidden: int = 512,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.size = hidden * (2 if bidirectional else 1)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.onward = Recurrent(cell, embedding, hidden, layers, norm)
        self.backward = Recurrent(cell, embedding, hidden, layers, norm) if bidirectional else None

    def forward(
        self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the output at each sentence's own last token; padding after it has no influence."""
        return self.read(F.dropout(self.embedding(ids), self.dropout, self.training), lengths)

    def read(
        self, embedded: Float[Tensor, "batch time embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the same for sentences that are embeddings already."""
        at = (lengths - 1)[:, None, None]
        directions = [(self.onward, embedded)]
        if self.backward is not None:
            directions.append((self.backward, reversed_within(embedded, lengths)))
        last = []
        for network, inputs in directions:
            outputs, _ = network(inputs)
            last.append(outputs.gather(1, at.expand(-1, -1, outputs.shape[2]))[:, 0])
        return torch.cat(last, dim=1)


class RecurrentEncoderSettings(EncoderSettings):
    """Reads the sentence; its last states parametrise the posterior. Dropout falls on its input words."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 512
    layers: Depth = 1
    bidirectional: bool = False
    norm: Norm = "none"
    dropout: Fraction = 0.0

    @property
    def hidden_size(self) -> int:
        """The hidden size."""
        return self.hidden

    def build(self, vocabulary: int, embedding: int, positions: int) -> RecurrentEncoder:
        """Build it; texts may be of any length."""
        return RecurrentEncoder(vocabulary, embedding, self.name, **self.model_dump(exclude={"name"}))

    def problems(self, positions: int) -> list[Problem]:
        """Refuse layer normalisation of a GRU."""
        return norm_problems(self.name, self.norm)
