"""Scores of every sentence of a split under a model: the basis of validation, `evaluate` and `diagnose`."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from textvae.metrics.information import MutualInformation, mutual_information
from textvae.metrics.latent import active_units
from textvae.metrics.likelihood import perplexity
from textvae.model import Pass, TextVAE
from textvae.parts.kernels.products import exactly
from textvae.parts.noise import Noise, mixed, sentence_noise
from textvae.parts.posteriors import (
    Drawn,
    Expectation,
    Posterior,
    RateKind,
    Restated,
    Slow,
    expected,
    joined,
    mapped,
)
from textvae.text.batches import TokenStore, collate, evaluation_batches, evaluation_places
from textvae.text.store import spaced

# Codes drawn from the prior at once.
DRAWN = 8192
# Padded tokens scored at once.
TOKENS = 4096
# Most sentences whose codes and posteriors are kept, for estimates of the information in the code.
KEPT = 10_000
# Most posteriors in the mixture of the validation MI, whose ceiling is ln N.
MI_SENTENCES = 2000
# Factor of the standard deviations by which an exchange rate is measured, and the least change of the KL for it, in
# nats per sentence.
WIDER, LEAST_CHANGE = 1.05, 1e-3
# Most training sentences from which a batch-normalised posterior takes its statistics.
STATISTICS = 2000
# Random stream of the codes that estimate E[z|x], distinct from others of the same seed.
_EXPECTED = 4


class Densities(NamedTuple):
    """log q(z_n|x_n) of sentences and codes, and the log mixture at the same codes.

    The mixture is ln (1/N) sum_m q(z_n|x_m) over all N sentences; of a conditional model, over those with the
    condition of sentence n. `mixed` is N, or the geometric mean of these numbers.
    """

    log_q: Float[Tensor, " n"]
    mixture: Float[Tensor, " n"]
    mixed: int


Both = tuple[Densities | None, Densities | None]


@dataclass(frozen=True)
class Scores:
    """Scores per sentence, in the order of `rows`, in nats (float64); codes and posteriors if the model has them.

    A point posterior has codes but no rate, so its reconstruction bounds nothing.

    Attributes:
        reconstruction: -log p(x|z), averaged over the samples.
        rate: KL or its estimate, None without one.
        rate_kind: Kind of the rate: exact, Monte Carlo or upper bound.
        rate_per_dimension: Mean rate of each latent dimension.
        kept: Positions, among the scored sentences, of up to `KEPT` evenly spaced ones.
        z: Codes of the kept sentences.
        posterior: Posteriors of the kept sentences.
        tokens: Tokens of all scored sentences.
        groups: Number of the condition of each kept sentence, equal for equal conditions; None without conditions.
    """

    reconstruction: Float[Tensor, " n"]
    rate: Float[Tensor, " n"] | None
    rate_kind: RateKind | None
    rate_per_dimension: Float[Tensor, " latent"] | None
    kept: Int[Tensor, " kept"]
    z: Float[Tensor, "kept latent"] | None
    posterior: Posterior | None
    tokens: int
    groups: Int[Tensor, " kept"] | None = None

    @property
    def bound(self) -> Float[Tensor, " n"] | None:
        """Reconstruction plus rate, an upper bound on -log p(x); for a language model, -log p(x) itself."""
        if self.posterior is None:
            return self.reconstruction
        return None if self.rate is None else self.reconstruction + self.rate

    def __len__(self) -> int:
        return len(self.reconstruction)

    def expectation(self, seed: int, rows: np.ndarray | None = None) -> Expectation:
        """Return E[z|x] of the kept sentences, estimated from separate codes if it has no closed form.

        `rows` are the sentences that were scored, by default all.
        """
        assert self.posterior is not None
        index = self.kept if rows is None else torch.as_tensor(rows)[self.kept]
        return expected(self.posterior, mixed(seed, _EXPECTED), index)


class Look(NamedTuple):
    """A look at validation sentences during training; nats per sentence.

    Attributes:
        reconstruction: -log p(x|z) of one code of each sentence, averaged over both widths, as the KL.
        kl: KL of the posteriors.
        shuffle_gap: Rise of the reconstruction loss with the code of another sentence.
        exchange_rate: Nats by which reconstruction and the other losses fall for one more nat of KL, at the margin.
            None where widening the posteriors changes the KL by less than `LEAST_CHANGE`.
        exchange_rate_reconstruction: The part of it that reconstruction has.
    """

    reconstruction: float
    kl: float
    shuffle_gap: float
    exchange_rate: float | None
    exchange_rate_reconstruction: float | None


@contextmanager
def evaluating(model: TextVAE, grad: bool = False) -> Iterator[None]:
    """Disable dropout, and gradients unless `grad`, and use float32 in the block; restore the mode afterwards."""
    training = model.training
    model.eval()
    try:
        # Without cuDNN where there are gradients: its recurrent networks go backward in training mode only.
        exact = exactly(cudnn=not grad)
        with torch.set_grad_enabled(grad), torch.autocast(model.device.type, enabled=False), exact:
            yield
    finally:
        model.train(training)


def score(
    model: TextVAE,
    store: TokenStore,
    seed: int = 0,
    samples: int = 1,
    rows: np.ndarray | None = None,
    beta: Float[Tensor, " n"] | None = None,
) -> Scores:
    """Score every sentence of a split (or the given rows) with `samples` codes each, at weight 1, without dropout.

    The noise of a sentence depends on the seed and its number alone, so scores do not depend on batching. A model
    of many KL weights answers at the `beta` of each sentence, by default at that of its settings.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    places = spaced(len(rows), KEPT)
    is_kept = np.zeros(len(rows), dtype=bool)
    is_kept[places] = True
    reconstruction, rate = (torch.empty(len(rows), dtype=torch.float64) for _ in range(2))
    kind: RateKind | None = None
    dimensions: Tensor | None = None
    order, z, posteriors = list[np.ndarray](), list[Tensor](), list[Posterior]()
    with evaluating(model):
        for at in evaluation_places(store, max(1, TOKENS // samples), rows):
            batch = collate(store, rows[at]).to(model.device)
            noise, own = sentence_noise(seed, batch.index, model.device), None if beta is None else beta[at]
            out = model(batch, noise, samples, beta=own)
            reconstruction[at] = -out.log_px.double().sum(-1).mean(0).cpu()
            if out.posterior is None:
                continue
            if (kl := out.posterior.rate(out.z, out.prior)) is not None:
                rate[at], kind = kl.nats.double().cpu(), kl.kind
            if (each := out.posterior.rate_per_dimension(out.prior)) is not None:
                total = each.double().sum(0).cpu()
                dimensions = total if dimensions is None else dimensions + total
            if (mine := is_kept[at]).any():
                some = torch.from_numpy(np.flatnonzero(mine))
                order.append(at[mine])
                z.append(out.z[0].cpu()[some])
                posteriors.append(mapped(out.posterior, partial(_rows, some)))
    sorted_places = torch.from_numpy(np.argsort(np.concatenate(order))) if order else None
    return Scores(
        reconstruction=reconstruction,
        rate=None if kind is None else rate,
        rate_kind=kind,
        rate_per_dimension=None if dimensions is None else dimensions / len(rows),
        kept=torch.from_numpy(places),
        z=None if sorted_places is None else torch.cat(z)[sorted_places],
        posterior=None if sorted_places is None else mapped(joined(posteriors), lambda rows: rows[sorted_places]),
        tokens=int(store.lengths[rows].sum()),
        groups=None if store.conditions is None else torch.from_numpy(store.conditions.groups(rows[places])),
    )


def information(scores: Scores, sentences: int, apart: bool = False) -> MutualInformation | None:
    """Estimate I(x; z) from the posteriors of up to `sentences` sentences, one code each.

    For a flow or a multi-step posterior a quarter of the sentences are used: every code passes through every
    posterior's maps or steps, which is slow.

    Args:
        scores: Scores of a model with codes.
        sentences: Most sentences.
        apart: Estimate the lower bound for a posterior that is itself random (`densities`).

    Returns:
        The estimate; None for a point posterior, and with `apart` for a posterior that is not random.
    """
    log_densities = densities(scores, sentences, apart)
    return None if log_densities is None else mutual_information(*log_densities)


def looked_at(scores: Scores, sentences: int) -> Int[Tensor, " n"]:
    """Return the positions, among the kept sentences, of those that `information` uses."""
    most = -(-sentences // 4) if isinstance(scores.posterior, Slow) else sentences
    return torch.from_numpy(spaced(len(scores.kept), most))


def densities(scores: Scores, sentences: int, apart: bool = False) -> Densities | None:
    """Return log q(z_n|x_n) and ln (1/N) sum_m q(z_n|x_m), the mixture, of the sentences of `looked_at`.

    With `apart` both use parameters from which no code was drawn, for a posterior that is itself random
    (semi-implicit, refined); None for all others. I(x; z) computed from them is a lower bound: for any positive
    function of sentence and code that is fixed before codes are drawn, used in place of the densities, the mean log
    ratio of its value to its average over sentences is at most I. It is the lower, the worse the function fits, and
    can be below 0.

    References:
        Barber and Agakov 2003; Poole et al. 2019, "On variational bounds of mutual information", section 2.
    """
    assert scores.posterior is not None and scores.z is not None
    place = looked_at(scores, sentences)
    posterior, z = mapped(scores.posterior, lambda rows: rows[place]), scores.z[place]
    if apart:
        if not isinstance(posterior, Drawn):
            return None
        posterior = posterior.apart
    groups = torch.zeros(len(z), dtype=torch.long) if scores.groups is None else scores.groups[place]
    _, sizes = groups.unique(return_counts=True)
    with torch.no_grad():
        log_q, mixture = posterior.log_prob(z[None]), _mixture(posterior, z, groups)
    if log_q is None or mixture is None:
        return None
    mean_log = (sizes * sizes.log()).sum() / max(1, len(z))  # the ceiling of the information: the mean of ln N
    return Densities(log_q[0], mixture, round(math.exp(mean_log)))


def _mixture(posterior: Posterior, z: Tensor, groups: Int[Tensor, " n"]) -> Tensor | None:
    """Return the log mixture of the posteriors of a sentence's own group, at its code."""
    mixture = torch.empty(len(z), dtype=torch.float64)
    for group in groups.unique():
        mine = (groups == group).nonzero()[:, 0]
        found = mapped(posterior, partial(_rows, mine)).mixture_log_prob(z[mine])
        if found is None:
            return None
        mixture[mine] = found.double()
    return mixture


def both_densities(scores: Scores, sentences: int) -> Both:
    """Return `densities` with and without `apart`; two times None for a language model."""
    if scores.posterior is None:
        return None, None
    return densities(scores, sentences), densities(scores, sentences, apart=True)


def look(
    model: TextVAE,
    store: TokenStore,
    others: Callable[[Pass], Tensor],
    seed: int = 0,
    rows: np.ndarray | None = None,
) -> Look:
    """Estimate what a nat of KL is worth: -d(D + L)/dR, with reconstruction D, other losses L and the KL R.

    All posteriors are made `WIDER` times narrower and wider, with the same noise; the exchange rate is the quotient
    of the differences. Where posterior, decoder and heads minimise D + L + w R it is w: no change of the posterior,
    so no change of its width, then lowers that sum to first order. It is near 0 if nothing reads the code.

    Args:
        model: A model whose posterior `widens`.
        store: Sentences of a split.
        others: Mean of L over the sentences of a pass.
        seed: Seed of the noise, which depends on it and the sentence's number alone.
        rows: Numbers of the sentences, by default all.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    nats = np.zeros((2, 3))  # narrower and wider: reconstruction, other losses, KL
    exchanged = 0.0
    with evaluating(model):
        for at in evaluation_places(store, TOKENS, rows):
            batch = model.read(collate(store, rows[at]).to(model.device))
            posterior: Any = model.encode(batch)
            drawn = sentence_noise(seed, batch.index, model.device)(1, posterior.mean.shape[1])

            def noise(samples: int, size: int, drawn: Tensor = drawn) -> Tensor:
                return drawn  # the same each time, as that of a sentence is not

            for side, factor in enumerate((1 / WIDER, WIDER)):
                widened = posterior.widened(factor)
                out = model.scored(batch, widened.rsample(noise), widened)
                rate = widened.rate(out.z, out.prior).nats.double().sum().item()
                nats[side] += -out.log_px.double().sum().item(), len(at) * float(others(out)), rate
            exchanged -= model.log_px(batch, posterior.rsample(noise).roll(1, dims=1)).double().sum().item()
    nats /= len(rows)
    (narrow, less, high), (wide, more, low) = nats.tolist()
    reconstruction, change = (narrow + wide) / 2, high - low
    known = not abs(change) < LEAST_CHANGE
    return Look(
        reconstruction=reconstruction,
        kl=(high + low) / 2,
        shuffle_gap=exchanged / len(rows) - reconstruction,
        exchange_rate=(wide + more - narrow - less) / change if known else None,
        exchange_rate_reconstruction=(wide - narrow) / change if known else None,
    )


def prior_draws(model: TextVAE, latent: int, n: int, seed: int, begin: int = 0) -> Float[Tensor, "n latent"]:
    """Return draws from the prior on the CPU; the noise of each depends on the seed and its number alone.

    The numbers are `begin` and up. Each draw has its own stream, which a prior may ask several times.
    """
    prior = model.prior
    assert prior is not None
    pieces = []
    for first in range(begin, begin + n, DRAWN):
        numbers = torch.arange(first, min(first + DRAWN, begin + n))
        of_each = sentence_noise(seed, numbers, model.device)

        def noise(samples: int, size: int, of_each: Noise = of_each) -> Float[Tensor, "sample 1 size"]:
            return of_each(1, size).transpose(0, 1)

        with evaluating(model):
            pieces.append(prior.sample(len(numbers), noise).cpu())
    return torch.cat(pieces) if pieces else torch.zeros(0, latent)


def restate(model: TextVAE, training: TokenStore) -> None:
    """Set the statistics of a batch-normalised posterior from up to 2,000 evenly spaced training sentences."""
    if not isinstance(model.posterior, Restated):
        return
    rows = spaced(len(training), STATISTICS)
    with evaluating(model):
        batches = evaluation_batches(training, TOKENS, rows)
        model.posterior.restate(torch.cat([model.hidden(batch.to(model.device)) for batch in batches]))


def validation(model: TextVAE, store: TokenStore, seed: int) -> dict[str, Any]:
    """Return the record of a validation: weight 1, no dropout, float32, every sentence once; nats per sentence.

    Of a model of many KL weights also the mean of D + beta R over values of beta spread over the interval.
    """
    scores = score(model, store, seed)
    record: dict[str, Any] = {"reconstruction": scores.reconstruction.mean().item()}
    if scores.bound is not None:
        bound = scores.bound.sum().item()
        words = perplexity(bound, scores.tokens)
        # The perplexity of a finite but huge bound overflows, as may happen before the KL has a weight.
        record |= {"bound": bound / len(scores), "perplexity_bound": words if math.isfinite(words) else None}
    if scores.rate is not None:
        record |= {"kl": scores.rate.mean().item(), "rate_kind": scores.rate_kind}
    if scores.posterior is not None:
        mutual, lower = information(scores, MI_SENTENCES), information(scores, MI_SENTENCES, apart=True)
        if mutual is not None:
            record |= {"mutual_information": mutual.nats, "mutual_information_sentences": mutual.sentences}
        if lower is not None:
            record["mutual_information_lower"] = lower.nats
        means, noise = scores.expectation(seed)
        record["active_units"] = active_units(means, 0.01, noise)
    if model.gates is not None:
        beta = model.gates.settings.spread(len(store))
        spread = score(model, store, seed, beta=beta)
        assert spread.rate is not None  # settings refuse gates for a posterior without a KL
        record["loss_over_rates"] = (spread.reconstruction + beta * spread.rate).mean().item()
    return record


def _rows(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Return some rows of a tensor, on the CPU."""
    return tensor.cpu()[numbers]
