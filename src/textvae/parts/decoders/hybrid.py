"""The hybrid decoder: z unfolded into features of every position, and on top a decoder that reads them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from textvae.parts.decoders.convolutional import ByteNetSettings
from textvae.parts.decoders.decoder import Decoder, DecoderSettings
from textvae.parts.decoders.feed_forward import FeedForwardDecoder
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.parts.kernels.convolutions import Expansion, convolution_problems
from textvae.parts.kernels.layers import norm_problems
from textvae.settings.fields import Depth, EachOrAll, Fraction, Map, Maps, Norm, Size
from textvae.settings.kinds import named
from textvae.settings.problems import Problem


class RecurrentTop(DecoderSettings):
    """The recurrent network on top of a hybrid decoder's features; a GRU has no norm unless one is asked for."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 500
    layers: Depth = 1
    norm: Norm = "layer"
    dropout: Fraction = 0.0
    embedding_dropout: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _norm_of_the_cell(cls, table: Any) -> Any:
        """Layer normalisation is the LSTM's, so a GRU has none by default."""
        return {"norm": "none", **table} if isinstance(table, Mapping) and table.get("name") == "gru" else table

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> RecurrentDecoder:
        """Build it for features of size `latent`, which are of positions, so that there is none for the state."""
        options = {**self.model_dump(exclude={"name"}), "inject": ("input",), "word_keep": word_keep}
        return RecurrentDecoder(vocabulary, embedding, latent, self.name, **options)

    @property
    def softmax_size(self) -> int:
        """The hidden size."""
        return self.hidden

    def problems(self, latent: int, positions: int) -> list[Problem]:
        """Refuse layer normalisation of a GRU."""
        return norm_problems(self.name, self.norm)


class FeedForwardTop(DecoderSettings):
    """Nothing on top of a hybrid decoder's features: each word from z alone, whatever the words before it."""

    name: Literal["feed-forward"]

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> FeedForwardDecoder:
        """Build it for features of size `latent`."""
        return FeedForwardDecoder(vocabulary, latent)

    @property
    def softmax_size(self) -> int:
        """0: it reads the features."""
        return 0

    @property
    def embeds(self) -> bool:
        """False: no word is read."""
        return False

    @property
    def alone(self) -> None:
        """None: without a code there are no features to read a word from."""
        return None


if TYPE_CHECKING:
    AnyTop: TypeAlias = DecoderSettings
else:
    AnyTop = Annotated[RecurrentTop | ByteNetSettings | FeedForwardTop, Field(discriminator="name"), named("lstm")]


class HybridSettings(DecoderSettings):
    """z unfolded into features of every position by transposed convolutions; on top a decoder that sees them."""

    name: Literal["hybrid"]
    first_maps: Map = 256
    maps: Maps = (128, 200)
    kernel: EachOrAll = 3
    stride: EachOrAll = 2
    top: AnyTop = RecurrentTop()
    fixed_length: ClassVar[bool] = True

    def build(self, vocabulary: int, embedding: int, latent: int, word_keep: float) -> Decoder:
        """Build the top, for features of the last maps."""
        return self.top.build(vocabulary, embedding, self.maps[-1], word_keep)

    def expansion(self, latent: int, positions: int) -> Expansion:
        """Build the transposed convolutions for texts of at most `positions` tokens."""
        return Expansion(latent, self.maps, self.kernel, self.stride, self.first_maps, positions)

    @property
    def softmax_size(self) -> int:
        """Size that the top's softmax reads, or of the last maps for a feed-forward top."""
        return self.top.softmax_size or self.maps[-1]

    @property
    def embeds(self) -> bool:
        """True if the top reads words."""
        return self.top.embeds

    @property
    def alone(self) -> DecoderSettings | None:
        """The top."""
        return self.top.alone

    @property
    def batch_statistics(self) -> bool:
        """True: transposed convolutions are batch-normalised."""
        return True

    def problems(self, latent: int, positions: int) -> list[Problem]:
        """Refuse kernels and strides that do not fit the maps, each other, or texts; and what the top refuses."""
        own = convolution_problems(self.maps, self.kernel, self.stride, positions)
        return own + [problem.under("top") for problem in self.top.problems(self.maps[-1], positions)]
