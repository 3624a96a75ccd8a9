"""Labels that some sentences lack: a classifier q(c|x), and expectations over the labels that it gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors import Expectation, Posterior, Rate
from textvae.parts.priors import Prior
from textvae.text.conditions import MISSING, Labels


class LabelNats(NamedTuple):
    """Nats of the labels of each sentence: KL(q(c|x) || p(c)) of missing ones, and -log q(c|x) of given ones.

    p(c) is uniform over the values of each column.
    """

    kl: Float[Tensor, " batch"]
    given: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Hypotheses:
    """All labels that sentences may have: the given ones, with every value of the missing ones.

    Attributes:
        rows: Sentence of each hypothesis.
        labels: Its labels.
        weight: q(c|x) of them; 1 where none is missing. They sum to 1 for each sentence.
        sentences: Number of sentences.
    """

    rows: Int[Tensor, " hypothesis"]
    labels: Labels
    weight: Float[Tensor, " hypothesis"]
    sentences: int

    def expected(self, values: Float[Tensor, "*any"], dim: int) -> Float[Tensor, "*rest"]:
        """Return the expectation over labels of values of each hypothesis, which are along `dim`."""
        shape = [1] * values.ndim
        shape[dim] = -1
        total = values.new_zeros([*values.shape[:dim], self.sentences, *values.shape[dim + 1 :]])
        return total.index_add(dim, self.rows, values * self.weight.to(values.dtype).view(shape))

    def likeliest(self) -> Int[Tensor, " batch"]:
        """Return the number of the likeliest hypothesis of each sentence."""
        best = self.weight.new_full((self.sentences,), -1.0)
        best.scatter_reduce_(0, self.rows, self.weight.detach(), "amax")
        hit = (self.weight.detach() == best[self.rows]).nonzero()[:, 0]
        chosen = torch.empty(self.sentences, dtype=torch.long, device=hit.device)
        chosen[self.rows[hit.flip(0)]] = hit.flip(0)
        return chosen


@dataclass(frozen=True)
class OfHypotheses:
    """Posteriors q(z|x, c) under all labels that a sentence may have, as training reads them: by expectations.

    `codes` are those drawn under each hypothesis.
    """

    inner: Posterior
    hypotheses: Hypotheses
    codes: Float[Tensor, "sample hypothesis latent"]

    @property
    def mean(self) -> Float[Tensor, "batch latent"]:
        """The expected mean."""
        return self.hypotheses.expected(self.inner.mean, 0)

    @property
    def expectation(self) -> Expectation | None:
        """The expected mean."""
        return Expectation(self.mean)

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Return the codes under the likeliest labels."""
        return self.codes[:, self.hypotheses.likeliest()]

    def log_prob(self, z: Float[Tensor, "sample batch latent"]) -> None:
        """None: the density is not needed in training."""
        return None

    def rate_per_dimension(self, prior: Prior) -> Float[Tensor, "batch latent"] | None:
        """Return the expected KL of each dimension."""
        each = self.inner.rate_per_dimension(prior)
        return None if each is None else self.hypotheses.expected(each, 0)

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate | None:
        """Return the expected KL, computed from the codes of the hypotheses."""
        rate = self.inner.rate(self.codes, prior)
        return None if rate is None else Rate(self.hypotheses.expected(rate.nats, 0), rate.kind)

    def mixture_log_prob(self, z: Float[Tensor, "batch latent"]) -> None:
        """None, as `log_prob`."""
        return None


class LabelPosterior(nn.Module):
    """q(c|x): each label from the encoder's vector by a linear softmax, independently.

    References: Kingma et al. 2014, "Semi-supervised learning with deep generative models", eq. 4.
    """

    def __init__(self, size: int, values: Sequence[int]) -> None:
        super().__init__()
        self.columns = nn.ModuleList(nn.Linear(size, number) for number in values)

    def log_probs(self, read: Float[Tensor, "batch size"]) -> list[Float[Tensor, "batch values"]]:
        """Return log q of every value of each column, in full precision."""
        found = []
        with torch.autocast(read.device.type, enabled=False):
            for own in self.columns:
                assert isinstance(own, nn.Linear)
                found.append(own(read.to(own.weight.dtype)).log_softmax(-1))
        return found

    def nats(self, log_q: Sequence[Tensor], labels: Labels) -> LabelNats:
        """Return the parts of the objective that are of the labels."""
        kl, given = (log_q[0].new_zeros(len(log_q[0])) for _ in range(2))
        for own, values in zip(log_q, labels.values.unbind(1), strict=True):
            missing = values == MISSING
            kl = kl + ((own.exp() * own).sum(-1) + math.log(own.shape[1])) * missing
            chosen = own.gather(1, values.where(~missing, 0)[:, None])[:, 0]
            given = given - chosen * ~missing
        return LabelNats(kl, given)

    def hypotheses(self, log_q: Sequence[Tensor], labels: Labels) -> Hypotheses:
        """Return all labels that sentences may have, with their probabilities."""
        missing = labels.values == MISSING
        device, some = missing.device, missing.any(0).tolist()
        sizes = [own.shape[1] if lacks else 1 for own, lacks in zip(log_q, some, strict=True)]
        grid = torch.cartesian_prod(*(torch.arange(size, device=device) for size in sizes)).view(-1, len(sizes))
        tried = torch.where(torch.tensor(some, device=device), grid, labels.values[:, None])
        at, which = (missing[:, None] | (tried == labels.values[:, None])).all(-1).nonzero(as_tuple=True)
        values = tried[at, which]
        log_weight = log_q[0].new_zeros(len(at))
        for column, own in enumerate(log_q):
            log_weight = log_weight + own[at, values[:, column]] * missing[at, column]
        return Hypotheses(at, Labels(values), log_weight.exp(), len(labels.values))
