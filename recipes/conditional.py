"""Train models of `grammar` conditioned on attributes, and judge samples and transfers by its parser.

    python recipes/conditional.py [--rows ...] [--seeds 0] [--processes 2] [--minutes 60]

Rows, sizes and what is changed are in `conditional.toml`. Runs go to `runs/conditional/ROW-SEED`: finished ones are
used again, unfinished ones are gone on with; each process has one thread. The exact parser of the grammar judges
1,000 samples under the conditions of test sentences, and 1,000 test sentences whose sentiment was changed: by the
label while the code stays, or, of the unconditional model, along a direction between the labels' mean codes. The
numbers go to `results/conditional/rows.json`, and as tables to `results/conditional/samples.md` and `transfer.md`.
"""

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from running import Job, done, parser_of

HERE = Path(__file__).parent
OUT = Path("results/conditional")
# What is measured of a run, in its folder; how many sentences; the ways of decoding.
RESULT, SENTENCES = "conditional.json", 1_000
# Test sentences whose labels are inferred: every combination of labels scores each.
INFERRED = 200
DECODINGS = ("greedy", "sample")
IW = (100, 500)
PLAN = tomllib.loads((HERE / "conditional.toml").read_text(encoding="utf-8"))
COLUMNS: list[str] = PLAN["conditions"]["columns"]
OF_SCORES = ("reconstruction", "kl", "rate_kind", "bound", "bound_iw_sentences", "nll_iw", "nll_iw_standard_error")
OF_CODES = ("shuffle_gap", "mutual_information", "mutual_information_sentences", "active_units", "signature")

Rows = dict[str, dict[str, dict[str, Any]]]  # row, seed, number


def main() -> int:
    """Do all runs that were asked for; 1 if one of them failed."""
    parser = parser_of(__doc__, (), Path("runs/conditional"))
    parser.add_argument("--rows", nargs="+", choices=PLAN["rows"], default=list(PLAN["rows"]))
    asked = parser.parse_args()
    failed = done(
        [job_of(row, seed, asked.runs) for seed in asked.seeds for row in asked.rows],
        asked.processes,
        asked.minutes,
    )
    from textvae.files import write_json, write_text

    OUT.mkdir(parents=True, exist_ok=True)
    rows = joined(asked.runs)
    write_json(OUT / "rows.json", rows)
    for name, made in (("samples", samples_table(rows)), ("transfer", transfer_table(rows))):
        write_text(OUT / f"{name}.md", made + "\n")
        print(made + "\n")
    return 1 if failed else 0


def job_of(row: str, seed: int, folder: Path) -> Job:
    """Return the run of a row and seed."""
    own = PLAN["rows"][row]
    conditions = {"condition_on": columns_of(own)} if own["conditional"] else {}
    data = labelled(own, folder / f"text-{own['labelled']}") if "labelled" in own else {"corpus": "grammar"}
    tables = {"data": {**data, **conditions}, **PLAN["settings"]}
    conditioner = ("model.conditioner.name='labels'",) if own["conditional"] else ()
    assignments = (*own.get("set", ()), *conditioner, f"train.seed={seed}")
    return Job(folder / f"{row}-{seed}", own["method"], assignments, tables, "test", *IW, judge, RESULT)


def columns_of(row: Mapping[str, Any]) -> list[str]:
    """Return the attributes that a row is conditioned on."""
    return list(row.get("columns", COLUMNS))


