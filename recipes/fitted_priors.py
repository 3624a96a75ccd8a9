"""Fit a prior to the codes of trained runs, and measure likelihood and samples before and after.

    python recipes/fitted_priors.py FOLDER... [--samples 1000] [--fce] [--processes 2] [--minutes 60]

A FOLDER is a run or a folder of runs, such as `runs/remedies/grammar`; runs that are still training are left out.
The prior is the default of `textvae fit-prior`. The runs stay as they are: priors are fitted in copies of them,
`runs/fitted-priors/SET/RUN`, where SET is named after the last two folders above the runs. What is measured of a
copy, on the test split, is kept in it and used again. The numbers of all copies go to
`results/fitted-priors/rows.json`, beside those that were measured before, and the tables of SET to
`results/fitted-priors/SET-likelihood.md` and `SET-samples.md`. `--fce` adds the forward cross entropy of the runs
that `fitted_priors.toml` names, which has all other numbers. Corpora other than `grammar` are read from the folder
that TEXTVAE_DATA names.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import time
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fitted_priors_page import PRIORS, likelihood_table, samples_table

HERE = Path(__file__).parent
OUT = Path("results/fitted-priors")
# What is measured of a run, in its copy; the forward cross entropy of the runs of a set, in the folder of the set.
RESULT, FCE = "fitted-priors.json", "fce.json"
# What a copy does not take along: only training needs it, or it is measured anew.
LEFT_OUT = ("checkpoint", "evaluation", "fitted", "fce", ".lock", RESULT)

Rows = dict[str, dict[str, dict[str, Any]]]  # set, "runs" and "fce", run, number


class Task(NamedTuple):
    """A run to measure: its folder, that of its copy, importance samples and sentences, and samples to draw."""

    run: Path
    copy: Path
    iw_samples: int
    iw_sentences: int
    samples: int = 1000
    until: float | None = None


def main() -> int:
    """Measure all runs that were asked for; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", type=Path)
    parser.add_argument("--samples", type=int, default=1000, help="sentences drawn of a run by each decoding")
    parser.add_argument("--fce", action="store_true", help="measure forward cross entropy, too")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin no run after so long")
    parser.add_argument("--copies", type=Path, default=Path("runs/fitted-priors"))
    asked = parser.parse_args()
    plan = tomllib.loads((HERE / "fitted_priors.toml").read_text(encoding="utf-8"))
    until = None if asked.minutes is None else time.time() + 60 * asked.minutes
    tasks = [
        Task(run, asked.copies / f"{run.parent.parent.name}-{run.parent.name}" / run.name, **plan["likelihood"])
        for run in runs_of(asked.folders)
    ]
    from textvae.training.launch import end_with_parent

    failed = []
    tasks = [task._replace(samples=asked.samples, until=until) for task in tasks]
    context = multiprocessing.get_context("spawn")
    with context.Pool(asked.processes, end_with_parent, maxtasksperchild=1) as pool:
        for problem in pool.imap(done, tasks, chunksize=1):
            failed += [problem] if problem else []
            write(asked.copies)  # as they come
    if asked.fce:
        for name in sorted({task.copy.parent.name for task in tasks}):
            problem = cross_entropies(asked.copies / name, plan["fce"])
            failed += [problem] if problem else []
    for table in write(asked.copies):
        print(f"{table}\n")
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if failed else 0


def runs_of(folders: Sequence[Path]) -> list[Path]:
    """Return the finished runs that folders are, or hold, sorted by name within each."""
    found = []
    for folder in folders:
        inside = sorted(path.parent for path in folder.absolute().glob("*/environment.json"))
        found += [folder.absolute()] if (folder / "environment.json").exists() else inside
    return [run for run in found if finished(run)]


def finished(run: Path) -> bool:
    """Return True unless the checkpoint of a run says that training goes on."""
    from textvae.training.checkpoint import read_checkpoint

    path = run / "checkpoint" / "last.safetensors"
    return read_checkpoint(path)[2].finished if path.exists() else (run / "model.safetensors").exists()


