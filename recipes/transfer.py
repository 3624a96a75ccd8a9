"""Attribute transfer by arithmetic on codes (Liu et al. 2019, Figures 10 and 11), scored over strength.

    python recipes/transfer.py --scale smoke|cpu|gpu [--corpora ...] [--rows ...] [--processes 8]

A corpus's training text is halved. One half trains the models, and its first sentences of each label make the
directions; the other half trains the judges, a classifier of words and a language model of the models' size. What
is moved, and what people made of it, was seen by none of them, and on `grammar` the grammar itself judges too.
Corpora, pairs and sizes are in `transfer.toml`. Files and runs go to `runs/transfer/SCALE/CORPUS`, with sentences
to read in `ROW.txt`; the numbers to `results/transfer/CORPUS.json`, `transfer.md` and `transfer.png`. Corpora other
than `grammar` are read from the folder that TEXTVAE_DATA names.
"""

import argparse
import json
import multiprocessing
import re
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from running import Job, done

HERE = Path(__file__).parent
LANGUAGE_MODEL = "language-model"
# Sentences of the validation split, and those that are written out to be read.
VALID, SHOWN = 2000, 20
# Where the scores of a row come from, for the figure: name in the JSON, name on the axis.
PANELS = (("accuracy", "has the wanted label"), ("bleu_input", "BLEU with the input"), ("nll", "NLL, nats"))
WAYS = ("mean", "pair")

Pairs = list[tuple[str, str]]  # label and text


class Parts(NamedTuple):
    """A corpus cut up. No text is in two parts, but for those of `direction`, which are in `own` too.

    What people made of `moved` is in no part.
    """

    own: Pairs
    valid: Pairs
    judges: Pairs
    direction: Pairs
    moved: Pairs
    references: list[str] | None


