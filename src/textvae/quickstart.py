"""`textvae quickstart`: a VAE that collapses and one that does not, side by side on the embedded corpus."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textvae.corpora import grammar
from textvae.data import Corpus, open_corpus
from textvae.diagnose import SAMPLES, diagnose
from textvae.errors import RequestError
from textvae.evaluate import evaluate
from textvae.generate.trained import Trained, load
from textvae.metrics.text import distinct
from textvae.objective import load_settings
from textvae.report import RunReport, write_report
from textvae.run import Run
from textvae.scores import score
from textvae.settings import Settings
from textvae.train import resume, train

METHODS = ("vanilla", "mu-forcing")
# Small enough for three minutes on two cores.
TABLES: dict[str, Any] = {
    "data": {"corpus": "grammar"},
    "model": {
        "latent": 16,
        "embedding": 64,
        "encoder": {"hidden": 128},
        "decoder": {"hidden": 128, "dropout": 0.2},
    },
    "train": {"epochs": 10, "batch_size": 32, "optimizer": {"lr": 2e-3}},
}
ATTRIBUTE = "sentiment"

# Called with what is under way ("training vanilla"), how far it is and how far it goes.
Progress = Callable[[str, int, int], None]


def quickstart(out: Path, seed: int = 0, progress: Progress | None = None) -> list[RunReport]:
    """Train, evaluate, diagnose and sample both models; write `report.html` into `out`.

    Finished runs in `out` are used again and unfinished ones are gone on with, so an interrupted quickstart
    continues where it stopped.

    Raises:
        RequestError: when `out` holds runs with other settings.
        WorkError: when training diverges or the disk fails.
    """
    reports = []
    corpus = open_corpus(settings_of("vanilla", seed).data)
    for method in METHODS:
        run = _trained(out / method, settings_of(method, seed), _part(progress, f"training {method}"))
        evaluation = evaluate(run.folder, "test", progress=_part(progress, f"evaluating {method}"))
        reports.append(described(load(run.folder), corpus, evaluation, seed))
    write_report(out / "report.html", "textvae quickstart: does the code get used?", reports)
    return reports


def settings_of(method: str, seed: int) -> Settings:
    """The quickstart's settings for a method."""
    tables = {**TABLES, "train": {**TABLES["train"], "seed": seed}}
    return load_settings(None, method, (), **tables)


def described(trained: Trained, corpus: Corpus, evaluation: dict[str, Any], seed: int) -> RunReport:
    """All that the report shows of one run on the embedded corpus."""
    run, store = trained.run, corpus.split("test")
    prior_samples = trained.sample(SAMPLES, seed=seed)
    scores = score(trained.model, store, seed)
    texts = run.tokenizer.decode_batch([store[row].tolist() for row in range(len(store))])
    language = grammar.reviews()
    labels = [(language.attributes(text) or {}).get(ATTRIBUTE, "?") for text in texts]
    has_code = scores.posterior is not None and scores.z is not None
    return RunReport(
        name=run.folder.name,
        log=run.log(),
        evaluation={
            **evaluation,
            "distinct_samples": distinct(prior_samples),
            "prior_samples": SAMPLES,
            "hardware": f"{run.environment['device']}, {run.environment['cores']} cores",
        },
        means=scores.posterior.mean.numpy() if scores.posterior is not None else None,
        codes=scores.z.numpy() if scores.z is not None else None,
        labels=labels,
        label_name=ATTRIBUTE,
        samples=trained.sample(5, seed=seed),
        interpolation=trained.interpolate_prior(seed=seed, steps=7) if has_code else [],
        verdict=" ".join(diagnose(run.folder, seed=seed).sentences),
    )


def _trained(folder: Path, settings: Settings, progress: Callable[[int, int], None]) -> Run:
    """The finished run in a folder: trained, gone on with, or found there."""

    def step(now: int, total: int, record: dict[str, Any] | None) -> None:
        progress(now, total)

    if not (folder / "environment.json").exists():
        return train(settings, folder, step)
    found = Run.open(folder).settings
    precision = {"precision": found.train.precision}
    if found != settings.model_copy(update={"train": settings.train.model_copy(update=precision)}):
        raise RequestError(f"{folder}: holds a run with other settings; give another --out or delete it")
    return resume(folder, step)


def _part(progress: Progress | None, name: str) -> Callable[[int, int], None]:
    """The progress of one named part."""

    def part(now: int, total: int) -> None:
        if progress is not None:
            progress(name, now, total)

    return part
