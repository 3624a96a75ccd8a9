"""Likelihood and latent scores of a run on one split: weight 1, dropout off, float32, every sentence once."""

from pathlib import Path
from typing import Any

from textvae.errors import RequestError
from textvae.evaluation import schema
from textvae.evaluation.importance import importance_weights, subset
from textvae.evaluation.likelihood import Measured
from textvae.evaluation.opened import check_finite, open_run
from textvae.evaluation.values import resolved
from textvae.files import write_json
from textvae.generate.trained import Trained
from textvae.progress import Progress, visible
from textvae.run import Run


def evaluate(
    folder: Path | str | Run | Trained,
    split: str = "test",
    iw_samples: int = 500,
    iw_sentences: int | None = 500,
    seed: int = 0,
    progress: Progress | bool | None = True,
) -> dict[str, Any]:
    """Compute all scores of a run on a split, as `schema.SCORES` declares them; write `evaluation/SPLIT.json`.

    Of a run under a fitted prior the document has the name of that prior, and lies in `fitted/evaluation`. If the
    run's folder cannot be written, that is a warning. `iw_sentences` is the size of the seeded subset that
    importance weighting is done on, None for all sentences. Scores that are undefined are None in the document, and
    its `reasons` have the reason of each.

    Raises:
        RequestError: if the run, the split or a number cannot be used, or the data has changed.
        WorkError: if the likelihood of a sentence is not finite.
    """
    for name, value in (("iw_samples", iw_samples), ("iw_sentences", iw_sentences)):
        if value is not None and value < 1:
            raise RequestError(f"{name} = {value}: must be 1 or more")
    trained = open_run(folder)
    store = trained.corpus.split(split)
    check_finite(trained.run, split, trained.scores(split, seed))
    rows = subset(len(store), iw_sentences, seed)
    with visible(progress, f"evaluating {trained.run.folder}", "sentence") as told:
        weighted = importance_weights(trained.model, store, rows, iw_samples, seed, told)
    measured = Measured(trained, split, seed, iw_samples, rows, weighted)
    values: dict[str, Any] = {"split": split}
    if trained.run.fitted is not None:
        values["prior"] = trained.run.fitted.name
    for score in schema.SCORES:
        values |= score.measure(measured)
    report, reasons = resolved(values)
    report["reasons"] = reasons
    trained.save(f"evaluation/{split}.json", lambda path: write_json(path, report))
    return report
