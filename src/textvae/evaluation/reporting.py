"""What a report shows of one run: read from its log, its codes and what it writes."""

from typing import Any

import numpy as np
from jaxtyping import Float

from textvae.errors import RequestError
from textvae.evaluation.diagnose import SAMPLES, diagnose
from textvae.generate.codec import GREEDY
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.inference import Scores
from textvae.metrics.text import distinct
from textvae.report import RunReport
from textvae.run import Run
from textvae.text import grammar
from textvae.text.batches import TokenStore

# The map of the latent space tells this many values apart by colour.
COLOURS = 6


def described(
    trained: Trained,
    evaluation: dict[str, Any],
    scores: Scores,
    labels: list[str] | None,
    label_name: str | None,
    seed: int,
) -> RunReport:
    """All that the report shows of one run; `labels` are those of the scored sentences."""
    run, coded = trained.run, scores.posterior is not None
    return RunReport(
        name=run.folder.name,
        log=run.log(),
        evaluation={
            **evaluation,
            "distinct_samples": distinct(trained.sample(SAMPLES, seed=seed)),
            "prior_samples": SAMPLES,
            "hardware": f"{run.environment.get('device')}, {run.environment.get('cores')} cores",
        },
        means=means_of(scores),
        codes=None if scores.z is None else scores.z.numpy(),
        labels=labels,
        label_name=label_name,
        # Greedily a language model has one sentence.
        samples=trained.sample(5, seed=seed, decoding=GREEDY if coded else Decoding("sample")),
        interpolation=trained.interpolate_prior(seed=seed, steps=7) if coded else [],
        verdict=_verdict(run, seed),
    )


def _verdict(run: Run, seed: int) -> str:
    """The sentences of a diagnosis, or why there is none."""
    try:
        return " ".join(diagnose(run.folder, seed=seed).sentences)
    except RequestError as error:
        return f"No diagnosis: {error}"


def attributes_of(run: Run, store: TokenStore, rows: np.ndarray | None = None) -> dict[str, list[str]]:
    """The true attributes of the grammar's sentences (all, or `rows`) that have few enough values for colours."""
    language = grammar.reviews()
    known = [language.attributes(text) or {} for text in run.tokenizer.decode_batch(store.sentences(rows))]
    few = [name for name, values in language.values.items() if len(values) <= COLOURS]
    return {name: [attributes.get(name, "?") for attributes in known] for name in few}


def best_told(scores: Scores, attributes: dict[str, list[str]]) -> str:
    """The attribute whose values lie farthest apart; the first one where there are no codes."""
    means = means_of(scores)
    return next(iter(attributes)) if means is None else farthest_apart(means, attributes)


def farthest_apart(means: Float[np.ndarray, "n latent"], attributes: dict[str, list[str]]) -> str:
    """The attribute whose values lie farthest apart: most of the means' variance is between its groups."""

    def between(labels: list[str]) -> float:
        groups, centre = np.array(labels), means.mean(0)
        distances = {value: ((means[groups == value].mean(0) - centre) ** 2).sum() for value in set(labels)}
        return sum((groups == value).mean() * distance for value, distance in distances.items())

    return max(attributes, key=lambda name: between(attributes[name]))


def means_of(scores: Scores) -> Float[np.ndarray, "n latent"] | None:
    """The posterior means of the scored sentences; None of a language model."""
    return None if scores.posterior is None else scores.posterior.mean.numpy()
