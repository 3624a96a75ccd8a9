"""Peak memory of training on 2 million sentences against 20 thousand, as a ratio.

    python benchmarks/memory.py [--large 2000000] [--json FILE]

Each is a process of its own that builds the token store from a text file and trains a few steps; the peak is that
of its resident memory, pages of mapped files included. The text has 12 random words a sentence out of 50,000, so
that the vocabulary is the same in both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from measuring import machine, write_json

SMALL = 20_000
CHILD = """
import resource, sys
from pathlib import Path
from textvae.objective.presets import load_settings
from textvae.training.loop import train
file, out = sys.argv[1:]
train(load_settings(method="mu-forcing", data={"corpus": file}, train={"max_steps": 20}), Path(out))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_sentences(path: Path, count: int) -> None:
    """A file of random sentences."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(50_000)])
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, count, 10_000):
            drawn = words[random.integers(0, len(words), (min(10_000, count - start), 12))]
            file.writelines(" ".join(row) + "\n" for row in drawn)


def peak(sentences: int) -> float:
    """The peak resident memory, in MiB, of a process that trains on so many sentences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sentences(folder / "text.txt", sentences)
        environment = {**os.environ, "TEXTVAE_CACHE": str(folder / "cache")}
        command = [sys.executable, "-c", CHILD, str(folder / "text.txt"), str(folder / "run")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return int(done.stdout.split()[-1]) / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=2_000_000)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    small, large = peak(SMALL), peak(arguments.large)
    print(
        f"{SMALL:,} sentences: {small:,.0f} MiB; {arguments.large:,}: {large:,.0f} MiB; ratio {large / small:.2f}"
    )
    if arguments.json:
        results = {"small_mib": small, "large_mib": large, "ratio": large / small}
        write_json(arguments.json, {**machine(), **results})


if __name__ == "__main__":
    main()
