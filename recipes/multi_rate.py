"""Compare the rate-distortion curve of one multi-rate run with that of separate runs, one for each KL weight.

    python recipes/multi_rate.py [grammar] [short-reviews] [--seeds 0 1] [--processes 2] [--minutes 60]

Sizes, weights and epochs are in `multi_rate.toml`. Runs go to `runs/multi-rate/CORPUS/NAME-SEED`: finished ones are
used again, unfinished ones are gone on with; each process has one thread. R, D and D + beta R of the test split go
to `results/multi-rate/rows.json` and, as a table, to `results/multi-rate/CORPUS.md`.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from running import Job, done, parser_of, texts_of

HERE = Path(__file__).parent
OUT = Path("results/multi-rate")
RESULT = "multi-rate.json"


def main() -> int:
    """Do all runs that were asked for; 1 if one of them failed."""
    plan = tomllib.loads((HERE / "multi_rate.toml").read_text(encoding="utf-8"))
    asked = parser_of(__doc__, plan["corpora"], Path("runs/multi-rate")).parse_args()
    corpora = asked.corpora or list(plan["corpora"])
    jobs = [job for name in corpora for seed in asked.seeds for job in jobs_of(plan, name, seed, asked.runs / name)]
    failed = done(jobs, asked.processes, asked.minutes)
    from textvae.files import write_json, write_text

    OUT.mkdir(parents=True, exist_ok=True)
    rows = joined(asked.runs)
    write_json(OUT / "rows.json", rows)
    for corpus in corpora:
        write_text(OUT / f"{corpus}.md", table(rows.get(corpus, {})) + "\n")
        print(f"{corpus}\n{table(rows.get(corpus, {}))}\n")
    return 1 if failed else 0


def jobs_of(plan: dict[str, Any], name: str, seed: int, folder: Path) -> list[Job]:
    """Return the runs of a corpus and seed: the one of many weights, and those of one each."""
    corpus = plan["corpora"][name]
    data = texts_of(corpus, folder / "text") if "first" in corpus else {"corpus": corpus["corpus"]}
    tables = {"data": data, "model": corpus["model"]}
    common = (f"train.seed={seed}", "train.optimizer.lr=0.002", "train.batch_size=32")
    epochs = (f"train.epochs={round(corpus['epochs'] * plan['share'])}", f"train.epochs={corpus['epochs']}")
    many = Job(folder / f"many-{seed}", "multi-rate", (*common, epochs[0]), tables, judge=judge, result=RESULT)
    one_each = [
        Job(
            folder / f"beta-{beta:g}-{seed}",
            "beta",
            (*common, epochs[1], f"objective.kl.weight={beta}"),
            tables,
            judge=judge,
            result=RESULT,
        )
        for beta in plan["betas"]
    ]
    return [many, *one_each]


def judge(run: Any, job: Job, seconds: float | None) -> None:
    """Write rate and distortion of a run on its test split by KL weight, and how long training took."""
    from textvae.files import write_json
    from textvae.inference import score
    from textvae.run.data import corpus_of
    from textvae.run.rates import measure

    if run.settings.model.multi_rate is not None:
        points = measure(run, "test")["points"]
    else:
        scores = score(run.model(), corpus_of(run).split("test"))
        rate, reconstruction = scores.rate.mean().item(), scores.reconstruction.mean().item()
        beta = run.settings.objective["kl"].weight.final
        points = [
            {"beta": beta, "rate": rate, "reconstruction": reconstruction, "loss": reconstruction + beta * rate}
        ]
    machine = {name: run.environment.get(name) for name in ("device", "torch", "textvae")}
    write_json(job.folder / RESULT, {"points": points, **machine, "seconds": seconds})


def joined(folder: Path) -> dict[str, dict[str, Any]]:
    """Return earlier numbers with those of the finished runs in their place: corpus, run, what was measured."""
    path = OUT / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for judged in sorted(folder.glob(f"*/*/{RESULT}")):
        numbers = json.loads(judged.read_text(encoding="utf-8"))
        rows.setdefault(judged.parents[1].name, {})[judged.parent.name] = numbers
    return rows


def table(runs: dict[str, Any]) -> str:
    """Return the table of a corpus: a line for each weight and seed; nats per sentence."""
    same = ("R, one each", "R, many", "D, one each", "D, many", "D + βR, one each", "D + βR, many", "difference")
    rows = []
    for name, own in runs.items():
        seed = name.rpartition("-")[2]
        if name.startswith("many") or f"many-{seed}" not in runs:
            continue
        alone = own["points"][0]
        many = min(runs[f"many-{seed}"]["points"], key=lambda point: abs(point["beta"] / alone["beta"] - 1))
        pairs = [f"{one[part]:.2f}" for part in ("rate", "reconstruction", "loss") for one in (alone, many)]
        cells = [f"{alone['beta']:g}", seed, *pairs, f"{many['loss'] / alone['loss'] - 1:+.1%}"]
        rows.append((alone["beta"], f"| {' | '.join(cells)} |"))
    head = ("β", "seed", *same)
    lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head), *(row for _, row in sorted(rows))]
    seconds = [
        f"{name}: {own['seconds']:.0f} s" for name, own in sorted(runs.items()) if own["seconds"] is not None
    ]
    return "\n".join([*lines, "", f"Processor time of training: {', '.join(seconds)}."])


if __name__ == "__main__":
    sys.exit(main())
