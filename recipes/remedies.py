"""Train, evaluate and compare every remedy for posterior collapse on one corpus, on equal terms.

    python recipes/remedies.py grammar [--rows vanilla capacity-15 ...] [--seeds 0 1 2] [--processes 2]

The rows and the corpora's settings are in `remedies.toml`. Runs go to `runs/remedies/CORPUS/ROW-SEED`; finished
ones are used again, unfinished ones are gone on with. Each process has one thread. At the end all finished runs are
compared into `results/remedies-CORPUS/`. Corpora other than `grammar` are read from the folder that TEXTVAE_DATA
names.
"""

import argparse
import multiprocessing
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> int:
    """Do all rows that were asked for; 1 if one of them failed."""
    plan = tomllib.loads((HERE / "remedies.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=plan["corpora"])
    parser.add_argument("--rows", nargs="+", choices=plan["rows"], default=list(plan["rows"]), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/remedies"))
    parser.add_argument("--out", type=Path, help="where the comparison goes; results/remedies-CORPUS if not given")
    asked = parser.parse_args()
    corpus, folder = plan["corpora"][asked.corpus], asked.runs / asked.corpus
    rows = {row: plan["rows"][row] for row in asked.rows}
    jobs = [(folder / f"{name}-{seed}", corpus, row, seed) for seed in asked.seeds for name, row in rows.items()]
    context = multiprocessing.get_context("spawn")
    with context.Pool(asked.processes, maxtasksperchild=1) as pool:
        failed = [job for job in pool.imap(_done, jobs, chunksize=1) if job]
    for job in failed:
        print(f"failed: {job}", file=sys.stderr)

    import textvae

    finished = [path for path in sorted(folder.iterdir()) if (path / "evaluation" / "test.json").exists()]
    found = textvae.compare(finished, by_seed=len(asked.seeds) > 1)
    found.write(asked.out or Path(f"results/remedies-{asked.corpus}"))
    print(found.markdown())
    return 1 if failed else 0


def _done(job: tuple[Path, dict[str, Any], dict[str, Any], int]) -> str | None:
    """Train and evaluate one run, unless that has been done; what went wrong, if something did."""
    import torch

    from textvae.errors import RequestError, WorkError
    from textvae.evaluate import evaluate
    from textvae.objective import load_settings
    from textvae.training import resume, train

    folder, corpus, row, seed = job
    torch.set_num_threads(1)
    if (folder / "evaluation" / "test.json").exists():
        return None
    try:
        if (folder / "environment.json").exists():
            resume(folder)
        else:
            assignments = [*row.get("set", []), f"train.seed={seed}"]
            train(load_settings(None, row["method"], assignments, **corpus["settings"]), folder)
        evaluate(folder, "test", corpus["iw_samples"], corpus["iw_sentences"])
    except (RequestError, WorkError) as error:
        return f"{folder.name}: {error}"
    except Exception:
        return f"{folder.name}: {traceback.format_exc()}"
    print(f"done: {folder.name}", file=sys.stderr, flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
