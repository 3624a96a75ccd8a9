"""The tables of encoders and decoders: frozen pydantic models with their defaults."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)

from textvae.settings.strict import Strict

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
# Of one layer: a million units make a matrix of 4 TB. And so many layers in a row that a model is still built.
Size = Annotated[int, Field(gt=0, le=2**20)]
SizeOrNone = Annotated[int, Field(ge=0, le=2**20)]
Depth = Annotated[int, Field(gt=0, le=1000)]
DepthOrNone = Annotated[int, Field(ge=0, le=1000)]
# Of a convolution: from 8,192 maps on, transposed convolutions of oneDNN crash at some sizes of their outputs.
Map = Annotated[int, Field(gt=0, le=2**12)]
Maps = Annotated[tuple[Map, ...], Field(strict=False, min_length=1, max_length=100)]
Width = Annotated[int, Field(gt=0, le=2**10)]
Widths = Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=100)]


def _each_or_all(value: Any, either: Callable[[Any], Any]) -> Any:
    """One complaint where neither of two forms fits, in place of one for each."""
    try:
        return either(value)
    except ValidationError:
        raise ValueError("give one number, 1 to 1,024, for all layers, or a list of one for each") from None


# One number for all layers, or one for each.
EachOrAll = Annotated[Width | Widths, WrapValidator(_each_or_all)]
# Normalisation of a masked convolution: over a position's channels, or over the positions of a batch.
PositionNorm = Literal["layer", "batch"]
# Layer normalisation of an LSTM's gates: all four jointly, or each by itself.
Norm = Literal["none", "layer", "layer-per-gate"]
# Below `embedding_dropout` is the dropout of input words' embeddings alone; None is as much as `dropout`.


def named(default: str) -> Any:
    """Before validation: a table without a name is of the default kind."""

    def name(value: Any) -> Any:
        return {"name": default, **value} if isinstance(value, Mapping) else value

    return BeforeValidator(name)


class RecurrentEncoder(Strict):
    """Reads the sentence; its last states parametrise the posterior. Dropout falls on its input words."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 512
    layers: Depth = 1
    bidirectional: bool = False
    norm: Norm = "none"
    dropout: Fraction = 0.0


class ConvolutionalEncoder(Strict):
    """Convolutions, each of a stride, over a text of fixed length, flattened; `maps` has one number a layer."""

    name: Literal["convolutional"]
    maps: Maps = (128, 256)
    kernel: EachOrAll = 3
    stride: EachOrAll = 2
    dropout: Fraction = 0.0


class TransformerEncoder(Strict):
    """Self-attention over the whole sentence, averaged over its tokens."""

    name: Literal["transformer"]
    hidden: Size = 256
    layers: Depth = 4
    heads: Size = 4
    dropout: Fraction = 0.1
    embedding_dropout: Fraction | None = None


class RecurrentDecoder(Strict):
    """p(x|z): word by word; z as the initial state, at every step, or both."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 512
    layers: Depth = 1
    inject: Annotated[tuple[Literal["state", "input"], ...], Field(strict=False)] = ("state", "input")
    norm: Norm = "none"
    dropout: Fraction = 0.3
    embedding_dropout: Fraction | None = None
    word_keep: Probability = 1.0


class GatedConvolutionalDecoder(Strict):
    """Causal gated convolutions in residual blocks with a bottleneck; z at every position."""

    name: Literal["gated-convolutional"]
    hidden: Size = 512
    bottleneck: Size = 128
    width: Width = 20
    blocks: Depth = 2
    dropout: Fraction = 0.3
    embedding_dropout: Fraction | None = None
    word_keep: Probability = 1.0


class TransformerDecoder(Strict):
    """Causal self-attention; z as a prefix, added to every input, or both."""

    name: Literal["transformer"]
    hidden: Size = 256
    layers: Depth = 4
    heads: Size = 4
    inject: Annotated[tuple[Literal["prefix", "input"], ...], Field(strict=False)] = ("prefix", "input")
    dropout: Fraction = 0.1
    embedding_dropout: Fraction | None = None
    word_keep: Probability = 1.0


class ByteNetDecoder(Strict):
    """Masked convolutions of kernel 2: `layers` of them see the last `layers + 1` words; z at every position."""

    name: Literal["bytenet"]
    hidden: Size = 512
    layers: DepthOrNone = 3
    norm: PositionNorm = "layer"
    dropout: Fraction = 0.0
    embedding_dropout: Fraction | None = None
    word_keep: Probability = 1.0


class RecurrentTop(Strict):
    """The recurrent network on top of a hybrid decoder's features; a GRU has no norm unless one is asked for."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 500
    layers: Depth = 1
    norm: Norm = "layer"
    dropout: Fraction = 0.0
    embedding_dropout: Fraction | None = None
    word_keep: Probability = 1.0

    @model_validator(mode="before")
    @classmethod
    def _norm_of_the_cell(cls, table: Any) -> Any:
        """Layer normalisation is the LSTM's, so a GRU's default is to have none."""
        return {"norm": "none", **table} if isinstance(table, Mapping) and table.get("name") == "gru" else table

    @property
    def inject(self) -> tuple[Literal["input"], ...]:
        """Features are of positions, so there is none for the state."""
        return ("input",)


class FeedForwardTop(Strict):
    """Nothing on top of a hybrid decoder's features: each word from z alone, whatever the words before it."""

    name: Literal["feed-forward"]


Top = Annotated[RecurrentTop | ByteNetDecoder | FeedForwardTop, Field(discriminator="name")]


class HybridDecoder(Strict):
    """z unfolded into features of every position by transposed convolutions; on top a decoder that sees them."""

    name: Literal["hybrid"]
    first_maps: Map = 256
    maps: Maps = (128, 200)
    kernel: EachOrAll = 3
    stride: EachOrAll = 2
    top: Annotated[Top, named("lstm")] = RecurrentTop()

    @property
    def hidden(self) -> int:
        """What the vocabulary's projection sees."""
        return self.maps[-1] if isinstance(self.top, FeedForwardTop) else self.top.hidden

    @property
    def word_keep(self) -> float:
        """How many of the words before it a word is told from; there are none without a top."""
        return 1.0 if isinstance(self.top, FeedForwardTop) else self.top.word_keep


Encoder = Annotated[RecurrentEncoder | ConvolutionalEncoder | TransformerEncoder, Field(discriminator="name")]
Decoder = Annotated[
    RecurrentDecoder | GatedConvolutionalDecoder | ByteNetDecoder | TransformerDecoder | HybridDecoder,
    Field(discriminator="name"),
]