def labelled(row: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the grammar as tables, with labels of evenly spaced training sentences alone; return the settings."""
    from textvae.files import write_text
    from textvae.text import grammar
    from textvae.text.store import spaced

    columns, files = columns_of(row), {}
    for split, texts in grammar.splits().items():
        files[split] = str(folder / f"{split}.tsv")
        if Path(files[split]).exists():
            continue
        kept = set(spaced(len(texts), row["labelled"]).tolist()) if split == "train" else set(range(len(texts)))
        lines = ["\t".join(["text", *columns])]
        for number, text in enumerate(texts):
            own = (grammar.reviews().attributes(text) or {}) if number in kept else {}
            lines.append("\t".join([text, *(own.get(column, "") for column in columns)]))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(Path(files[split]), "\n".join(lines) + "\n")
    return {**files, "column": "text"}


def judge(run: Any, job: Job, seconds: float | None) -> None:
    """Write what a run's samples and transfers have of the attributes that were asked for."""
    from textvae.evaluation.evaluate import evaluate
    from textvae.evaluation.opened import open_run
    from textvae.files import write_json

    trained = open_run(run)
    scores = evaluate(trained, "test", job.iw_samples, job.iw_sentences)
    found = {name: scores.get(name) for name in (*OF_SCORES, *OF_CODES)}
    texts, known = of_test(trained)
    columns = run.settings.data.condition_on
    machine = {name: run.environment.get(name) for name in ("device", "torch", "textvae")}
    write_json(
        job.folder / RESULT,
        {
            **found,
            "samples": {name: asked_for(trained, known, columns, name) for name in DECODINGS} if columns else None,
            "inferred": inferred(trained, texts, known, columns) if columns else None,
            "probe": None if columns else probed(trained),
            "transfer": transferred(trained, texts, known) if trained.model.prior is not None else None,
            **machine,
            "seconds": seconds,
        },
    )


def of_test(trained: Any) -> tuple[list[str], list[dict[str, str]]]:
    """Return test sentences of the grammar, evenly spaced, and the attributes of each."""
    from textvae.text import grammar
    from textvae.text.store import spaced

    texts = list(trained.corpus.texts("test"))
    some = [texts[at] for at in spaced(len(texts), SENTENCES)]
    parsed = [(text, grammar.reviews().attributes(text)) for text in some]
    return [text for text, own in parsed if own], [own for _, own in parsed if own]


def inferred(
    trained: Any, texts: Sequence[str], known: Sequence[Mapping[str, str]], columns: Sequence[str]
) -> dict[str, float]:
    """Return the shares of some test sentences whose label the model infers."""
    some = range(0, len(texts), max(1, len(texts) // INFERRED))
    found = trained.infer_labels([texts[at] for at in some]).labels
    return {
        column: sum(own == known[at][column] for own, at in zip(found[column], some, strict=True)) / len(some)
        for column in columns
    }


def probed(trained: Any) -> dict[str, Any]:
    """Return the accuracies of a probe of codes, and of a bag of words, that learn from 100 labels."""
    from textvae.evaluation.probing import own_labels, probes

    attribute = PLAN["transfer"]["attribute"]
    sizes = probes(trained, own_labels(trained, attribute), [100])[attribute]["sizes"]
    return {name: sizes[0][name] for name in ("code", "bag_of_words")}


def asked_for(
    trained: Any, known: Sequence[Mapping[str, str]], columns: Sequence[str], decoding: str
) -> dict[str, float]:
    """Return the shares of samples in the language, with each attribute asked for, and with all of them."""
    from textvae.text import grammar

    asked = {column: [own[column] for own in known] for column in columns}
    samples = trained.sample(len(known), 0, decoding, condition=asked)
    parsed = [grammar.reviews().attributes(text) for text in samples]
    right = {
        column: [
            own is not None and own[column] == wanted for own, wanted in zip(parsed, asked[column], strict=True)
        ]
        for column in columns
    }
    share = {column: sum(each) / len(known) for column, each in right.items()}
    in_language = sum(own is not None for own in parsed) / len(known)
    every = sum(map(all, zip(*right.values(), strict=True))) / len(known)
    return {"in_language": in_language, **share, "all": every, "distinct": len(set(samples))}


def transferred(trained: Any, texts: list[str], known: list[dict[str, str]]) -> dict[str, dict[str, float]]:
    """Return what becomes of sentences whose attribute is changed, by the way it is changed."""
    wanted = [other(own[PLAN["transfer"]["attribute"]]) for own in known]
    if trained.model.conditioning is not None:
        columns = trained.run.settings.data.condition_on
        condition = {column: [own[column] for own in known] for column in columns}
        changed = trained.relabel(texts, condition, {**condition, PLAN["transfer"]["attribute"]: wanted})
        return {"label": shares(texts, changed, wanted)}
    from textvae.generate.transfer import moved

    sides = directions(trained)
    codes = trained.encode(texts)
    ways = {}
    for strength in PLAN["transfer"]["strengths"]:
        changed = [""] * len(texts)
        for target, way in sides.items():
            mine = [at for at, one in enumerate(wanted) if one == target]
            for at, text in zip(mine, trained.decode(moved(trained, codes[mine], way, strength)), strict=True):
                changed[at] = text
        ways[f"direction x {strength:g}"] = shares(texts, changed, wanted)
    return ways


def other(value: str) -> str:
    """Return the other one of two values of the attribute."""
    from textvae.text import grammar

    (wanted,) = set(grammar.reviews().values[PLAN["transfer"]["attribute"]]) - {value}
    return wanted


def directions(trained: Any) -> dict[str, Any]:
    """Return, for each value, the direction to it between mean codes of training sentences."""
    from textvae.text import grammar

    attribute, most = PLAN["transfer"]["attribute"], PLAN["transfer"]["sentences"]
    sides: dict[str, list[str]] = {value: [] for value in grammar.reviews().values[attribute]}
    for text in trained.corpus.texts("train"):
        own = (grammar.reviews().attributes(text) or {}).get(attribute)
        if own is not None and len(sides[own]) < most:
            sides[own].append(text)
        if all(len(side) == most for side in sides.values()):
            break
    return {target: trained.direction(sides[other(target)], sides[target]) for target in sides}


def shares(before: Sequence[str], after: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Return shares of sentences in the language, with the wanted value, and with all other attributes kept too."""
    from textvae.metrics.attributes import grammar_scores

    totals = {"in_language": 0.0, "wanted": 0.0, "exact": 0.0}
    for value in sorted(set(wanted)):
        mine = [at for at, one in enumerate(wanted) if one == value]
        sides = [before[at] for at in mine], [after[at] for at in mine]
        scores = grammar_scores(*sides, PLAN["transfer"]["attribute"], value)
        for name in totals:
            totals[name] += getattr(scores, name) * len(mine) / len(wanted)
    return totals


def joined(folder: Path) -> Rows:
    """Return earlier numbers with those of the finished runs in their place, in the order of the plan."""
    path = OUT / "rows.json"
    rows: Rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for judged in sorted(folder.glob(f"*/{RESULT}")):
        row, _, seed = judged.parent.name.rpartition("-")
        rows.setdefault(row, {})[seed] = json.loads(judged.read_text(encoding="utf-8"))
    return {row: dict(sorted(rows[row].items())) for row in PLAN["rows"] if row in rows}


def samples_table(rows: Rows) -> str:
    """Return the table of likelihood and samples: nats per sentence, shares in percent."""
    head = ["run", "KL", "MI given c", "gap", "NLL", "sentiment inferred"]
    head += [f"{name}: {what}" for name in DECODINGS for what in ("in language", *COLUMNS, "all asked for")]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for row, seeds in rows.items():
        for seed, one in seeds.items():
            numbers = [one[name] for name in ("kl", "mutual_information", "shuffle_gap", "nll_iw")]
            cells = [f"{row}, seed {seed}", *("–" if x is None else f"{x:.2f}" for x in numbers)]
            told = (one["inferred"] or {}).get("sentiment")
            cells.append("–" if told is None else f"{100 * told:.1f}")
            for name in DECODINGS:
                own = (one["samples"] or {}).get(name)
                keys = ("in_language", *COLUMNS, "all")
                cells += ["–" if own is None or key not in own else f"{100 * own[key]:.1f}" for key in keys]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def transfer_table(rows: Rows) -> str:
    """Return the table of transfers: shares in percent."""
    head = ("run", "changed by", "in language", "wanted sentiment", "and all other attributes kept")
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row, seeds in rows.items():
        for seed, one in seeds.items():
            for way, own in (one["transfer"] or {}).items():
                cells = (f"{row}, seed {seed}", way, *(f"{100 * x:.1f}" for x in own.values()))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
