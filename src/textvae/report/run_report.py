"""The report of one run: what its page shows, collected from its log, scores, codes and samples."""

from typing import Any

import numpy as np
from jaxtyping import Float

from textvae.errors import RequestError
from textvae.evaluation.diagnose import diagnose
from textvae.evaluation.opened import Opened
from textvae.evaluation.verdict import SAMPLES
from textvae.generate.codec import GREEDY
from textvae.generate.decoding import Decoding
from textvae.inference import Scores
from textvae.metrics.text import distinct
from textvae.report.page import RunReport, write_report
from textvae.text import grammar
from textvae.text.batches import TokenStore
from textvae.text.tokenizers import Tokenizer

# Values that the map of the latent space can tell apart by colour.
COLOURS = 6


def write_run_report(trained: Opened, split: str, document: dict[str, Any], seed: int) -> None:
    """Write the page of a run's evaluations to `report.html` in its folder; warn if that is impossible."""
    report = report_of(trained, split, document, seed)
    trained.save("report.html", lambda path: write_report(path, f"{report.name}: all evaluations", [report]))


def report_of(trained: Opened, split: str, document: dict[str, Any], seed: int) -> RunReport:
    """Collect the report of a run: its document, and the codes of a split's sentences by their label."""
    store, scores = trained.corpus.split(split), trained.scores(split, seed)
    rows = scores.kept.numpy()
    labels, name = None, None
    if trained.corpus.name == "grammar" and trained.window is None:
        attributes = attributes_of(trained.tokenizer, store, rows)
        name = clearest_attribute(means_of(scores), attributes)
        labels = attributes[name]
    elif store.labels is not None:
        labels = [store.label_names[number] for number in store.labels[rows].tolist()]
        name = trained.run.settings.data.label
    return run_report(trained, document, scores, labels, name, seed)


def run_report(
    trained: Opened,
    evaluation: dict[str, Any],
    scores: Scores,
    labels: list[str] | None,
    label_name: str | None,
    seed: int,
) -> RunReport:
    """Collect all that the report shows of a run; `labels` are those of the sentences whose codes are kept."""
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
        verdict=_verdict(trained, seed),
    )


def _verdict(trained: Opened, seed: int) -> str:
    """Return the sentences of a diagnosis, or why there is none."""
    try:
        return " ".join(diagnose(trained, seed=seed).sentences)
    except RequestError as error:
        return f"No diagnosis: {error}"


def attributes_of(tokenizer: Tokenizer, store: TokenStore, rows: np.ndarray | None = None) -> dict[str, list[str]]:
    """Return the true attributes of the grammar's sentences (all, or `rows`) that have few enough values."""
    language = grammar.reviews()
    known = [language.attributes(text) or {} for text in tokenizer.decode_batch(store.sentences(rows))]
    few = [name for name, values in language.values.items() if len(values) <= COLOURS]
    return {name: [attributes.get(name, "?") for attributes in known] for name in few}


def clearest_attribute(means: Float[np.ndarray, "n latent"] | None, attributes: dict[str, list[str]]) -> str:
    """Return the attribute whose values lie farthest apart; the first one if there are no codes."""
    return next(iter(attributes)) if means is None else farthest_apart(means, attributes)


def farthest_apart(means: Float[np.ndarray, "n latent"], attributes: dict[str, list[str]]) -> str:
    """Return the attribute that explains most of the variance of the means."""

    def between(labels: list[str]) -> float:
        groups, centre = np.array(labels), means.mean(0)
        distances = {value: ((means[groups == value].mean(0) - centre) ** 2).sum() for value in set(labels)}
        return sum((groups == value).mean() * distance for value, distance in distances.items())

    return max(attributes, key=lambda name: between(attributes[name]))


def means_of(scores: Scores) -> Float[np.ndarray, "n latent"] | None:
    """Return the posterior means of the kept sentences; None for a language model."""
    return None if scores.posterior is None else scores.posterior.mean.numpy()
