"""Training speed: the library's own step against a plain implementation of the same model, as ratios.

    TEXTVAE_DATA=CORPORA python benchmarks/training.py [--json FILE] [--sizes 256/512/32 512/1024/32]

Four contenders work through the same sentences of PTB, a few steps of each in turn, so that whatever else the
machine does falls on all alike:

- `ours`: `textvae.training.updates.joint` with the library's batches, noise and objective;
- `plain`: `plain.py` on padded batches in random order;
- `plain, like lengths`: `plain.py` on batches of the same sentences as `ours`;
- `kernels`: nothing but the matrix products and LSTM kernels of our step, at the same shapes and precision.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from measuring import machine, timed, write_json
from plain import PlainVAE, plain_step
from textvae.model import build
from textvae.objective.objective import Objective
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.parts.noise import mixed, step_noise
from textvae.text.batches import TokenStore, collate, epoch_batches
from textvae.text.corpus import Corpus, open_corpus
from textvae.training.job import join
from textvae.training.launch import precision_for
from textvae.training.updates import JointUpdate, StepInput, optimizer_for

BATCH, POOL, TURN = 32, 100, 5
# One step of a contender on the batch of this number.
Step = Callable[[int], Any]


class Size(NamedTuple):
    """Embedding, hidden and latent size."""

    embedding: int
    hidden: int
    latent: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """From `256/512/32`."""
        return cls(*map(int, text.split("/")))

    def __str__(self) -> str:
        return "/".join(map(str, self))


def settings_for(size: Size, precision: str, cell: str = "lstm") -> Settings:
    """PTB's first 10,000 words, batch 32, dropout 0.3, Adam and clipping as the library has them."""
    return load_settings(
        method="vanilla",
        data={"corpus": "ptb", "tokenizer": {"vocabulary": 10_000}},
        model={
            "embedding": size.embedding,
            "latent": size.latent,
            "encoder": {"name": cell, "hidden": size.hidden},
            "decoder": {"name": cell, "hidden": size.hidden, "dropout": 0.3},
        },
        train={"precision": precision, "device": "cpu", "batch_size": BATCH},
    )


def our_step(settings: Settings, corpus: Corpus, batches: Sequence[np.ndarray]) -> Step:
    """A step as `textvae.training.loop.Loop` takes it: everything between two log records."""
    store, train = corpus.split("train"), settings.train
    job = join(settings)
    torch.manual_seed(0)
    model = build(settings.model, len(corpus.tokenizer))
    optimizer = optimizer_for(model.parameters(), train.optimizer)
    objective = Objective(settings.objective, 10_000)
    update = JointUpdate(job, model, objective, optimizer, train.clip_norm, train.clip_value)

    def step(number: int) -> None:
        rows = batches[number]
        torch.manual_seed(mixed(train.seed, number, 0))
        batch = collate(store, rows).to(job.device)
        noise = step_noise(train.seed, number, len(rows), slice(0, len(rows)), job.device)
        update.step(StepInput(batch, noise, number))

    return step


