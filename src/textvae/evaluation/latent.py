"""Latent scores: the information in the codes of a split, and the aggregated posterior against the prior."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

import textvae
from textvae.evaluation.opened import Opened
from textvae.evaluation.values import NO_CODE, NOT_FINITE, Estimate, Missing, finite
from textvae.inference import KEPT, Both, Scores, both_densities, evaluating
from textvae.metrics import latent
from textvae.metrics.discrepancy import SquaredMmd, squared_mmd
from textvae.metrics.information import MutualInformation, mutual_information
from textvae.metrics.likelihood import cyclic_standard_error
from textvae.metrics.signature import signature
from textvae.model import TextVAE
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.posteriors.posterior import DRAWS as EXPECTED
from textvae.parts.settings import ModelSettings
from textvae.text.batches import TokenStore, collate, evaluation_places

# Posteriors mixed in the estimate of I(x; z), and draws of the aggregated posterior that are averaged.
MI_SENTENCES, DRAWS = KEPT, 5
# Padded tokens worked on at once.
TOKENS = 16_384
# Variances above which a dimension is an active unit.
THRESHOLDS = (0.01, 0.2)
ALONE = "one sentence has no other that its code could be told from"

Draws = Float[Tensor, "draw sentence latent"]


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of up to 10,000 evenly spaced sentences of a split, and what is computed of them when it is asked for.

    `rows` are the scored sentences. Moments of the aggregated posterior are means over 5 draws of a code for each
    sentence, with the standard deviation over these draws.
    """

    model: TextVAE
    settings: ModelSettings
    store: TokenStore
    scores: Scores
    seed: int
    rows: np.ndarray

    @classmethod
    def of(cls, trained: Opened, split: str, seed: int, most: int | None = None) -> "Codes":
        """Return the codes of a split's sentences, or of `most` evenly spaced ones."""
        store, scores = trained.corpus.split(split), trained.scores(split, seed, most)
        return cls(trained.model, trained.run.settings.model, store, scores, seed, trained.rows(split, most))

    @cached_property
    def known(self) -> Both:
        """Densities for the estimates of I(x; z)."""
        return both_densities(self.scores, MI_SENTENCES)

    @property
    def several(self) -> bool:
        """True for codes of more than one sentence."""
        return len(self.scores.kept) > 1

    @property
    def no_density(self) -> Missing:
        """Reason for a missing rate: no code, or a posterior without density."""
        if self.scores.posterior is None:
            return Missing(NO_CODE)
        return Missing(f"the {self.settings.posterior.name} posterior has no density")

    @cached_property
    def information(self) -> MutualInformation | Missing:
        """Mutual information of sentence and code; for a posterior that is random itself, from above."""
        if self.known[0] is None:
            return self.no_density
        return mutual_information(*self.known[0]) if self.several else Missing(ALONE)

    @cached_property
    def information_lower(self) -> MutualInformation | Missing:
        """Mutual information of sentence and code from below, for a posterior that is random itself."""
        if self.known[0] is None:
            return self.no_density
        if self.known[1] is None:
            return Missing("there is one estimate, by the posterior's own density")
        return mutual_information(*self.known[1]) if self.several else Missing(ALONE)

    @cached_property
    def active_units(self) -> dict[str, int] | Missing:
        """Dimensions whose posterior mean varies by more than each threshold."""
        if self.scores.posterior is None:
            return Missing(NO_CODE)
        if not self.several:
            return Missing("the mean of one sentence does not vary")
        means, noise = self.scores.expectation(self.seed, self.rows)
        return {str(threshold): latent.active_units(means, threshold, noise) for threshold in THRESHOLDS}

    @property
    def latent(self) -> int | Missing:
        """Dimensions of the code."""
        return Missing(NO_CODE) if self.scores.z is None else self.scores.z.shape[1]

    @property
    def kl_per_dimension(self) -> list[float] | Missing:
        """Mean KL of each dimension, over all scored sentences."""
        if self.scores.rate is None:
            return self.no_density
        if self.scores.rate_per_dimension is None:
            posterior, prior = self.settings.posterior.name, self.settings.prior.label
            return Missing(f"the rate of {posterior} under {prior} has no closed form by dimension")
        return self.scores.rate_per_dimension.tolist()

    @cached_property
    def draws(self) -> Draws:
        """Draws of the aggregated posterior: one code for each sentence in each."""
        assert self.scores.posterior is not None
        index = torch.as_tensor(self.rows)[self.scores.kept]
        with torch.no_grad():
            return self.scores.posterior.rsample(sentence_noise(mixed(self.seed, 1), index), DRAWS)

    @cached_property
    def log_det_covariance(self) -> Estimate | Missing:
        """Log-determinant of the covariance of the codes."""
        return self.off_sphere or self.over_draws(latent.log_det_covariance, self.singular)

    @cached_property
    def mean_squared_norm(self) -> Estimate | Missing:
        """Squared norm of the mean of the codes."""
        return self.off_sphere or self.over_draws(latent.mean_squared_norm)

    @cached_property
    def kl_moment_matched(self) -> Estimate | Missing:
        """KL of the Gaussian with the moments of the codes to the standard normal prior."""
        return self.of_normal or self.over_draws(latent.kl_moment_matched, self.singular)

    @cached_property
    def mmd(self) -> SquaredMmd | Missing:
        """Squared MMD of the codes to the standard normal prior."""
        if self.of_normal is not None:
            return self.of_normal
        assert self.scores.z is not None
        return squared_mmd(self.scores.z) if self.several else Missing("there is one code only")

    @property
    def mmd_squared(self) -> Estimate | Missing:
        """Squared MMD with its standard error."""
        if isinstance(self.mmd, Missing):
            return self.mmd
        few = "it takes five codes" if self.mmd.sentences < 5 else NOT_FINITE
        return Estimate(self.mmd.value, finite(self.mmd.standard_error, few))

    @cached_property
    def shuffle_gap(self) -> Estimate | Missing:
        """Mean of `shuffle_gap`, with the standard error of values in a cycle."""
        if self.scores.posterior is None:
            return Missing(NO_CODE)
        if not self.several:
            return Missing(ALONE)
        gap = shuffle_gap(self.model, self.store, self.scores, self.seed, self.rows)
        few = "neighbours depend on each other; it takes four sentences"
        odd = "neighbours depend on each other so much that their variance comes out below 0; take more sentences"
        cycles = _cycles(len(gap), self.seed, self.scores.groups)
        error = cyclic_standard_error(gap[torch.cat(cycles)])
        return Estimate(gap.mean().item(), finite(error, few if len(gap) < 4 else odd))

    @cached_property
    def of_normal(self) -> Missing | None:
        """Reason for a missing distance to a standard normal prior; None if there is one."""
        if self.scores.posterior is None:
            return Missing(NO_CODE)
        if self.settings.prior.standard:
            return None
        return Missing(f"it is the distance to a standard normal, and the prior is {self.settings.prior.label}")

    @cached_property
    def off_sphere(self) -> Missing | None:
        """Reason for missing moments of the codes; None if there are any."""
        if self.scores.posterior is None:
            return Missing(NO_CODE)
        return Missing("codes lie on a sphere") if self.settings.prior.on_sphere else None

    @property
    def singular(self) -> str:
        """Reason for a singular covariance."""
        return too_few(len(self.scores.kept), self.settings.latent) or "the covariance of the codes is singular"

    def over_draws(
        self, measure: Callable[[Float[Tensor, "sentence latent"]], float], reason: str = NOT_FINITE
    ) -> Estimate | Missing:
        """Average over draws, with their standard deviation; Missing for the reason if one is not finite."""
        values = [measure(z) for z in self.draws]
        return Estimate(fmean(values), stdev(values)) if all(map(math.isfinite, values)) else Missing(reason)

    @property
    def signature(self) -> str | Missing:
        """Signature of these scores, except MMD."""
        posterior, components = self.scores.posterior, components_of(self.model)
        if posterior is None:
            return Missing(NO_CODE)
        refined = self.model.refinement is not None and self.model.refinement.steps > 0
        drawn, mutual = posterior.expectation is None, self.information
        return signature(
            "latent",
            **({} if components is None else {"k": components}),
            **({"refinements": 2} if refined else {}),
            **({} if self.store.conditions is None else {"given": "+".join(self.store.conditions.names)}),
            unit="nats",
            split=self.store.fingerprint[:6],
            active=f"variance-of-means-of-{EXPECTED}-codes" if drawn else "variance-of-means",
            draws=DRAWS,
            mi="none" if isinstance(mutual, Missing) else f"mixture-of-{mutual.sentences}",
            sentences=len(self.scores.kept),
            seed=self.seed,
            textvae=textvae.__version__,
        )

    @property
    def mmd_signature(self) -> str | Missing:
        """Signature of the MMD."""
        if isinstance(self.mmd, Missing):
            return self.mmd
        return signature(
            "mmd-squared",
            kernel="gaussian",
            bandwidth=f"{self.mmd.bandwidth:.6g}",
            estimator="unbiased",
            codes="one-draw",
            sentences=self.mmd.sentences,
            seed=self.seed,
            textvae=textvae.__version__,
        )


