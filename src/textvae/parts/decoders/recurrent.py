"""The recurrent decoder p(x|z): each word from the words before it and the code."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from textvae.parts.decoders.decoder import Decoder, DecoderSettings
from textvae.parts.decoders.inputs import along, at, dropped, previous, unseen_code
from textvae.parts.kernels.layers import Cell, Recurrent, State, norm_problems, words_log_prob
from textvae.settings.fields import Depth, Fraction, Norm, Size
from textvae.settings.problems import Problem

Inject = Literal["state", "input"]


class DecoderState(NamedTuple):
    """State between two steps of generation: the network's state, each row's code, and the position."""

    network: State
    z: Tensor | None
    position: int


class RecurrentDecoder(Decoder):
    """An LSTM or GRU language model that sees z as its initial state, at every input, or both.

    With `latent = 0` it sees none: the plain language model. The code may have features of its own at every
    position (sample, batch, position, latent), which then are what is seen there. In training, dropout falls on its
    outputs and, at a rate of their own if `embedding_dropout` is given, on its input words, never on z, and word
    dropout replaces each input word with the unknown word with probability 1 - `word_keep`.

    References: Bowman et al. 2016, section 3 (state; z at every step as a variation) and 3.1 (word dropout);
    Prokhorov et al. 2019, section 3 (z at every step alone).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        latent: int,
        cell: Cell = "lstm",
        hidden: int = 512,
        layers: int = 1,
        inject: Sequence[Inject] = ("state", "input"),
        dropout: float = 0.0,
        word_keep: float = 1.0,
        norm: Norm = "none",
        embedding_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.dropout, self.word_keep = dropout, word_keep
        self.embedding_dropout = dropout if embedding_dropout is None else embedding_dropout
        self.layers, self.hidden = layers, hidden
        self.at_input = bool(latent) and "input" in inject
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.network = Recurrent(cell, embedding + (latent if self.at_input else 0), hidden, layers, norm)
        at_state = bool(latent) and "state" in inject
        states = self.network.states
        self.first_state = nn.Linear(latent, states * layers * hidden) if at_state else None
        self.words = nn.Linear(hidden, vocabulary)

    def log_prob(
        self, ids: Int[Tensor, "batch time"], z: Float[Tensor, "sample batch *size"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """log p(x_t | x_<t, z) of every token in nats; what stands in the padding is for the caller to mask.

        Without a code there is one sample.
        """
        batch, time = ids.shape
        samples = 1 if z is None else z.shape[0]
        before = previous(ids, self.word_keep, self.training)
        inputs = F.dropout(self.embedding(before), self.embedding_dropout, self.training)
        if z is not None:
            inputs = inputs.expand(samples, batch, time, -1)
            if self.at_input:
                inputs = torch.cat([inputs, along(z, time)], dim=3)
            inputs = inputs.reshape(samples * batch, time, -1)
        code = None if z is None else z.flatten(0, 1)
        outputs, _ = self.network(inputs, self._state(code))
        outputs = F.dropout(outputs, self.dropout, self.training)
        return words_log_prob(outputs, self.words, ids)

    def start(self, z: Float[Tensor, "row *size"] | None, rows: int = 1) -> DecoderState:
        """Return the state before the first word of `rows` sentences, or of one sentence for each code."""
        rows = rows if z is None else len(z)
        state = self._state(z)
        if state is None:
            zeros = self.words.weight.new_zeros(self.layers, rows, self.hidden)
            state = (zeros,) * self.network.states
        return DecoderState(state, z, 0)

    def advance(
        self, token: Int[Tensor, " row"], state: DecoderState
    ) -> tuple[Float[Tensor, "row hidden"], DecoderState]:
        """Return the network's outputs after `token`, and the state after it."""
        network_state, z, position = state
        inputs = self.embedding(dropped(token, self.word_keep, self.training))
        if self.at_input and z is not None:
            inputs = torch.cat([inputs, at(z, position)], dim=1)
        outputs, network_state = self.network(inputs[:, None], network_state)
        return outputs[:, 0], DecoderState(network_state, z, position + 1)

    def select(self, state: DecoderState, rows: Int[Tensor, " kept"] | Bool[Tensor, " row"]) -> DecoderState:
        """Return the state of some rows: sentences that go on, or the survivors of a beam."""
        kept = tuple(part[:, rows] for part in state.network)
        return DecoderState(kept, None if state.z is None else state.z[rows], state.position)

    def _state(self, z: Tensor | None) -> State | None:
        """Return the initial state, linear in the code: outputs through tanh, an LSTM's cells without it."""
        if self.first_state is None or z is None:
            return None
        raw = self.first_state(z).view(len(z), self.network.states, self.layers, self.hidden)
        parts = raw.permute(1, 2, 0, 3).contiguous().unbind(0)
        return (parts[0].tanh(), *parts[1:])


class RecurrentDecoderSettings(DecoderSettings):
    """p(x|z) word by word; z as the initial state, at every step, or both.

    `embedding_dropout` is that of input words' embeddings alone; None is as much as `dropout`.
    """

    name: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 512
    layers: Depth = 1
    inject: Annotated[tuple[Inject, ...], Field(strict=False)] = ("state", "input")
    norm: Norm = "none"
    dropout: Fraction = 0.3
    embedding_dropout: Fraction | None = None

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> RecurrentDecoder:
        """Build it for codes of `latent` dimensions."""
        options = self.model_dump(exclude={"name"})
        return RecurrentDecoder(vocabulary, embedding, latent, self.name, **options, word_keep=word_keep)

    @property
    def softmax_size(self) -> int:
        """The hidden size."""
        return self.hidden

    def problems(self, latent: int, positions: int) -> list[Problem]:
        """Refuse layer normalisation of a GRU, and a code that is injected nowhere."""
        return norm_problems(self.name, self.norm) + unseen_code(latent, self.inject, "state")
