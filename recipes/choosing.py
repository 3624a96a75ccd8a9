"""Train `auto` and its rivals on eight kinds of text: what codes keep, likelihood, samples and time of each.

    python recipes/choosing.py [CORPUS ...] [--methods auto vanilla ...] [--seeds 0] [--processes 2] [--minutes 60]

Corpora, methods and epochs are in `choosing.toml`. Tokenizer and sizes are those that `auto` chooses for the text,
and a prior is fitted at the end, for all methods alike. Runs go to `runs/choosing/CORPUS/METHOD-SEED`: finished
ones are used again, unfinished ones are gone on with. Each process has one thread. The numbers of all finished
runs are put into `results/choosing/rows.json`, beside those that were measured before. Corpora other than
`grammar` are read from the folder that TEXTVAE_DATA names.
"""

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from running import Job, done, parser_of, texts_of

HERE = Path(__file__).parent
OUT = Path("results/choosing")
# What is measured of a run, in its folder.
RESULT = "choosing.json"
# Importance samples, sentences.
IW = (100, 500)
OF_DIAGNOSIS = (
    "collapsed", "content_words_kept", "content_words_kept_by_chance", "neighbour_label_agreement",
    "distinct_samples", "looping_samples", "unknown_tokens",
)  # fmt: skip
OF_SCORES = (
    "reconstruction", "kl", "rate_kind", "bound", "bound_iw_sentences", "nll_iw", "nll_iw_standard_error",
    "shuffle_gap", "mutual_information", "prior", "signature",
)  # fmt: skip

Rows = dict[str, dict[str, dict[str, dict[str, Any]]]]  # corpus, method, seed, number


def main() -> int:
    """Do all runs that were asked for; 1 if one of them failed."""
    plan = tomllib.loads((HERE / "choosing.toml").read_text(encoding="utf-8"))
    parser = parser_of(__doc__, plan["corpora"], Path("runs/choosing"))
    parser.add_argument("--methods", nargs="+", choices=plan["methods"], default=list(plan["methods"]))
    asked = parser.parse_args()
    corpora = asked.corpora or list(plan["corpora"])
    from textvae.settings import merge

    jobs = []
    for seed in asked.seeds:
        for name in corpora:
            tables = merge(chosen(plan["corpora"][name], asked.runs / name), plan["settings"])
            for method in asked.methods:
                own = plan["methods"][method]
                assignments = (*own.get("set", ()), f"train.seed={seed}")
                folder = asked.runs / name / f"{method}-{seed}"
                jobs.append(Job(folder, own["method"], assignments, tables, "test", *IW, judge, RESULT))
    failed = done(jobs, asked.processes, asked.minutes)
    rows = joined(asked.runs, plan)
    from textvae.files import write_json

    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "rows.json", rows)
    for corpus in corpora:
        print(f"{corpus}\n{table(rows.get(corpus, {}))}\n")
    return 1 if failed else 0


def chosen(corpus: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return tables of settings: the text, and what `auto` chooses for it."""
    from textvae.settings import Data, merge
    from textvae.text.corpus import training_texts
    from textvae.training.choice import choose

    data = texts_of(corpus, folder / "text")
    choice = choose(training_texts(Data(**data)))
    return merge(choice.document, {"data": data, "train": {"fit_prior": True}})


def judge(run: Any, job: Job, seconds: float | None) -> None:
    """Write the numbers of a run on its test split, under its usual prior, and how long training took."""
    from textvae.evaluation.diagnose import diagnose
    from textvae.evaluation.evaluate import evaluate
    from textvae.files import write_json

    found = diagnose(run, job.split).document()
    scores = evaluate(run, job.split, job.iw_samples, job.iw_sentences)
    values = {name: found.get(name) for name in OF_DIAGNOSIS} | {name: scores.get(name) for name in OF_SCORES}
    machine = {name: run.environment.get(name) for name in ("device", "torch", "textvae")}
    write_json(job.folder / RESULT, {**values, **machine, "seconds": seconds})


def joined(folder: Path, plan: Mapping[str, Any]) -> Rows:
    """Return earlier numbers with those of the finished runs in their place, in the order of the plan."""
    path = OUT / "rows.json"
    rows: Rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for judged in sorted(folder.glob(f"*/*/{RESULT}")):
        method, _, seed = judged.parent.name.rpartition("-")
        numbers = json.loads(judged.read_text(encoding="utf-8"))
        rows.setdefault(judged.parents[1].name, {}).setdefault(method, {})[seed] = numbers
    return {
        corpus: {method: rows[corpus][method] for method in plan["methods"] if method in rows[corpus]}
        for corpus in plan["corpora"]
        if corpus in rows
    }


def table(methods: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the table of a corpus: a line for each run; nats per sentence, shares from 0 to 1."""
    head = ("run", "KL", "gap", "bound", "NLL", "content", "by chance", "label", "distinct", "minutes")
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for method, seeds in methods.items():
        for seed, one in seeds.items():
            agreement = [own["agreement"] for own in (one["neighbour_label_agreement"] or {}).values()]
            numbers = [
                (one["kl"], 2), (one["shuffle_gap"], 2), (one["bound_iw_sentences"], 2), (one["nll_iw"], 2),
                (one["content_words_kept"], 3), (one["content_words_kept_by_chance"], 3),
                (agreement[0] if agreement else None, 2), (one["distinct_samples"], 0),
                (one["seconds"] and one["seconds"] / 60, 1),
            ]  # fmt: skip
            cells = [f"{method}-{seed}", *("–" if x is None else f"{x:.{digits}f}" for x, digits in numbers)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
