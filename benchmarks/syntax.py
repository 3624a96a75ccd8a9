"""The syntactic test in batches against one pair and one score at a time, as a ratio; and the whole small file.

    python benchmarks/syntax.py [--size 256/512/32 --vocabulary 10000] [--device cuda] [--json FILE]

Pairs of 7 to 11 words, like those of Marvin and Linzen 2018, that differ in one; a model with random weights. One
at a time: both sentences encoded, then each scored under each of four codes, all by themselves, `--single` pairs.
"""

import argparse
import random
import time
from pathlib import Path
from statistics import median

import torch

from measuring import machine, timed, write_json
from textvae.batches import Batch
from textvae.generate.syntax import Pair, syntactic_test
from textvae.generate.trained import Trained
from textvae.model import build
from textvae.objective import load_settings
from textvae.run import Run
from textvae.scores import evaluating, on
from textvae.tokenizers import EOS, Tokenizer

SMALL_FILE = 13_748


def pairs_of(words: list[str], number: int) -> list[Pair]:
    chosen, found = random.Random(0), []
    for row in range(number):
        good = chosen.choices(words, k=chosen.randint(7, 11))
        bad = list(good)
        bad[-chosen.randint(1, 4)] = chosen.choice(words[:50])
        found.append(Pair(" ".join(good), " ".join(bad), f"category {row % 20}", f"condition {row % 60}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="64/128/16", help="embedding/hidden/latent (default: the quickstart's)")
    parser.add_argument("--vocabulary", type=int, default=300, help="words of the model")
    parser.add_argument("--pairs", type=int, default=2000)
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
    words = [f"w{number}" for number in range(arguments.vocabulary)]
    tokenizer = Tokenizer.train("word", [" ".join(words)], None, 1)
    model = build(settings.model, len(tokenizer)).to(arguments.device)
    trained = Trained(Run(Path("none"), settings, tokenizer, {}), model)
    pairs = pairs_of(words, arguments.pairs)

    def alone(text: str) -> Batch:
        (ids,) = tokenizer.encode([text])
        batch = Batch(torch.tensor([[*ids, EOS]]), torch.tensor([len(ids) + 1]), torch.tensor([0]))
        return on(model.device, batch)

    def single(number: int) -> None:
        with evaluating(model):
            for pair in pairs[: arguments.single]:
                batches = alone(pair.good), alone(pair.bad)
                codes = [model.encode(batch).mean for batch in batches]
                for z in (*codes, *codes):
                    for batch in batches:
                        model.log_px(batch, z[None]).sum().item()

    def batched(number: int) -> None:
        syntactic_test(trained, pairs)

    rounds, seconds = [], []
    for _ in range(arguments.repeats):
        spent = timed({"batched": batched, "single": single}, 1)
        rounds.append(spent["single"] / arguments.single / (spent["batched"] / len(pairs)))
        began = time.perf_counter()
        batched(0)
        seconds.append((time.perf_counter() - began) * SMALL_FILE / len(pairs))
    found = [round(ratio, 1) for ratio in rounds]
    print(
        f"{arguments.size}, {len(tokenizer):,} words, in batches : one at a time: {median(rounds):.1f}x (of {found})"
    )
    print(f"{SMALL_FILE:,} pairs would take {median(seconds):.1f} s")
    if arguments.json:
        results = {"size": arguments.size, "vocabulary": len(tokenizer), "ratio": median(rounds), "ratios": rounds}
        write_json(arguments.json, {**machine(), **results, "device": arguments.device, "small_file": seconds})


if __name__ == "__main__":
    main()
