"""Text of scores that are more than a number with its error."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from textvae.evaluation.entry import Compared, Number, Shown, Values, with_error
from textvae.metrics.information import estimates
from textvae.run.records import is_number

# Stands for a number that there is not.
DASH = "–"
# Kinds that the runs of a row do not share.
MIXED = "mixed"
RATE_KINDS = {
    "upper": "KL upper: an upper bound on the rate, which has no closed form; the true one may be smaller.",
    "monte-carlo": "KL monte-carlo: estimated from one code a sentence; it has sampling error.",
    MIXED: "KL mixed: the runs of the row have rates of different kinds.",
}
BETWEEN = (
    "MI of a posterior that is random itself (semi-implicit, refined) lies between mutual_information_lower, an "
    "estimate from below, and mutual_information, an estimate from above."
)
SURROGATE = "NLL surrogate: the posterior has no density; a mixture of draws stands for it in the weights."


# In the table of `evaluate` and in reports -----------------------------------------------------------------------


def show_rate(scores: Values, number: Number) -> Shown | None:
    """Show the KL, with its standard error unless it is exact, and how it was computed."""
    kind = scores.get("rate_kind")
    value = with_error(scores, "kl", None if kind == "exact" else "kl_standard_error", number)
    under = f"under {scores['prior']}" if scores.get("prior") else ""
    return None if value is None else Shown(value, ", ".join(filter(None, (str(kind or ""), under))))


def show_nll(scores: Values, number: Number) -> Shown | None:
    """Show the NLL with its standard error, and from how many samples and sentences it is."""
    value = with_error(scores, "nll_iw", "nll_iw_standard_error", number)
    if value is None:
        return None
    kind, samples, sentences = (scores.get(name) for name in ("nll_iw_kind", "iw_samples", "iw_sentences"))
    how = "exact" if kind == "exact" else f"{_count(samples, number)} importance samples"
    how += " by a surrogate density" if kind == "surrogate" else ""
    return Shown(value, f"{how}, {_count(sentences, number)} sentences")


def show_bound(scores: Values, number: Number) -> Shown | None:
    """Show the bound with its standard error, and its number of sentences if the NLL is of fewer."""
    value, sentences = with_error(scores, "bound", "bound_standard_error", number), scores.get("sentences")
    fewer = is_number(scores.get("nll_iw")) and scores.get("iw_sentences") != sentences
    return None if value is None else Shown(value, f"{_count(sentences, number)} sentences" if fewer else "")


def show_bound_of_drawn(scores: Values, number: Number) -> Shown | None:
    """Show the bound of the NLL's sentences, unless these are all."""
    if scores.get("iw_sentences") == scores.get("sentences"):
        return None
    value = with_error(scores, "bound_iw_sentences", None, number)
    return (
        None if value is None else Shown(value, f"the NLL's {_count(scores.get('iw_sentences'), number)} sentences")
    )


def show_effective(scores: Values, number: Number) -> Shown | None:
    """Show the median of effective samples, the 5th percentile, and the share of sentences with a heavy tail."""
    value = with_error(scores, "iw_effective_samples", None, number, 1)
    if value is None:
        return None
    low, share = scores.get("iw_effective_samples_low"), scores.get("iw_heavy_tailed")
    detail = f"of {_count(scores.get('iw_samples'), number)}; median over sentences"
    detail += f"; {number(low, 1)} at the 5th percentile" if is_number(low) else ""
    return Shown(value, detail + ("" if share is None else f"; heavy tails: {100 * share:.0f} %"))


def show_information(scores: Values, number: Number) -> Shown | None:
    """Show the mutual information by one estimate or two, with N and its ceiling."""
    value = _information(scores, number, scores.get("rate_kind"))
    if value is None:
        return None
    n, ceiling = scores.get("mutual_information_sentences"), scores.get("mutual_information_ceiling")
    if not is_number(n) or not is_number(ceiling):
        return Shown(value)
    return Shown(value, f"of {_count(n, number)} mixed, at most ln {_count(n, number)} = {number(ceiling)}")


def show_units(scores: Values, number: Number) -> Shown | None:
    """Show the active units at both thresholds, and of how many dimensions they are."""
    units = scores.get("active_units") or {}
    if not all(is_number(units.get(part)) for part in ("0.01", "0.2")):
        return None
    latent = scores.get("latent")
    of_all = f"of {_count(latent, number)}; " if is_number(latent) else ""
    return Shown(
        f"{_count(units['0.01'], number)} / {_count(units['0.2'], number)}",
        f"{of_all}variance above 0.01 / above 0.2",
    )


def show_mmd(scores: Values, number: Number) -> Shown | None:
    """Show the squared MMD with its standard error, and the deviation of the prior's own codes."""
    value, own = (
        with_error(scores, "mmd_squared", "mmd_squared_standard_error", number, 5),
        scores.get("mmd_squared_prior_deviation"),
    )
    return None if value is None else Shown(value, f"the prior's own codes: ± {number(own, 5)}" if own else "")


def show_determinant(scores: Values, number: Number) -> Shown | None:
    """Show the log-determinant; under a standard normal prior, whose own is 0, that too."""
    value = with_error(scores, "log_det_covariance", "log_det_covariance_standard_deviation", number)
    own = "; of the prior 0" if _normal(scores) else ""
    return None if value is None else Shown(value, f"of sampled codes{own}")


