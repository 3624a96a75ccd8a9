"""The document of an evaluation, checked on reading by what the schema declares."""

from functools import lru_cache
from typing import Any

from pydantic import create_model, field_validator

from textvae.evaluation import schema
from textvae.evaluation.entry import Score
from textvae.metrics.weights import SAMPLES
from textvae.run.records import Error, Stored


class _Evaluation(Stored):
    """Fields of every evaluation of a split."""

    split: str
    prior: str | None = None
    reasons: dict[str, Any] | None = None
    reconstruction: float

    @field_validator("iw_heavy_tailed", check_fields=False)
    @classmethod
    def _of_enough_samples(cls, share: float | None, known: Any) -> float | None:
        """Refuse a share of heavy tails where too few samples were drawn to see a tail."""
        if share is not None and (known.data.get("iw_samples") or 0) < SAMPLES:
            raise ValueError(f"takes iw_samples = {SAMPLES} or more")
        return share


def known_names() -> set[str]:
    """Return the paths of all numbers that an evaluation may have; model and text decide which it has."""
    return {name for score in schema.SCORES if score.compute for name in (*score.names, *score.paths)}


def evaluation_record() -> type[Stored]:
    """Return the schema by which the document of an evaluation is checked on reading."""
    return _record(schema.SCORES)


@lru_cache
def _record(scores: tuple[Score, ...]) -> type[Stored]:
    fields: dict[str, Any] = {}
    for score in scores:
        fields |= {name: (kind | None, None) for name, kind in zip(score.names, (score.kind, Error), strict=False)}
    fields = {name: field for name, field in fields.items() if name not in _Evaluation.model_fields}
    return create_model("Evaluation", __base__=_Evaluation, **fields)
