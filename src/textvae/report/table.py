"""The report's one table of scores: a row a score with its unit and its reading, a column a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textvae.metrics.information import estimates
from textvae.metrics.weights import caveat
from textvae.report.page import MISSING, digits_of, key, number, text
from textvae.run.records import is_number

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the table of scores; `cell` gives HTML, or None for what a run does not have."""

    name: str
    unit: str
    reading: str
    cell: Callable[[Found], str | None]
    optional: bool = False  # left out where no run has it


def _plain(key: str) -> Callable[[Found], str | None]:
    return lambda found: number(found.get(key))


def _with_error(key: str, error: str) -> Callable[[Found], str | None]:
    """A score and its standard error."""

    def cell(found: Found) -> str | None:
        score = found.get(key)
        value = number(score)
        deviation = number(found.get(error), digits_of(score)) if value and score is not None else None
        return f"{value} ± {deviation}" if value and deviation else value

    return cell


def _likelihood(found: Found) -> str | None:
    """IW-NLL, its standard error, from how many codes and sentences, and their bound where these are not all."""
    value = _with_error("nll_iw", "nll_iw_standard_error")(found)
    codes, sentences = number(found.get("iw_samples")), number(found.get("iw_sentences"))
    how = "exact" if found.get("nll_iw_kind") == "exact" else f"{codes} codes each"
    if found.get("nll_iw_kind") == "surrogate":
        how += ", by a surrogate density"
    if not value or not codes or not sentences:
        return value
    drawn = number(found.get("bound_iw_sentences")) if sentences != number(found.get("sentences")) else None
    their = f", their bound {drawn}" if drawn else ""
    uneven = caveat(found)
    return f"{value}<small>{how}, {sentences} sentences{their}</small>" + (
        f"<small>Careful: {text(uneven)}</small>" if uneven else ""
    )


def _effective(found: Found) -> str | None:
    """Effective samples: the median, the 5th percentile, and the share of sentences with a heavy tail."""
    value, low = (number(found.get(f"iw_effective_samples{name}"), 1) for name in ("", "_low"))
    share = found.get("iw_heavy_tailed")
    tails = "" if share is None else f"; heavy tails: {100 * share:.0f} %"
    return (
        f"{value} of {number(found.get('iw_samples'))}<small>5th percentile {low}{tails}</small>" if value else None
    )


def _rate(found: Found) -> str | None:
    """The KL; where it is not exact its standard error, and how it was computed."""
    exact = found.get("rate_kind") == "exact"
    value = number(found.get("kl")) if exact else _with_error("kl", "kl_standard_error")(found)
    how = {"upper": "an upper bound", "monte-carlo": "by drawn codes"}.get(str(found.get("rate_kind")))
    return f"{value}<small>{how}</small>" if value and how else value


def _estimates(found: Found) -> str | None:
    """Mutual information; by two estimates where one is from above and one from below, if both are there."""
    lowest, value = (number(found.get(f"mutual_information{name}")) for name in ("_lower", ""))
    return value and estimates(value, lowest, found.get("rate_kind") == "upper")


def _information(found: Found) -> str | None:
    """Mutual information and the ceiling of its estimate."""
    value, ceiling = _estimates(found), number(found.get("mutual_information_ceiling"))
    sentences = number(found.get("mutual_information_sentences"))
    of = f" = ln {sentences}" if sentences else ""
    return f"{value}<small>ceiling {ceiling}{of}</small>" if value and ceiling else value


def _active(found: Found) -> str | None:
    """Active units of how many, at the common threshold and at the strict one."""
    counts = found.get("active_units") or {}
    value, strict, latent = (number(n) for n in (counts.get("0.01"), counts.get("0.2"), found.get("latent")))
    more = f"<small>above 0.2: {strict}</small>" if strict else ""
    return value and value + (f" of {latent}" if latent else "") + more


def _distinct(found: Found) -> str | None:
    """Different samples of how many."""
    value, of = number(found.get("distinct_samples")), number(found.get("prior_samples"))
    return f"{value} of {of}" if value and of else value


def _mmd(found: Found) -> str | None:
    """Squared MMD with its standard error, and the deviation of the prior's own codes."""
    value, error, own = (
        number(found.get(f"mmd_squared{name}"), 5) for name in ("", "_standard_error", "_prior_deviation")
    )
    if not value:
        return None
    return value + (f" ± {error}" if error else "") + (f"<small>the prior: ± {own}</small>" if own else "")


def _bounds(found: Found) -> str | None:
    """The three quantities, and whether their order holds."""
    bounds = found.get("information_bounds")
    if not isinstance(bounds, Mapping):
        return None
    lower, rate = (number(bounds.get(name)) for name in ("lower", "rate"))
    verdict = {True: "holds", False: "does not hold"}.get(bounds.get("holds"), text(bounds.get("reason")))  # type: ignore[arg-type]
    return f"{lower} ≤ {_estimates(bounds)} ≤ {rate}<small>{verdict}</small>"


