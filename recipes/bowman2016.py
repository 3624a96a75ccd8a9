"""Tables 4 and 5 of Bowman et al. 2016: imputation against a language model, and samples at several keep rates.

    TEXTVAE_DATA=CORPORA python recipes/bowman2016.py 4 5 --scale smoke|cpu|gpu [--processes 7] [--seeds 0]

Scales, rows and published values are in `bowman2016.toml`. Models write the last word first, as in the paper. Text
that no model has seen is cut from the end of the corpus's training text, without any sentence that the rest has;
the files go to `runs/bowman2016/SCALE/text/`, runs beside them. Finished runs are used again, unfinished ones are
gone on with; the tables share their runs and the language model that measures likelihood. Numbers and a table go to
`results/bowman2016/tableN-SCALE.json` and `.md`, completed sentences to read to `examples.md` beside the runs. With
several processes all runs are trained side by side, and then all rows are measured side by side.
"""

import argparse
import json
import math
import multiprocessing
import sys
import tomllib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from running import Job, done, slug

HERE = Path(__file__).parent
SHOWN = 5  # samples of a row in the table
IW = {"iw_samples": 100, "iw_sentences": 200}


class Cell(NamedTuple):
    """A row of a table with one seed, its run, and all that a process needs to measure it."""

    table: str
    row: str
    seed: int
    folder: Path
    independent: Path
    held_out: Path
    test: Path
    last: float
    sentences: int
    samples: int


def place_of(scale: str) -> Path:
    """Where a scale's text and runs are."""
    return Path("runs/bowman2016") / scale


def texts(scale: Mapping[str, Any]) -> dict[str, list[str]]:
    """The text of each split, and the held-out text: no sentence of it is in any split, or twice in itself."""
    from textvae.text import grammar, registry
    from textvae.text.readers import read

    if scale["corpus"] == "grammar":
        whole = grammar.splits()
    else:
        files = registry.files(scale["corpus"])
        whole = {split: [sentence.text for sentence in read(path)] for split, path in files.items()}
    held_out = whole["train"][-scale["held_out"] :]
    found = {"train": whole["train"][: -scale["held_out"]][: scale["train"]]}
    found |= {split: whole[split][: scale[split]] for split in ("valid", "test")}
    seen = {text for sentences in found.values() for text in sentences}
    return {**found, "held-out": [text for text in dict.fromkeys(held_out) if text not in seen]}


def written(scale_name: str, scale: Mapping[str, Any]) -> dict[str, Path]:
    """The files of a scale's texts."""
    from textvae.files import write_text

    folder = place_of(scale_name) / "text"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, sentences in texts(scale).items():
        found[name] = folder / f"{name}.txt"
        write_text(found[name], "\n".join(sentences) + "\n")
    return found


def job_of(
    scale: Mapping[str, Any], files: Mapping[str, Path], folder: Path, row: Mapping[str, Any], seed: int
) -> Job:
    """One run."""
    settings = scale["settings"]
    splits = {split: str(files[split]) for split in ("train", "valid", "test")}
    tables = {"data": {**settings["data"], **splits}, "model": settings["model"], "train": settings["train"]}
    return Job(folder, row["method"], (*row["set"], f"train.seed={seed}"), tables, "test", **IW)


def planned(
    plan: Mapping[str, Any], asked: argparse.Namespace, files: Mapping[str, Path]
) -> tuple[list[Job], list[Cell]]:
    """The runs to be, each once, the independent language model first, and the rows to be measured."""
    scale, place = plan["scales"][asked.scale], place_of(asked.scale)
    independent = place / "independent"
    jobs = {independent: job_of(scale, files, independent, plan["independent"], plan["independent"]["seed"])}
    cells = []
    for name in asked.tables:
        table = plan["tables"][name]
        for seed in asked.seeds:
            for row in table["rows"]:
                folder = place / f"{slug(row)}-{seed}"
                jobs[folder] = job_of(scale, files, folder, plan["rows"][row], seed)
                sizes = (table.get("last", 0.0), scale["sentences"], scale["samples"])
                used = (folder, independent, files["held-out"], files["test"])
                cells.append(Cell(name, row, seed, *used, *sizes))
    return list(jobs.values()), cells


