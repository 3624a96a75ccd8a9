"""Memory that each command needs for one line more: its peak at two sizes of the same text, as bytes a line.

    python benchmarks/growth.py [--small 50000] [--large 250000] [--only encode score ...] [--json FILE]

The text has random sentences of 8 words out of 500, 47 bytes a line. Peaks are of the resident memory of a process
of its own, pages of mapped files included. The model is tiny, so that what is measured is what a command holds of
its text.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from measuring import machine, write_json

MOST = 200  # bytes a line
SETTINGS = """
[data]
train = "{train}"
valid = "{folder}/train.txt"
test = "{text}"
[model]
latent = 8
embedding = 8
encoder = {{ hidden = 8 }}
decoder = {{ hidden = 8 }}
[train]
max_steps = 20
device = "cpu"
"""
# `text` has the lines, `table` labels beside them, `codes` one code a line; `run` is a model of 2,000 lines, `own`
# and `other` are models whose training and test split are the text itself.
COMMANDS = {
    "train": "train {settings} --out {out}",
    "train-from": "train {settings} --from {run} --out {out}",
    "fit-prior": "fit-prior {own}",
    "evaluate": "evaluate {own} --iw-samples 5 --iw-sentences 100",
    "compare": "compare {own} {other} --iw-samples 5 --iw-sentences 100",
    "diagnose": "diagnose {own} --split test",
    "encode": "encode {run} --file {text} --out {out}.npy",
    "encode-stdin": "encode {run} --file - --out {out}.npy < {text}",
    "decode": "decode {run} --codes {codes}",
    "reconstruct": "reconstruct {run} --file {text}",
    "reconstruct-samples": "reconstruct {run} --file {text} --samples 1 --json",
    "impute": "impute {run} --file {text} --last 0.2 --rounds 1 --beam 1",
    "interpolate": "interpolate {run} --pairs {pairs} --steps 2",
    "interpolate-codes": "interpolate {run} --codes {codes} --steps 2",
    "interpolate-prior": "interpolate {run} --prior -n {lines} --steps 2",
    "homotopy": "homotopy {run} -n {lines} --steps 2",
    "neighbours": "neighbours {run} --codes {codes} 'word1 word2'",
    "transfer": "transfer {run} --file {text} --labels {table} --label label --from-label a --to-label b",
    "probe": "probe {run} --file {table} --label label --label-counts 100",
    "score": "score {text}",
    "score-references": "score {text} --references {text}",
    "sample": "sample {run} -n {lines}",
    "sample-n-best": "sample {run} -n {lines} --decode beam --beam 2 --n-best 2 --json",
    "adversarial": "adversarial {run} --file {text} --language-model {lm} --rounds 1 --beam 1",
    "syntax": "syntax {run} --pairs {contrasts}",
    "transfer-curve": "transfer-curve {run} --file {table} --labels {head} --label label "
    "--from-label a --to-label b",
    "transfer-curve-judge": "transfer-curve {run} --file {head} --labels {head} --label label "
    "--from-label a --to-label b --judge {table}",
    "fce": "fce {run} -n {lines} --draws 1 --epochs 1 --out {out}",
    "data-make": "data make {out}.tsv -n {lines}",
    "evaluate-all": "evaluate {own} --all --iw-samples 2 --iw-sentences 100 --samples 100 --decode greedy",
}
# Lines of text that a command compares for each line, where it is not one: a second text, two sentences, a sentence
# and its completion.
READ = {"score-references": 2, "syntax": 2, "adversarial": 2}
# Exit codes of a command that ends as it should: a fitted prior may be no better than the run's own.
ENDS = {"fit-prior": (0, 1)}


def write(folder: Path, lines: int) -> None:
    """The text, the same with labels, and pairs, of so many lines."""
    random = np.random.default_rng(0)
    words = np.array([f"wor{number}" for number in range(100, 600)])
    with (
        (folder / "text.txt").open("w") as text,
        (folder / "table.tsv").open("w") as table,
        (folder / "pairs.tsv").open("w") as pairs,
        (folder / "contrasts.tsv").open("w") as contrasts,
    ):
        table.write("text\tlabel\n")
        contrasts.write("good\tbad\tcategory\n")
        for start in range(0, lines, 10_000):
            for row in words[random.integers(0, len(words), (min(10_000, lines - start), 8))]:
                sentence = " ".join(row)
                text.write(sentence + "\n")
                table.write(f"{sentence}\t{'ab'[int(row[0][-1]) % 2]}\n")
                pairs.write(f"{' '.join(row[:4])}\t{' '.join(row[4:])}\n")
                contrasts.write(f"{sentence}\t{' '.join((*row[:6], row[7], row[6]))}\t{row[0][-1]}\n")


def run(command: str, folder: Path) -> int:
    """The peak resident memory of a `textvae` command, in bytes."""
    child = (
        "import resource, subprocess, sys; "
        "rc = subprocess.call(sys.argv[1], shell=True, stdout=subprocess.DEVNULL, stderr=open(sys.argv[2], 'w')); "
        "print(rc, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    errors = folder / "stderr"
    environment = {**os.environ, "TEXTVAE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    program = f"exec {sys.executable} -m textvae {command}"
    done = subprocess.run(
        [sys.executable, "-c", child, program, str(errors)], env=environment, capture_output=True, text=True
    )
    code, peak = map(int, done.stdout.split())
    if code not in ENDS.get(command.split()[0], (0,)):
        raise SystemExit(f"textvae {command}: exit {code}\n{errors.read_text()[-2000:]}")
    return peak * (1024 if sys.platform != "darwin" else 1)


def peaks(lines: int, names: list[str]) -> dict[str, int]:
    """The peak of each command on so many lines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, lines)
        for short, long in (("train.txt", "text.txt"), ("head.tsv", "table.tsv")):
            with (folder / long).open() as file:
                (folder / short).write_text("".join(islice(file, 2000)))
        places = {
            "folder": folder,
            "text": folder / "text.txt",
            "table": folder / "table.tsv",
            "head": folder / "head.tsv",
            "pairs": folder / "pairs.tsv",
            "contrasts": folder / "contrasts.tsv",
            "codes": folder / "codes.npy",
            "settings": folder / "settings.toml",
            "run": folder / "run",
            "lm": folder / "lm",
            "own": folder / "own",
            "other": folder / "other",
            "lines": lines,
        }
        for kind, text in (("run", folder / "train.txt"), ("own", folder / "text.txt")):
            (folder / f"{kind}.toml").write_text(SETTINGS.format(folder=folder, train=text, text=text))
            run(f"train {folder / kind}.toml --out {folder / kind}", folder)
        alone = (folder / "run.toml").read_text().replace("latent = 8\n", "latent = 0\n")
        (folder / "lm.toml").write_text(alone.replace("encoder = { hidden = 8 }\n", ""))
        run(f"train {folder / 'lm.toml'} --out {folder / 'lm'}", folder)
        (folder / "settings.toml").write_text(
            SETTINGS.format(folder=folder, train=folder / "text.txt", text=folder / "train.txt")
        )
        shutil.copytree(folder / "own", folder / "other")
        np.save(folder / "codes.npy", np.random.default_rng(0).normal(size=(lines, 8)).astype(np.float32))
        found = {}
        for command in names:
            found[command] = run(COMMANDS[command].format(**places, out=folder / f"out-{command}"), folder)
            print(f"{lines:>9,} lines  {command:<18} {found[command] / 2**20:8.0f} MiB", flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=50_000)
    parser.add_argument("--large", type=int, default=250_000)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    small, large = (peaks(lines, arguments.only) for lines in (arguments.small, arguments.large))
    more = arguments.large - arguments.small
    grown = {name: (large[name] - small[name]) / (more * READ.get(name, 1)) for name in arguments.only}
    for name, each in grown.items():
        print(f"{name:<18} {each:6.0f} bytes a line{'' if each <= MOST else f'  more than {MOST}'}")
    if arguments.json:
        lines = {"small": arguments.small, "large": arguments.large}
        write_json(arguments.json, {**machine(), "lines": lines, "bytes_a_line": grown})


if __name__ == "__main__":
    main()
