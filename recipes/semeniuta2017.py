"""The figures of Semeniuta et al. 2017 on Penn Treebank's characters: each trained, measured and drawn.

    TEXTVAE_DATA=CORPORA python recipes/semeniuta2017.py 3 [--processes 2] [--lengths 20 30] [--steps 2000]

Figures 3, 4, 5 and 6; settings and rows are in `semeniuta2017.toml`, smaller than the paper's. Texts are pieces of
a fixed length cut at random positions of the running text; validation scores every character once. Runs go to
`runs/semeniuta2017/`, finished ones are used again, unfinished ones are gone on with. The figure and its numbers
go to `results/semeniuta2017/`. Bits per character are nats / ln 2 / characters; cost is the bound, at KL weight 1
and without the auxiliary part.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from running import Job, done, slug

HERE = Path(__file__).parent
# Of the KL's weight, once the unregularised model has converged; from a row's `floor`, or that of hybrids.
RISE = "{{schedule='linear', start={}, end=1.0, delay=0.35, steps=0.35, unit='run'}}"
FLOOR = 0.001
SCORES = ("bound", "kl", "reconstruction")
COLOURS = ("#1f6feb", "#d1493f", "#2b8a3e", "#8a5cd6", "#b7791f", "#0f7b8a")


class Cell(NamedTuple):
    """A run of a figure: its row, the length of its texts, the value of what is varied, and its seed."""

    row: str
    length: int
    value: float | None
    seed: int
    job: Job


def cells(plan: Mapping[str, Any], asked: argparse.Namespace) -> Iterator[Cell]:
    """The runs of a figure."""
    figure = plan["figures"][asked.figure]
    ((path, values),) = figure.get("over", {None: [None]}).items()
    for seed in asked.seeds:
        for name, row in figure["rows"].items():
            for length in asked.lengths or figure["lengths"]:
                for value in values:
                    yield Cell(name, length, value, seed, job_of(plan, asked, name, row, length, path, value, seed))


def job_of(
    plan: Mapping[str, Any],
    asked: argparse.Namespace,
    name: str,
    row: Mapping[str, Any],
    length: int,
    path: str | None,
    value: float | None,
    seed: int,
) -> Job:
    """One run; its folder's name says what sets it apart within a figure."""
    settings = plan["settings"]
    model = {**settings["model"], "decoder": plan["decoders"][row["decoder"]]}
    if "encoder" in row:
        model["encoder"] = plan["encoders"][row["encoder"]]
    train = {**settings["train"], "seed": seed}
    if asked.steps:
        train["max_steps"] = asked.steps
    tables = {"data": {**settings["data"], "window": length}, "model": model, "train": train}
    given = list(row.get("set", ()))
    if row.get("anneal"):
        given.append(f"objective.kl.weight={RISE.format(row.get('floor', FLOOR))}")
    elif not any(one.startswith(("objective.kl.weight", "model.latent=0")) for one in given):
        given.append("objective.kl.weight=1.0")
    if "hidden" in row:
        if str(length) not in row["hidden"]:
            known = ", ".join(row["hidden"])
            sys.exit(
                f"{name}: no size for {length} characters in semeniuta2017.toml, only for {known}; add it there"
            )
        given += [f"model.{side}.hidden={row['hidden'][str(length)]}" for side in ("encoder", "decoder")]
    if path is not None:
        given.append(f"{path}={value}")
    place = Path("runs/semeniuta2017") / "-".join(map(str, (asked.figure, slug(name), length, value, seed)))
    return Job(place, None, tuple(given), tables, "valid", iw_samples=1, iw_sentences=1)


def measured(cell: Cell) -> dict[str, Any]:
    """The numbers of one run: bits per character of the whole cost, of the KL and of reconstruction."""
    from textvae.metrics.likelihood import bits_per_character

    scores = json.loads((cell.job.folder / "evaluation" / "valid.json").read_text())
    bits = bits_per_character(float(scores["sentences"]), scores["tokens"])  # of a nat per text
    found = {
        name: None if scores[name] is None else scores[name] * bits for name in ("bound", "kl", "reconstruction")
    }
    log = [json.loads(line) for line in (cell.job.folder / "log.jsonl").read_text().splitlines()]
    curves = {
        split: [[record["step"], record["reconstruction"] * bits] for record in log if record["split"] == split]
        for split in ("train", "valid")
    }
    return {
        "row": cell.row,
        "length": cell.length,
        "value": cell.value,
        "seed": cell.seed,
        **{f"{name}_bits_per_character": value for name, value in found.items()},
        "shuffle_gap": scores["shuffle_gap"],
        "active_units": scores["active_units"],
        "signature": scores["signature"],
        "curves": curves,
    }


