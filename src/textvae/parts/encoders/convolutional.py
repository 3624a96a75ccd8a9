"""The convolutional encoder: a text of fixed length, halved by every layer, then flattened."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.encoders.encoder import Encoder, EncoderSettings
from textvae.parts.kernels.convolutions import Convolution, convolution_problems, each, padded
from textvae.parts.kernels.layers import within
from textvae.settings.fields import EachOrAll, Fraction, Maps
from textvae.settings.problems import Problem


class ConvolutionalEncoder(Encoder):
    """Strided convolutions over a text padded to `positions`, batch-normalised, ReLU; the last maps, flattened.

    Where strides do not divide `positions` there are some more. What lies behind a sentence's end is zero at every
    layer and has no part in any statistic, so padding has no influence.

    References: Semeniuta et al. 2017, section 3.3 and its program: kernel 3, stride 2.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        maps: Sequence[int] = (128, 256),
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 2,
        dropout: float = 0.0,
        positions: int = 64,
    ) -> None:
        super().__init__()
        kernels, strides = each(kernel, len(maps)), each(stride, len(maps))
        self.dropout = dropout
        self.positions = padded(positions, strides)
        self.size = maps[-1] * (self.positions // math.prod(strides))
        self.embedding = nn.Embedding(vocabulary, embedding)
        channels = (embedding, *maps)
        sizes = zip(channels[:-1], maps, kernels, strides, strict=True)
        self.layers = nn.ModuleList(Convolution(*size) for size in sizes)

    def forward(
        self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the flattened maps of each sentence, of at most `positions` tokens."""
        return self.read(F.dropout(self.embedding(ids), self.dropout, self.training), lengths)

    def read(
        self, embedded: Float[Tensor, "batch time embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the same for sentences that are embeddings already."""
        x = F.pad(embedded.transpose(1, 2), (0, self.positions - embedded.shape[1]))
        inside = within(lengths, self.positions)[:, None]
        x = x.masked_fill(~inside, 0.0)
        for layer in self.layers:
            x, inside = layer(x, inside)
        return x.flatten(1)


class ConvolutionalEncoderSettings(EncoderSettings):
    """Convolutions, each of a stride, over a text of fixed length, flattened; `maps` has one number a layer."""

    name: Literal["convolutional"]
    maps: Maps = (128, 256)
    kernel: EachOrAll = 3
    stride: EachOrAll = 2
    dropout: Fraction = 0.0
    fixed_length: ClassVar[bool] = True
    batch_statistics: ClassVar[bool] = True

    def build(self, vocabulary: int, embedding: int, positions: int) -> ConvolutionalEncoder:
        """Build it for texts of at most `positions` tokens."""
        options = self.model_dump(exclude={"name"})
        return ConvolutionalEncoder(vocabulary, embedding, **options, positions=positions)

    def problems(self, positions: int) -> list[Problem]:
        """Refuse kernels and strides that do not fit the maps, each other, or the length of texts."""
        return convolution_problems(self.maps, self.kernel, self.stride, positions)
