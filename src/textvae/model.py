"""The text VAE: encoder, posterior, prior and decoder wired together; `forward(batch) -> Pass`."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.batches import Batch
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.parts.encoders import RecurrentEncoder
from textvae.parts.noise import Noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianPosterior
from textvae.parts.priors import Prior, StandardNormal
from textvae.settings import Model


class Pass(NamedTuple):
    """What one pass of a batch through the model gives; the objective's terms read this and nothing else.

    `log_px` (sample, batch, time): log p(x_t | x_<t, z) in nats, zero at padding. `z` (sample, batch, latent).
    For a language model z, posterior and prior are None. `heads`: what auxiliary heads predicted, by name.
    """

    log_px: Tensor
    z: Tensor | None
    posterior: DiagonalGaussian | None
    prior: Prior | None
    heads: dict[str, Any]


class TextVAE(nn.Module):
    """p(x, z) = p(z) p(x|z) and q(z|x); without encoder, posterior and prior a language model."""

    def __init__(
        self,
        decoder: RecurrentDecoder,
        encoder: RecurrentEncoder | None = None,
        posterior: GaussianPosterior | None = None,
        prior: StandardNormal | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.prior, self.decoder = encoder, posterior, prior, decoder

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forward(self, batch: Batch, noise: Noise, samples: int = 1) -> Pass:
        """Encode, draw `samples` codes for each sentence, and score the sentence under each."""
        posterior = self.encode(batch)
        z = None if posterior is None else posterior.rsample(noise, samples)
        return Pass(self.log_px(batch, z), z, posterior, self.prior, {})

    def encode(self, batch: Batch) -> DiagonalGaussian | None:
        """q(z|x) of every sentence; None for a language model."""
        if self.encoder is None or self.posterior is None:
            return None
        return self.posterior(self.encoder(batch.ids, batch.lengths))

    def log_px(
        self, batch: Batch, z: Float[Tensor, "sample batch latent"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """log p(x_t | x_<t, z) in nats, end mark counted, zero at padding."""
        inside = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None]
        return self.decoder.log_prob(batch.ids, z).masked_fill(~inside, 0.0)


def build(settings: Model, vocabulary: int) -> TextVAE:
    """The model that settings describe, with freshly drawn weights (from torch's global generator).

    Every weight and bias is drawn from U(-init, init), as in Semeniuta et al. 2017 and Fu et al. 2020.
    """
    decoder = settings.decoder
    parts: dict[str, Any] = {}
    if settings.latent:
        encoder = settings.encoder
        parts["encoder"] = RecurrentEncoder(
            vocabulary,
            settings.embedding,
            encoder.name,
            encoder.hidden,
            encoder.layers,
            encoder.bidirectional,
        )
        parts["posterior"] = GaussianPosterior(parts["encoder"].size, settings.latent, settings.posterior.scale)
        parts["prior"] = StandardNormal(settings.latent)
    parts["decoder"] = RecurrentDecoder(
        vocabulary,
        settings.embedding,
        settings.latent,
        decoder.name,
        decoder.hidden,
        decoder.layers,
        decoder.inject,
        decoder.dropout,
        decoder.word_keep,
    )
    model = TextVAE(**parts)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -settings.init, settings.init)
    return model
