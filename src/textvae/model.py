"""The text VAE: encoder, posterior, prior and decoder wired together; `forward(batch, noise) -> Pass`."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.decoders import decoder_of
from textvae.parts.encoders import encoder_of
from textvae.parts.kernels.convolutions import Expansion
from textvae.parts.kernels.layers import Feedforward, within
from textvae.parts.noise import Noise, same_noise
from textvae.parts.posteriors import DiagonalGaussian, Posterior, gaussian_kl, posterior_of
from textvae.parts.priors import Prior, prior_of
from textvae.parts.refinement import Nats, RefinedGaussian, gaussian_of, parameters_of, refined_path, still
from textvae.settings import Data, HybridDecoder, Model, Refined
from textvae.text.batches import Batch


class Pass(NamedTuple):
    """What one pass of a batch through the model gives; the objective's terms read this and nothing else.

    `log_px` (sample, batch, time): log p(x_t | x_<t, z) in nats, zero at padding. `z` (sample, batch, latent).
    For a language model z, posterior and prior are None. `heads`: what auxiliary heads predicted, by the name of
    the term that asked for them.
    """

    log_px: Tensor
    z: Tensor | None
    posterior: Posterior | None
    prior: Prior | None
    heads: dict[str, Any]


class TextVAE(nn.Module):
    """p(x, z) = p(z) p(x|z) and q(z|x); without encoder, posterior and prior a language model."""

    # Swappable parts, each with the methods that its kind has: torch's own types know of none.
    encoder: Any
    posterior: Any
    prior_network: Any
    decoder: Any

    def __init__(
        self,
        decoder: nn.Module,
        encoder: nn.Module | None = None,
        posterior: nn.Module | None = None,
        prior: nn.Module | None = None,
        leaving: nn.Module | None = None,
        entering: nn.Module | None = None,
        expansion: Expansion | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        refinement: Refined | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.prior_network, self.decoder = encoder, posterior, prior, decoder
        self.leaving, self.entering = leaving, entering  # feed-forward layers before and after z
        self.expansion = expansion  # of z into features of every position
        self.heads = nn.ModuleDict(dict(heads or {}))
        self.refinement = refinement

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def prior(self) -> Prior | None:
        """p(z) as it is now; None for a language model."""
        if self.prior_network is None or isinstance(self.prior_network, Prior):
            return self.prior_network
        return self.prior_network(self._read)  # a prior made of posteriors

    def generative(self) -> list[nn.Parameter]:
        """The parameters of p(z), p(x|z) and the heads: all but those of q(z|x)."""
        parts = (self.prior_network, self.entering, self.expansion, self.decoder, self.heads)
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    def forward(self, batch: Batch, noise: Noise, samples: int = 1, components: int | None = None) -> Pass:
        """Encode, draw `samples` codes for each sentence, and score the sentence under each."""
        posterior = self.encode(batch, noise, samples, components)
        z = None if posterior is None else posterior.rsample(noise, samples)
        return self.scored(batch, z, posterior)

    def scored(self, batch: Batch, z: Tensor | None, posterior: Posterior | None) -> Pass:
        """The pass for codes that have been drawn."""
        code = None if z is None else self.code(z)
        heads = {}
        for name, head in self.heads.items():
            heads[name] = head(z if head.sees == "z" else code, batch.ids, batch.lengths)
        return Pass(self._log_px(batch, code), z, posterior, self.prior, heads)

    def encode(
        self, batch: Batch, noise: Noise | None = None, samples: int = 1, components: int | None = None
    ) -> Posterior | None:
        """q(z|x) of every sentence; None for a language model.

        A posterior whose parameters are random draws them from `noise`, for `samples` codes and with `components`
        beside them, by default as many as it is evaluated with. A refined one draws the code that it is refined
        by, and unless `components` is 0 is refined a second time by another (`RefinedGaussian`). Without noise
        every sentence gets the same numbers, and is refined once.
        """
        posterior = self.amortized(batch, noise, samples, components)
        if posterior is None or self.refinement is None or not self.refinement.steps:
            return posterior
        first = self._refined(batch, posterior, noise)
        if noise is None or components == 0:
            return first
        second = self._refined(batch, posterior, noise)
        return RefinedGaussian(first.mean, first.std, second.mean, second.std)

    def draws(self, batch: Batch, noises: Iterable[Noise]) -> Float[Tensor, "sample batch latent"]:
        """A code of every sentence for each noise, which draws what is random in the posterior itself first.

        So codes of one sentence are independent draws from q(z|x), as the codes of one `encode` need not be.
        """
        assert self.posterior is not None
        hidden = self.hidden(batch)
        codes = []
        for noise in noises:
            posterior = self.posterior(hidden, noise, 1, 1)
            if self.refinement is not None:
                posterior = self._refined(batch, posterior, noise)
            codes.append(posterior.rsample(noise)[0])
        return torch.stack(codes)

    def _refined(self, batch: Batch, posterior: Posterior, noise: Noise | None) -> DiagonalGaussian:
        """The posterior after its refinement, by a code drawn from `noise`."""
        assert self.refinement is not None and isinstance(posterior, DiagonalGaussian)
        size = posterior.mean.shape[1]
        draw = (noise or same_noise(posterior.mean))(1, size)
        with still((self.decoder, self.expansion), self.generative()):
            path, _ = refined_path(self.negative_bound(batch, draw), parameters_of(posterior), self.refinement)
        return gaussian_of(path[-1])

    def amortized(
        self, batch: Batch, noise: Noise | None = None, samples: int = 1, components: int | None = None
    ) -> Posterior | None:
        """What the encoder says q(z|x) is, before any refinement; None for a language model."""
        if self.encoder is None or self.posterior is None:
            return None
        return self.posterior(self.hidden(batch), noise, samples, components)

    def hidden(self, batch: Batch) -> Float[Tensor, "batch size"]:
        """What the encoder makes of each sentence: the input of the posterior."""
        hidden = self.encoder(batch.ids, batch.lengths)
        return hidden if self.leaving is None else self.leaving(hidden)

    def negative_bound(self, batch: Batch, noise: Float[Tensor, "1 batch latent"], weight: float = 1.0) -> Nats:
        """-log p(x|z) + weight KL of each sentence in nats as a function of a Gaussian's parameters, one code each.

        For a standard normal prior.
        """

        def nats(parameters: Float[Tensor, "sample batch parameters"]) -> Float[Tensor, "sample batch"]:
            mean, log_std = parameters.chunk(2, dim=-1)
            std = log_std.exp()
            rate = gaussian_kl(mean, std).sum(-1)
            return weight * rate - self.log_px(batch, mean + std * noise).sum(-1)

        return nats

    def code(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*rest"]:
        """What the decoder sees of z: z itself, unless there are feed-forward layers between them.

        Of a hybrid model these are features of every position (any, position, maps).
        """
        if self.entering is not None:
            z = self.entering(z)
        return z if self.expansion is None else self.expansion(z)

    def log_px(
        self, batch: Batch, z: Float[Tensor, "sample batch latent"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """log p(x_t | x_<t, z) in nats, end mark counted, zero at padding."""
        return self._log_px(batch, None if z is None else self.code(z))

    def _log_px(self, batch: Batch, code: Tensor | None) -> Tensor:
        """The same from what the decoder sees of z."""
        inside = within(batch.lengths, batch.ids.shape[1])
        return self.decoder.log_prob(batch.ids, code).masked_fill(~inside, 0.0)

    def _read(self, embedded: Tensor, lengths: Tensor) -> Posterior:
        """q(z|.) of sentences given as embeddings."""
        assert self.encoder is not None and self.posterior is not None
        hidden = self.encoder.read(embedded, lengths)
        return self.posterior(hidden if self.leaving is None else self.leaving(hidden))


def build(
    settings: Model,
    vocabulary: int,
    terms: Mapping[str, Any] | None = None,
    positions: int = Data().positions,
) -> TextVAE:
    """The model that settings describe, with freshly drawn weights (from torch's global generator).

    Every weight and bias is drawn from U(-init, init), as in Semeniuta et al. 2017 and Fu et al. 2020, but where a
    part says otherwise. Arguments as those of `assemble`.
    """
    model = assemble(settings, vocabulary, terms, positions)
    redraw(model, settings.init)
    return model


def assemble(
    settings: Model,
    vocabulary: int,
    terms: Mapping[str, Any] | None = None,
    positions: int = Data().positions,
) -> TextVAE:
    """The model that settings describe, its weights of no meaning yet.

    `terms` of the objective that predict something from z name their heads. `positions`: how many tokens the
    longest text has, end mark included, which convolutions of fixed length need to know.
    """
    decoder, latent = settings.decoder, settings.latent
    parts: dict[str, Any] = {}
    if latent:
        parts["encoder"] = encoder_of(settings.encoder, vocabulary, settings.embedding, positions)
        size, seen = parts["encoder"].size, {"z": latent}
        parts["posterior"] = posterior_of(settings.posterior, size, latent)
        parts["prior"] = prior_of(settings.prior, latent, settings.embedding)
        if isinstance(settings.inference, Refined):
            parts["refinement"] = settings.inference
        if settings.feedforward.layers:
            layers, highway = settings.feedforward.layers, settings.feedforward.highway
            parts["leaving"], parts["entering"] = (Feedforward(n, layers, highway) for n in (size, latent))
        if isinstance(decoder, HybridDecoder):
            unfolding = decoder.model_dump(exclude={"name", "top"})
            parts["expansion"] = Expansion(latent, **unfolding, positions=positions)
            seen["code"] = decoder.maps[-1]
        heads = {name: term.head(seen, vocabulary) for name, term in (terms or {}).items()}
        parts["heads"] = {name: head for name, head in heads.items() if head is not None}
    parts["decoder"] = decoder_of(decoder, vocabulary, settings.embedding, latent)
    if "expansion" in parts:
        parts["decoder"].max_length = parts["expansion"].positions
    if latent and settings.shared_embedding:
        parts["encoder"].embedding = parts["decoder"].embedding
    if settings.tied:
        parts["decoder"].words.weight = parts["decoder"].embedding.weight
    return TextVAE(**parts)


def redraw(module: nn.Module, init: float) -> None:
    """Draw every weight anew from U(-init, init), then let the parts that begin otherwise do so."""
    for parameter in module.parameters():
        drawn = torch.empty_like(parameter, device="cpu").uniform_(-init, init)  # the same on every device
        parameter.data.copy_(drawn)
    for part in module.modules():
        begin = getattr(part, "begin", None)
        if begin is not None:
            begin()
