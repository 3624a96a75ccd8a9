"""Train, evaluate and compare every remedy for posterior collapse on one corpus, on equal terms.

    python recipes/remedies.py grammar [--rows vanilla capacity-15 ...] [--seeds 0 1 2] [--processes 2]

The rows and the corpora's settings are in `remedies.toml`. Runs go to `runs/remedies/CORPUS/ROW-SEED`; finished
ones are used again, unfinished ones are gone on with. Each process has one thread. At the end all finished runs are
compared into `results/remedies-CORPUS/`. Corpora other than `grammar` are read from the folder that TEXTVAE_DATA
names.
"""

import argparse
import sys
import tomllib
from pathlib import Path

from running import Job, done

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
    jobs = []
    for seed in asked.seeds:
        for name in asked.rows:
            row = plan["rows"][name]
            assignments = (*row.get("set", ()), f"train.seed={seed}")
            samples, sentences = corpus["iw_samples"], corpus["iw_sentences"]
            place, tables = folder / f"{name}-{seed}", corpus["settings"]
            jobs.append(Job(place, row["method"], assignments, tables, "test", samples, sentences))
    failed = done(jobs, asked.processes)

    import textvae

    ready = [path for path in sorted(folder.iterdir()) if (path / "evaluation" / "test.json").exists()]
    found = textvae.compare(ready, by_seed=len(asked.seeds) > 1)
    found.write(asked.out or Path(f"results/remedies-{asked.corpus}"))
    print(found.markdown())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