def drawn(figure: str, plan: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The figure: curves over updates for 3, the cost (solid) and its KL (dashed) for the others."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from textvae.files import replacing

    if figure == "3":
        panels, axes = pyplot.subplots(1, len({row["length"] for row in rows}), figsize=(13, 3.6), squeeze=False)
        for place, length in zip(axes[0], sorted({row["length"] for row in rows}), strict=True):
            chosen = [row for row in rows if row["length"] == length]
            for row, colour in zip(chosen, COLOURS, strict=False):
                for split, line in (("train", "-"), ("valid", "--")):
                    steps, bits = zip(*row["curves"][split], strict=True)
                    place.plot(steps, bits, line, color=colour, label=row["row"] if split == "train" else None)
            place.set_title(f"{length} characters")
            place.set_xlabel("updates")
            place.set_ylim(bottom=0)
        axes[0][0].set_ylabel("reconstruction, bits per character")
        axes[0][0].legend(fontsize=8)
    else:
        panels, place = pyplot.subplots(figsize=(6.4, 4.2))
        by = "length" if figure == "4" else "value"
        for name, colour in zip(plan["figures"][figure]["rows"], COLOURS, strict=False):
            chosen = sorted((row for row in rows if row["row"] == name), key=lambda row: row[by])
            at = [row[by] for row in chosen]
            place.plot(at, [row["bound_bits_per_character"] for row in chosen], "o-", color=colour, label=name)
            if all(row["kl_bits_per_character"] is not None for row in chosen):
                place.plot(at, [row["kl_bits_per_character"] for row in chosen], "o--", color=colour)
        place.set_xlabel({"4": "characters", "5": "α", "6": "masked layers"}[figure])
        place.set_ylabel("bits per character: cost (solid), KL (dashed)")
        place.set_ylim(bottom=0)
        place.legend(fontsize=8)
    panels.tight_layout()
    with replacing(out) as file:
        panels.savefig(file, format="png", dpi=120)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The numbers as text."""
    lines = [f"{'row':<20} {'length':>6} {'value':>6} {'seed':>4} {'cost':>7} {'KL':>7} {'rec.':>7} {'gap':>8}"]
    for row in rows:
        numbers = (row[f"{name}_bits_per_character"] for name in SCORES)
        shown = " ".join(f"{'–' if number is None else format(number, '.3f'):>7}" for number in numbers)
        gap = "–" if row["shuffle_gap"] is None else f"{row['shuffle_gap']:.2f}"
        value = "–" if row["value"] is None else f"{row['value']:g}"
        lines.append(f"{row['row']:<20} {row['length']:>6} {value:>6} {row['seed']:>4} {shown} {gap:>8}")
    return "\n".join(lines)


def main() -> int:
    """Do all runs of a figure, draw it and write its numbers; 1 if a run failed."""
    plan = tomllib.loads((HERE / "semeniuta2017.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=plan["figures"])
    parser.add_argument("--lengths", nargs="+", type=int)
    parser.add_argument("--steps", type=int, help="updates of a run; those of the settings if not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/semeniuta2017"))
    asked = parser.parse_args()
    planned = list(cells(plan, asked))
    failed = done([cell.job for cell in planned], asked.processes)
    wrong = {problem.partition(":")[0] for problem in failed}
    rows = [measured(cell) for cell in planned if cell.job.folder.name not in wrong]
    if rows:
        from textvae.files import write_json
        from textvae.run.hardware import machine

        asked.out.mkdir(parents=True, exist_ok=True)
        drawn(asked.figure, plan, rows, asked.out / f"figure{asked.figure}.png")
        about = plan["figures"][asked.figure]["about"]
        document = {
            "about": about,
            "scale": "cpu",
            "settings": {**plan["settings"], "train": planned[0].job.tables["train"]},
            "machine": machine(),
            "rows": rows,
        }
        write_json(asked.out / f"figure{asked.figure}.json", document)
        print(table(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
