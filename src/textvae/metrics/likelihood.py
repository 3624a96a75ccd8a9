"""Likelihoods in nats per sentence, perplexities, and the importance-weighted estimate.

Sums and counts are kept apart and divided once, at the end: a mean of batch means weighs sentences unequally.
Everything is accumulated in float64.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from textvae.errors import RequestError


def log_mean_exp(log_weights: Float[Tensor, "sample *rest"]) -> Float64[Tensor, "*rest"]:
    """Natural logarithm of the mean of exp(log_weights) over the first axis, in float64.

    Raises RequestError without a sample.

    >>> log_mean_exp(torch.tensor([0.0, math.log(3.0)])).item()  # ln((1 + 3) / 2)
    0.6931...
    """
    samples = log_weights.shape[0]
    if samples == 0:
        raise RequestError("log_mean_exp: 0 samples given; at least one is needed")
    return torch.logsumexp(log_weights.double(), dim=0) - math.log(samples)


@dataclass(frozen=True)
class LogMeanExp:
    """`log_mean_exp` over samples that come in chunks: the same value for any chunking.

    The sum is held relative to the running maximum, so that neither overflows and no chunk rounds the result.

    >>> running = LogMeanExp.empty(1)
    >>> for chunk in (torch.zeros(1, 1), torch.full((3, 1), 5.0).log()):
    ...     running = running.add(chunk)
    >>> round(running.value().exp().item(), 5)  # (1 + 5 + 5 + 5) / 4
    4.0
    """

    peak: Float64[Tensor, "batch"]  # the largest log-weight so far
    total: Float64[Tensor, "batch"]  # the sum of exp(log-weight - peak) so far
    samples: int

    @classmethod
    def empty(cls, batch: int, device: torch.device | str | None = None) -> "LogMeanExp":
        """The state before any sample, for `batch` sentences."""
        peak = torch.full((batch,), -math.inf, dtype=torch.float64, device=device)
        return cls(peak=peak, total=torch.zeros_like(peak), samples=0)

    def add(self, log_weights: Float[Tensor, "sample batch"]) -> "LogMeanExp":
        """The state after these samples too; the state itself stays as it was."""
        if log_weights.shape[0] == 0:
            return self
        weights = log_weights.double()
        peak = torch.maximum(self.peak, weights.amax(dim=0))
        origin = _finite_or_zero(peak)
        total = self.total * (self.peak - origin).exp() + (weights - origin).exp().sum(dim=0)
        return LogMeanExp(peak=peak, total=total, samples=self.samples + weights.shape[0])

    def value(self) -> Float64[Tensor, "batch"]:
        """The `log_mean_exp` of all samples added; raises RequestError before the first."""
        if self.samples == 0:
            raise RequestError("LogMeanExp.value: 0 samples added; at least one is needed")
        return _finite_or_zero(self.peak) + self.total.log() - math.log(self.samples)


def _finite_or_zero(peak: Float64[Tensor, "batch"]) -> Float64[Tensor, "batch"]:
    # An infinite peak cannot be subtracted (inf - inf); relative to 0 the sum is 0 or inf, as it should be.
    return torch.where(peak.isinf(), 0.0, peak)


def importance_weighted_nll(log_weights: Float[Tensor, "sample batch"]) -> Float64[Tensor, "batch"]:
    """Importance-weighted estimate of -log p(x), nats for each sentence; with one sample, the plain bound's.

    `log_weights` are log p(x, z_s) - log q(z_s | x) with z_s drawn from q(z | x). Its expectation is never
    below -log p(x) and falls as samples are added. For samples in chunks: `-LogMeanExp.value()`.
    Raises RequestError without a sample.

    Source: Burda et al. 2015, "Importance weighted autoencoders", section 3.
    """
    return -log_mean_exp(log_weights)


def standard_error(values: Float[Tensor, "sentence"]) -> float:
    """Standard error of the mean of `values` over sentences: sample deviation (N - 1) over root N.

    In the unit of the values. One value alone has no deviation: nan. Raises RequestError without a value.

    >>> standard_error(torch.tensor([1.0, 3.0]))
    1.0
    """
    count = values.shape[0]
    if count == 0:
        raise RequestError("standard_error: 0 values given; at least one is needed")
    if count == 1:
        return math.nan
    return values.double().std(correction=1).item() / math.sqrt(count)


def perplexity(total_nats: float, tokens: int) -> float:
    """exp(total nats / total tokens), inf where that overflows; raises RequestError without a token.

    >>> round(perplexity(2 * math.log(10.0), 2), 12)
    10.0
    """
    if tokens < 1:
        raise RequestError(f"perplexity: {tokens} tokens given; at least one is needed")
    try:
        return math.exp(total_nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_character(total_nats: float, characters: int) -> float:
    """Total nats / ln 2 / characters; raises RequestError without a character.

    `characters` counts what was scored: with the end mark if its nats are in the total.

    Source: Semeniuta et al. 2017, figures 4 and 5.

    >>> bits_per_character(8 * math.log(2.0), 4)
    2.0
    """
    if characters < 1:
        raise RequestError(f"bits_per_character: {characters} characters given; at least one is needed")
    return total_nats / math.log(2.0) / characters


@dataclass(frozen=True)
class Likelihood:
    """Sums over sentences and their counts; parts of a split add up with `+`, and division comes last.

    A language model has rate 0, and its bound is its exact negative log-likelihood. The averages raise
    RequestError without a sentence.

    >>> part = Likelihood(total_reconstruction=60.0, total_rate=4.0, sentences=2, tokens=16)
    >>> (part + part).bound, round(part.perplexity, 3), round(part.perplexity_without_end, 3)
    (32.0, 54.598, 96.682)
    """

    total_reconstruction: float  # nats, -log p(x | z) summed over sentences
    total_rate: float  # nats
    sentences: int
    tokens: int  # padding never counted, the end mark of each sentence counted

    @classmethod
    def of(
        cls,
        reconstruction: Float[Tensor, "batch"],
        rate: Float[Tensor, "batch"],
        tokens: Int[Tensor, "batch"],
    ) -> "Likelihood":
        """The sums of a batch: -log p(x | z), rate (nats for each sentence) and tokens with the end mark.

        Several samples of z for a sentence are averaged by the caller.
        """
        return cls(
            total_reconstruction=reconstruction.double().sum().item(),
            total_rate=rate.double().sum().item(),
            sentences=tokens.shape[0],
            tokens=int(tokens.sum().item()),
        )

    def __add__(self, other: "Likelihood") -> "Likelihood":
        return Likelihood(
            total_reconstruction=self.total_reconstruction + other.total_reconstruction,
            total_rate=self.total_rate + other.total_rate,
            sentences=self.sentences + other.sentences,
            tokens=self.tokens + other.tokens,
        )

    @property
    def total_bound(self) -> float:
        """Reconstruction plus rate, nats summed over sentences."""
        return self.total_reconstruction + self.total_rate

    @property
    def reconstruction(self) -> float:
        """-log p(x | z), nats per sentence."""
        return self._per_sentence(self.total_reconstruction)

    @property
    def rate(self) -> float:
        """Rate (the KL, where the posterior has one), nats per sentence."""
        return self._per_sentence(self.total_rate)

    @property
    def bound(self) -> float:
        """Upper bound on -log p(x), the negative ELBO at weight 1, nats per sentence."""
        return self._per_sentence(self.total_bound)

    @property
    def tokens_without_end(self) -> int:
        """Tokens less one end mark a sentence."""
        return self.tokens - self.sentences

    @property
    def perplexity(self) -> float:
        """exp(bound / token), the end mark counted among the tokens."""
        return perplexity(self.total_bound, self.tokens)

    @property
    def perplexity_without_end(self) -> float:
        """exp(bound / token) of the same nats, the end mark's too, over the tokens without it.

        Some published tables count so. Raises RequestError where every sentence is empty.
        """
        return perplexity(self.total_bound, self.tokens_without_end)

    def _per_sentence(self, total: float) -> float:
        if self.sentences < 1:
            raise RequestError(f"Likelihood: {self.sentences} sentences given; at least one is needed")
        return total / self.sentences
