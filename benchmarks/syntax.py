"""The syntactic test against one pair and one score at a time, as a ratio; and the seconds of the whole small file.

    python benchmarks/syntax.py [--size 256/512/32 --vocabulary 10000] [--every 5] [--json FILE]

Pairs of Marvin and Linzen 2018 (`TEXTVAE_DATA`), every 5th condition; a model with random weights. One at a time:
both sentences encoded, then each scored under each of the four codes, all by themselves, on `--single` pairs.
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median

import torch

from measuring import machine, timed, write_json
from textvae.evaluation.syntax import read_pairs, syntactic_test
from textvae.generate.trained import Trained
from textvae.inference import evaluating
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.text.batches import Batch
from textvae.text.tokenizers import EOS, Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="64/128/16", help="embedding/hidden/latent (default: the quickstart's)")
    parser.add_argument("--vocabulary", type=int, default=300, help="words of the model")
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--single", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    embedding, hidden, latent = map(int, arguments.size.split("/"))
    sizes = {"embedding": embedding, "latent": latent, "encoder": {"hidden": hidden}, "decoder": {"hidden": hidden}}
    settings = load_settings(data={"corpus": "none.txt"}, model=sizes)
    every = read_pairs(Path(os.environ["TEXTVAE_DATA"]) / "syntax_marvin_linzen" / "pairs_small.tsv")
    more = [f"w{number}" for number in range(arguments.vocabulary)]
    texts = [text for pair in every for text in pair[:2]]
    tokenizer = Tokenizer.train("word", [*texts, " ".join(more)], arguments.vocabulary, 1)
    model = build(settings.model, len(tokenizer)).to(arguments.device)
    trained = Trained(Run(Path("none"), settings, tokenizer, {}), model)
    conditions = list(dict.fromkeys(pair[2:] for pair in every))[:: arguments.every]
    pairs = [pair for pair in every if pair[2:] in conditions]
    some = pairs[:: max(1, len(pairs) // arguments.single)]

    def alone(text: str) -> Batch:
        (ids,) = tokenizer.encode([text])
        batch = Batch(torch.tensor([[*ids, EOS]]), torch.tensor([len(ids) + 1]), torch.tensor([0]))
        return batch.to(model.device)

    def single(number: int) -> None:
        with evaluating(model):
            for pair in some:
                batches = alone(pair.good), alone(pair.bad)
                codes = [model.encode(batch).mean for batch in batches]
                for z in (*codes, *codes):
                    for batch in batches:
                        model.log_px(batch, z[None]).sum().item()

    def together(number: int) -> None:
        syntactic_test(trained, pairs)

    rounds, seconds = [], []
    for _ in range(arguments.repeats):
        spent = timed({"together": together, "single": single}, 1)
        rounds.append(spent["single"] / len(some) / (spent["together"] / len(pairs)))
        began = time.perf_counter()
        together(0)
        seconds.append((time.perf_counter() - began) * len(every) / len(pairs))
    found = [round(ratio, 1) for ratio in rounds]
    print(
        f"{arguments.size}, {len(tokenizer):,} words: together : one at a time {median(rounds):.1f}x (of {found})"
    )
    print(f"all {len(every):,} pairs would take {median(seconds):.1f} s")
    if arguments.json:
        results = {"size": arguments.size, "vocabulary": len(tokenizer), "ratio": median(rounds), "ratios": rounds}
        write_json(arguments.json, {**machine(), **results, "device": arguments.device, "small_file": seconds})


if __name__ == "__main__":
    main()
