"""Decoding of 1,000 prior samples and encoding of a file, as ratios.

Greedy decoding in a batch against one at a time, a beam of 5 against greedy, and `Trained.encode` of 1,000
sentences of 4 to 30 words in one call against a call for each.

    python benchmarks/decoding.py [--single 50] [--json FILE]

The model has PTB's sizes and random weights, so that sentences end late and all lengths are equal work: what is
measured is decoding, not a model. One at a time is measured on `--single` codes or sentences and scaled to 1,000.
"""

import argparse
import random
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from measuring import machine, timed, write_json
from textvae.generate.decoding import Decoding, generate, greedy
from textvae.generate.trained import Trained
from textvae.model import TextVAE, build
from textvae.objective import TERMS
from textvae.run import Run
from textvae.settings import Model, parse
from textvae.tokenizers import Tokenizer

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
    model = build(Model(), VOCABULARY).eval()
    z = torch.randn(SAMPLES, model.decoder.first_state.in_features)

    def batched(number: int) -> None:
        greedy(model.decoder, z, LENGTH)

    def single(number: int) -> None:
        for row in range(arguments.single):
            greedy(model.decoder, z[row : row + 1], LENGTH)

    def beam(number: int) -> None:
        generate(model.decoder, z, Decoding("beam", beam=BEAM), LENGTH)

    trained, texts = with_text(model)

    def encoded(number: int) -> None:
        trained.encode(texts)

    def encoded_singly(number: int) -> None:
        for text in texts[: arguments.single]:
            trained.encode([text])

    contenders = {"batched": batched, "single": single, "beam": beam}
    contenders |= {"encoded": encoded, "encoded singly": encoded_singly}
    rounds, beams, encodings = [], [], []
    for _ in range(arguments.repeats):
        seconds = timed(contenders, 1)
        rounds.append(seconds["single"] * SAMPLES / arguments.single / seconds["batched"])
        beams.append(seconds["beam"] / seconds["batched"])
        encodings.append(seconds["encoded singly"] * SAMPLES / arguments.single / seconds["encoded"])
    print(f"1,000 greedy samples, batched : one at a time: {median(rounds):.0f}x (of {[round(r) for r in rounds]})")
    print(f"1,000 samples, beam of {BEAM} : greedy: {median(beams):.1f}x (of {[round(b, 1) for b in beams]})")
    shown = [round(ratio, 1) for ratio in encodings]
    print(f"1,000 sentences encoded, in one call : one at a time: {median(encodings):.1f}x (of {shown})")
    if arguments.json:
        results = {"ratio": median(rounds), "ratios": rounds, "beam": median(beams), "beams": beams}
        results |= {"encoding": median(encodings), "encodings": encodings}
        write_json(arguments.json, {**machine(), **results})


def with_text(model: TextVAE) -> tuple[Trained, list[str]]:
    """The model with a vocabulary, and sentences of it; the first ones are a sample of all lengths."""
    words = [f"w{number}" for number in range(VOCABULARY - 4)]
    chosen = random.Random(0)
    texts = [" ".join(chosen.choices(words, k=chosen.randint(4, LENGTH))) for _ in range(SAMPLES)]
    with TemporaryDirectory() as folder:
        settings = parse({"data": {"corpus": "none.txt", "max_length": LENGTH}}, TERMS)
        run = Run.create(Path(folder) / "run", settings, Tokenizer.train("word", words, None, 1), {})
    return Trained(run, model), texts


if __name__ == "__main__":
    with torch.no_grad():
        main()
