"""A model's scores of every sentence of a split: what validation, `evaluate` and `diagnose` all start from."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from textvae.metrics.information import MutualInformation, mutual_information
from textvae.metrics.latent import active_units
from textvae.metrics.likelihood import perplexity
from textvae.model import TextVAE
from textvae.parts.kernels.products import exactly
from textvae.parts.noise import mixed, sentence_noise
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

# Padded tokens scored at once.
TOKENS = 4096
# Sentences whose codes and posteriors are kept: what a code holds is estimated from up to so many.
KEPT = 10_000
# Posteriors mixed in the validation MI; its ceiling ln N is printed beside it.
MI_SENTENCES = 2000
# Training sentences that a batch-normalised posterior has its statistics of.
STATISTICS = 2000
# Keeps the codes that E[z|x] is estimated from apart from others of the same seed.
_EXPECTED = 4


# log q(z_n|x_n) of some sentences and codes, and log of the mixture of all of these posteriors at the same codes.
Densities = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
Both = tuple[Densities | None, Densities | None]


@dataclass(frozen=True)
class Scores:
    """Per sentence, in the order of `rows`: nats in float64, and codes and posteriors where the model has them.

    Codes and posteriors are those of up to `KEPT` sentences, evenly spaced: `kept` holds their places among the
    scored ones. A point posterior has codes and no rate, so its reconstruction is no bound on anything.
    """

    reconstruction: Float[Tensor, " n"]
    rate: Float[Tensor, " n"] | None
    rate_kind: RateKind | None
    rate_per_dimension: Float[Tensor, " latent"] | None
    kept: Int[Tensor, " kept"]
    z: Float[Tensor, "kept latent"] | None
    posterior: Posterior | None
    tokens: int

    @property
    def bound(self) -> Float[Tensor, " n"] | None:
        """Reconstruction plus rate, an upper bound on -log p(x); for a language model -log p(x) itself."""
        if self.posterior is None:
            return self.reconstruction
        return None if self.rate is None else self.reconstruction + self.rate

    def __len__(self) -> int:
        return len(self.reconstruction)

    def expectation(self, seed: int, rows: np.ndarray | None = None) -> Expectation:
        """E[z|x] of the kept sentences, by codes of their own where it has no closed form; `rows`: those scored."""
        assert self.posterior is not None
        index = self.kept if rows is None else torch.as_tensor(rows)[self.kept]
        return expected(self.posterior, mixed(seed, _EXPECTED), index)


@contextmanager
def evaluating(model: TextVAE) -> Iterator[None]:
    """Dropout off, no gradients, float32; the training mode is put back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False), exactly():
            yield
    finally:
        model.train(training)


