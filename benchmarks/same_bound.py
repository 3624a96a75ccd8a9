"""Does bfloat16 training reach the bound of float32? The same batches from the same weights, 1,000 updates each.

    TEXTVAE_DATA=CORPORA python benchmarks/same_bound.py [--steps 1000] [--json FILE]

The two runs differ in `train.precision` alone: seed, batches, noise and dropout are the same. The bound is
validated in float32 in both.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from measuring import machine, write_json
from textvae.objective.presets import load_settings
from textvae.training.loop import train


def bound(precision: str, steps: int) -> float:
    """The validation bound after so many updates, nats per sentence."""
    settings = load_settings(
        method="vanilla",
        data={"corpus": "ptb"},
        train={"precision": precision, "max_steps": steps, "device": "cpu"},
    )
    with tempfile.TemporaryDirectory() as folder:
        run = train(settings, Path(folder) / "run")
        return run.log()[-1]["bound"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bounds = {precision: bound(precision, arguments.steps) for precision in ("bf16", "fp32")}
    difference = bounds["bf16"] / bounds["fp32"] - 1
    both = ", ".join(f"{precision} {value:.3f}" for precision, value in bounds.items())
    print(f"bound after {arguments.steps:,} updates: {both}: {difference:+.3%}")
    if arguments.json:
        write_json(arguments.json, {**machine(), "bounds": bounds, "relative_difference": difference})


if __name__ == "__main__":
    main()
