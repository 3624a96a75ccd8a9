"""Dialogues as conditions: an encoder reads each utterance, and a GRU the utterances of a context."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textvae.parts.conditioners.conditioner import Conditioner, ConditionerSettings
from textvae.parts.encoders import Encoder
from textvae.parts.kernels.layers import Recurrent
from textvae.settings.fields import Size
from textvae.text.conditions import Turns

# Parts into which utterances are sorted by length, so that little is padding.
PARTS = 6


class DialogueConditioner(Conditioner):
    """The state of a GRU after the utterances of a context, each a vector and a flag.

    The flag is 1 where the speaker of an utterance is that of the response.

    References: Serban et al. 2016 (HRED); Zhao et al. 2017, section 3.1 and its program.
    """

    def __init__(self, encoder: Encoder, hidden: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, hidden
        self.context = Recurrent("gru", encoder.size + 1, hidden)

    def forward(self, condition: Turns) -> Float[Tensor, "batch size"]:
        """Return the vector of each context; what stands beyond its utterances has no influence."""
        present = condition.lengths > 0
        vectors = utterances(self.encoder, condition.ids[present], condition.lengths[present])
        flags = condition.speakers[present].to(vectors.dtype)
        inputs = vectors.new_zeros(*present.shape, self.encoder.size + 1)
        inputs[present] = torch.cat([vectors, flags[:, None]], dim=1)
        outputs, _ = self.context(inputs)
        last = (condition.counts - 1)[:, None, None].expand(-1, -1, self.size)
        return outputs.gather(1, last)[:, 0]


def utterances(encoder: Encoder, ids: Int[Tensor, "n time"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n size"]:
    """Return the vector of each utterance, read in parts of similar lengths."""
    order = lengths.argsort(descending=True, stable=True)
    parts = [encoder(ids[some, : int(lengths[some[0]])], lengths[some]) for some in order.chunk(PARTS) if len(some)]
    return torch.cat(parts)[order.argsort()]


class DialogueConditionerSettings(ConditionerSettings):
    """The utterances before a response: a GRU of `hidden` units over the vectors of an encoder.

    The encoder is of the kind and size of `model.encoder`; with `shared` it is the one that reads the response.

    References: Zhao et al. 2017, whose program has one bidirectional GRU for all utterances, and 600 units.
    """

    name: Literal["dialogue"]
    hidden: Size = 600
    shared: bool = True
    reads: ClassVar[str | None] = "dialogue"

    def build(self, names: Mapping[str, Sequence[str]], reader: Callable[[bool], Encoder]) -> DialogueConditioner:
        """Build it."""
        return DialogueConditioner(reader(self.shared), self.hidden)