def _gap(found: Found) -> str | None:
    """IW-NLL less the corpus's entropy."""
    if not is_number(found.get("entropy")) or not is_number(found.get("nll_iw")):
        return None
    return _with_error("gap", "nll_iw_standard_error")({**found, "gap": found["nll_iw"] - found["entropy"]})


NATS, NATS_AND_ERROR = "nats per sentence", "nats per sentence ± standard error"
ROWS = (
    Row(
        "Reconstruction",
        NATS,
        "−log p(x|z): what is left to guess when the code is known. Lower is better.",
        _plain("reconstruction"),
    ),
    Row("KL", NATS, "What the code costs, and the most that it can say. Near 0, it says nothing.", _rate),
    Row(
        "Bound", NATS, "Reconstruction + KL. The true −log p(x) is at most this. Lower is better.", _plain("bound")
    ),
    Row(
        "IW-NLL",
        NATS_AND_ERROR,
        "A tighter bound on −log p(x), from many codes. Lower is better.",
        _likelihood,
    ),
    Row(
        "Perplexity",
        "words to choose from per token",
        "exp(IW-NLL per token), the end mark counted. Lower is better.",
        _plain("perplexity_iw"),
    ),
    Row(
        "Bits per character",
        "bits per character",
        "The bound in other units: comparable across tokenizers.",
        _plain("bits_per_character"),
        optional=True,
    ),
    Row(
        "Mutual information",
        NATS,
        "What codes say of their sentences. The estimate cannot exceed its ceiling. "
        "Two numbers are estimates from below and from above.",
        _information,
    ),
    Row(
        "Active units", "dimensions of the code", "Those whose posterior means have a variance above 0.01.", _active
    ),
    Row(
        "Shuffle gap",
        NATS_AND_ERROR,
        "What a sentence loses with another one's code. At 0, codes go unread.",
        _with_error("shuffle_gap", "shuffle_gap_standard_error"),
        optional=True,
    ),
    Row(
        "Log det covariance",
        "of sampled codes",
        "0 for the prior; far below it where codes are few small islands.",
        _plain("log_det_covariance"),
        optional=True,
    ),
    Row(
        "Squared norm of the mean",
        "of sampled codes",
        "How far the centre of all codes is from the prior's: 0.",
        _plain("mean_squared_norm"),
        optional=True,
    ),
    Row(
        "Moment-matched KL",
        "nats",
        "From a Gaussian like all codes together to the prior. Near 0: codes of the prior are known ones.",
        _plain("kl_moment_matched"),
        optional=True,
    ),
    Row(
        "MMD² to the prior",
        "± standard error",
        "The same without a Gaussian. Codes of the prior itself deviate from 0 by the number below.",
        _mmd,
        optional=True,
    ),
    Row(
        "Distinct prior samples",
        "sentences",
        "Different ones among greedy samples. Few: the model repeats itself.",
        _distinct,
        optional=True,
    ),
    Row(
        "Effective samples",
        "of the IW-NLL, the median",
        "How many codes of equal weight the estimate is worth. With few, or heavy tails, it may be too high.",
        _effective,
        optional=True,
    ),
    Row(
        "Entropy of the corpus",
        NATS,
        "Known exactly here. No model can have a lower −log p(x) on average.",
        _plain("entropy"),
        optional=True,
    ),
    Row(
        "Gap to the entropy",
        NATS_AND_ERROR,
        "IW-NLL − entropy: how far the model is from the text's source.",
        _gap,
        optional=True,
    ),
    Row(
        "Paired gap",
        NATS_AND_ERROR,
        "IW-NLL − the true −log p of the same sentences: the same, less noisy.",
        _with_error("gap_to_surprisal", "gap_to_surprisal_standard_error"),
        optional=True,
    ),
    Row(
        "H − D ≤ I ≤ R",
        "nats per sentence",
        "What codes must say, what they say, what is paid. It holds within 3 standard errors, or does not.",
        _bounds,
        optional=True,
    ),
)


def table(names: Sequence[str], evaluations: Sequence[Found]) -> str:
    """All scores of all runs, a row a score."""
    rows = []
    for row in ROWS:
        cells = [row.cell(found) for found in evaluations]
        if any(cells) or not row.optional:
            rows.append(
                f'<tr><th scope="row">{row.name}<small>{row.unit}</small></th>'
                + "".join(f"<td>{cell or MISSING}</td>" for cell in cells)
                + f'<td class="reading">{row.reading}</td></tr>'
            )
    heads = "".join(f'<th scope="col">{key(place)}{text(name)}</th>' for place, name in enumerate(names))
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">Score<small>unit</small></th>{heads}'
        '<th scope="col" class="reading">How to read it</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{MISSING} stands for what a model does not have, or what was not measured.</p>'
    )
