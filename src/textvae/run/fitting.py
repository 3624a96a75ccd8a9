"""Fit a prior to the codes of a trained run: `textvae fit-prior RUN`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

import textvae
from textvae.errors import RequestError, WorkError, did_you_mean
from textvae.files import file_digest
from textvae.inference import Scores, evaluating, score
from textvae.metrics.latent import LITTLE_KL
from textvae.metrics.likelihood import standard_error
from textvae.metrics.signature import signature
from textvae.model import TextVAE
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.priors import FittedSettings, Gaussians
from textvae.parts.priors.fitting import COVARIANCES, fit, least_codes, log_densities
from textvae.progress import PartProgress, of_part
from textvae.run import Run, model_of, require_code
from textvae.run.data import corpus_of
from textvae.run.fitted import FOLDER, settings_of, write_fitted
from textvae.run.folder import refuse_link
from textvae.text.batches import TokenStore, collate, evaluation_places
from textvae.text.store import spaced

# Numbers of components that are tried, in this order, until the density of validation codes falls.
TRIED = {"gaussian": (1,), "mixture": (1, 2, 5, 10, 20)}
# Most codes of training and of validation sentences, one a sentence.
CODES, VALIDATION = 50_000, 10_000
# A prior that lowers the validation bound by less is not kept, nats per sentence.
LEAST_GAIN = 0.01
# Padded tokens encoded, and codes whose densities are computed, at once.
TOKENS, CHUNK = 16_384, 1024
# Random streams of the codes of training and validation sentences.
_TRAIN, _VALID = -3, -4


class Rows(NamedTuple):
    """Numbers of the sentences that codes are drawn of."""

    train: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class PriorFit:
    """A prior fitted to the codes of a run, and what it changes on validation sentences; nats per sentence.

    KL and bound `after` are those `before` less the gain, the mean of log p'(z) - log p(z) over one code z of each
    sentence. `log_density` has the mean log p'(z) by number of components, `log_density_own` that of the run's own
    prior. `not_kept` is the reason for not keeping the prior, None if it was kept; `reasons` those of other
    values that are None.
    """

    run: str
    kind: str
    components: int
    covariance: str
    kept: bool
    not_kept: str | None
    gain: float
    gain_standard_error: float
    kl_before: float | None
    kl_after: float | None
    rate_kind_before: str | None
    bound_before: float | None
    bound_after: float | None
    log_density: dict[str, float]
    log_density_own: float
    codes: int
    validation_codes: int
    seed: int
    signature: str
    reasons: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return asdict(self)

    def record(self) -> dict[str, Any]:
        """Return what a run keeps of it."""
        left_out = ("run", "kept", "not_kept")
        return {name: value for name, value in self.document().items() if name not in left_out}


def fit_prior(
    run: Path | str | Run,
    kind: str = "mixture",
    components: int | Sequence[int] | None = None,
    covariance: str = "full",
    codes: int = CODES,
    seed: int = 0,
    progress: PartProgress | None = None,
) -> PriorFit:
    """Fit a prior to codes drawn from q(z|x) of training sentences, and keep it in the run if it is better.

    The mean of KL(q(z|x) || p) over sentences is I(x; z) + KL(q(z) || p). A prior fitted to q(z), the aggregated
    posterior, lowers the second part, and with it KL and bound.

    Args:
        run: A finished run.
        kind: `gaussian`, with the moments of the codes, or `mixture` of Gaussians.
        components: Numbers to try for a mixture, by default `TRIED`, until the mean log density of codes of
            validation sentences falls. The one with the highest is taken.
        covariance: `full` or `diagonal`.
        codes: Most codes, one a sentence.
        seed: Of the codes, and of the centres that mixtures start from.
        progress: Called with the part of the work.

    Returns:
        The fit. It is kept, for `textvae.load(run, prior="fitted")` and in place of an earlier one, if it lowers
        the validation bound by at least 0.01 nats.

    Raises:
        RequestError: If the run is no model with codes in a flat space, a number or name cannot be used, there are
            too few codes for the components, all codes are the same, or the folder of the prior is a link.
        WorkError: If codes are not finite, or the run's folder cannot be written.

    References:
        Hoffman and Johnson 2016, "ELBO surgery"; Ghosh et al. 2020, "From variational to deterministic
        autoencoders", section 4 (density estimation after training).
    """
    tried = _components(kind, components)
    if covariance not in COVARIANCES:
        raise RequestError(f"covariance = {covariance!r}: unknown{did_you_mean(covariance, COVARIANCES)}")
    if codes < 1:
        raise RequestError(f"codes = {codes}: must be 1 or more")
    run = Run.open(run)
    refuse_link(run.folder, FOLDER)  # before the work, not after it
    train, valid = _splits(run)
    rows = Rows(spaced(len(train), codes), spaced(len(valid), VALIDATION))
    tried = _with_enough(tried, components is None, len(rows.train), run.settings.model.latent, covariance)
    weights, model = file_digest(run.folder / "model.safetensors"), model_of(run)
    fitted_to = draw_codes(model, train, rows.train, mixed(seed, _TRAIN), progress, "training")
    chosen_on = draw_codes(model, valid, rows.valid, mixed(seed, _VALID), progress, "validation")
    _require_usable(run, fitted_to, chosen_on)
    best, densities = choose(fitted_to, chosen_on, tried, covariance, seed, progress)
    own = _log_prob(model, chosen_on)
    change = log_densities(best, chosen_on).logsumexp(1) - own
    fitted = PriorFit(
        run=str(run.folder),
        kind=kind,
        components=len(best.means),
        covariance=covariance,
        log_density=densities,
        log_density_own=own.mean().item(),
        codes=len(fitted_to),
        validation_codes=len(chosen_on),
        seed=seed,
        signature=_signature(settings_of(kind, len(best.means), covariance), train, valid, rows, seed),
        **_changes(run, score(model, valid, seed, rows=rows.valid), change),
    )
    if fitted.kept:
        write_fitted(run.folder, best._asdict(), {**fitted.record(), "weights": weights})
    return fitted


def _splits(run: Run) -> tuple[TokenStore, TokenStore]:
    """Return the training and validation sentences of a run whose codes Gaussians can be fitted to."""
    require_code(run)
    if run.settings.model.prior.on_sphere:
        raise RequestError(
            f"{run.folder}: codes of its {run.settings.model.posterior.name} posterior lie on a sphere, where a "
            "Gaussian has no density; train with another model.posterior.name to fit a prior"
        )
    corpus = corpus_of(run)
    train, valid = corpus.split("train"), corpus.split("valid")
    if len(valid) < 2:
        raise RequestError(f"{run.folder}: has one validation sentence, too few to choose a prior on")
    return train, valid


def _changes(run: Run, scores: Scores, change: Float64[Tensor, " n"]) -> dict[str, Any]:
    """Return what a prior changes on validation sentences, from log p'(z) - log p(z) of a code of each."""
    gain = change.mean().item()
    kl, bound = (None if one is None else one.mean().item() for one in (scores.rate, scores.bound))
    reason = _not_kept(gain, kl)
    found = {
        "kl_before": kl,
        "kl_after": None if kl is None else kl - gain,
        "rate_kind_before": scores.rate_kind,
        "bound_before": bound,
        "bound_after": None if bound is None else bound - gain,
    }
    why = f"the {run.settings.model.posterior.name} posterior has no density"
    return found | {
        "kept": reason is None,
        "not_kept": reason,
        "gain": gain,
        "gain_standard_error": standard_error(change),
        "reasons": {name: why for name, value in found.items() if value is None},
    }


