"""Decoding of 1,000 prior samples, as ratios: in a batch against one at a time, and a beam of 5 against greedy.

    python benchmarks/decoding.py [--single 50] [--json FILE]

The model has PTB's sizes and random weights, so that sentences end late and all lengths are equal work: what is
measured is decoding, not a model. One at a time is measured on `--single` codes and scaled to 1,000.
"""

import argparse
from statistics import median

import torch

from measuring import machine, timed, write_json
from textvae.generate.decoding import Decoding, generate, greedy
from textvae.model import build
from textvae.parts.settings import ModelSettings

SAMPLES, VOCABULARY, LENGTH, BEAM = 1000, 10_004, 30, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--single", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = build(ModelSettings(), VOCABULARY).eval()
    z = torch.randn(SAMPLES, model.decoder.first_state.in_features)

    def batched(number: int) -> None:
        greedy(model.decoder, z, LENGTH)

    def single(number: int) -> None:
        for row in range(arguments.single):
            greedy(model.decoder, z[row : row + 1], LENGTH)

    def beam(number: int) -> None:
        generate(model.decoder, z, Decoding("beam", beam=BEAM), LENGTH)

    contenders = {"batched": batched, "single": single, "beam": beam}
    rounds, beams = [], []
    for _ in range(arguments.repeats):
        seconds = timed(contenders, 1)
        rounds.append(seconds["single"] * SAMPLES / arguments.single / seconds["batched"])
        beams.append(seconds["beam"] / seconds["batched"])
    print(f"1,000 greedy samples, batched : one at a time: {median(rounds):.0f}x (of {[round(r) for r in rounds]})")
    print(f"1,000 samples, beam of {BEAM} : greedy: {median(beams):.1f}x (of {[round(b, 1) for b in beams]})")
    if arguments.json:
        results = {"ratio": median(rounds), "ratios": rounds, "beam": median(beams), "beams": beams}
        write_json(arguments.json, {**machine(), **results})


if __name__ == "__main__":
    with torch.no_grad():
        main()
