"""Encoders: a sentence becomes one vector, from which the posterior takes its parameters."""

from typing import Any

from torch import nn

from textvae.parts.encoders.convolutional import ConvolutionalEncoder
from textvae.parts.encoders.recurrent import RecurrentEncoder
from textvae.parts.encoders.transformer import TransformerEncoder
from textvae.settings.architectures import Encoder

__all__ = ["ConvolutionalEncoder", "RecurrentEncoder", "TransformerEncoder", "encoder_of"]

KINDS: dict[str, Any] = {"convolutional": ConvolutionalEncoder, "transformer": TransformerEncoder}


def encoder_of(settings: Encoder, vocabulary: int, embedding: int, positions: int) -> nn.Module:
    """The encoder that settings describe, for texts of at most `positions` tokens, end mark included."""
    options = settings.model_dump(exclude={"name"})
    if settings.name in ("lstm", "gru"):
        return RecurrentEncoder(vocabulary, embedding, settings.name, **options)
    if settings.name == "convolutional":
        options["positions"] = positions
    return KINDS[settings.name](vocabulary, embedding, **options)