def measured(cell: Cell) -> dict[str, Any]:
    """The numbers of a row."""
    import torch

    torch.set_num_threads(1)
    found = {"row": cell.row, "seed": cell.seed, **(completed(cell) if cell.table == "4" else sampled(cell))}
    print(f"measured: table {cell.table}, {cell.row}, seed {cell.seed}", file=sys.stderr, flush=True)
    return found


def completed(cell: Cell) -> dict[str, Any]:
    """Table 4: the held-out sentences completed by one model, told from the truth, and scored."""
    from textvae.evaluation.adversarial import adversarial
    from textvae.generate.trained import load
    from textvae.text.readers import read

    held_out = [sentence.text for sentence in read(cell.held_out)]
    found = adversarial(
        [load(cell.folder)], held_out, load(cell.independent), cell.last, sentences=cell.sentences, seed=cell.seed
    )
    document = found.document()
    (model,) = document.pop("models")
    name = model.pop("run")
    endings = [example.pop(name) for example in document["examples"]]
    return {**model, **scores(cell), "completed": endings, "all": document}


def sampled(cell: Cell) -> dict[str, Any]:
    """Table 5: greedy samples from the prior, and how the model codes held-out text (Figure 3).

    The most probable token is taken whatever it is, the unknown word too (section 6.1).
    """
    from textvae.generate.codec import MEASURED
    from textvae.generate.trained import load

    drawn = load(cell.folder).sample(cell.samples, cell.seed, MEASURED)
    return {**told(drawn, cell), **scores(cell), "first": list(dict.fromkeys(drawn))[:SHOWN]}


def true_text(cell: Cell) -> dict[str, Any]:
    """What the measures of Table 5 are for true sentences."""
    from textvae.text.readers import read

    return told([sentence.text for sentence in islice(read(cell.test), cell.samples)], cell)


def told(sentences: Sequence[str], cell: Cell) -> dict[str, Any]:
    """How different sentences are, how long, and how likely to the independent language model."""
    import torch

    from textvae.generate.trained import load
    from textvae.metrics.diversity import distinct_across
    from textvae.metrics.likelihood import standard_error
    from textvae.metrics.text import distinct
    from textvae.metrics.words import tokenized

    nats = torch.from_numpy(load(cell.independent).nll(sentences))
    pairs = distinct_across(tokenized(sentences), 2)  # nan where no sentence has two words
    tokens = sum(len(text.split()) + 1 for text in sentences)
    return {
        "samples": len(sentences),
        "distinct": distinct(sentences),
        "distinct_2": pairs if math.isfinite(pairs) else None,
        "words": tokens / len(sentences) - 1,
        "nll": nats.mean().item(),
        "nll_standard_error": standard_error(nats),
        "nats_per_token": nats.sum().item() / tokens,
    }


def scores(cell: Cell) -> dict[str, Any]:
    """What evaluation found on the test split, nats per sentence."""
    found = json.loads((cell.folder / "evaluation" / "test.json").read_text(encoding="utf-8"))
    names = ("reconstruction", "kl", "bound", "bound_standard_error", "nll_iw", "mutual_information", "shuffle_gap")
    return {"test": {name: found[name] for name in (*names, "active_units", "signature")}}


def by_processes(cells: Sequence[Cell], processes: int) -> list[dict[str, Any]]:
    """The numbers of all rows, measured side by side, or in this process where there is one."""
    if processes == 1:
        return [measured(cell) for cell in cells]
    from textvae.training.launch import end_with_parent

    with multiprocessing.get_context("spawn").Pool(min(processes, len(cells)), end_with_parent) as pool:
        return pool.map(measured, cells, chunksize=1)