def plain_steps(size: Size, corpus: Corpus, batches: Sequence[np.ndarray]) -> Step:
    """A step of the plain implementation on the same sentences."""
    store = corpus.split("train")
    torch.manual_seed(0)
    model = PlainVAE(len(corpus.tokenizer), *size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    sentences = {row: torch.from_numpy(store[row].astype(np.int64)) for rows in batches for row in rows.tolist()}

    def step(number: int) -> None:
        plain_step(model, optimizer, [sentences[row] for row in batches[number].tolist()])

    return step


def kernels_step(size: Size, store: TokenStore, batches: Sequence[np.ndarray], vocabulary: int, dtype: Any) -> Step:
    """The matrix kernels of one step and nothing else: two LSTMs and the vocabulary's product, both ways."""
    widths = [int(store.lengths[rows].max()) for rows in batches]
    encoder = nn.LSTM(size.embedding, size.hidden, batch_first=True).to(dtype)
    decoder = nn.LSTM(size.embedding + size.latent, size.hidden, batch_first=True).to(dtype)
    weight = torch.randn(vocabulary, size.hidden).to(dtype)
    most = BATCH * max(widths)
    hidden, gradient = torch.randn(most, size.hidden).to(dtype), torch.randn(most, vocabulary).to(dtype)
    logits, to_hidden, to_weight = torch.empty_like(gradient), torch.empty_like(hidden), torch.empty_like(weight)

    def network(lstm: nn.LSTM, width: int, inputs: int) -> None:
        outputs, _ = lstm(torch.ones(BATCH, width, inputs, dtype=dtype, requires_grad=True))
        outputs.backward(torch.ones_like(outputs))

    def step(number: int) -> None:
        rows = BATCH * widths[number]
        network(encoder, widths[number], size.embedding)
        network(decoder, widths[number], size.embedding + size.latent)
        torch.mm(hidden[:rows], weight.T, out=logits[:rows])
        torch.mm(gradient[:rows], weight, out=to_hidden[:rows])
        torch.mm(gradient[:rows].T, hidden[:rows], out=to_weight)

    return step


def compare(size: Size, repeats: int, precision: str = "auto", turns: int | None = None) -> dict[str, Any]:
    """Real tokens per second of each contender and their ratios: medians over `repeats` pools of sentences."""
    settings = settings_for(size, precision)
    corpus = open_corpus(settings.data)
    store, vocabulary = corpus.split("train"), len(corpus.tokenizer)
    precision = precision_for(settings, vocabulary)
    settings = settings_for(size, precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rounds: list[dict[str, float]] = []
    for repeat in range(repeats):
        random = np.random.default_rng(repeat)
        pool = random.choice(len(store), BATCH * POOL, replace=False)
        like = [pool[rows] for rows in epoch_batches(store.lengths[pool], BATCH, 0, repeat)]
        padded = list(pool.reshape(POOL, BATCH))
        contenders = {
            "ours": our_step(settings, corpus, like),
            "plain": plain_steps(size, corpus, padded),
            "plain, like lengths": plain_steps(size, corpus, like),
            "kernels": kernels_step(size, store, like, vocabulary, dtype),
        }
        seconds = timed(contenders, (turns or POOL // TURN), TURN)
        rounds.append(seconds)
        tokens = int(store.lengths[pool].sum())
        if not turns:
            rates = "  ".join(f"{name} {tokens / spent:,.0f}" for name, spent in seconds.items())
            print(f"  {size} {precision} pool {repeat}: tokens per second: {rates}", flush=True)
    ratios = {
        "ours : plain": median(r["plain"] / r["ours"] for r in rounds),
        "ours : plain, like lengths": median(r["plain, like lengths"] / r["ours"] for r in rounds),
        "share of kernels": median(r["kernels"] / r["ours"] for r in rounds),
    }
    return {"size": str(size), "precision": precision, "ratios": ratios, "seconds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=[Size(256, 512, 32), Size(512, 1024, 32)])
    parser.add_argument("--repeats", type=int, default=3, help="pools of 3,200 sentences (default 3)")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    if "TEXTVAE_DATA" not in os.environ:
        parser.error("set TEXTVAE_DATA to the folder of corpora that holds ptb")
    torch.set_num_threads(arguments.threads)
    results = [compare(size, arguments.repeats, arguments.precision) for size in arguments.sizes]
    print(f"\n{'size':>12}  {'ours : plain':>14}  {'ours : plain, like lengths':>28}  {'share of kernels':>18}")
    for result in results:
        ratios = result["ratios"]
        print(
            f"{result['size']:>12}  {ratios['ours : plain']:>13.2f}x  "
            f"{ratios['ours : plain, like lengths']:>27.2f}x  {ratios['share of kernels']:>17.0%}"
        )
    if arguments.json:
        write_json(arguments.json, {**machine(), "results": results})


if __name__ == "__main__":
    main()
