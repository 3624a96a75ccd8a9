"""The page of runs side by side: `textvae report RUN RUN`."""

from collections.abc import Sequence
from pathlib import Path

from textvae.comparison.members import in_natural_order, members, open_runs, unique_names
from textvae.errors import RequestError
from textvae.evaluation.opened import open_run
from textvae.progress import PartProgress, of_part
from textvae.report.page import write_report
from textvae.report.run_report import Labels, labelled, labels_of, run_report


def report(
    folders: Sequence[Path | str],
    out: Path | str = "report.html",
    split: str = "test",
    *,
    iw_samples: int | str = "auto",
    iw_sentences: int | None | str = "auto",
    seed: int = 0,
    again: bool = False,
    text: Path | str | None = None,
    progress: PartProgress | None = None,
) -> None:
    """Write the page of finished runs of the same data, side by side, in the order given, C3 before C12.

    Evaluations that are there are used, as `compare` does; other runs are evaluated.

    Raises:
        RequestError: As `compare`.
        WorkError: If the page or an evaluation cannot be written.
    """
    if isinstance(folders, (str, Path)) or not folders:
        raise RequestError("report: no runs given; give at least one run folder, in a list")
    asked = [Path(folder) for folder in folders]
    asked = [asked[place] for place in in_natural_order(unique_names(asked))]
    runs = open_runs(asked, split, text)
    numbers = {"iw_samples": iw_samples, "iw_sentences": iw_sentences, "seed": seed}
    reports = []
    labels: Labels = {}
    told = of_part(progress, "drawing")
    for place, member in enumerate(members(runs, split, numbers, again, progress)):
        trained = open_run(member.run)
        reports.append(run_report(trained, split, {**member.more, **member.scores}, seed, member.name))
        labels = labels or labels_of(trained, split, seed)
        if told is not None:
            told(place + 1, len(runs))
    names = ", ".join(one.name for one in reports)
    write_report(Path(out), f"{names}: {split} split", labelled(reports, labels))