def table_4(rows: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """The document, the table, in which published values stand in brackets, and a table of completed sentences."""
    from textvae.comparison.tables import escaped

    shared = rows[0]["all"]  # what is true of the text is so for all rows
    examples = [{"known": one["known"], "true": one["true"]} for one in shared["examples"]]
    for row in rows:
        for example, ending in zip(examples, row["completed"], strict=True):
            example[_named(row, rows)] = ending
    kept = [{name: value for name, value in row.items() if name not in ("all", "completed")} for row in rows]
    head = ("model", "beam", "unigrams", "LSTM", "NLL", "recovered", "different endings", "KL")
    lines = [_line(head), _line(["---"] * len(head))]
    for row in kept:
        published = table["published"].get(row["row"], {})
        lines.append(
            _line(
                [
                    _named(row, rows),
                    f"{row['rounds']} × {row['beam']}",
                    _error(row["unigram"]) + _beside(published, "unigram"),
                    _error(row["lstm"]) + _beside(published, "lstm"),
                    f"{row['nll']:.2f} ± {row['nll_standard_error']:.2f}" + _beside(published, "nll"),
                    f"{100 * row['recovered']:.1f} %",
                    f"{row['endings']:,}",
                    "–" if row["test"]["kl"] is None else f"{row['test']['kl']:.2f}",
                ]
            )
        )
    truth = shared["true"]
    nll = f"{truth['nll']:.2f} ± {truth['nll_standard_error']:.2f}"
    lines.append(_line(["true sentences", "–", "–", "–", nll, "–", f"{truth['endings']:,}", "–"]))
    names = list(examples[0])
    shown = [_line(names), _line(["---"] * len(names))]
    shown += [_line([escaped(example[name]) for name in names]) for example in examples]
    about = {name: shared[name] for name in ("sentences", "left_out", "true", "signature")}
    return {**about, "rows": kept, "published": table["published"]}, "\n".join(lines), "\n".join(shown)


def table_5(rows: Sequence[Mapping[str, Any]], truth: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The document and the table."""
    from textvae.comparison.tables import escaped

    head = ("model", "KL", "reconstruction", "bound", "different", "words", "NLL", "nats per token", "samples")
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        rates = [f"{row['test'][name]:.2f}" for name in ("kl", "reconstruction", "bound")]
        shown = "<br>".join(escaped(text) for text in row["first"][:3])
        lines.append(_line([_named(row, rows), *rates, *_measures(row), shown]))
    lines.append(_line(["true sentences", "–", "–", "–", *_measures(truth), "–"]))
    return {"rows": list(rows), "true": dict(truth)}, "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measures(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['distinct']:,} of {row['samples']:,}",
        f"{row['words']:.1f}",
        f"{row['nll']:.2f} ± {row['nll_standard_error']:.2f}",
        f"{row['nats_per_token']:.2f}",
    ]


def _error(found: Mapping[str, Any]) -> str:
    error = found["standard_error"]  # None where all tested pairs have texts in common
    return f"{100 * found['error']:.1f} ± " + ("–" if error is None else f"{100 * error:.1f}")


def _named(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A row's name, with its seed where there are several."""
    several = len({one["seed"] for one in rows}) > 1
    return f"{row['row']}, seed {row['seed']}" if several else str(row["row"])


def _beside(published: Mapping[str, float], name: str) -> str:
    return f" ({published[name]:.2f})" if name in published else ""


def main() -> int:
    """Do the tables that were asked for; 1 if a run failed."""
    plan = tomllib.loads((HERE / "bowman2016.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=plan["tables"])
    parser.add_argument("--scale", choices=plan["scales"], default="cpu")
    parser.add_argument("--steps", type=int, help="updates of a run; those of the scale if not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/bowman2016"))
    asked = parser.parse_args()
    scale = plan["scales"][asked.scale]
    if asked.steps:
        scale["settings"]["train"]["max_steps"] = asked.steps
    jobs, cells = planned(plan, asked, written(asked.scale, scale))
    failed = {problem.partition(":")[0] for problem in done(jobs, asked.processes)}
    if cells[0].independent.name in failed:
        return 1
    ready = [cell for cell in cells if cell.folder.name not in failed]
    rows = by_processes(ready, asked.processes)

    from textvae.files import write_json, write_text
    from textvae.run.hardware import machine

    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.tables:
        own = [row for row, cell in zip(rows, ready, strict=True) if cell.table == name]
        if not own:
            continue
        table = plan["tables"][name]
        if name == "4":
            found, text, examples = table_4(own, table)
            write_text(place_of(asked.scale) / "examples.md", examples + "\n")  # sentences of the corpus stay there
        else:
            found, text = table_5(own, true_text(ready[0]))
        given = {"about": table["about"], "scale": asked.scale, "text": scale, "machine": machine()}
        write_json(asked.out / f"table{name}-{asked.scale}.json", {**given, **found})
        write_text(asked.out / f"table{name}-{asked.scale}.md", f"{table['about']}\n\n{text}\n")
        print(text, end="\n\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
