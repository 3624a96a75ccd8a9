"""Likelihood and latent scores of a run on one split: weight 1, dropout off, float32, every sentence once."""

from pathlib import Path
from typing import Any

from textvae.evaluation import schema
from textvae.evaluation.importance import AUTO, importance_weights, iw_numbers, require_iw_numbers, subset
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
    iw_samples: int | str = AUTO,
    iw_sentences: int | None | str = AUTO,
    seed: int = 0,
    progress: Progress | bool | None = True,
) -> dict[str, Any]:
    """Compute all scores of a run on a split, as `schema.SCORES` declares them; write `evaluation/SPLIT.json`.

    Of a run under a fitted prior the document has the name of that prior, and lies in `fitted/evaluation`. If the
    run's folder cannot be written, that is a warning. `iw_sentences` is the size of the seeded subset that
    importance weighting is done on, None for all sentences; "auto" numbers are those of `importance.iw_numbers`,
    and the document then says in `iw_chosen` why. Scores that are undefined are None in the document, and its
    `reasons` have the reason of each.

    Raises:
        RequestError: if the run, the split or a number cannot be used, or the data has changed.
        WorkError: if the likelihood of a sentence is not finite.
    """
    require_iw_numbers(iw_samples, iw_sentences)
    trained = open_run(folder)
    store = trained.corpus.split(split)
    numbers = iw_numbers(trained.run, split, iw_samples, iw_sentences)
    check_finite(trained.run, split, trained.scores(split, seed))
    rows = subset(len(store), numbers.sentences, seed)
    with visible(progress, f"evaluating {trained.run.folder}", "sentence") as told:
        weighted = importance_weights(trained.model, store, rows, numbers.samples, seed, told)
    measured = Measured(trained, split, seed, numbers.samples, rows, weighted)
    values: dict[str, Any] = {"split": split}
    if numbers.reason:
        values["iw_chosen"] = numbers.reason
    if trained.run.fitted is not None:
        values["prior"] = trained.run.fitted.name
    for score in schema.SCORES:
        values |= score.measure(measured)
    report, reasons = resolved(values)
    report["reasons"] = reasons
    trained.save(f"evaluation/{split}.json", lambda path: write_json(path, report))
    return report
