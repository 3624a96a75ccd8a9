"""The transformer decoder p(x|z): each word from the words before it, by causal self-attention, and the code."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from textvae.parts.decoders.decoder import Decoder, DecoderSettings
from textvae.parts.decoders.inputs import along, at, dropped, previous, unseen_code
from textvae.parts.kernels.attention import DEVIATION, Past, Transformer, causal, draw, head_problems
from textvae.parts.kernels.layers import words_log_prob
from textvae.settings.fields import Depth, Fraction, Size
from textvae.settings.problems import Problem

Inject = Literal["prefix", "input"]


class TransformerState(NamedTuple):
    """State between two steps of generation: past keys and values, and each row's addition from its code."""

    past: Past
    added: Tensor | None


class TransformerDecoder(Decoder):
    """A causal transformer that sees z as a position before the begin mark, added to every input, or both.

    With `latent = 0` it sees none: the plain language model. The code may have features of its own at every
    position (sample, batch, position, latent), which then are what is added there; they need `inject = ("input",)`.
    Embeddings pass a linear layer if their size is not `hidden`. In training, dropout falls on what each branch of
    a block adds, on the outputs and, at a rate of their own if `embedding_dropout` is given, on the input words,
    never on z, and word dropout replaces each input word with the unknown word with probability 1 - `word_keep`.

    References: Li et al. 2020, "Optimus": z as memory that all layers attend to, which here they compute
    themselves from one more position, and z added to the embeddings. Radford et al. 2019 for the language model.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        latent: int,
        hidden: int = 256,
        layers: int = 4,
        heads: int = 4,
        inject: Sequence[Inject] = ("prefix", "input"),
        dropout: float = 0.1,
        word_keep: float = 1.0,
        embedding_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.dropout, self.word_keep, self.hidden = dropout, word_keep, hidden
        self.embedding_dropout = dropout if embedding_dropout is None else embedding_dropout
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.entry = None if embedding == hidden else nn.Linear(embedding, hidden)
        self.as_prefix = nn.Linear(latent, hidden) if latent and "prefix" in inject else None
        self.at_input = nn.Linear(latent, hidden) if latent and "input" in inject else None
        self.network = Transformer(hidden, layers, heads)
        self.words = nn.Linear(hidden, vocabulary)
        self.begin()

    def begin(self) -> None:
        """Draw the first weights outside the blocks.

        Words come into these at the scale that they have, and a standard normal code comes in at the same scale:
        with the deviation that the other layers have, it would drown the words.
        """
        draw(self.embedding, DEVIATION)
        draw(self.words, DEVIATION)
        if self.entry is not None:
            draw(self.entry, self.entry.in_features**-0.5)
        for layer in (self.as_prefix, self.at_input):
            if layer is not None:
                draw(layer, DEVIATION * layer.in_features**-0.5)

    def log_prob(
        self, ids: Int[Tensor, "batch time"], z: Float[Tensor, "sample batch *size"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """log p(x_t | x_<t, z) of every token in nats; what stands in the padding is for the caller to mask.

        Without a code there is one sample.
        """
        batch, time = ids.shape
        samples = 1 if z is None else len(z)
        before = previous(ids, self.word_keep, self.training)
        inputs = self._entered(F.dropout(self.embedding(before), self.embedding_dropout, self.training))
        inputs = inputs.expand(samples, batch, time, -1)
        if z is not None and self.at_input is not None:
            inputs = inputs + along(self.at_input(z), time)
        if z is not None and self.as_prefix is not None:
            inputs = torch.cat([self.as_prefix(z)[:, :, None], inputs], dim=2)
        outputs = self.network(inputs.flatten(0, 1), causal, self.dropout if self.training else 0.0)[:, -time:]
        outputs = F.dropout(outputs, self.dropout, self.training)
        return words_log_prob(outputs, self.words, ids)

    @torch.no_grad()
    def start(self, z: Float[Tensor, "row *size"] | None, rows: int = 1) -> TransformerState:
        """Return the state before the first word of `rows` sentences, or of one a code; no gradients."""
        past = self.network.past(rows if z is None else len(z))
        if z is not None and self.as_prefix is not None:
            _, past = self.network.step(self.as_prefix(z), past)
        return TransformerState(past, None if z is None or self.at_input is None else self.at_input(z))

    @torch.no_grad()
    def advance(
        self, token: Int[Tensor, " row"], state: TransformerState
    ) -> tuple[Float[Tensor, "row hidden"], TransformerState]:
        """Return the last block's outputs after `token`, and the state after it; no gradients."""
        past, added = state
        inputs = self._entered(self.embedding(dropped(token, self.word_keep, self.training)))
        if added is not None:
            inputs = inputs + at(added, past.position)  # what has positions comes without a prefix
        outputs, past = self.network.step(inputs, past)
        return outputs, TransformerState(past, added)

    def select(
        self, state: TransformerState, rows: Int[Tensor, " kept"] | Bool[Tensor, " row"]
    ) -> TransformerState:
        """Return the state of some rows: sentences that go on, or the survivors of a beam."""
        return TransformerState(state.past.select(rows), None if state.added is None else state.added[rows])

    def _entered(self, embedded: Float[Tensor, "*any embedding"]) -> Float[Tensor, "*any hidden"]:
        """Embeddings as the blocks take them."""
        return embedded if self.entry is None else self.entry(embedded)


class TransformerDecoderSettings(DecoderSettings):
    """Causal self-attention; z as a prefix, added to every input, or both.

    `embedding_dropout` is that of input words' embeddings alone; None is as much as `dropout`.
    """

    name: Literal["transformer"]
    hidden: Size = 256
    layers: Depth = 4
    heads: Size = 4
    inject: Annotated[tuple[Inject, ...], Field(strict=False)] = ("prefix", "input")
    dropout: Fraction = 0.1
    embedding_dropout: Fraction | None = None

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> TransformerDecoder:
        """Build it for codes of `latent` dimensions."""
        options = self.model_dump(exclude={"name"})
        return TransformerDecoder(vocabulary, embedding, latent, **options, word_keep=word_keep)

    @property
    def softmax_size(self) -> int:
        """The hidden size."""
        return self.hidden

    def problems(self, latent: int, positions: int) -> list[Problem]:
        """Refuse heads that do not divide the hidden size, and a code that is injected nowhere."""
        return head_problems(self.heads, self.hidden) + unseen_code(latent, self.inject, "prefix")
