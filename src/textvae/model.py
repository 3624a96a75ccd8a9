"""The text VAE: encoder, posterior, prior and decoder wired together; `forward(batch, noise) -> Pass`.

With a condition c, all of them read its vector: p(z|c) p(x|z, c) and q(z|x, c). Codes are then those of the prior
N(0, I): under a conditional prior they are standardised by it (`parts.priors.conditional`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.conditioners import Conditioning, LabelNats, LabelPosterior, OfHypotheses
from textvae.parts.decoders import Decoder
from textvae.parts.encoders import Encoder
from textvae.parts.kernels.convolutions import Expansion
from textvae.parts.kernels.layers import Feedforward, within
from textvae.parts.multi_rate import BetaGates
from textvae.parts.noise import Noise, same_noise
from textvae.parts.posteriors import (
    DiagonalGaussian,
    Posterior,
    PosteriorNetwork,
    gaussian_kl,
)
from textvae.parts.priors import Prior, PriorNetwork
from textvae.parts.refinement import (
    Nats,
    Refined,
    RefinedGaussian,
    gaussian_of,
    parameters_of,
    refined_path,
    still,
)
from textvae.parts.settings import ModelSettings
from textvae.settings import Data
from textvae.text.batches import Batch
from textvae.text.conditions import Labels


class Pass(NamedTuple):
    """Result of one pass of a batch through the model: all that the objective's terms read.

    `log_px` (sample, batch, time): log p(x_t | x_<t, z) in nats, zero at padding. `z` (sample, batch, latent).
    For a language model z, posterior and prior are None. `heads`: what auxiliary heads predicted, by the name of
    the term that asked for them. `beta` (batch): the KL weight of each sentence, where each has its own. `labels`:
    the nats of labels that were inferred; all else is then an expectation over them.
    """

    log_px: Tensor
    z: Tensor | None
    posterior: Posterior | None
    prior: Prior | None
    heads: dict[str, Any]
    beta: Tensor | None = None
    labels: LabelNats | None = None


class TextVAE(nn.Module):
    """p(x, z) = p(z) p(x|z) and q(z|x); without encoder, posterior and prior a language model."""

    encoder: Encoder | None
    posterior: PosteriorNetwork | None
    prior_network: PriorNetwork | None
    decoder: Decoder

    def __init__(
        self,
        decoder: Decoder,
        encoder: Encoder | None = None,
        posterior: PosteriorNetwork | None = None,
        prior: PriorNetwork | None = None,
        leaving: nn.Module | None = None,
        entering: nn.Module | None = None,
        expansion: Expansion | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        refinement: Refined | None = None,
        gates: BetaGates | None = None,
        conditioning: Conditioning | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.prior_network, self.decoder = encoder, posterior, prior, decoder
        self.leaving, self.entering = leaving, entering  # feed-forward layers before and after z
        self.expansion = expansion  # of z into features of every position
        self.heads = nn.ModuleDict(dict(heads or {}))
        self.refinement = refinement
        self.gates = gates  # of what leaves the encoder and enters the decoder, by the KL weight
        self.conditioning = conditioning
        self.fixed: Any = None  # the condition of all sentences, for batches that come without one

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def prior(self) -> Prior | None:
        """p(z) as it is now; None for a language model."""
        return None if self.prior_network is None else self.prior_network.now(self._read)

    def generative(self) -> list[nn.Parameter]:
        """Return the parameters of p(z), p(x|z) and the heads: all but those of q(z|x)."""
        parts = (self.prior_network, self.entering, self.expansion, self.decoder, self.heads)
        gates = [] if self.gates is None else self.gates.of("z")
        if self.conditioning is not None:  # but for an encoder that reads conditions too
            read = set() if self.encoder is None else set(self.encoder.parameters())
            gates += [parameter for parameter in self.conditioning.parameters() if parameter not in read]
        return gates + [parameter for part in parts if part is not None for parameter in part.parameters()]

    def forward(
        self,
        batch: Batch,
        noise: Noise,
        samples: int = 1,
        components: int | None = None,
        beta: Float[Tensor, " batch"] | None = None,
    ) -> Pass:
        """Encode, draw `samples` codes for each sentence, and score the sentence under each.

        A model of many KL weights answers at the `beta` of each sentence.
        """
        if self.training and self.conditioning is not None and self.conditioning.classifier is not None:
            return self._inferring(batch, noise, samples, components)
        if self.refinement is None:  # which reads conditions without their gradients
            batch = self.read(batch)
        with nullcontext() if self.gates is None else self.gates.at(beta):
            posterior = self.encode(batch, noise, samples, components)
            z = None if posterior is None else posterior.rsample(noise, samples)
            return self.scored(batch, z, posterior)._replace(beta=beta)

    def _inferring(self, batch: Batch, noise: Noise, samples: int, components: int | None) -> Pass:
        """Return the pass of sentences that may lack labels: expectations over those, by the classifier."""
        conditioning, labels = self.conditioning, batch.condition
        assert conditioning is not None and conditioning.classifier is not None and self.posterior is not None
        assert isinstance(labels, Labels)
        read = self.vector(batch)
        log_q = conditioning.classifier.log_probs(read)
        told = conditioning.classifier.hypotheses(log_q, labels)
        rows = told.rows
        each = self.read(Batch(batch.ids[rows], batch.lengths[rows], batch.index[rows], told.labels))

        def of_rows(samples: int, size: int) -> Tensor:
            return noise(samples, size)[:, rows]

        context = self.context(each)
        assert context is not None
        posterior = self.posterior(conditioning.read(read[rows], context), of_rows, samples, components)
        posterior = conditioning.standardised(posterior, context)
        z = posterior.rsample(of_rows, samples)
        out, found = self.scored(each, z, posterior), OfHypotheses(posterior, told, z)
        heads = {name: told.expected(value, 1) for name, value in out.heads.items()}
        log_px, nats = told.expected(out.log_px, 1), conditioning.classifier.nats(log_q, labels)
        return Pass(log_px, found.rsample(noise), found, out.prior, heads, None, nats)

    def scored(self, batch: Batch, z: Tensor | None, posterior: Posterior | None) -> Pass:
        """Return the pass for codes that have been drawn."""
        seen = self._seen(z, self.context(batch))
        code = None if seen is None else self._entered(seen)
        heads = {}
        for name, head in self.heads.items():
            heads[name] = head(seen if head.sees == "z" else code, batch.ids, batch.lengths)
        return Pass(self._log_px(batch, code), z, posterior, self.prior, heads)

    def given(self, condition: Any) -> "TextVAE":
        """Return the model under one condition, a single row, for all sentences; it shares the weights."""
        model = copy(self)
        model.fixed = condition
        return model

    def read(self, batch: Batch) -> Batch:
        """Return a batch with the vectors of its conditions in place of these, so that they are computed once."""
        return batch if self.conditioning is None else batch._replace(condition=self.context(batch))

    def context(self, batch: Batch) -> Float[Tensor, "batch size"] | None:
        """Return the vector of each sentence's condition; None for a model without conditions.

        Raises:
            RequestError: If the batch has no condition and none holds for all.
        """
        given = self.fixed if batch.condition is None else batch.condition
        return None if self.conditioning is None else self.conditioning.contexts(given, len(batch.ids))

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
        """Draw a code of every sentence for each noise, first what is random in the posterior itself.

        So codes of one sentence are independent draws from q(z|x), as the codes of one `encode` need not be.
        """
        assert self.posterior is not None
        read = self.read(batch)
        hidden, context = self.hidden(read), self.context(read)
        codes = []
        for noise in noises:
            posterior = self._standardised(self.posterior(hidden, noise, 1, 1), context)
            if self.refinement is not None:
                posterior = self._refined(batch, posterior, noise)
            codes.append(posterior.rsample(noise)[0])
        return torch.stack(codes)

    def _refined(self, batch: Batch, posterior: Posterior, noise: Noise | None) -> DiagonalGaussian:
        """Return the posterior after its refinement, by a code drawn from `noise`."""
        assert self.refinement is not None
        size = posterior.mean.shape[1]
        draw = (noise or same_noise(posterior.mean))(1, size)
        with still((self.decoder, self.expansion), self.generative()):
            path, _ = refined_path(self.negative_bound(batch, draw), parameters_of(posterior), self.refinement)
        return gaussian_of(path[-1])

    def amortized(
        self, batch: Batch, noise: Noise | None = None, samples: int = 1, components: int | None = None
    ) -> Posterior | None:
        """Return q(z|x) as the encoder gives it, before any refinement; None for a language model."""
        if self.encoder is None or self.posterior is None:
            return None
        batch = self.read(batch)
        posterior = self.posterior(self.hidden(batch), noise, samples, components)
        return self._standardised(posterior, self.context(batch))

    def _standardised(self, posterior: Posterior, context: Tensor | None) -> Posterior:
        """Return the posterior of codes as the prior N(0, I) has them."""
        if self.conditioning is None or context is None:
            return posterior
        return self.conditioning.standardised(posterior, context)

    def hidden(self, batch: Batch) -> Float[Tensor, "batch size"]:
        """Return the vector of each sentence, which the posterior is made from."""
        hidden, context = self.vector(batch), self.context(batch)
        return hidden if self.conditioning is None or context is None else self.conditioning.read(hidden, context)

    def vector(self, batch: Batch) -> Float[Tensor, "batch size"]:
        """Return the encoder's vector of each sentence, whatever its condition."""
        assert self.encoder is not None
        hidden = self.encoder(batch.ids, batch.lengths)
        hidden = hidden if self.leaving is None else self.leaving(hidden)
        return hidden if self.gates is None else self.gates("hidden", hidden)

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

    def code(
        self, z: Float[Tensor, "*any latent"], context: Float[Tensor, "*any size"] | None = None
    ) -> Float[Tensor, "*rest"]:
        """Return what the decoder reads: z itself, unless there are feed-forward layers between them.

        Of a hybrid model these are features of every position (any, position, maps). With a condition, whose
        vectors are `context`, or by default those of the condition that holds for all, z is joined by them.
        """
        if self.conditioning is not None and context is None:
            context = self.conditioning.contexts(self.fixed, 1)[0].expand(*z.shape[:-1], -1)
        seen = self._seen(z, context)
        assert seen is not None
        return self._entered(seen)

    def _seen(self, z: Tensor | None, context: Tensor | None) -> Tensor | None:
        """Return the codes, with their conditions; None for a language model without conditions."""
        if z is not None and self.gates is not None:
            z = self.gates("z", z)
        if self.conditioning is None or context is None:
            return z
        return self.conditioning.seen(z, context)

    def _entered(self, seen: Tensor) -> Tensor:
        """Return what the decoder reads of codes and conditions."""
        if self.entering is not None:
            seen = self.entering(seen)
        return seen if self.expansion is None else self.expansion(seen)

    def log_px(
        self, batch: Batch, z: Float[Tensor, "sample batch latent"] | None
    ) -> Float[Tensor, "sample batch time"]:
        """log p(x_t | x_<t, z) in nats, end mark counted, zero at padding."""
        seen = self._seen(z, self.context(batch))
        return self._log_px(batch, None if seen is None else self._entered(seen))

    def _log_px(self, batch: Batch, code: Tensor | None) -> Tensor:
        """Return the same from what the decoder sees of z."""
        inside = within(batch.lengths, batch.ids.shape[1])
        return self.decoder.log_prob(batch.ids, code).masked_fill(~inside, 0.0)

    def _read(self, embedded: Tensor, lengths: Tensor) -> Posterior:
        """q(z|.) of sentences given as embeddings."""
        assert self.encoder is not None and self.posterior is not None
        hidden = self.encoder.read(embedded, lengths)
        return self.posterior(hidden if self.leaving is None else self.leaving(hidden))