def _signature(settings: FittedSettings, train: TokenStore, valid: TokenStore, rows: Rows, seed: int) -> str:
    """Return the signature of a fit."""
    return signature(
        "fitted-prior",
        unit="nats/sentence",
        split=valid.fingerprint[:6],
        train=train.fingerprint[:6],
        prior=settings.label,
        covariance=settings.covariance,
        codes=len(rows.train),
        sentences=len(rows.valid),
        seed=seed,
        textvae=textvae.__version__,
    )


def draw_codes(
    model: TextVAE,
    store: TokenStore,
    rows: np.ndarray,
    seed: int,
    progress: PartProgress | None = None,
    of: str = "",
) -> Float[Tensor, "n latent"]:
    """Draw one code from q(z|x) of each sentence; it depends on the seed and the sentence's number alone."""
    told, done = of_part(progress, f"codes of {of} sentences"), 0
    codes = torch.empty(len(rows), 0)
    with evaluating(model):
        for at in evaluation_places(store, TOKENS, rows):
            batch = collate(store, rows[at])
            noise = sentence_noise(seed, batch.index, model.device)
            drawn = model.draws(batch.to(model.device), [noise])[0].cpu()
            if not done:
                codes = drawn.new_empty(len(rows), drawn.shape[1])
            codes[torch.from_numpy(at)] = drawn
            done += len(at)
            if told is not None:
                told(done, len(rows))
    return codes


