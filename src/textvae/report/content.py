"""Content of a report: all that it shows of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from textvae.evaluation.content import LabelAgreement
from textvae.evaluation.diagnose import Diagnosis
from textvae.run.records import is_number


@dataclass(frozen=True, eq=False)
class RunReport:
    """All that the report shows of one run; a language model has no means, codes or interpolation.

    `log` holds the records of `log.jsonl`. `evaluation` is what `evaluate` or `evaluate_all` returns; it may also
    have `distinct_samples` (different sentences among greedy samples from the prior), `prior_samples` (of how many)
    and `hardware`. `means` and `codes` are each sentence's posterior mean and one sampled code, `labels` its
    values of the attribute `label_name`. `normal` says that the run's own prior is N(0, I); `priors` are draws of
    an own prior that is another one, and of a fitted one, by name. `rates` are the points of the curve of a run
    of many KL weights.
    """

    name: str
    log: list[dict[str, Any]]
    evaluation: dict[str, Any]
    means: Float[np.ndarray, "n latent"] | None
    codes: Float[np.ndarray, "n latent"] | None
    labels: list[str] | None
    label_name: str | None
    samples: list[str]
    interpolation: list[str]
    verdict: str
    diagnosis: Diagnosis | None = None
    normal: bool = True
    priors: Mapping[str, Float[np.ndarray, "draws latent"]] = field(default_factory=dict)
    rates: Sequence[Mapping[str, float]] = ()


def language_model(run: RunReport) -> bool:
    """Return True for a run without a code."""
    return run.means is None and run.evaluation.get("kl") is None


def without_codes(run: RunReport) -> str | None:
    """Return the reason why a run has no codes to show; None if it has some."""
    if language_model(run):
        return "A language model: it has no code."
    if run.means is None or not run.means.size:
        return "Its codes were not given."
    return None if drawable(run.means) else "Its codes hold numbers that are not finite."


def drawable(array: np.ndarray | None) -> bool:
    """Return True for an array of finite numbers."""
    return array is not None and array.size > 0 and bool(np.isfinite(array).all())


def per_dimension(run: RunReport) -> list[float]:
    """Return the KL of each dimension; nothing where it is not known."""
    nats = run.evaluation.get("kl_per_dimension") or []
    return [float(value) for value in nats] if all(map(is_number, nats)) else []


def agreements(run: RunReport) -> Mapping[str, LabelAgreement]:
    """Return how often the nearest codes of held-out sentences share each label."""
    return (run.diagnosis.neighbour_label_agreement if run.diagnosis else None) or {}