def done(task: Task) -> str | None:
    """Measure one run, unless that has been done; return what went wrong, if something did."""
    import torch

    from textvae.errors import RequestError, WorkError
    from textvae.files import write_json

    torch.set_num_threads(1)
    if (task.copy / RESULT).exists():
        return None
    if task.until is not None and time.time() > task.until:
        return f"{task.run.name}: not begun, the time was over"
    try:
        shutil.rmtree(task.copy, ignore_errors=True)  # of a measurement that was interrupted
        shutil.copytree(task.run, task.copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        write_json(task.copy / RESULT, measured(task))
    except (RequestError, WorkError) as error:
        return f"{task.run.name}: {error}"
    except Exception:
        return f"{task.run.name}: {traceback.format_exc()}"
    print(f"done: {task.run.name}", file=sys.stderr, flush=True)
    return None


def measured(task: Task) -> dict[str, Any]:
    """Return the numbers of a run under its own prior, and under a fitted one if that is better.

    `mismatch` is KL(q(z) || p), the mean KL less the mutual information. A `change` is the mean difference, after
    less before, over the same sentences; its standard error is that of the differences.
    """
    from textvae.errors import RequestError
    from textvae.evaluation.opened import open_run
    from textvae.run import Run
    from textvae.run.fitting import fit_prior

    run = Run.open(task.copy)
    try:
        fit = fit_prior(run)
        record = {**fit.record(), "kept": fit.kept}
        reason = None if fit.not_kept is None else without_remedy(fit.not_kept, ":")
    except RequestError as error:
        record, reason = None, without_remedy(str(error).removeprefix(f"{task.copy}: "), ";")
    machine = {name: run.environment.get(name) for name in ("device", "torch")}
    found: dict[str, Any] = {
        "posterior": run.settings.model.posterior.name,
        "reason": reason,
        "fit": record,
        **machine,
    }
    if not run.settings.model.latent:
        return found
    opened = {"own": open_run(run, "own")}
    found["own"], before = scores_of(opened["own"], task)
    found |= information_of(opened["own"]) | {"fitted": None}
    known = (found["own"]["kl"], found["mutual_information"])
    found["mismatch"] = None if None in known else known[0] - known[1]
    if reason is None:
        opened["fitted"] = open_run(run, "fitted")
        found["fitted"], after = scores_of(opened["fitted"], task)
        for name, values in before.items():
            found |= change(name, after[name] - values)
        for prior in PRIORS:
            found[prior]["samples"] = samples_of(opened[prior], task.samples)
    return found


def without_remedy(reason: str, mark: str) -> str:
    """Return the first part of a message."""
    return reason.partition(mark)[0]


def change(name: str, difference: Any) -> dict[str, float]:
    """Return the mean of a difference over sentences, with its standard error."""
    from textvae.metrics.likelihood import standard_error

    key = f"{name}_change"
    return {key: difference.mean().item(), f"{key}_standard_error": standard_error(difference)}


def scores_of(trained: Any, task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return scores of the test split under a prior, and bound and NLL of each sentence if it has them."""
    from textvae.evaluation.importance import importance_weights, subset
    from textvae.evaluation.likelihood import Measured
    from textvae.evaluation.values import resolved

    store = trained.corpus.split("test")
    rows = subset(len(store), task.iw_sentences, 0)
    weighted = importance_weights(trained.model, store, rows, task.iw_samples)
    of = Measured(trained, "test", 0, task.iw_samples, rows, weighted)
    kl, bound, nll = of.kl, of.bound, of.nll  # each an Estimate, or Missing
    values = {
        "reconstruction": of.reconstruction,
        "kl": getattr(kl, "value", kl),
        "rate_kind": of.rate_kind,
        "bound": getattr(bound, "value", bound),
        "nll": getattr(nll, "value", nll),
        "nll_standard_error": getattr(nll, "error", nll),
        "nll_kind": of.nll_kind,
        "iw_samples": of.samples,
        "effective_samples_median": of.effective_samples(0.5),
        "iw_sentences": of.iw_sentences,
        "sentences": of.sentences,
        "signature": of.signature,
    }
    numbers, reasons = resolved(values)
    each = {"bound": of.scores.bound, "nll": None if weighted is None else weighted.nll}
    return {**numbers, "reasons": reasons}, {name: one for name, one in each.items() if one is not None}


def information_of(trained: Any) -> dict[str, float | None]:
    """Return the mutual information of sentence and code with the most that its estimate can be.

    It comes by two estimates where the posterior is random itself.
    """
    from textvae.evaluation.latent import Codes
    from textvae.evaluation.values import follow, resolved

    codes = Codes.of(trained, "test", 0)
    paths = {
        "mutual_information": "information.nats",
        "mutual_information_ceiling": "information.ceiling",
        "mutual_information_lower": "information_lower.nats",
    }
    return resolved({name: follow(codes, path) for name, path in paths.items()})[0]


def samples_of(trained: Any, count: int) -> dict[str, dict[str, Any]]:
    """Return scores of sentences drawn from a prior, by decoding; for the grammar also their distance to it."""
    from textvae.evaluation.content import tokenization
    from textvae.evaluation.suite import DECODINGS
    from textvae.metrics.scoring import How, given, score
    from textvae.metrics.truth import true_distance
    from textvae.text import grammar

    found: dict[str, dict[str, Any]] = {}
    for name, decoding in DECODINGS.items():
        texts = trained.sample(count, 0, decoding)
        scores = score(given(texts, how=How(tokenization(trained, texts))), ("self-bleu-4", "repeated"))
        repeated = scores["repeated"].value
        found[name] = {
            "samples": count,
            "distinct": None if repeated is None else 1 - repeated,
            "self_bleu_4": scores["self-bleu-4"].value,
        }
        if trained.corpus.name == "grammar":
            distance = true_distance(texts, grammar.reviews())
            joint = distance.joint
            found[name] |= {
                "inside": distance.inside,
                "kl_grammar_to_samples": None if joint is None else joint.forward,
                "of_true_sentences": None if joint is None else joint.of_true_sentences,
                "joint_of": list(distance.joint_of),
            }
    return found


def cross_entropies(folder: Path, plan: Mapping[str, Any]) -> str | None:
    """Write forward cross entropies of the runs of a set that the plan names; return what went wrong, if anything.

    All runs decode the same draws under both priors, and human text is the same for all.
    """
    import torch

    from textvae.errors import RequestError, WorkError
    from textvae.evaluation.forward import forward_cross_entropy
    from textvae.evaluation.synthetic import Plan
    from textvae.files import write_json
    from textvae.generate.ways import decoding_of
    from textvae.run import Run

    torch.set_num_threads(1)
    there = [folder / name for name in plan["runs"].get(folder.name, ())]
    names = [run.name for run in there if (run / "fitted" / "prior.json").exists()]
    settings = {name: plan[name] for name in ("n", "draws", "vocabulary", "epochs")}
    if not names:
        return None
    runs = [Run.open(folder / name).under(prior) for name in names for prior in PRIORS]
    try:
        found = forward_cross_entropy(runs, folder / "fce", Plan(decoding_of(plan["decoding"]), **settings))
    except (RequestError, WorkError) as error:
        return f"{folder.name}, forward cross entropy: {error}"
    values = [row.mean("nats_per_sentence") for row in found.rows]
    pairs = [dict(zip(PRIORS, values[at : at + 2], strict=True)) for at in range(0, len(values), 2)]
    human = found.human.mean("nats_per_sentence")
    document = {"runs": dict(zip(names, pairs, strict=True)), "human": human, "signature": found.signature}
    write_json(folder / FCE, document)
    return None


def write(copies: Path) -> list[str]:
    """Write the numbers of all copies and the tables of their sets; return the tables."""
    from textvae.files import write_json, write_text

    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "rows.json"
    rows: Rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for result in sorted(copies.glob(f"*/*/{RESULT}")):
        own = rows.setdefault(result.parents[1].name, {"runs": {}, "fce": {}})
        own["runs"][result.parent.name] = json.loads(result.read_text(encoding="utf-8"))
    for result in sorted(copies.glob(f"*/{FCE}")):
        rows[result.parent.name]["fce"] = json.loads(result.read_text(encoding="utf-8"))
    write_json(path, rows)
    tables = []
    for name, own in rows.items():
        kinds = {"likelihood": likelihood_table(own), "samples": samples_table(own)}
        for kind, table in kinds.items():
            if table.count("\n") > 2:  # more than a head
                tables.append(f"{name}, {kind}\n{table}")
                write_text(OUT / f"{name}-{kind}.md", table)
    return tables


if __name__ == "__main__":
    sys.exit(main())
