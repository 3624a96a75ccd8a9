"""Time and repeated work of `textvae evaluate RUN --all` on a small run.

    python benchmarks/evaluating.py [--steps 200] [--samples 1000] [--json FILE]

Trains a model of the quickstart's sizes for some steps on the embedded corpus, evaluates it in this process, and
counts weights read, texts digested, sentences scored and sentences decoded. Processor time of one thread.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from typer.testing import CliRunner

from measuring import machine, write_json
from textvae.cli import app
from textvae.generate.codec import Codec
from textvae.model import TextVAE
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.text import corpus
from textvae.training.loop import train


def counting(counts: Counter[str], name: str, function: Callable[..., Any], size: Callable[[Any, Any], int]) -> Any:
    """Wrap a function so that each call adds the size of its arguments and result to the counts."""

    def counted(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        counts[name] += size(arguments, result)
        return result

    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--iw-samples", type=int, default=50)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"latent": 16, "embedding": 64, "encoder": {"hidden": 128}, "decoder": {"hidden": 128}}
    tables = {"data": {"corpus": "grammar"}, "model": sizes, "train": {"max_steps": arguments.steps}}
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        train(load_settings(None, "mu-forcing", **tables), folder)
        counters = (
            (Run, "model", "weights read", lambda *_: 1),
            (corpus, "build", "texts digested", lambda *_: 1),
            (TextVAE, "forward", "sentences scored", lambda given, _: len(given[1].index)),
            (Codec, "_texts", "sentences decoded", lambda _, texts: len(texts)),
        )
        options = ("--iw-samples", arguments.iw_samples, "--samples", arguments.samples)
        with ExitStack() as stack:
            for owner, function, name, size in counters:
                counted = counting(counts, name, getattr(owner, function), size)
                stack.enter_context(patch.object(owner, function, counted))
            began = time.process_time()
            done = CliRunner().invoke(app, ["evaluate", str(folder), "--all", *map(str, options)])
            seconds = time.process_time() - began
        assert done.exit_code == 0, done.output
    found = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    print(f"evaluate --all: {seconds:.1f} s of the processor; {found}")
    if arguments.json:
        write_json(arguments.json, {**machine(), "seconds": seconds, **counts})


if __name__ == "__main__":
    main()
