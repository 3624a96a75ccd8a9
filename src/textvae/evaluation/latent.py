"""What the codes of a split hold, and where the aggregated posterior lies."""

import math
from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

import textvae
from textvae.inference import KEPT, Both, Scores, evaluating
from textvae.metrics import latent
from textvae.metrics.discrepancy import SquaredMmd, squared_mmd
from textvae.metrics.information import MutualInformation, mutual_information
from textvae.metrics.likelihood import cyclic_standard_error
from textvae.metrics.signature import signature
from textvae.model import TextVAE
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.posteriors.posterior import DRAWS as EXPECTED
from textvae.parts.priors import StandardNormal, UniformSphere
from textvae.text.batches import TokenStore, collate, evaluation_places

# Posteriors mixed in the estimate of I(x; z), and draws of the aggregated posterior that are averaged.
MI_SENTENCES, DRAWS = KEPT, 5
# Padded tokens worked on at once.
TOKENS = 16_384
# What `latent_scores` gives.
LATENT = (
    "mutual_information",
    "mutual_information_lower",
    "mutual_information_sentences",
    "mutual_information_ceiling",
    "active_units",
    "latent",
    "kl_per_dimension",
    "log_det_covariance",
    "log_det_covariance_standard_deviation",
    "mean_squared_norm",
    "mean_squared_norm_standard_deviation",
    "kl_moment_matched",
    "kl_moment_matched_standard_deviation",
    "latent_signature",
    "mmd_squared",
    "mmd_squared_standard_error",
    "mmd_squared_prior_deviation",
    "mmd_signature",
    "shuffle_gap",
    "shuffle_gap_standard_error",
)


def latent_scores(
    model: TextVAE, store: TokenStore, scores: Scores, seed: int, known: Both, rows: np.ndarray | None = None
) -> dict[str, Any]:
    """What the code holds and where the aggregated posterior lies; all None for a language model.

    They are computed on the kept sentences, up to 10,000, evenly spaced; the KL of each dimension on all. `known`
    holds the densities for the estimates of I(x; z). Moments of the aggregated posterior are means over 5 draws of
    a code for each sentence, with the standard deviation over these draws.
    """
    if scores.posterior is None:
        return dict.fromkeys(LATENT)
    # With one sentence there is no other that its code could be told from.
    several = len(scores.kept) > 1
    mutual, lowest = (mutual_information(*some) if some and several else None for some in known)
    index = scores.kept if rows is None else torch.as_tensor(rows)[scores.kept]
    with torch.no_grad():
        draws = scores.posterior.rsample(sentence_noise(mixed(seed, 1), index), DRAWS)
    gap = shuffle_gap(model, store, scores, seed, rows) if several else None
    prior, dimensions = model.prior, scores.rate_per_dimension
    assert scores.z is not None
    normal, (means, noise) = isinstance(prior, StandardNormal), scores.expectation(seed, rows)
    mmd = squared_mmd(scores.z) if normal and several else None
    flat = not isinstance(prior, UniformSphere)  # on a sphere a covariance says nothing
    values = (
        mutual and mutual.nats,
        lowest and lowest.nats,
        mutual and mutual.sentences,
        mutual and mutual.ceiling,
        {str(t): latent.active_units(means, t, noise) for t in (0.01, 0.2)} if several else None,
        draws.shape[2],
        None if dimensions is None else dimensions.tolist(),
        *(_over_draws(latent.log_det_covariance, draws) if flat else (None, None)),
        *(_over_draws(latent.mean_squared_norm, draws) if flat else (None, None)),
        *(_over_draws(latent.kl_moment_matched, draws) if normal else (None, None)),
        _latent_signature(model, scores, mutual, store, seed),
        mmd and mmd.value,
        mmd and mmd.standard_error,
        mmd and mmd.prior_deviation,
        mmd and _mmd_signature(mmd, seed),
        None if gap is None else gap.mean().item(),
        None if gap is None else cyclic_standard_error(gap[_cycle(len(gap), seed)]),
    )
    return dict(zip(LATENT, values, strict=True))


def _over_draws(
    measure: Callable[[Float[Tensor, "sentence latent"]], float], draws: Float[Tensor, "draw sentence latent"]
) -> tuple[float, float]:
    """The mean over draws and their standard deviation; the latter nan where a draw has no finite value."""
    values = [measure(z) for z in draws]
    return fmean(values), stdev(values) if all(map(math.isfinite, values)) else math.nan


def components_of(model: TextVAE) -> int | None:
    """K of a semi-implicit posterior."""
    return getattr(model.posterior, "components", None)


def _latent_signature(
    model: TextVAE, scores: Scores, mutual: MutualInformation | None, store: TokenStore, seed: int
) -> str:
    components, drawn = components_of(model), scores.posterior is not None and scores.posterior.expectation is None
    refined = model.refinement is not None and model.refinement.steps > 0
    return signature(
        "latent",
        **({} if components is None else {"k": components}),
        **({"refinements": 2} if refined else {}),
        unit="nats",
        split=store.fingerprint[:6],
        active=f"variance-of-means-of-{EXPECTED}-codes" if drawn else "variance-of-means",
        draws=DRAWS,
        mi="none" if mutual is None else f"mixture-of-{mutual.sentences}",
        sentences=len(scores.kept),
        seed=seed,
        textvae=textvae.__version__,
    )


def _mmd_signature(mmd: SquaredMmd, seed: int) -> str:
    return signature(
        "mmd-squared",
        kernel="gaussian",
        bandwidth=f"{mmd.bandwidth:.6g}",
        estimator="unbiased",
        codes="one-draw",
        sentences=mmd.sentences,
        seed=seed,
        textvae=textvae.__version__,
    )


def shuffle_gap(
    model: TextVAE, store: TokenStore, scores: Scores, seed: int, rows: np.ndarray | None = None
) -> Float64[Tensor, " kept"]:
    """How much worse each sentence is reconstructed from another sentence's code, in nats; about 0 if z is unused.

    Codes go round a random cycle of the kept sentences (of `rows`, or of all), so that none keeps its own.
    """
    assert scores.z is not None
    cycle = _cycle(len(scores.kept), seed)
    others = torch.empty_like(scores.z)
    others[cycle] = scores.z[cycle.roll(1)]
    kept = (np.arange(len(store)) if rows is None else np.asarray(rows))[scores.kept.numpy()]
    found = torch.empty(len(kept), dtype=torch.float64)
    with evaluating(model):
        for at in evaluation_places(store, TOKENS, kept):
            batch = collate(store, kept[at]).to(model.device)
            log_px = model.log_px(batch, others[torch.from_numpy(at)].to(model.device)[None])
            found[at] = -log_px.double().sum(-1)[0].cpu()
    return found - scores.reconstruction[scores.kept]


def _cycle(sentences: int, seed: int) -> Int[Tensor, " kept"]:
    """The order in which codes go round: each sentence is given the code of the one before it."""
    return torch.from_numpy(np.random.default_rng([seed, 2]).permutation(sentences))
