"""Texts as conditions: a source sentence, read by an encoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from textvae.parts.conditioners.conditioner import Conditioner, ConditionerSettings
from textvae.parts.encoders import Encoder
from textvae.text.conditions import Turns


class TextConditioner(Conditioner):
    """The vector of a source text: a sequence-to-sequence model whose decoder sees the source by it alone."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.size = encoder, encoder.size

    def forward(self, condition: Turns) -> Float[Tensor, "batch size"]:
        """Return the vector of each source text."""
        lengths = condition.lengths[:, 0]
        vectors: Tensor = self.encoder(condition.ids[:, 0, : int(lengths.max())], lengths)
        return vectors


class TextConditionerSettings(ConditionerSettings):
    """The text of the column `data.source`, read by an encoder of the kind and size of `model.encoder`.

    With `shared` it is the encoder that reads the target.
    """

    name: Literal["text"]
    shared: bool = False
    reads: ClassVar[str | None] = "source"

    def build(self, names: Mapping[str, Sequence[str]], reader: Callable[[bool], Encoder]) -> TextConditioner:
        """Build it."""
        return TextConditioner(reader(self.shared))