def show_norm(scores: Values, number: Number) -> Shown | None:
    """Show the squared norm; under a standard normal prior what as many of its own codes have on average, too."""
    value = with_error(scores, "mean_squared_norm", "mean_squared_norm_standard_deviation", number)
    if value is None:
        return None
    latent, sentences = scores.get("latent"), scores.get("sentences")
    own = f"; the prior's own: {number(latent / sentences)}" if _normal(scores) and latent and sentences else ""
    return Shown(value, f"of sampled codes{own}")


def show_bounds(scores: Values, number: Number) -> Shown | None:
    """Show H - D, I and R, and whether they are in order."""
    bounds = scores.get("information_bounds")
    if not bounds:
        return None
    holds = bounds.get("holds")
    verdict = "holds" if holds is True else "does not hold" if holds is False else "undecided"
    lower, rate = number(bounds.get("lower")), number(bounds.get("rate"))
    reason = f"; {bounds['reason']}" if bounds.get("reason") else ""
    return Shown(f"{lower}, {_information(bounds, number, None)}, {rate}: {verdict}", f"H - D <= I <= R{reason}")


def show_distinct(scores: Values, number: Number) -> Shown | None:
    """Show how many samples are different sentences, and of how many."""
    value, of_all = with_error(scores, "distinct_samples", None, number), scores.get("prior_samples", 100)
    return None if value is None else Shown(value, f"of {of_all} greedy ones from the prior")


def _information(scores: Values, number: Number, kind: object) -> str | None:
    value, lowest = scores.get("mutual_information"), scores.get("mutual_information_lower")
    if not is_number(value):
        return None
    return estimates(number(value), number(lowest) if is_number(lowest) else None, kind == "upper")


def _count(value: Any, number: Number) -> str:
    return number(value, 0) if is_number(value) else DASH


def _normal(scores: Values) -> bool:
    """Return whether the prior is a standard normal: under another one this distance to it is null."""
    return scores.get("kl_moment_matched", 0) is not None


# In the table of `compare` ---------------------------------------------------------------------------------------


def spread(value: object, deviation: object, digits: int = 2, unit: str = "") -> str:
    """Write a number, with what stands behind ±."""
    if value is None:
        return DASH
    behind = "" if deviation is None else f" ± {rounded(deviation, digits)}"
    return f"{rounded(value, digits)}{behind}{' ' * (unit == '%')}{unit}"


def rounded(value: object, digits: int = 0) -> str:
    """Write a number in so many digits after the point."""
    if not isinstance(value, (int, float)):
        return DASH
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero


def nll_cell(row: Compared, rows: Sequence[Compared], by_seed: bool) -> str:
    """Write the NLL with its standard error over sentences, or its deviation over seeds."""
    return spread(row.values["nll"], row.deviations["nll"] if by_seed else row.values["nll_standard_error"])


def rate_cell(row: Compared, rows: Sequence[Compared], by_seed: bool) -> str:
    """Write the KL and its kind unless it is exact."""
    value, kind = row.values["kl"], row.values["rate_kind"]
    error = row.deviations["kl"] if by_seed or kind == "exact" else row.values["kl_standard_error"]
    return spread(value, error) + (f" {kind}" if value is not None and kind != "exact" else "")


def information_cell(row: Compared, rows: Sequence[Compared], by_seed: bool) -> str:
    """Write the mutual information by one estimate or two, and N if rows differ in it."""
    value, lowest = row.values["mutual_information"], row.values["mutual_information_lower"]
    if value is None:
        return DASH
    below = None if lowest is None else spread(lowest, row.deviations["mutual_information_lower"])
    upper = row.values["rate_kind"] == "upper"
    told = estimates(spread(value, row.deviations["mutual_information"]), below, upper)
    sizes = {one.values["mutual_information_sentences"] for one in rows} - {None}
    return told if len(sizes) < 2 else f"{told} ({rounded(row.values['mutual_information_sentences'])})"


def units_cell(row: Compared, rows: Sequence[Compared], by_seed: bool) -> str:
    """Write the active units at the thresholds 0.01 and 0.2, and of how many dimensions they are."""
    both = [row.values[f"active_units_{part}"] for part in ("0.01", "0.2")]
    if None in both:
        return DASH
    latent, digits = row.values["latent"], 1 if any(isinstance(value, float) for value in both) else 0
    return " / ".join(rounded(value, digits) for value in both) + (f" of {rounded(latent)}" if latent else "")


def note_of(text: str) -> Callable[[Sequence[Values]], list[str]]:
    """Return the function that explains a column by the same text whatever its rows are."""
    return lambda rows: [text]


def rate_notes(rows: Sequence[Values]) -> list[str]:
    """Explain the kinds of KL that rows have."""
    kinds = dict.fromkeys(row["rate_kind"] for row in rows if row["kl"] is not None)
    return [RATE_KINDS[kind] for kind in kinds if isinstance(kind, str) and kind in RATE_KINDS]


def nll_notes(rows: Sequence[Values]) -> list[str]:
    """Explain a surrogate, if a row has one."""
    return [SURROGATE] if any(row["nll_kind"] == "surrogate" for row in rows) else []


def information_notes(rows: Sequence[Values]) -> list[str]:
    """Give the ceiling of mutual information for each N, and explain two estimates."""
    sizes = {row["mutual_information_sentences"] for row in rows}
    ceilings = [
        f"MI of {size:,.0f} sentences and their codes can be at most {math.log(size):.2f} nats."
        for size in sorted(size for size in sizes if isinstance(size, (int, float)) and size > 0)
    ]
    two = any(row["mutual_information_lower"] is not None or row["rate_kind"] == "upper" for row in rows)
    return [*ceilings, *([BETWEEN] if two else [])]
