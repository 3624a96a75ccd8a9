"""Encoders, one file each; `ENCODERS` names them as settings do."""

from typing import Annotated

from textvae.parts.encoders.convolutional import ConvolutionalEncoder, ConvolutionalEncoderSettings
from textvae.parts.encoders.encoder import Encoder, EncoderSettings
from textvae.parts.encoders.recurrent import RecurrentEncoder, RecurrentEncoderSettings
from textvae.parts.encoders.transformer import TransformerEncoder, TransformerEncoderSettings
from textvae.settings.kinds import OneOf, kinds

__all__ = [
    "ENCODERS",
    "AnyEncoder",
    "ConvolutionalEncoder",
    "Encoder",
    "EncoderSettings",
    "RecurrentEncoder",
    "RecurrentEncoderSettings",
    "TransformerEncoder",
]

ENCODERS = kinds(
    "textvae.encoders",
    EncoderSettings,
    [RecurrentEncoderSettings, ConvolutionalEncoderSettings, TransformerEncoderSettings],
)
AnyEncoder = Annotated[EncoderSettings, OneOf(ENCODERS, "lstm")]
