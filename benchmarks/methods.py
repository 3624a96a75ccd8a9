"""What a step of each method costs, as a multiple of a step of vanilla, all measured in one run.

    TEXTVAE_DATA=CORPORA python benchmarks/methods.py [--methods NAME ...] [--size 256/512/32] [--json FILE]

Steps are those of the training loop, on the same batches of PTB in turn. Besides the methods one contender is a
decoder pass: the decoder forward and backward on a batch with its code. A semi-implicit step with J = 5 codes and
K = 50 components is to cost at most 3 vanilla steps and J - 1 decoder passes.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from measuring import machine, timed, write_json
from textvae.objective.presets import load_settings, methods
from textvae.run import Run
from textvae.text.batches import collate, epoch_batches
from textvae.text.corpus import open_corpus
from textvae.training.job import join
from textvae.training.launch import precision_for
from textvae.training.loop import Loop

BATCH, STEPS, TURN = 32, 12, 2
CODES = 5  # J of the method semi-implicit
LEFT_OUT = {"aggressive-semi-implicit", "kl-annealing-converged"}  # sums of what is measured


def loop_of(method: str, folder: Path, size: tuple[int, int, int], assignments: list[str]) -> Loop:
    """A training loop of a method on PTB that stands before its first step."""
    embedding, hidden, latent = size
    model: dict[str, Any] = {"embedding": embedding, "encoder": {"hidden": hidden}, "decoder": {"hidden": hidden}}
    if method != "language-model":
        model["latent"] = latent
    data = {"corpus": "ptb", "tokenizer": {"vocabulary": 10_000}}
    train = {"device": "cpu", "batch_size": BATCH}
    settings = load_settings(None, method, assignments, data=data, model=model, train=train)
    corpus = open_corpus(settings.data)
    train = settings.train.model_copy(update={"precision": precision_for(settings, len(corpus.tokenizer))})
    settings = settings.model_copy(update={"train": train})
    run = Run.create(folder / method, settings, corpus.tokenizer, corpus.description())
    return Loop(run, corpus, join(settings))


def step_of(loop: Loop, batches: list[Any]) -> Callable[[int], None]:
    """The loop's own step on one of these batches; of aggressive training with its inner updates."""

    def step(number: int) -> None:
        loop.epochs.batches, loop.epochs.epoch = batches, 0
        loop.state.step = number
        loop._step()

    return step


def decoder_step(loop: Loop, batches: list[Any]) -> Callable[[int], None]:
    """The decoder alone, forward and backward, with a code that asks for its gradient."""
    model, store = loop.model, loop.corpus.split("train")

    def step(number: int) -> None:
        batch = collate(store, batches[number])
        z = torch.zeros(1, len(batch.ids), loop.settings.model.latent, requires_grad=True)
        model.zero_grad(set_to_none=True)
        with loop.job.autocast():
            log_px = model.log_px(batch, z)
        (-log_px.sum() / len(batch.ids)).backward()

    return step


def compare(names: list[str], size: tuple[int, int, int], steps: int, turn: int) -> Mapping[str, float]:
    """Seconds of a step of each method and of a decoder pass."""
    with tempfile.TemporaryDirectory() as place:
        # K and the weights are at their ends from the first step on: the full price.
        ends = {
            "semi-implicit": ["model.posterior.components=50"],
            "semi-implicit-cyclical": ["model.posterior.components=50"],
        }
        loops = {name: loop_of(name, Path(place), size, ends.get(name, [])) for name in names}
        store = next(iter(loops.values())).corpus.split("train")
        batches = epoch_batches(store.lengths, BATCH, 0, 0)[:steps]
        contenders = {name: step_of(loop, batches) for name, loop in loops.items()}
        contenders["decoder pass"] = decoder_step(loops["vanilla"], batches)
        spent = timed(contenders, steps // turn, turn)
    return {name: seconds / steps for name, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(set(methods()) - LEFT_OUT)
    parser.add_argument("--methods", nargs="+", default=known, choices=known)
    parser.add_argument("--size", default="256/512/32", help="embedding/hidden/latent")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    if "TEXTVAE_DATA" not in os.environ:
        parser.error("set TEXTVAE_DATA to the folder of corpora that holds ptb")
    torch.set_num_threads(arguments.threads)
    embedding, hidden, latent = map(int, arguments.size.split("/"))
    names = ["vanilla", *(name for name in arguments.methods if name != "vanilla")]
    seconds = compare(names, (embedding, hidden, latent), arguments.steps, TURN)
    vanilla, decoder = seconds["vanilla"], seconds["decoder pass"]
    for name, spent in sorted(seconds.items(), key=lambda item: item[1]):
        print(f"{name:>24}  {spent / vanilla:6.2f}x vanilla")
    results: dict[str, Any] = {"size": arguments.size, "seconds": seconds}
    if "semi-implicit" in seconds:
        allowed = 3 * vanilla + (CODES - 1) * decoder
        results["semi-implicit, share of what it may cost"] = seconds["semi-implicit"] / allowed
        print(f"semi-implicit takes {seconds['semi-implicit'] / allowed:.2f} of 3 vanilla steps + 4 decoder passes")
    if arguments.json:
        write_json(arguments.json, {**machine(), "results": results})


if __name__ == "__main__":
    main()