def _log_prob(model: TextVAE, codes: Float[Tensor, "n latent"]) -> Float64[Tensor, " n"]:
    """Return log p(z) of codes under the model's own prior, in nats."""
    with evaluating(model):
        assert model.prior is not None
        return torch.cat(
            [model.prior.log_prob(some.to(model.device)).double().cpu() for some in codes.split(CHUNK)]
        )


def choose(
    fitted_to: Float[Tensor, "n latent"],
    chosen_on: Float[Tensor, "m latent"],
    tried: Sequence[int],
    covariance: str,
    seed: int,
    progress: PartProgress | None = None,
) -> tuple[Gaussians, dict[str, float]]:
    """Fit mixtures of more and more components until the mean log density of other codes falls.

    Returns:
        The best, and the mean log density by number of components.
    """
    told = of_part(progress, "fitting")
    best, densities = None, dict[str, float]()
    for place, components in enumerate(tried):
        fitted = fit(fitted_to, components, covariance, seed)
        density = log_densities(fitted, chosen_on).logsumexp(1).mean().item()
        if best is not None and not density > max(densities.values()):
            densities[str(components)] = density
            break
        best, densities[str(components)] = fitted, density
        if told is not None:
            told(place + 1, len(tried))
    assert best is not None
    return best, densities


def _components(kind: str, components: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the numbers of components to try, in order."""
    if kind not in TRIED:
        raise RequestError(f"kind = {kind!r}: unknown{did_you_mean(kind, TRIED)}")
    if components is not None and TRIED[kind] == (1,):
        raise RequestError(f"components = {components}: a {kind} has one; leave it out, or take kind = 'mixture'")
    given = TRIED[kind] if components is None else (components,) if isinstance(components, int) else components
    if not given or any(number < 1 for number in given):
        raise RequestError(f"components = {components}: give numbers, 1 or more")
    return tuple(sorted(set(given)))


def _with_enough(tried: tuple[int, ...], usual: bool, codes: int, latent: int, covariance: str) -> tuple[int, ...]:
    """Return the numbers of components that there are enough codes for; refuse one that was asked for."""
    few = [number for number in tried if least_codes(number, latent, covariance) > codes]
    if few and (not usual or few == [*tried]):
        least = least_codes(few[0], latent, covariance)
        fewer = "; give covariance = 'diagonal', which takes fewer" if covariance == "full" else ""
        raise RequestError(
            f"components = {few[0]}: {codes:,} codes are too few; {few[0]} of {latent} dimensions with {covariance}"
            f" covariance take {least:,} or more{fewer}"
        )
    return tuple(number for number in tried if number not in few)


def _require_usable(run: Run, *parts: Float[Tensor, "_ latent"]) -> None:
    """Refuse codes that are not finite, or all the same."""
    for codes in parts:
        if not codes.isfinite().all():
            raise WorkError(
                f"{run.folder}: codes are not finite: the weights give numbers too large to compute with; train "
                "again with a lower train.optimizer.lr"
            )
    if not parts[0].std(0, correction=0).any():
        raise RequestError(f"{run.folder}: all codes are the same: there is nothing to fit")


def _not_kept(gain: float, kl: float | None) -> str | None:
    """Return why a prior is not kept; None if it is."""
    if gain >= LEAST_GAIN:
        return None
    if kl is not None and kl < LITTLE_KL:
        return (
            f"the posterior has collapsed (KL = {kl:.2f} nats per sentence): the codes follow the run's own prior, "
            "and there is nothing to fit"
        )
    bound = "density of validation codes" if kl is None else "validation bound"
    if math.isclose(gain, 0, abs_tol=LEAST_GAIN):
        same = "the codes follow the run's own prior already"
        return f"it changes the {bound} by {abs(gain):.3f} nats per sentence: {same}"
    return f"it makes the {bound} worse by {-gain:.2f} nats per sentence than the run's own prior"