def main() -> int:
    """Train, score, draw and write; 1 if a run failed."""
    plan = tomllib.loads((HERE / "transfer.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=plan["scales"], required=True)
    parser.add_argument("--corpora", nargs="+", choices=plan["corpora"])
    parser.add_argument("--rows", nargs="+", choices=[row for row in plan["rows"] if row != LANGUAGE_MODEL])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--out", type=Path, default=Path("results/transfer"))
    asked = parser.parse_args()
    begun = time.monotonic()
    scale = plan["scales"][asked.scale]
    corpora, rows = asked.corpora or scale["corpora"], asked.rows or scale["rows"]
    jobs = []
    for name in corpora:
        folder = asked.runs / asked.scale / name
        files(name, plan["corpora"][name], scale, folder / "data")
        jobs += [job(name, row, plan, scale, folder) for row in (LANGUAGE_MODEL, *rows)]
    jobs.sort(key=lambda one: one.tables["train"]["max_steps"], reverse=True)
    failed = done(jobs, asked.processes)
    if failed:
        return 1
    tasks = [(name, rows, plan, scale, asked.runs / asked.scale / name) for name in corpora]
    from textvae.training.launch import end_with_parent

    context = multiprocessing.get_context("spawn")
    with context.Pool(min(asked.processes, len(tasks)), end_with_parent, maxtasksperchild=1) as pool:
        measured = pool.map(measure, tasks, chunksize=1)

    from textvae.files import write_json, write_text
    from textvae.run.hardware import machine

    asked.out.mkdir(parents=True, exist_ok=True)
    about = {"scale": asked.scale, "seconds": round(time.monotonic() - begun, 1), "machine": machine()}
    for name, found in zip(corpora, measured, strict=True):
        write_json(asked.out / f"{name}.json", {"recipe": "transfer", "corpus": name, **about, **found})
    results = dict(zip(corpora, measured, strict=True))
    write_text(asked.out / "transfer.md", markdown(results, about))
    drawing(results, asked.out / "transfer.png")
    print(markdown(results, about))
    return 0


def job(name: str, row: str, plan: dict[str, Any], scale: dict[str, Any], folder: Path) -> Job:
    """The run of one row on one corpus."""
    given = plan["corpora"][name].get("settings", {})
    data = folder / "data"
    model = {**given.get("model", {}), **scale.get("model", {})}
    if row == LANGUAGE_MODEL:  # reads the judges' half, and has only a decoder
        model = {key: value for key, value in model.items() if key not in ("latent", "encoder")}
    train = {**given.get("train", {}), "max_steps": scale["steps"][name], "batch_size": scale["batch_size"]}
    if "lr" in scale:
        train["optimizer"] = {"lr": scale["lr"]}
    half = "judges" if row == LANGUAGE_MODEL else "own"
    tables = {
        "data": {
            **given.get("data", {}),
            "train": str(data / f"{half}.tsv"),
            "valid": str(data / "valid.tsv"),
            "column": "text",
        },
        "model": model,
        "train": {**train, "epochs": 1000, "log_every": min(50, scale["steps"][name])},
    }
    found = plan["rows"][row]
    return Job(folder / row, found["method"], tuple(found.get("set", ())), tables, "valid", 20, 100)


def files(name: str, corpus: dict[str, Any], scale: dict[str, Any], folder: Path) -> None:
    """Write the parts of a corpus as tables, once."""
    if (folder / "moved.tsv").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    parts = cut(name, corpus, scale)
    for part in ("own", "valid", "judges", "direction"):
        table(folder / f"{part}.tsv", ("label", "text"), getattr(parts, part))
    if parts.references is None:
        table(folder / "moved.tsv", ("label", "text"), parts.moved)
    else:
        rows = [(*pair, reference) for pair, reference in zip(parts.moved, parts.references, strict=True)]
        table(folder / "moved.tsv", ("label", "text", "reference"), rows)


def cut(name: str, corpus: dict[str, Any], scale: dict[str, Any]) -> Parts:
    """Who sees which sentences."""
    train, valid, moved, references = grammar(scale) if name == "grammar" else registered(name, corpus)
    chosen = [at for label in corpus["labels"] for at in firsts(moved, label, scale["moved"])]
    moved = [moved[at] for at in chosen]
    references = None if references is None else [references[at] for at in chosen]
    used = {text for _, text in moved} | set(references or ())
    valid = unseen(valid, used)[:VALID]
    used |= {text for _, text in valid}
    train = unseen(train, used)[: 2 * scale["train"][name]]
    own, judges = train[: len(train) // 2], train[len(train) // 2 :]
    direction = [own[at] for label in corpus["labels"] for at in firsts(own, label, scale["direction"])]
    return Parts(own, valid, judges, direction, moved, references)


def grammar(scale: dict[str, Any]) -> tuple[Pairs, Pairs, Pairs, None]:
    """Training text, validation text and text to move, drawn from the embedded grammar, labelled by sentiment."""
    from textvae.text.grammar import reviews

    sizes = (3 * scale["train"]["grammar"], 2 * VALID, 8 * scale["moved"])
    train, valid, moved = (
        [(found["sentiment"], text) for text, found in reviews().sample_with_attributes(size, seed)]
        for seed, size in enumerate(sizes)
    )
    return train, valid, unseen(moved, set()), None


def registered(name: str, corpus: dict[str, Any]) -> tuple[Pairs, Pairs, Pairs, list[str] | None]:
    """The same of a corpus in the mirror, with what people made of the text to move, where there is that."""
    from textvae.text.readers import read
    from textvae.text.registry import files as registered_files

    found = registered_files(name, label="sentiment")
    split = {key: [(row.label or "", row.text) for row in read(path, label=0)] for key, path in found.items()}
    if "references" not in corpus:
        return split["train"], split["valid"], unseen(split["test"], set()), None
    path = found["train"].parent / corpus["references"]
    moved = [(row.label or "", row.text) for row in read(path, 1, 0)]
    references = [tokenised(row.text) for row in read(path, 2, 0)]
    return split["train"], split["valid"], moved, references


def tokenised(text: str) -> str:
    """What people wrote, brought to the form of the corpora: lower case, marks and endings like 's apart.

    Both corpora write "ca n't" or "can t" for "can't", neither of which can be had from every spelling: yelp's form
    is made, so that of amazon, which has no apostrophes, is met in the rest.
    """
    text = re.sub(r"([.,!?;:()\"&/])", r" \1 ", text.lower())
    text = re.sub(r"n't\b", " n't", text)
    return " ".join(re.sub(r"('(?:s|m|d|ll|re|ve))\b", r" \1", text).split())


def unseen(pairs: Iterable[tuple[str, str]], used: set[str]) -> Pairs:
    """The pairs whose text is not in `used`, each text once."""
    return [(label, text) for text, label in {text: label for label, text in pairs if text not in used}.items()]


def firsts(pairs: Pairs, label: str, count: int) -> list[int]:
    """Where the first `count` texts of a label stand."""
    return [at for at, (found, _) in enumerate(pairs) if found == label][:count]


def table(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Write a TSV file; the text of all corpora is free of tabs."""
    from textvae.files import write_text

    write_text(path, "".join("\t".join(row) + "\n" for row in [header, *rows]))


def measure(task: tuple[str, list[str], dict[str, Any], dict[str, Any], Path]) -> dict[str, Any]:
    """All curves of one corpus: each model, each way to find a direction, both ways round."""
    name, rows, plan, scale, folder = task
    import torch

    from textvae.evaluation.transfer_curve import Judges, transfer_curve
    from textvae.files import write_text
    from textvae.generate.codec import MEASURED
    from textvae.generate.trained import load
    from textvae.generate.transfer import separation
    from textvae.metrics.attributes import train_classifier
    from textvae.text.readers import read

    torch.set_num_threads(1)
    corpus = plan["corpora"][name]

    def part(file: str, column: str = "text") -> list[tuple[str, str]]:
        return [(row.label or "", row.text) for row in read(folder / "data" / f"{file}.tsv", column, "label")]

    judged, moved, side = part("judges"), part("moved"), part("direction")
    tokenization = "characters" if corpus.get("characters") else "words"
    classifier = train_classifier([text for _, text in judged], [label for label, _ in judged], tokenization)
    exact = "sentiment" if name == "grammar" else None
    judges = Judges(classifier, load(folder / LANGUAGE_MODEL), exact, tokenization)
    rewritten = [text for _, text in part("moved", "reference")] if "references" in corpus else None
    own = classifier.predict([text for _, text in moved])
    found: dict[str, Any] = {
        "classifier": {
            **classifier.about(),
            "accuracy_on_moved": sum(a == b for a, (b, _) in zip(own, moved, strict=True)) / len(own),
        },
        "sentences": {file: len(part(file)) for file in ("own", "judges", "direction", "moved")},
        "models": {row: about(folder / row) for row in (LANGUAGE_MODEL, *rows)},
        "curves": [],
    }
    for row in rows:
        trained, shown = load(folder / row), [f"# {name}, {row}"]
        for source, target in (corpus["labels"], corpus["labels"][::-1]):
            chosen = [at for at, (label, _) in enumerate(moved) if label == source]
            texts = [moved[at][1] for at in chosen]
            references = None if rewritten is None else [rewritten[at] for at in chosen]
            a, b = ([text for label, text in side if label == wanted] for wanted in (source, target))
            pair = corpus["pair"] if source == corpus["labels"][0] else corpus["pair"][::-1]
            for way in WAYS:
                moves = trained.direction(a, b) if way == "mean" else trained.direction(*pair)
                curve = transfer_curve(
                    trained, texts, moves, target, judges, scale["strengths"], references, MEASURED
                )
                line = {"model": row, "way": way, "from": source, "to": target}
                line |= {"direction_norm": float((moves**2).sum() ** 0.5)}
                line |= {"separation": separation(trained.encode(a), trained.encode(b), moves)}
                found["curves"].append({**line, "rows": curve})
                shown += examples(trained, texts[:SHOWN], moves, f"{source} to {target}, {way}", scale["strengths"])
        write_text(folder / f"{row}.txt", "\n".join(shown) + "\n")
    print(f"measured: {name}", file=sys.stderr, flush=True)
    return found


def about(folder: Path) -> dict[str, Any]:
    """What evaluation found of a run."""
    scores = json.loads((folder / "evaluation" / "valid.json").read_text(encoding="utf-8"))
    names = ("reconstruction", "kl", "bound", "nll_iw", "mutual_information", "active_units", "latent", "signature")
    return {name: scores.get(name) for name in names}


def examples(trained: Any, texts: list[str], moves: Any, title: str, strengths: list[float]) -> list[str]:
    """Sentences to read: each text, and under it what it becomes."""
    from textvae.generate.codec import MEASURED

    made = [trained.transfer(texts, moves, strength, MEASURED) for strength in strengths]
    lines = [f"\n## {title}"]
    for at, text in enumerate(texts):
        lines += [text, *(f"  {strength:>4g}  {new[at]}" for strength, new in zip(strengths, made, strict=True))]
    return lines


def averaged(found: dict[str, Any], model: str, way: str) -> list[dict[str, Any]]:
    """A model's curve by one way, the mean of both ways round, a dict of numbers for each line."""
    curves = [curve["rows"] for curve in found["curves"] if (curve["model"], curve["way"]) == (model, way)]
    rows = []
    for lines in zip(*curves, strict=True):
        flat = [{**line, **line.get("grammar", {})} for line in lines]
        numbers = [key for key, value in flat[0].items() if isinstance(value, float) and key != "strength"]
        mean = {key: sum(line[key] for line in flat) / len(flat) for key in numbers}
        rows.append({"line": lines[0]["line"], "strength": lines[0]["strength"], **mean})
    return rows


def markdown(results: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    """A table for each corpus: the mean of both ways round."""
    lines = [
        "# Attribute transfer over strength",
        f"Scale {about['scale']}, {about['machine']['device']}, torch {about['machine']['torch']}. Means of both "
        "ways round; BLEU 0 to 100; NLL in nats per sentence. Strength 0 is the reconstruction.",
    ]
    names = {
        "accuracy": ("accuracy", 3),
        "bleu_input": ("BLEU input", 1),
        "bleu_reference": ("BLEU reference", 1),
        "nll": ("NLL", 1),
        "words": ("tokens", 1),
        "in_language": ("in the language", 3),
        "wanted": ("wanted", 3),
        "exact": ("all else kept", 3),
    }
    for name, found in results.items():
        judge = found["classifier"]
        lines += ["", f"## {name}", f"Classifier: {judge['accuracy']:.3f} of {judge['held_out']:,} held out."]
        for model, score in found["models"].items():
            if score["kl"] is not None:
                told = score["mutual_information"]
                lines[-1] += f" {model}: KL {score['kl']:.2f}" + (f", MI {told:.2f}." if told is not None else ".")
        models = list(dict.fromkeys(curve["model"] for curve in found["curves"]))
        body = [
            (model, way, row)
            for model in models
            for way in WAYS
            for row in averaged(found, model, way)
            if row["line"] == "transfer" or (model, way) == (models[0], WAYS[0])
        ]
        shown = [key for key in names if any(key in row for *_, row in body)]
        lines += ["", " | ".join(["| model | direction | strength", *(names[key][0] for key in shown)]) + " |"]
        lines.append("|" + "---|" * (3 + len(shown)))
        for model, way, row in body:
            first = (model, way, f"{row['strength']:g}") if row["line"] == "transfer" else (row["line"], "–", "–")
            cells = [f"{row[key]:.{names[key][1]}f}" if key in row else "–" for key in shown]
            lines.append("| " + " | ".join([*first, *cells]) + " |")
    return "\n".join(lines) + "\n"


def drawing(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Attribute, content and fluency over strength: a row of panels a corpus, a line for each model and way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from textvae.files import replacing

    size = (11, 0.6 + 2.7 * len(results))
    figure, axes = pyplot.subplots(len(results), 3, figsize=size, squeeze=False, layout="constrained")
    colours = pyplot.get_cmap("tab10").colors
    styles = dict(zip(WAYS, ("-", "--"), strict=True))
    for (name, found), panels in zip(results.items(), axes, strict=True):
        models = list(dict.fromkeys(curve["model"] for curve in found["curves"]))
        for panel, (key, label) in zip(panels, PANELS, strict=True):
            for colour, model in zip(colours, models, strict=False):
                for way in WAYS:
                    rows = [row for row in averaged(found, model, way) if row["line"] == "transfer"]
                    xs, ys = [row["strength"] for row in rows], [row[key] for row in rows]
                    panel.plot(xs, ys, styles[way], color=colour, label=f"{model}, {way}", linewidth=1.6)
            for row in averaged(found, models[0], WAYS[0]):
                if row["line"] != "transfer" and not (key, row["line"]) == ("bleu_input", "input"):
                    style = {"input": (0, (1, 1)), "reference": (0, (6, 2))}[row["line"]]
                    panel.axhline(row[key], color="#8a8a8a", linewidth=1, linestyle=style, label=row["line"])
            panel.set(xlabel="strength", ylabel=label, title=name if panel is panels[0] else "")
    handles: dict[str, Any] = {}
    for panel in axes.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