def score(
    model: TextVAE, store: TokenStore, seed: int = 0, samples: int = 1, rows: np.ndarray | None = None
) -> Scores:
    """Every sentence of a split once (or the given rows), with `samples` codes each, at weight 1, dropout off.

    The noise of a sentence depends on the seed and its number alone, so no batching changes a score.
    """
    wanted = np.arange(len(store)) if rows is None else np.asarray(rows)
    places = spaced(len(wanted), KEPT)
    is_kept = np.zeros(len(wanted), dtype=bool)
    is_kept[places] = True
    reconstruction, rate = (torch.empty(len(wanted), dtype=torch.float64) for _ in range(2))
    kind: RateKind | None = None
    dimensions: Tensor | None = None
    order, z, posteriors = list[np.ndarray](), list[Tensor](), list[Posterior]()
    with evaluating(model):
        for at in evaluation_places(store, max(1, TOKENS // samples), wanted):
            batch = collate(store, wanted[at]).to(model.device)
            out = model(batch, sentence_noise(seed, batch.index, model.device), samples)
            reconstruction[at] = -out.log_px.double().sum(-1).mean(0).cpu()
            if out.posterior is None:
                continue
            if (paid := out.posterior.rate(out.z, out.prior)) is not None:
                rate[at], kind = paid.nats.double().cpu(), paid.kind
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
        rate_per_dimension=None if dimensions is None else dimensions / len(wanted),
        kept=torch.from_numpy(places),
        z=None if sorted_places is None else torch.cat(z)[sorted_places],
        posterior=None if sorted_places is None else mapped(joined(posteriors), lambda rows: rows[sorted_places]),
        tokens=int(store.lengths[wanted].sum()),
    )


def information(scores: Scores, sentences: int, apart: bool = False) -> MutualInformation | None:
    """I(x; z) by the posteriors of up to `sentences` sentences, one code each; None for a point posterior.

    With `apart` the estimate from below of a posterior that is random itself, None for all others (`densities`).
    For a flow or a multi-step posterior a quarter of the sentences are used: every code goes through every
    posterior's maps or steps, which is slow.
    """
    found = densities(scores, sentences, apart)
    return None if found is None else mutual_information(*found)


def looked_at(scores: Scores, sentences: int) -> Int[Tensor, " n"]:
    """Return the places, among the kept sentences, of those that `information` uses."""
    wanted = -(-sentences // 4) if isinstance(scores.posterior, Slow) else sentences
    return torch.from_numpy(spaced(len(scores.kept), wanted))


def densities(scores: Scores, sentences: int, apart: bool = False) -> Densities | None:
    """log q(z_n|x_n) and the mixture's ln (1/N) sum_m q(z_n|x_m) of the sentences of `looked_at`.

    With `apart` both by parameters that no code was drawn from, for a posterior that is random itself
    (semi-implicit, refined); None for all others. Their I is one from below: whatever function of sentence and
    code, fixed before codes are drawn, stands for the densities, the mean logarithm of its value over its average
    over sentences is at most I, and less the worse it stands for them; it can be below 0.

    Source: Barber and Agakov 2003; Poole et al. 2019, "On variational bounds of mutual information", section 2.
    """
    assert scores.posterior is not None and scores.z is not None
    place = looked_at(scores, sentences)
    posterior, z = mapped(scores.posterior, lambda rows: rows[place]), scores.z[place]
    if apart:
        if not isinstance(posterior, Drawn):
            return None
        posterior = posterior.apart
    with torch.no_grad():
        log_q, mixture = posterior.log_prob(z[None]), posterior.mixture_log_prob(z)
    return None if log_q is None or mixture is None else (log_q[0], mixture)


def both_densities(scores: Scores, sentences: int) -> Both:
    """`densities` as the posterior has them, and apart; neither for a language model."""
    if scores.posterior is None:
        return None, None
    return densities(scores, sentences), densities(scores, sentences, apart=True)


def restate(model: TextVAE, training: TokenStore) -> None:
    """Give a batch-normalised posterior its statistics: of up to 2,000 training sentences, evenly spaced."""
    if not isinstance(model.posterior, Restated):
        return
    rows = spaced(len(training), STATISTICS)
    with evaluating(model):
        batches = evaluation_batches(training, TOKENS, rows)
        model.posterior.restate(torch.cat([model.hidden(batch.to(model.device)) for batch in batches]))


def validation(model: TextVAE, store: TokenStore, seed: int) -> dict[str, Any]:
    """What a validation logs: weight 1, dropout off, float32, every sentence once; nats per sentence."""
    scores = score(model, store, seed)
    found: dict[str, Any] = {"reconstruction": scores.reconstruction.mean().item()}
    if scores.bound is not None:
        bound = scores.bound.sum().item()
        words = perplexity(bound, scores.tokens)
        # Of a bound that is finite and huge, as before the KL has a weight, the perplexity overflows.
        found |= {"bound": bound / len(scores), "perplexity_bound": words if math.isfinite(words) else None}
    if scores.rate is not None:
        found |= {"kl": scores.rate.mean().item(), "rate_kind": scores.rate_kind}
    if scores.posterior is not None:
        mutual, lower = information(scores, MI_SENTENCES), information(scores, MI_SENTENCES, apart=True)
        if mutual is not None:
            found |= {"mutual_information": mutual.nats, "mutual_information_sentences": mutual.sentences}
        if lower is not None:
            found["mutual_information_lower"] = lower.nats
        means, noise = scores.expectation(seed)
        found["active_units"] = active_units(means, 0.01, noise)
    return found


def _rows(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Return some rows of a tensor, on the CPU."""
    return tensor.cpu()[numbers]
