"""Decoders p(x|z), one file each; `DECODERS` names them as settings do."""

from typing import Annotated

from textvae.parts.decoders.convolutional import (
    ByteNetSettings,
    ConvolutionalDecoder,
    GatedConvolutionalSettings,
)
from textvae.parts.decoders.decoder import Decoder, DecoderSettings
from textvae.parts.decoders.feed_forward import FeedForwardDecoder
from textvae.parts.decoders.hybrid import HybridSettings
from textvae.parts.decoders.recurrent import RecurrentDecoder, RecurrentDecoderSettings
from textvae.parts.decoders.transformer import TransformerDecoder, TransformerDecoderSettings
from textvae.settings.kinds import OneOf, kinds

__all__ = [
    "DECODERS",
    "AnyDecoder",
    "ConvolutionalDecoder",
    "Decoder",
    "DecoderSettings",
    "FeedForwardDecoder",
    "RecurrentDecoder",
    "RecurrentDecoderSettings",
    "TransformerDecoder",
]

DECODERS = kinds(
    "textvae.decoders",
    DecoderSettings,
    [
        RecurrentDecoderSettings,
        GatedConvolutionalSettings,
        ByteNetSettings,
        TransformerDecoderSettings,
        HybridSettings,
    ],
)
AnyDecoder = Annotated[DecoderSettings, OneOf(DECODERS, "lstm")]
