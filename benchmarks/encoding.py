"""Encoding a file of sentences, piece by piece into a file of codes, against one sentence at a time, as a ratio.

    python benchmarks/encoding.py [--sentences 10000] [--json FILE]

The model has PTB's sizes and random weights; sentences have 5 to 35 random words. One at a time is measured on
`--single` sentences and scaled.
"""

import argparse
import random
import tempfile
from pathlib import Path
from statistics import median

import torch

from measuring import machine, timed, write_json
from textvae.files import write_tensors
from textvae.generate.codes import encode_file
from textvae.generate.trained import load
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.text.tokenizers import Tokenizer

WORDS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--single", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    chosen = random.Random(0)
    words = [f"w{number}" for number in range(WORDS)]
    texts = [" ".join(chosen.choices(words, k=chosen.randint(5, 35))) for _ in range(arguments.sentences)]
    with tempfile.TemporaryDirectory() as place:
        settings = load_settings(None, "vanilla", (), data={"corpus": "random"})
        run = Run.create(Path(place) / "run", settings, Tokenizer.train("word", [" ".join(words)], None, 1), {})
        model = build(settings.model, len(run.tokenizer))
        write_tensors(run.folder / "model.safetensors", model.state_dict())
        trained = load(run.folder)

        def file(number: int) -> None:
            encode_file(trained, iter(texts), Path(place) / "codes.npy")

        def single(number: int) -> None:
            for text in texts[: arguments.single]:
                trained.encode([text])

        ratios = []
        for _ in range(arguments.repeats):
            seconds = timed({"file": file, "single": single}, 1)
            ratios.append(seconds["single"] * arguments.sentences / arguments.single / seconds["file"])
    print(f"{arguments.sentences:,} sentences, as a file : one at a time: {median(ratios):.1f}x ({ratios})")
    if arguments.json:
        write_json(arguments.json, {**machine(), "ratio": median(ratios), "ratios": ratios})


if __name__ == "__main__":
    main()
