"""Train, evaluate and compare every remedy for posterior collapse on one corpus, on equal terms.

    python recipes/remedies.py grammar [--rows vanilla capacity-15 ...] [--seeds 0 1 2] [--processes 2]

The rows and the corpora's settings are in `remedies.toml`. Runs go to `runs/remedies/CORPUS/ROW-SEED`; finished
ones are used again, unfinished ones are gone on with. Each process has one thread. The numbers of all finished runs
are put into `results/remedies-CORPUS/rows.json`, beside those that were measured before, on this machine or on
another; `table.md` and `rate-distortion.png` are made from that file. What `textvae compare` makes of the runs that
are here goes to `runs/remedies/CORPUS-comparison`. Corpora other than `grammar` are read from the folder that
TEXTVAE_DATA names.
"""

import argparse
import json
import statistics
import sys
import tomllib
from collections.abc import Mapping
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from running import Job, done

HERE = Path(__file__).parent
DASH = "–"
# Of a comparison's columns those that tell of other runs than the row's.
RELATIVE = ("nll_relative_percent", "relative_speed")
# Of the row's name on the left, one or two numbers on the right.
HEAD = ("row", "seeds", "reconstruction", "KL", "MI", "shuffle gap", "active", "NLL", "against the LM", "speed")

Rows = dict[str, dict[str, dict[str, Any]]]  # row, seed, number


