"""Labels as conditions: each column has an embedding, and they are concatenated."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.conditioners.conditioner import Conditioner, ConditionerSettings
from textvae.parts.encoders import Encoder
from textvae.settings.fields import Size
from textvae.text.conditions import MISSING, Labels


class LabelConditioner(Conditioner):
    """The embeddings of a sentence's labels, `embedding` numbers for each column; zeros for a missing label."""

    def __init__(self, values: Sequence[int], embedding: int) -> None:
        super().__init__()
        self.size = embedding * len(values)
        self.embeddings = nn.ModuleList(nn.Embedding(number, embedding) for number in values)

    def forward(self, condition: Labels) -> Float[Tensor, "batch size"]:
        """Return the vector of each sentence."""
        parts = []
        for embedding, values in zip(self.embeddings, condition.values.unbind(1), strict=True):
            known = values != MISSING
            parts.append(embedding(values.where(known, 0)) * known[:, None])
        return torch.cat(parts, dim=1)


class LabelConditionerSettings(ConditionerSettings):
    """Labels of the columns that `data.condition_on` names; `embedding` is the size of each column's embeddings.

    With `infer` sentences of the training split may lack labels, which a classifier q(c|x) infers in training.

    References: Kingma et al. 2014, "Semi-supervised learning with deep generative models", section 2 (M2).
    """

    name: Literal["labels"]
    embedding: Size = 16
    infer: bool = False
    reads: ClassVar[str | None] = "condition_on"

    @property
    def infers(self) -> bool:
        """`infer`."""
        return self.infer

    def build(self, names: Mapping[str, Sequence[str]], reader: Callable[[bool], Encoder]) -> LabelConditioner:
        """Build it."""
        return LabelConditioner([len(values) for values in names.values()], self.embedding)