def build(
    settings: ModelSettings,
    vocabulary: int,
    terms: Mapping[str, Any] | None = None,
    positions: int = Data().positions,
    names: Mapping[str, Sequence[str]] | None = None,
) -> TextVAE:
    """Build the model that settings describe, with freshly drawn weights (from torch's global generator).

    Every weight and bias is drawn from U(-init, init), as in Semeniuta et al. 2017 and Fu et al. 2020, except where
    a part starts otherwise. Arguments as those of `assemble`.
    """
    model = assemble(settings, vocabulary, terms, positions, names)
    redraw(model, settings.init)
    return model


def assemble(
    settings: ModelSettings,
    vocabulary: int,
    terms: Mapping[str, Any] | None = None,
    positions: int = Data().positions,
    names: Mapping[str, Sequence[str]] | None = None,
) -> TextVAE:
    """Build the model that settings describe, its weights without meaning yet.

    `terms` of the objective that predict something from z name their heads. `positions`: the number of tokens of
    the longest text, end mark included, which parts of fixed length need to know. `names`: the values of each
    column of labels on which the model is conditioned.
    """
    latent, embedding = settings.latent, settings.embedding
    parts: dict[str, Any] = {}
    expansion = None
    if latent:
        encoder = parts["encoder"] = settings.encoder.build(vocabulary, embedding, positions)

    def reader(shared: bool) -> Encoder:
        return encoder if shared and latent else settings.encoder.build(vocabulary, embedding, positions)

    conditioner = settings.conditioner.build(names or {}, reader)
    size = 0 if conditioner is None else conditioner.size
    if latent:
        parts["posterior"] = settings.posterior.build(encoder.size + size, latent)
        parts["prior"] = settings.prior.build(latent, embedding)
        parts["refinement"] = settings.inference.refinement
        if settings.feedforward.layers:
            layers, highway = settings.feedforward.layers, settings.feedforward.highway
            parts["leaving"] = Feedforward(encoder.size, layers, highway)
            parts["entering"] = Feedforward(latent + size, layers, highway)
        if settings.multi_rate is not None:
            parts["gates"] = BetaGates({"hidden": encoder.size, "z": latent}, settings.multi_rate)
        expansion = parts["expansion"] = settings.decoder.expansion(latent + size, positions)
        seen = {"z": latent + size} | ({} if expansion is None else {"code": expansion.features})
        heads = {name: term.head(seen, vocabulary) for name, term in (terms or {}).items()}
        parts["heads"] = {name: head for name, head in heads.items() if head is not None}
    if conditioner is not None:
        placement = settings.prior.placement(latent, size) if latent else None
        known = [len(values) for values in (names or {}).values()]
        classifier = LabelPosterior(encoder.size, known) if latent and settings.conditioner.infers else None
        parts["conditioning"] = Conditioning(conditioner, placement, classifier)
    decoder = settings.decoder.build(vocabulary, embedding, latent + size, settings.word_keep)
    if expansion is not None:
        decoder.max_length = expansion.positions
    if settings.shared_embedding:
        readers = (parts.get("encoder"), getattr(conditioner, "encoder", None))
        for reads in filter(None, readers):
            reads.embedding = decoder.embedding
    if settings.tied:
        decoder.words.weight = decoder.embedding.weight
    return TextVAE(decoder, **parts)


def redraw(module: nn.Module, init: float) -> None:
    """Draw every weight anew from U(-init, init), then let the parts that begin otherwise do so."""
    for parameter in module.parameters():
        drawn = torch.empty_like(parameter, device="cpu").uniform_(-init, init)  # the same on every device
        parameter.data.copy_(drawn)
    for part in module.modules():
        begin = getattr(part, "begin", None)
        if begin is not None:
            begin()
