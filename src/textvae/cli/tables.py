"""The scores of an evaluation as tables that are printed."""

from collections.abc import Mapping
from typing import Any

from textvae.cli.output import DASH, columns, number, plain

NATS = "nats/sentence"


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores of runs, by name, side by side: a row a score, a column a run, then the unit."""
    found = [measures(scores) for scores in runs.values()]
    rows = [["", *map(plain, runs), ""]] if len(runs) > 1 else []
    for same in zip(*found, strict=True):
        units = [unit for _, value, unit in same if value != DASH]
        if units:
            rows.append([same[0][0], *(value for _, value, _ in same), units[0]])
    return columns(rows)


def signatures(scores: Mapping[str, Any]) -> list[str]:
    """What the scores of an evaluation depend on: the moments and the information, MMD, and last the likelihood."""
    found = (scores.get(name) for name in ("latent_signature", "mmd_signature", "signature"))
    return [one for one in found if one]


def caveats(scores: Mapping[str, Any]) -> list[str]:
    """What is to be kept in mind about the scores of an evaluation."""
    from textvae.metrics.weights import caveat

    found = caveat(scores)
    return [] if found is None else [f"careful: {found}"]


def measures(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What `evaluate` found, as rows of a name, a number and its unit; a dash for a score that is not there."""
    units, latent = scores.get("active_units") or {}, scores.get("latent")
    n, ceiling = scores.get("mutual_information_sentences"), number(scores.get("mutual_information_ceiling"))
    mixed = f"nats, of {n:,} mixed, at most ln {n:,} = {ceiling}" if n else ""
    kind, drawn = scores.get("nll_iw_kind"), scores.get("sentences")
    norm, spread = "of sampled codes", "of sampled codes"
    if scores.get("kl_moment_matched", 0) is not None:  # under another prior than N(0, I) these are not its own
        norm += f"; the prior's own: {number(latent / drawn) if latent and drawn else DASH}"
        spread += "; of the prior 0"
    own = number(scores.get("mmd_squared_prior_deviation"), 5)
    samples = "exact" if kind == "exact" else f"{scores.get('iw_samples')} importance samples"
    if kind == "surrogate":
        samples += " by a surrogate density"
    return [
        ("reconstruction", _mean(scores, "reconstruction"), NATS),
        ("KL", _rate(scores), f"{NATS}, {scores.get('rate_kind')}"),
        ("bound", _mean(scores, "bound"), NATS),
        ("NLL", _mean(scores, "nll_iw"), f"{NATS}, {samples}, {scores.get('iw_sentences')} sentences"),
        ("bound of the same", _of_drawn(scores), f"{NATS}, on the NLL's sentences"),
        ("effective samples", *_effective(scores)),
        ("entropy of the corpus", _mean(scores, "entropy"), f"{NATS}, exact"),
        ("NLL above the true one", _mean(scores, "gap_to_surprisal"), f"{NATS}, on the NLL's sentences"),
        ("perplexity of the bound", _mean(scores, "perplexity_bound"), "per token, end mark counted"),
        ("perplexity of the NLL", _mean(scores, "perplexity_iw"), "per token, end mark counted"),
        ("bits per character", _mean(scores, "bits_per_character"), "by the bound"),
        ("MI of sentence and code", _information(scores, scores.get("rate_kind")), mixed),
        ("active units", _count(units.get("0.01")), f"of {latent}, variance above 0.01"),
        ("very active units", _count(units.get("0.2")), f"of {latent}, variance above 0.2"),
        ("shuffle gap", _mean(scores, "shuffle_gap"), f"{NATS} lost with another sentence's code"),
        ("aggregated posterior", _drawn(scores, "kl_moment_matched"), "nats from the prior, by moments"),
        ("MMD² to the prior", _small(scores, "mmd_squared"), f"the prior's own codes: ± {own}"),
        ("log det covariance", _drawn(scores, "log_det_covariance"), spread),
        ("squared norm of the mean", _drawn(scores, "mean_squared_norm"), norm),
        ("H - D, I and R", _bounds(scores.get("information_bounds")), "nats; H - D <= I <= R"),
        ("distinct samples", _count(scores.get("distinct_samples")), "of 100 greedy ones from the prior"),
    ]


def _mean(scores: Mapping[str, Any], name: str) -> str:
    """A score, with its standard error where there is one."""
    error = scores.get(f"{name}_standard_error")
    value = number(scores.get(name))
    return value if error is None or value == DASH else f"{value} ± {number(error)}"


def _rate(scores: Mapping[str, Any]) -> str:
    """The KL, with its standard error where it is estimated from drawn codes."""
    return number(scores.get("kl")) if scores.get("rate_kind") == "exact" else _mean(scores, "kl")


def _of_drawn(scores: Mapping[str, Any]) -> str:
    """The bound of the NLL's sentences, where these are not all."""
    every = scores.get("iw_sentences") == scores.get("sentences")
    return DASH if every else number(scores.get("bound_iw_sentences"))


def _effective(scores: Mapping[str, Any]) -> tuple[str, str]:
    """The median of effective samples, and what is known of the others."""
    low, share = scores.get("iw_effective_samples_low"), scores.get("iw_heavy_tailed")
    unit = f"of {scores.get('iw_samples')}, the median; {number(low, 1)} at the 5th percentile"
    if share is not None:
        unit += f"; heavy tails: {100 * share:.0f} %"
    return number(scores.get("iw_effective_samples"), 1), unit


def _information(scores: Mapping[str, Any], kind: str | None) -> str:
    """The mutual information; by two estimates where one is from above and one from below, if both are there."""
    from textvae.metrics.information import estimates

    value, lowest = scores.get("mutual_information"), scores.get("mutual_information_lower")
    if value is None:
        return DASH
    return estimates(number(value), None if lowest is None else number(lowest), kind == "upper")


def _drawn(scores: Mapping[str, Any], name: str) -> str:
    """A mean over draws of the codes, with its standard deviation over them."""
    deviation, value = scores.get(f"{name}_standard_deviation"), number(scores.get(name))
    return value if deviation is None or value == DASH else f"{value} ± {number(deviation)}"


def _small(scores: Mapping[str, Any], name: str) -> str:
    """A score near 0 with its standard error."""
    error, value = scores.get(f"{name}_standard_error"), number(scores.get(name), 5)
    return value if error is None or value == DASH else f"{value} ± {number(error, 5)}"


def _bounds(found: Mapping[str, Any] | None) -> str:
    """The three quantities, and whether they are in order."""
    if not found:
        return DASH
    verdict = {True: "holds", False: "does not hold", None: "undecided"}[found["holds"]]
    return f"{number(found['lower'])}, {_information(found, None)}, {number(found['rate'])}: {verdict}"


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"
