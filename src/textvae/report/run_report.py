"""The report of runs: what the page shows of each, collected from its log, scores, codes and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from textvae.errors import RequestError
from textvae.evaluation.content import LabelAgreement
from textvae.evaluation.diagnose import Diagnosis, diagnose
from textvae.evaluation.opened import Opened, beside
from textvae.evaluation.verdict import SAMPLES
from textvae.generate.codec import GREEDY
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.inference import Scores
from textvae.metrics.text import distinct
from textvae.report.content import RunReport, agreements
from textvae.report.page import write_report
from textvae.run import Run, model_of
from textvae.run.rates import points_of
from textvae.text import grammar
from textvae.text.batches import TokenStore
from textvae.text.tokenizers import Tokenizer

# Values that the map of the latent space can tell apart by colour.
COLOURS = 6
# Codes drawn from a prior that has no curve of its own.
DRAWN = 2000

# Labels of the sentences of a split, by the name of the label.
Labels = Mapping[str, list[str]]


def write_run_report(trained: Opened, split: str, document: dict[str, Any], seed: int) -> None:
    """Write the page of a run's evaluations to `report.html` in its folder; warn if that is impossible."""
    report = labelled([run_report(trained, split, document, seed)], labels_of(trained, split, seed))
    title = f"{report[0].name}: all evaluations"
    trained.save("report.html", lambda path: write_report(path, title, report))


def run_report(trained: Opened, split: str, evaluation: dict[str, Any], seed: int, name: str = "") -> RunReport:
    """Collect all that the report shows of a run but for labels; `name` is the folder's unless it is given."""
    run, scores = trained.run, trained.scores(split, seed)
    coded = scores.posterior is not None
    diagnosis, told = _diagnosis(trained, seed)
    return RunReport(
        name=name or run.folder.name,
        log=run.log(),
        evaluation={
            **evaluation,
            "distinct_samples": distinct(trained.sample(SAMPLES, seed=seed)),
            "prior_samples": SAMPLES,
            "hardware": f"{run.environment.get('device')}, {run.environment.get('cores')} cores",
        },
        means=means_of(scores),
        codes=None if scores.z is None else scores.z.numpy(),
        labels=None,
        label_name=None,
        # Greedily a language model has one sentence.
        samples=trained.sample(5, seed=seed, decoding=GREEDY if coded else Decoding("sample")),
        interpolation=trained.under_one(seed).interpolate_prior(seed=seed, steps=7) if coded else [],
        verdict=told,
        diagnosis=diagnosis,
        rates=_rates(run),
        **(_priors(trained, seed) if coded else {}),
    )


def labels_of(trained: Opened, split: str, seed: int) -> Labels:
    """Return the labels of the sentences whose codes are kept: the text's own, or attributes of the grammar."""
    store, rows = trained.corpus.split(split), trained.scores(split, seed).kept.numpy()
    if trained.corpus.name == "grammar" and trained.window is None:
        return attributes_of(trained.tokenizer, store, rows)
    if store.labels is None:
        return {}
    names = [store.label_names[number] for number in store.labels[rows].tolist()]
    return {trained.run.settings.data.label or "label": names}


def labelled(reports: Sequence[RunReport], labels: Labels) -> list[RunReport]:
    """Return reports with the label that their codes know best, for the map of codes."""
    name = best_known([agreements(report) for report in reports], list(labels))
    return [*reports] if name is None else [replace(one, labels=labels[name], label_name=name) for one in reports]


def best_known(runs: Sequence[Mapping[str, LabelAgreement]], names: Sequence[str]) -> str | None:
    """Return the label that nearest codes share most often beyond chance, in any of the runs; None without labels.

    As a share of what is possible beyond chance, so that rare and common values are measured alike.
    """

    def beyond(name: str) -> float:
        own = [run[name] for run in runs if name in run]
        return max(((one.agreement - one.by_chance) / (1 - one.by_chance or 1) for one in own), default=-1.0)

    return max(names, key=beyond, default=None)


def attributes_of(tokenizer: Tokenizer, store: TokenStore, rows: np.ndarray | None = None) -> dict[str, list[str]]:
    """Return the true attributes of the grammar's sentences (all, or `rows`) that have few enough values."""
    language = grammar.reviews()
    attributes = [language.attributes(text) or {} for text in tokenizer.decode_batch(store.sentences(rows))]
    few = [name for name, values in language.values.items() if len(values) <= COLOURS]
    return {name: [own.get(name, "?") for own in attributes] for name in few}


def means_of(scores: Scores) -> Float[np.ndarray, "n latent"] | None:
    """Return the posterior means of the kept sentences; None for a language model."""
    return None if scores.posterior is None else scores.posterior.mean.numpy()


def _diagnosis(trained: Opened, seed: int) -> tuple[Diagnosis | None, str]:
    """Return a diagnosis and its sentences; without one the reason."""
    try:
        found = diagnose(trained, seed=seed)
    except RequestError as error:
        return None, f"No diagnosis: {error}"
    return found, " ".join(found.sentences)


def _rates(run: Run) -> list[dict[str, float]]:
    """Return the points of the curve of a run of many KL weights; none for other runs and without a curve."""
    if run.settings.model.multi_rate is None:
        return []
    try:
        return points_of(run)
    except RequestError:
        return []


def _priors(trained: Opened, seed: int) -> dict[str, Any]:
    """Return whether a run's own prior is N(0, I), and draws of one that is not and of a fitted one, by name."""
    own = trained.run if trained.run.fitted is None else Run.open(trained.run.folder)
    prior, draws = own.settings.model.prior, dict[str, Any]()
    if not prior.standard:
        draws[f"own prior, {prior.label}"] = Trained(own, model_of(own)).draw(DRAWN, seed)
    if (fitted := beside(own)) is not None:
        draws["fitted prior"] = Trained(fitted, model_of(fitted)).draw(DRAWN, seed)
    return {"normal": prior.standard, "priors": draws}
