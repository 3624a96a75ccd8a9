"""A package that adds a part of each kind to textvae."""

from typing import ClassVar, Literal

import torch
from torch import nn

import textvae
from textvae.metrics.scoring import Metric
from textvae.objective.terms.term import Term
from textvae.parts.decoders import DecoderSettings, RecurrentDecoder
from textvae.parts.encoders import Encoder, EncoderSettings
from textvae.parts.gather import gathered
from textvae.parts.posteriors import DiagonalGaussian, PosteriorNetwork, PosteriorSettings
from textvae.parts.priors import PriorSettings, StandardNormal


class UnitPosterior(PosteriorNetwork):
    """N(mean, I): a Gaussian whose scale is fixed at 1."""

    def __init__(self, size, latent):
        super().__init__()
        self.mean_of = nn.Linear(size, latent)

    def forward(self, hidden, noise=None, samples=1, components=None):
        mean = self.mean_of(hidden)
        return DiagonalGaussian(mean, torch.ones_like(mean))


class UnitSettings(PosteriorSettings):
    name: Literal["unit"]
    rate_by_dimension: ClassVar[bool] = True
    density_anywhere: ClassVar[bool] = True

    def build(self, size, latent):
        return UnitPosterior(size, latent)


class Wide(StandardNormal):
    """N(0, 4 I)."""

    standard: ClassVar[bool] = False

    def sample(self, n, noise):
        return 2 * super().sample(n, noise)

    def log_prob(self, z):
        return super().log_prob(z / 2) - z.shape[-1] * torch.log(torch.tensor(2.0))


class WideSettings(PriorSettings):
    name: Literal["wide"]

    def build(self, latent, embedding):
        return Wide(latent)


class Average(Encoder):
    """The mean of a sentence's embeddings."""

    def __init__(self, vocabulary, embedding):
        super().__init__()
        self.size = embedding
        self.embedding = nn.Embedding(vocabulary, embedding)

    def forward(self, ids, lengths):
        return self.read(self.embedding(ids), lengths)

    def read(self, embedded, lengths):
        inside = torch.arange(embedded.shape[1], device=embedded.device) < lengths[:, None]
        return (embedded * inside[:, :, None]).sum(1) / lengths[:, None]


class AverageSettings(EncoderSettings):
    name: Literal["average"]

    def build(self, vocabulary, embedding, positions):
        return Average(vocabulary, embedding)


class SmallSettings(DecoderSettings):
    """A GRU of a given size that sees z in its first state alone."""

    name: Literal["small"]
    units: int = 8

    def build(self, vocabulary, embedding, latent, word_keep):
        return RecurrentDecoder(vocabulary, embedding, latent, "gru", self.units, 1, ("state",), 0.0, word_keep)

    @property
    def softmax_size(self):
        return self.units


class Norm(Term):
    """`size` times the mean squared norm of the codes: keeps them near the origin."""

    size: float = 0.1

    def __call__(self, out, step):
        return self.size * gathered(out.z.square().sum(-1).mean(0)).mean()


class Sized(nn.Module):
    """A prediction of the length of a sentence from z."""

    sees = "z"

    def __init__(self, latent):
        super().__init__()
        self.size = nn.Linear(latent, 1)

    def forward(self, z, ids, lengths):
        return (self.size(z)[..., 0] - lengths).square()


class Size(Term):
    """The squared error of the length that a head of its own predicts from z."""

    def head(self, sizes, vocabulary):
        return Sized(sizes["z"])

    def __call__(self, out, step):
        return gathered(out.heads["size"].mean(0)).mean()


NOT_A_TERM = 3


def shout(run: str, times: int = 1):
    """Write a sample of a run in capitals."""
    for text in textvae.load(run).sample(times, seed=0):
        print(text.upper())


def shouted(text):
    """Return the share of tokens in capitals."""
    tokens = [token for sentence in text.sentences for token in sentence]
    return [sum(token.isupper() for token in tokens) / len(tokens)] if tokens else "there are no tokens"


SHOUTED = Metric("nothing", "share", shouted)
