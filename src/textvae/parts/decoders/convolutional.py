"""Convolutional decoders p(x|z): each word from so many words before it and the code, all positions at once.

Generation keeps what the kernels still need of the past, so that a step costs the same at every position.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textvae.parts.decoders.decoder import Decoder, DecoderSettings
from textvae.parts.decoders.inputs import along, at, dropped, previous
from textvae.parts.kernels.convolutions import BatchNorm
from textvae.parts.kernels.layers import words_log_prob
from textvae.parts.kernels.products import linear
from textvae.settings.fields import Depth, DepthOrNone, Fraction, PositionNorm, Size, Width
from textvae.text.tokenizers import PAD


class Past(NamedTuple):
    """State between two steps of generation: each kernel's past (row, time, channels), codes, position."""

    kernels: tuple[Tensor, ...]
    z: Tensor | None
    position: int


class Causal(nn.Module):
    """A convolution that sees a position and the `width` - 1 before it; zeros stand before the first."""

    def __init__(self, channels: int, outputs: int, width: int) -> None:
        super().__init__()
        self.width, self.channels = width, channels
        self.kernel = nn.Conv1d(channels, outputs, width)

    def forward(self, x: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch time outputs"]:
        """All positions at once."""
        return self.kernel(F.pad(x.transpose(1, 2), (self.width - 1, 0))).transpose(1, 2)

    def past(self, rows: int) -> Float[Tensor, "row time channels"]:
        """Return what is kept before the first position: zeros."""
        return self.kernel.weight.new_zeros(rows, self.width - 1, self.channels)

    def step(
        self, x: Float[Tensor, "row channels"], past: Float[Tensor, "row time channels"]
    ) -> tuple[Float[Tensor, "row outputs"], Float[Tensor, "row time channels"]]:
        """One position, and what is kept after it."""
        seen = torch.cat([past, x[:, None]], dim=1)
        weight = self.kernel.weight.transpose(1, 2).flatten(1)
        return linear(seen.flatten(1), weight, self.kernel.bias), seen[:, 1:]


class GatedBlock(nn.Module):
    """x + a bottleneck of three gated convolutions: of width 1 inwards, causal inside, of width 1 outwards.

    A gated layer is (W x + b) * sigmoid(V x + c).

    References: Dauphin et al. 2017, "Language modeling with gated convolutional networks", section 2 and table 1.
    """

    def __init__(self, hidden: int, bottleneck: int, width: int) -> None:
        super().__init__()
        self.inwards = nn.Linear(hidden, 2 * bottleneck)
        self.causal = Causal(bottleneck, 2 * bottleneck, width)
        self.outwards = nn.Linear(bottleneck, 2 * hidden)

    def begin(self) -> None:
        """Weights that keep the variance, half of which a gate takes.

        References: Gehring et al. 2017, "Convolutional sequence to sequence learning", section 3.5.
        """
        for layer in (self.inwards, self.causal.kernel, self.outwards):
            _drawn(layer, 4.0)

    def forward(
        self, x: Float[Tensor, "batch time hidden"], text: Bool[Tensor, "batch 1 time"]
    ) -> Float[Tensor, "batch time hidden"]:
        """All positions at once, those of the `text` and those of the padding alike."""
        inside = F.glu(self.causal(F.glu(self.inwards(x))))
        return x + F.glu(self.outwards(inside))

    def step(self, x: Float[Tensor, "row hidden"], past: Tensor) -> tuple[Float[Tensor, "row hidden"], Tensor]:
        """One position, and what is kept after it."""
        inside, past = self.causal.step(F.glu(self.inwards(x)), past)
        return x + F.glu(self.outwards(F.glu(inside))), past


class MaskedLayer(nn.Module):
    """A causal convolution of kernel 2, normalised over its channels or over the batch's positions, ReLU."""

    def __init__(self, hidden: int, norm: PositionNorm = "layer") -> None:
        super().__init__()
        self.causal = Causal(hidden, hidden, 2)
        self.norm: nn.LayerNorm | BatchNorm = nn.LayerNorm(hidden) if norm == "layer" else BatchNorm(hidden)

    def begin(self) -> None:
        """Weights that keep the variance before a ReLU, He et al. 2015; a layer norm as it is."""
        _drawn(self.causal.kernel, 2.0)
        if isinstance(self.norm, nn.LayerNorm):
            self.norm.reset_parameters()

    def forward(
        self, x: Float[Tensor, "batch time hidden"], text: Bool[Tensor, "batch 1 time"]
    ) -> Float[Tensor, "batch time hidden"]:
        """All positions at once; statistics of a batch norm are of those of the `text`."""
        return self._normalised(self.causal(x), text).relu()

    def step(self, x: Float[Tensor, "row hidden"], past: Tensor) -> tuple[Float[Tensor, "row hidden"], Tensor]:
        """One position, and what is kept after it."""
        found, past = self.causal.step(x, past)
        return self._normalised(found[:, None])[:, 0].relu(), past

    def _normalised(
        self, x: Float[Tensor, "batch time hidden"], text: Bool[Tensor, "batch 1 time"] | None = None
    ) -> Float[Tensor, "batch time hidden"]:
        if isinstance(self.norm, BatchNorm):
            return self.norm(x.transpose(1, 2), text).transpose(1, 2)
        return self.norm(x)


class ConvolutionalDecoder(Decoder):
    """p(x|z) by causal convolutions: words and code to `hidden` channels, the layers, a softmax.

    The code, or its features (sample, batch, position, latent), is seen at every position; with `latent = 0` there
    is none. In training dropout, with or without a rate of its own for embeddings, and word dropout fall where they
    do in the recurrent decoder.
    `gated_decoder` and `bytenet_decoder` say which layers there are.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        latent: int,
        layers: Sequence[nn.Module],
        hidden: int,
        dropout: float = 0.0,
        word_keep: float = 1.0,
        embedding_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.dropout, self.word_keep, self.hidden = dropout, word_keep, hidden
        self.embedding_dropout = dropout if embedding_dropout is None else embedding_dropout
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.enter = nn.Linear(embedding + latent, hidden)
        self.layers: Any = nn.ModuleList(layers)
        self.words = nn.Linear(hidden, vocabulary)

    def log_prob(
        self, ids: Int[Tensor, "batch time"], z: Float[Tensor, "sample batch *size"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """log p(x_t | x_<t, z) of every token in nats; what stands in the padding is for the caller to mask."""
        batch, time = ids.shape
        samples = 1 if z is None else z.shape[0]
        before = previous(ids, self.word_keep, self.training)
        inputs = F.dropout(self.embedding(before), self.embedding_dropout, self.training)
        inputs = inputs.expand(samples, batch, time, -1)
        if z is not None:
            inputs = torch.cat([inputs, along(z, time)], dim=3)
        x = self.enter(inputs.flatten(0, 1))
        text = (ids != PAD).repeat(samples, 1)[:, None]
        for layer in self.layers:
            x = layer(x, text)
        x = F.dropout(x, self.dropout, self.training)
        return words_log_prob(x, self.words, ids)

    def start(self, z: Float[Tensor, "row *size"] | None, rows: int = 1) -> Past:
        """Return the state before the first word of `rows` sentences, or of one sentence for each code."""
        rows = rows if z is None else len(z)
        return Past(tuple(layer.causal.past(rows) for layer in self.layers), z, 0)

    def advance(self, token: Int[Tensor, " row"], state: Past) -> tuple[Float[Tensor, "row hidden"], Past]:
        """Return the last layer's channels after `token`, and the state after it."""
        inputs = self.embedding(dropped(token, self.word_keep, self.training))
        if state.z is not None:
            inputs = torch.cat([inputs, at(state.z, state.position)], dim=1)
        x, kept = self.enter(inputs), []
        for layer, past in zip(self.layers, state.kernels, strict=True):
            x, past = layer.step(x, past)
            kept.append(past)
        return x, Past(tuple(kept), state.z, state.position + 1)

    def select(self, state: Past, rows: Int[Tensor, " kept"] | Bool[Tensor, " row"]) -> Past:
        """Return the state of some rows: sentences that go on, or the survivors of a beam."""
        kept = tuple(past[rows] for past in state.kernels)
        return Past(kept, None if state.z is None else state.z[rows], state.position)


def gated_decoder(
    vocabulary: int,
    embedding: int,
    latent: int,
    hidden: int = 512,
    bottleneck: int = 128,
    width: int = 20,
    blocks: int = 2,
    dropout: float = 0.0,
    word_keep: float = 1.0,
    embedding_dropout: float | None = None,
) -> ConvolutionalDecoder:
    """Gated convolutions in residual blocks with a bottleneck; a word sees blocks (width - 1) + 1 words.

    References: Prokhorov et al. 2019, section 3, whose sizes are the usual ones here; Dauphin et al. 2017.
    """
    layers = [GatedBlock(hidden, bottleneck, width) for _ in range(blocks)]
    return ConvolutionalDecoder(
        vocabulary, embedding, latent, layers, hidden, dropout, word_keep, embedding_dropout
    )


def bytenet_decoder(
    vocabulary: int,
    embedding: int,
    latent: int,
    hidden: int = 512,
    layers: int = 3,
    dropout: float = 0.0,
    word_keep: float = 1.0,
    embedding_dropout: float | None = None,
    norm: PositionNorm = "layer",
) -> ConvolutionalDecoder:
    """Masked convolutions of kernel 2, not dilated, without skips: a word sees the `layers` + 1 words before it.

    With `norm = "batch"` each channel is normalised over the batch's words, as in the paper: in training a word's
    distribution then depends on other texts and on later words through the statistics, in evaluation on neither.
    With `"layer"` it never does.

    References: Semeniuta et al. 2017, section 4.2, "Receptive field"; Kalchbrenner et al. 2016.
    """
    stack = [MaskedLayer(hidden, norm) for _ in range(layers)]
    return ConvolutionalDecoder(vocabulary, embedding, latent, stack, hidden, dropout, word_keep, embedding_dropout)


def _drawn(layer: nn.Linear | nn.Conv1d, gain: float) -> None:
    """Weights from a normal of variance gain / fan-in, and no biases."""
    nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.weight[0].numel()))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class GatedConvolutionalSettings(DecoderSettings):
    """Causal gated convolutions in residual blocks with a bottleneck; z at every position.

    `embedding_dropout` is that of input words' embeddings alone; None is as much as `dropout`.
    """

    name: Literal["gated-convolutional"]
    hidden: Size = 512
    bottleneck: Size = 128
    width: Width = 20
    blocks: Depth = 2
    dropout: Fraction = 0.3
    embedding_dropout: Fraction | None = None

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> ConvolutionalDecoder:
        """Build it for codes of `latent` dimensions."""
        options = self.model_dump(exclude={"name"})
        return gated_decoder(vocabulary, embedding, latent, **options, word_keep=word_keep)

    @property
    def softmax_size(self) -> int:
        """The hidden size."""
        return self.hidden


class ByteNetSettings(DecoderSettings):
    """Masked convolutions of kernel 2: `layers` of them see the last `layers + 1` words; z at every position.

    `embedding_dropout` is that of input words' embeddings alone; None is as much as `dropout`.
    """

    name: Literal["bytenet"]
    hidden: Size = 512
    layers: DepthOrNone = 3
    norm: PositionNorm = "layer"
    dropout: Fraction = 0.0
    embedding_dropout: Fraction | None = None

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> ConvolutionalDecoder:
        """Build it for codes of `latent` dimensions, or features of that size."""
        options = self.model_dump(exclude={"name"})
        return bytenet_decoder(vocabulary, embedding, latent, **options, word_keep=word_keep)

    @property
    def softmax_size(self) -> int:
        """The hidden size."""
        return self.hidden

    @property
    def batch_statistics(self) -> bool:
        """True if its layers are batch-normalised."""
        return self.norm == "batch"
