"""Runs side by side: one table, training curves and the rate-distortion plane.

The function is `textvae.compare`; a module of that name would take its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textvae.comparison import figures, latex, sweep, tables
from textvae.comparison.members import Member, in_natural_order, members, open_runs, same_folder, unique_names
from textvae.comparison.methods import differences
from textvae.comparison.rows import Row, check_names, rows_of
from textvae.errors import RequestError
from textvae.files import replacing, write_json, write_text, writing
from textvae.progress import PartProgress

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Runs that were scored on the same split of the same data.

    `rows` are the table's, a run each, or with `by_seed` the runs that only the seed tells apart. `baseline` names
    the row that NLLs are relative to, `speed_of` the one that speeds are; None where there is none. `notes` say
    what the table's labels mean and what in it cannot be compared as it stands.
    """

    split: str
    rows: tuple[Row, ...]
    baseline: str | None
    speed_of: str | None
    by_seed: bool
    notes: tuple[str, ...]
    members: tuple[Member, ...]

    def table(self) -> list[list[str]]:
        """Return the table as text cells, the head first; nats per sentence, a dash where there is no number.

        Of the scores that were asked for by name where there are any.
        """
        return tables.cells(self.rows, self.by_seed)

    def document(self) -> dict[str, Any]:
        """Everything as plain values for JSON: rows, signatures, versions, and what the settings differ in."""
        return {
            "split": self.split,
            "by_seed": self.by_seed,
            "baseline": self.baseline,
            "speed_of": self.speed_of,
            "reasons": self._reasons(),
            "rows": [row.document() for row in self.rows],
            "notes": list(self.notes),
            "runs": {member.name: member.document() for member in self.members},
            "differences": differences(self.members),
        }

    def _reasons(self) -> dict[str, str]:
        """Return the reasons for missing reference rows, and for settings that a run does not have."""
        found = {}
        if self.baseline is None:
            found["baseline"] = "no run is a language model, and --baseline was not given, or its NLL is null"
        if self.speed_of is None:
            found["speed_of"] = "the training log of the run that speeds would be relative to has none"
        if any(value is None for own in differences(self.members).values() for value in own.values()):
            found["differences"] = "the settings of the run have no such entry, or leave it open"
        return found

    def csv(self) -> str:
        """Return the rows as CSV with a head, numbers in full precision, empty where there is none."""
        return tables.csv_text(self.rows, self.by_seed)

    def markdown(self) -> str:
        """Return the table and its notes for a Markdown page."""
        return tables.markdown(self.table(), self.notes)

    def latex(self) -> str:
        """Return the table for a LaTeX document, as `latex.table`."""
        return latex.table(self.rows, self.by_seed, self.split, self.notes)

    def write(self, folder: Path | str) -> list[Path]:
        """Write comparison.json, .csv, .md and figures into a folder; the files written.

        curves.png has the training, rate-distortion.png the plane, and sweep.png, of runs that one number of the
        settings tells apart, scores over that number. A figure that no run has numbers for is left out.

        Raises:
            WorkError: when the folder cannot be written.
        """
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "comparison.json", self.document())
        write_text(folder / "comparison.csv", self.csv())
        write_text(folder / "comparison.md", self.markdown())
        written = [folder / f"comparison.{kind}" for kind in ("json", "csv", "md")]
        places = {member.name: place for place, row in enumerate(self.rows) for member in row.members}
        one = sweep.sweep_of(self.members)
        drawn = {
            "curves.png": figures.curves(self.members, places, [row.name for row in self.rows]),
            "rate-distortion.png": figures.rate_distortion(self.rows, sweep.curve(one, self.rows) if one else ()),
            "sweep.png": sweep.draw(one, self.rows) if one else None,
        }
        for name, figure in drawn.items():
            if figure is not None:
                with replacing(folder / name) as file:
                    file.write(figures.png(figure))
                written.append(folder / name)
        return written


def compare(
    folders: Sequence[Path | str],
    split: str = "test",
    *,
    baseline: Path | str | None = None,
    by_seed: bool = False,
    iw_samples: int | str = "auto",
    iw_sentences: int | None | str = "auto",
    seed: int = 0,
    again: bool = False,
    scores: Sequence[str] = (),
    text: Path | str | None = None,
    prior: str | None = None,
    progress: PartProgress | None = None,
) -> Comparison:
    """Compare finished runs on a split of the data that they share, in the order given, C3 before C12.

    A run's `evaluation/SPLIT.json` is used as it is; where there is none, or with `again`, it is evaluated with
    `iw_samples`, `iw_sentences` and `seed`, as `textvae evaluate` does; "auto" numbers are the same for all runs:
    those of the evaluations that are there, if they agree, else the least of the runs' own. NLLs are relative to
    `baseline`, a run that is added to the others if it is not among them, else to the first language model; speeds
    to the first run of plain KL at weight 1 with a Gaussian posterior, else to the first of all. With `by_seed`,
    runs whose settings differ in `train.seed` alone make one row: mean and standard deviation. `scores` are numbers
    of the evaluations that the table shows instead of its own, by their path, those of `evaluate --all` too:
    `kl_moment_matched`, `generated.greedy.scores.self-bleu-4`. `text` is where the runs' text is, as in `Run.open`.
    A run in which `fit_prior` has kept a prior is scored under its own prior and, in a row of its own, under that
    one, by `fitted/evaluation/SPLIT.json`; with a `prior` as in `Run.under` under that alone.

    Raises:
        RequestError: when there is no run, a folder is no finished run or comes twice, an evaluation is damaged,
            a run has no fitted prior where that is asked for, no run has one of the scores, or the runs are of
            different data.
        WorkError: when an evaluation cannot be written.
    """
    if isinstance(folders, (str, Path)) or not folders:
        raise RequestError("compare: no runs given; give at least one run folder, in a list")
    asked = [Path(folder) for folder in folders]
    if baseline is not None and not any(same_folder(Path(baseline), folder) for folder in asked):
        asked.append(Path(baseline))
    asked = [asked[place] for place in in_natural_order(unique_names(asked))]
    numbers = {"iw_samples": iw_samples, "iw_sentences": iw_sentences, "seed": seed}
    runs = open_runs(asked, split, text, prior)
    check_names(runs, split, scores, again)  # before any is evaluated, which takes minutes
    found = members(runs, split, numbers, again, progress)
    chosen = None if baseline is None else next(m for m in found if same_folder(m.run.folder, Path(baseline)))
    rows, baseline_row, speed_row = rows_of(found, chosen, by_seed, scores)
    return Comparison(
        split=split,
        rows=tuple(rows),
        baseline=None if baseline_row is None else baseline_row.name,
        speed_of=None if speed_row is None else speed_row.name,
        by_seed=by_seed,
        notes=tuple(tables.notes(rows, baseline_row, speed_row, by_seed)),
        members=tuple(found),
    )
