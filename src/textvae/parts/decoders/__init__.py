"""Decoders p(x|z), one file each."""

from typing import Any

from torch import nn

from textvae.parts.decoders.convolutional import ConvolutionalDecoder, bytenet_decoder, gated_decoder
from textvae.parts.decoders.feed_forward import FeedForwardDecoder
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.parts.decoders.transformer import TransformerDecoder
from textvae.settings.architectures import Decoder, HybridDecoder, Top

__all__ = [
    "ConvolutionalDecoder",
    "FeedForwardDecoder",
    "RecurrentDecoder",
    "TransformerDecoder",
    "decoder_of",
]

KINDS: dict[str, Any] = {
    "gated-convolutional": gated_decoder,
    "bytenet": bytenet_decoder,
    "transformer": TransformerDecoder,
}


def decoder_of(settings: Decoder | Top, vocabulary: int, embedding: int, latent: int) -> nn.Module:
    """The decoder that settings describe, for codes of size `latent`; of a hybrid one the top, for its features."""
    if settings.name == "hybrid":
        assert isinstance(settings, HybridDecoder)
        return decoder_of(settings.top, vocabulary, embedding, settings.maps[-1])
    if settings.name == "feed-forward":
        return FeedForwardDecoder(vocabulary, latent)
    options = settings.model_dump(exclude={"name"})
    if settings.name in ("lstm", "gru"):
        inject = settings.inject
        return RecurrentDecoder(vocabulary, embedding, latent, settings.name, **{**options, "inject": inject})
    return KINDS[settings.name](vocabulary, embedding, latent, **options)
