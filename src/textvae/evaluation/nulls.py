"""Why scores of an evaluation are null."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from textvae.evaluation.latent import LATENT
from textvae.inference import KEPT
from textvae.metrics.weights import SAMPLES
from textvae.run import Run

# Scores that are null for the same reasons.
RATE = ("kl", "kl_standard_error", "rate_kind")
BOUND = (
    "bound",
    "bound_standard_error",
    "bound_iw_sentences",
    "perplexity_bound",
    "perplexity_bound_without_end",
    "bits_per_character",
)
IMPORTANCE = (
    "nll_iw",
    "nll_iw_standard_error",
    "nll_iw_kind",
    "perplexity_iw",
    "perplexity_iw_without_end",
    "surprisal",
    "gap_to_surprisal",
    "gap_to_surprisal_standard_error",
)
SURPRISAL = IMPORTANCE[-3:]
WEIGHTS = ("iw_effective_samples", "iw_effective_samples_low", "iw_heavy_tailed")
INFORMATION = ("mutual_information", "mutual_information_sentences", "mutual_information_ceiling")
GAP = ("shuffle_gap", "shuffle_gap_standard_error")
COVARIANCE = ("log_det_covariance", "log_det_covariance_standard_deviation")
NORM = ("mean_squared_norm", "mean_squared_norm_standard_deviation")
MOMENTS = ("kl_moment_matched", "kl_moment_matched_standard_deviation")
MMD = ("mmd_squared", "mmd_squared_standard_error", "mmd_squared_prior_deviation", "mmd_signature")


def reasons(run: Run, report: dict[str, Any], unbounded: str | None) -> dict[str, str]:
    """Why a score is null, for every score that is; of several reasons the one that alone suffices.

    `unbounded` is why the bounds of the information cannot be told.
    """
    weighed, samples = report["iw_sentences"], report["iw_samples"]
    told = reasons_of_code(run, report["sentences"], report["rate_kind"] is not None)
    if report["shuffle_gap"] is not None:
        why = "neighbours depend on each other so much that their variance comes out below 0; take more sentences"
        told.append({"shuffle_gap_standard_error": why})
    told.append({"iw_components": "only a semi-implicit posterior is a mixture of draws"})
    if weighed == 1:
        names = ("nll_iw_standard_error", "gap_to_surprisal_standard_error")
        told.append(dict.fromkeys(names, "one sentence has no deviation"))
    if samples == 1:
        told.append(dict.fromkeys(WEIGHTS, "one sample a sentence has nothing to be weighed against"))
    if samples < SAMPLES:
        why = f"{samples} samples a sentence are too few for the tail of their weights; it takes {SAMPLES}"
        told.append({"iw_heavy_tailed": why})
    told += [_without_perplexity(report, name) for name in ("bound", "nll_iw")]
    told.append(dict.fromkeys(SURPRISAL, "a sentence is none of the grammar's"))
    found = first_reasons(told, [name for name, value in report.items() if value is None])
    bounds = report.get("information_bounds") or {}
    for name in (name for name, value in bounds.items() if value is None and name != "reason"):
        known = bounds["reason"] if name == "holds" else found.get(name)  # its own reason is that of `holds`
        found[f"information_bounds.{name}"] = known or "not finite"
    return found | ({"information_bounds": unbounded} if unbounded else {})


def first_reasons(told: Sequence[Mapping[str, str]], nulls: Iterable[str]) -> dict[str, str]:
    """For each of the names that are null the first reason that is told of it."""
    return {name: next((own[name] for own in told if name in own), "not finite") for name in nulls}


def reasons_of_code(run: Run, sentences: int, rated: bool) -> list[dict[str, str]]:
    """Why scores of the code or the bound may be null, from the most special reason to the most general.

    The first one that speaks of a score holds. `sentences` is how many were scored, `rated` whether there is a KL.
    """
    model = run.settings.model
    posterior, prior, latent = model.posterior.name, model.prior.name, model.latent
    told: list[dict[str, str]] = []
    density = f"the {posterior} posterior has no density"
    if not latent:
        told.append(dict.fromkeys((*LATENT, *RATE), "a language model has no code"))
        told.append(dict.fromkeys(WEIGHTS, "a language model's likelihood is exact: nothing is weighted"))
    elif not rated:
        scores = (*RATE, *BOUND, *IMPORTANCE, *WEIGHTS, *INFORMATION)
        told.append(dict.fromkeys((*scores, "mutual_information_lower", "kl_per_dimension"), density))
    if prior != "standard-normal":
        why = f"it is the distance to a standard normal, and the prior is {prior}"
        told.append(dict.fromkeys((*MOMENTS, *MMD), why))
    if posterior == "vmf":
        told.append(dict.fromkeys((*COVARIANCE, *NORM), "codes lie on a sphere"))
    if posterior != "semi-implicit":
        why = "there is one estimate, by the posterior's own density"
        told.append({"mutual_information_lower": why})
    told.append({"kl_per_dimension": f"the rate of {posterior} under {prior} has no closed form by dimension"})
    if sentences == 1:
        told.append(dict.fromkeys(("bound_standard_error", "kl_standard_error"), "one sentence has no deviation"))
        why = "one sentence has no other that its code could be told from"
        told.append(dict.fromkeys((*INFORMATION, "mutual_information_lower", *GAP), why))
        told.append({"active_units": "the mean of one sentence does not vary"})
        told.append(dict.fromkeys(MMD, "there is one code only"))
    if sentences < 4:
        told.append({"shuffle_gap_standard_error": "neighbours depend on each other; it takes four sentences"})
    if sentences < 5:
        told.append({"mmd_squared_standard_error": "it takes five codes"})
    few = too_few(sentences, latent)
    told.append(dict.fromkeys((*COVARIANCE, *MOMENTS), few or "the covariance of the codes is singular"))
    return told


def too_few(sentences: int, latent: int) -> str | None:
    """Say that so many sentences have no covariance of full rank; None if they may have."""
    kept = min(sentences, KEPT)
    if kept > latent:
        return None
    return f"{kept:,} sentence{' is' if kept == 1 else 's are'} too few for a covariance of {latent} dimensions"


def _without_perplexity(report: dict[str, Any], nats: str) -> dict[str, str]:
    """Why a perplexity is null where its nats are not."""
    if report[nats] is None:
        return {}
    name = "perplexity_bound" if nats == "bound" else "perplexity_iw"
    whole = f"it is above {sys.float_info.max:.2g}"
    only = whole if report[name] is None else "there are only end marks"
    return {name: whole, f"{name}_without_end": only}