def too_few(sentences: int, size: int) -> str | None:
    """Return the message that so many sentences have no covariance of full rank; None if they may have one."""
    if sentences > size:
        return None
    some = "1 sentence is" if sentences == 1 else f"{sentences:,} sentences are"
    return f"{some} too few for a covariance of {size} dimensions"


def components_of(model: TextVAE) -> int | None:
    """Return K of a semi-implicit posterior; None for all others."""
    return None if model.posterior is None else model.posterior.components


def shuffle_gap(
    model: TextVAE, store: TokenStore, scores: Scores, seed: int, rows: np.ndarray | None = None
) -> Float64[Tensor, " kept"]:
    """Compute how much worse each sentence is reconstructed from another's code, in nats; about 0 if z is unused.

    Codes go round a random cycle of the kept sentences (of `rows`, or of all), so that none keeps its own. Those of
    a conditional model are exchanged among sentences of the same condition; one that is alone keeps its own code.
    """
    assert scores.z is not None
    others = scores.z.clone()
    for cycle in _cycles(len(scores.kept), seed, scores.groups):
        others[cycle] = scores.z[cycle.roll(1)]
    kept = (np.arange(len(store)) if rows is None else np.asarray(rows))[scores.kept.numpy()]
    found = torch.empty(len(kept), dtype=torch.float64)
    with evaluating(model):
        for at in evaluation_places(store, TOKENS, kept):
            batch = collate(store, kept[at]).to(model.device)
            log_px = model.log_px(batch, others[torch.from_numpy(at)].to(model.device)[None])
            found[at] = -log_px.double().sum(-1)[0].cpu()
    return found - scores.reconstruction[scores.kept]


def _cycles(sentences: int, seed: int, groups: Int[Tensor, " kept"] | None) -> list[Int[Tensor, " some"]]:
    """Return the orders in which codes go round: each sentence is given the code of the one before it.

    There is one cycle for each group of sentences, of all if there are no groups.
    """
    order = torch.from_numpy(np.random.default_rng([seed, 2]).permutation(sentences))
    return [order] if groups is None else [order[groups[order] == group] for group in groups.unique()]