def main() -> int:
    """Do all rows that were asked for; 1 if one of them failed."""
    plan = tomllib.loads((HERE / "remedies.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=plan["corpora"])
    parser.add_argument("--rows", nargs="+", choices=plan["rows"], default=list(plan["rows"]), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin no run after so long")
    parser.add_argument("--no-speed", action="store_true", help="keep no speeds: other programs ran meanwhile")
    parser.add_argument("--runs", type=Path, default=Path("runs/remedies"))
    parser.add_argument("--out", type=Path, help="where the results go; results/remedies-CORPUS if not given")
    asked = parser.parse_args()
    corpus, folder = plan["corpora"][asked.corpus], asked.runs / asked.corpus
    given = corpus["settings"]
    if "first" in corpus:
        given = {**given, "data": {**given["data"], **shortened(asked.corpus, corpus["first"], folder / "text")}}
    jobs = []
    for seed in asked.seeds:
        for name in asked.rows:
            row = plan["rows"][name]
            assignments = (*row.get("set", ()), f"train.seed={seed}")
            samples, sentences = corpus["iw_samples"], corpus["iw_sentences"]
            jobs.append(
                Job(folder / f"{name}-{seed}", row["method"], assignments, given, "test", samples, sentences)
            )
    failed = done(jobs, asked.processes, asked.minutes)

    out = asked.out or Path(f"results/remedies-{asked.corpus}")
    earlier = json.loads((out / "rows.json").read_text(encoding="utf-8")) if (out / "rows.json").exists() else {}
    rows = joined(earlier, measured(folder, not asked.no_speed), plan["rows"])
    from textvae.comparison.figures import png
    from textvae.files import replacing, write_json, write_text

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "rows.json", rows)
    write_text(out / "table.md", markdown(rows))
    figure = plane_of(rows)
    if figure is not None:
        with replacing(out / "rate-distortion.png") as file:
            file.write(png(figure))
    print(markdown(rows))
    return 1 if failed else 0


def shortened(corpus: str, first: Mapping[str, int], folder: Path) -> dict[str, str]:
    """The files of the first so many sentences of each split, by split."""
    from textvae.files import write_text
    from textvae.text import registry
    from textvae.text.readers import read

    folder.mkdir(parents=True, exist_ok=True)
    splits = registry.files(corpus)
    found = {}
    for split, count in first.items():
        texts = [sentence.text for sentence in islice(read(splits[split]), count)]
        write_text(folder / f"{split}.txt", "\n".join(texts) + "\n")
        found[split] = str(folder / f"{split}.txt")
    return found


def measured(folder: Path, speed: bool = True) -> Rows:
    """The numbers of every finished run of a corpus, and where they were measured; speeds only if asked for."""
    import textvae

    ready = [path for path in sorted(folder.iterdir()) if (path / "evaluation" / "test.json").exists()]
    if not ready:
        return {}
    found = textvae.compare(ready)
    found.write(folder.with_name(f"{folder.name}-comparison"))
    rows: Rows = {}
    for row in found.rows:
        name, _, seed = row.name.rpartition("-")
        run = row.members[0]
        about = {name: run.run.environment.get(name) for name in ("device", "threads", "torch", "textvae")}
        numbers = {name: value for name, value in row.values.items() if name not in RELATIVE}
        if not speed:
            numbers["tokens_per_second"] = None
        signature = {"signature": run.scores.get("signature"), "precision": run.run.settings.train.precision}
        rows.setdefault(name, {})[seed] = {"method": row.method, **numbers, **signature, **about}
    return rows


def joined(earlier: Rows, new: Rows, order: Mapping[str, Any]) -> Rows:
    """Earlier numbers with new ones in their place, in the order of the plan; a row that it has no more goes."""
    both = {name: {**earlier.get(name, {}), **new.get(name, {})} for name in order}
    return {name: dict(sorted(seeds.items())) for name, seeds in both.items() if seeds}


def markdown(rows: Rows) -> str:
    """The table: means over seeds and, of several, their standard deviation; nats per sentence."""
    baseline = mean(rows, "language-model", "nll")
    lines = [f"| {' | '.join(HEAD)} |", "|---|" + "---:|" * (len(HEAD) - 1)]
    for name, seeds in rows.items():
        one = next(iter(seeds.values()))
        kind = "" if one["rate_kind"] in (None, "exact") else f" ({one['rate_kind']})"
        nll = mean(rows, name, "nll")
        worse = DASH if nll is None or baseline is None else f"{round(100 * (nll / baseline - 1), 1) + 0.0:+.1f} %"
        active = " / ".join(spread(seeds, f"active_units_{at}", 0) for at in ("0.01", "0.2"))
        cells = [
            name,
            str(len(seeds)),
            spread(seeds, "reconstruction"),
            spread(seeds, "kl") + kind,
            information(seeds),
            spread(seeds, "shuffle_gap"),
            DASH if DASH in active else active,
            spread(seeds, "nll"),
            worse,
            speed(rows, name),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def mean(rows: Rows, name: str, column: str) -> float | None:
    """A number's mean over a row's seeds; None if one has none."""
    found = [numbers[column] for numbers in rows.get(name, {}).values()]
    return statistics.fmean(found) if found and None not in found else None


def spread(seeds: Mapping[str, Mapping[str, Any]], column: str, digits: int = 2) -> str:
    """Mean and standard deviation over seeds, as text."""
    found = [numbers[column] for numbers in seeds.values()]
    if None in found:
        return DASH
    behind = f" ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{round(statistics.fmean(found), digits) + 0.0:.{digits}f}{behind}"  # never -0.00


def information(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """MI as `spread`; by two estimates where one is from below and one from above, if both are there."""
    from textvae.metrics.information import estimates

    value, lower = spread(seeds, "mutual_information"), "mutual_information_lower"
    both = all(numbers.get(lower) is not None for numbers in seeds.values())
    upper = any(numbers["rate_kind"] == "upper" for numbers in seeds.values())
    return value if value == DASH else estimates(value, spread(seeds, lower) if both else None, upper)


def speed(rows: Rows, name: str) -> str:
    """Tokens a second relative to vanilla on the same machine, the median over seeds; a dash if it ran nowhere."""

    def machine(numbers: Mapping[str, Any]) -> tuple[Any, ...]:
        return numbers["device"], numbers["threads"], numbers["precision"]

    vanilla: dict[tuple[Any, ...], list[float]] = {}
    for numbers in filter(itemgetter("tokens_per_second"), rows.get("vanilla", {}).values()):
        vanilla.setdefault(machine(numbers), []).append(numbers["tokens_per_second"])
    ratios = [
        numbers["tokens_per_second"] / statistics.median(vanilla[machine(numbers)])
        for numbers in rows[name].values()
        if machine(numbers) in vanilla and numbers["tokens_per_second"]
    ]
    return f"{statistics.median(ratios):.2f}" if ratios else DASH


def plane_of(rows: Rows) -> Any:
    """Rate against distortion, a point a run; None where no run has a rate."""
    from textvae.comparison.figures import plane

    points = {
        name: [
            (numbers["kl"] or 0.0, numbers["reconstruction"])
            for numbers in seeds.values()
            if numbers["kl"] is not None or numbers["latent"] is None  # a language model has rate 0
        ]
        for name, seeds in rows.items()
    }
    return plane(list(points.items()), mean(rows, "language-model", "reconstruction"))


if __name__ == "__main__":
    sys.exit(main())
