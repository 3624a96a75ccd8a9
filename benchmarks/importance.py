"""IW-NLL in batches against one sample and one sentence at a time, as a ratio; and the same for any chunking.

    python benchmarks/importance.py [--sizes 256/512/32] [--json FILE]

On the embedded corpus with 500 samples a sentence, as `textvae evaluate` does it. One at a time is measured on
`--single` pairs of sentence and sample and scaled.
"""

import argparse
from statistics import median

import numpy as np
import torch

from measuring import machine, timed, write_json
from textvae.evaluation.importance import importance_weights
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.text.corpus import open_corpus

SAMPLES, SENTENCES = 500, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="64/128/16", help="embedding/hidden/latent (default: the quickstart's)")
    parser.add_argument("--vocabulary", type=int, help="words of the model (default: the corpus's)")
    parser.add_argument("--single", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    embedding, hidden, latent = map(int, arguments.size.split("/"))
    sizes = {"embedding": embedding, "latent": latent, "encoder": {"hidden": hidden}, "decoder": {"hidden": hidden}}
    settings = load_settings(method="vanilla", data={"corpus": "grammar"}, model=sizes)
    corpus = open_corpus(settings.data)
    model = build(settings.model, arguments.vocabulary or len(corpus.tokenizer)).eval()
    store, rows = corpus.split("test"), np.arange(SENTENCES)

    def batched(number: int) -> None:
        importance_weights(model, store, rows, SAMPLES)

    def single(number: int) -> None:
        for at in range(arguments.single):
            importance_weights(model, store, rows[at % SENTENCES : at % SENTENCES + 1], 1, seed=at)

    contenders = {"batched": batched, "single": single}
    rounds = []
    for _ in range(arguments.repeats):
        seconds = timed(contenders, 1)
        rounds.append(seconds["single"] * SAMPLES * SENTENCES / arguments.single / seconds["batched"])
    whole = importance_weights(model, store, rows, SAMPLES, tokens=1_000_000).nll
    differences = [
        (importance_weights(model, store, rows, SAMPLES, tokens=tokens).nll - whole).abs().max().item()
        for tokens in (100, 1000, 16_384)
    ]
    ratio, found = median(rounds), [round(r) for r in rounds]
    print(f"IW-NLL at {arguments.size}, batched : one at a time: {ratio:.0f}x (of {found})")
    print(f"largest difference between chunkings: {max(differences):.1e} nats")
    if arguments.json:
        results = {
            "size": arguments.size,
            "ratio": median(rounds),
            "ratios": rounds,
            "difference": max(differences),
        }
        write_json(arguments.json, {**machine(), **results})


if __name__ == "__main__":
    main()
