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
from textvae.errors import RequestError, WorkError
from textvae.files import file_digest
from textvae.inference import Scores, evaluating, score
from textvae.metrics.latent import LITTLE_KL
from textvae.metrics.likelihood import standard_error
from textvae.metrics.signature import signature
from textvae.model import TextVAE
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.priors import FittedFlowSettings, FittedSettings
from textvae.progress import PartProgress, of_part
from textvae.run import Run, model_of, require_code
from textvae.run.data import corpus_of
from textvae.run.densities import densities_of, log_prob
from textvae.run.fitted import FOLDER, write_fitted
from textvae.run.folder import refuse_link
from textvae.text.batches import TokenStore, collate, evaluation_places
from textvae.text.store import spaced

# Values of a fit that not every kind has.
OF_A_KIND = ("components", "covariance", "flow")
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
    sentence. `log_density` has the mean log p'(z) by number of components, or of the Gaussian that a flow started
    from and of the flow; `log_density_own` that of the run's own prior. `flow` has the sizes of a flow and the
    epoch that its weights are of. `not_kept` is the reason for not keeping the prior, None if it was kept;
    `reasons` those of other values that are None.
    """

    run: str
    kind: str
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
    components: int | None = None
    covariance: str | None = None
    flow: dict[str, int] | None = None

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON; `components`, `covariance` and `flow` only if the kind has them."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value is not None or name not in OF_A_KIND}

    def record(self) -> dict[str, Any]:
        """Return what a run keeps of it."""
        left_out = ("run", "kept", "not_kept")
        return {name: value for name, value in self.document().items() if name not in left_out}


def fit_prior(
    run: Path | str | Run,
    kind: str = "mixture",
    components: int | Sequence[int] | None = None,
    covariance: str | None = None,
    codes: int = CODES,
    seed: int = 0,
    progress: PartProgress | None = None,
) -> PriorFit:
    """Fit a prior to codes drawn from q(z|x) of training sentences, and keep it in the run if it is better.

    The mean of KL(q(z|x) || p) over sentences is I(x; z) + KL(q(z) || p). A prior fitted to q(z), the aggregated
    posterior, lowers the second part, and with it KL and bound.

    Args:
        run: A finished run.
        kind: `gaussian`, with the moments of the codes, `mixture` of Gaussians, or `flow`, a neural spline flow,
            which needs the extra `flow`.
        components: Numbers to try for a mixture, by default 1, 2, 5, 10 and 20, until the mean log density of codes
            of validation sentences falls. The one with the highest is taken.
        covariance: `full`, the default, or `diagonal`; not for a flow.
        codes: Most codes, one a sentence.
        seed: Of the codes, of the centres that mixtures start from, and of a flow's weights and batches.
        progress: Called with the part of the work.

    Returns:
        The fit. It is kept, for `textvae.load(run, prior="fitted")` and in place of an earlier one, if it lowers
        the validation bound by at least 0.01 nats.

    Raises:
        RequestError: If the run is no model with codes in a flat space, a number or name cannot be used, there are
            too few codes, all codes are the same, the library of flows is not installed, or the folder of the prior
            is a link.
        WorkError: If codes are not finite, or the run's folder cannot be written.

    References:
        Hoffman and Johnson 2016, "ELBO surgery"; Ghosh et al. 2020, "From variational to deterministic
        autoencoders", section 4 (density estimation after training).
    """
    densities = densities_of(kind, components, covariance)
    if codes < 1:
        raise RequestError(f"codes = {codes}: must be 1 or more")
    run = Run.open(run)
    refuse_link(run.folder, FOLDER)  # before the work, not after it
    train, valid = _splits(run)
    rows = Rows(spaced(len(train), codes), spaced(len(valid), VALIDATION))
    densities = densities.with_enough(len(rows.train), run.settings.model.latent)
    weights, model = file_digest(run.folder / "model.safetensors"), model_of(run)
    fitted_to = draw_codes(model, train, rows.train, mixed(seed, _TRAIN), progress, "training")
    chosen_on = draw_codes(model, valid, rows.valid, mixed(seed, _VALID), progress, "validation")
    _require_usable(run, fitted_to, chosen_on)
    best = densities.best(fitted_to, chosen_on, seed, progress)
    own = _log_prob(model, chosen_on)
    change = log_prob(best.prior, chosen_on) - own
    fitted = PriorFit(
        run=str(run.folder),
        kind=kind,
        log_density=best.log_density,
        log_density_own=own.mean().item(),
        codes=len(fitted_to),
        validation_codes=len(chosen_on),
        seed=seed,
        signature=_signature(best.settings, train, valid, rows, seed),
        **best.chosen,
        **_changes(run, score(model, valid, seed, rows=rows.valid), change),
    )
    if fitted.kept:
        write_fitted(run.folder, best.prior.state_dict(), {**fitted.record(), "weights": weights})
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


def _signature(
    settings: FittedSettings | FittedFlowSettings, train: TokenStore, valid: TokenStore, rows: Rows, seed: int
) -> str:
    """Return the signature of a fit."""
    return signature(
        "fitted-prior",
        unit="nats/sentence",
        split=valid.fingerprint[:6],
        train=train.fingerprint[:6],
        prior=settings.label,
        **settings.details,
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
