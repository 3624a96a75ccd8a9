"""What architectures cost: a training step of the hybrid against the LSTM VAE, and generation as texts grow.

    python benchmarks/architectures.py [--length 60] [--batch 64] [--precision fp32] [--json FILE]

Training: characters a second of the hybrid model of Semeniuta et al. 2017 (convolutions, a layer-norm LSTM of 500
on top) as a multiple of an LSTM VAE (two layer-norm LSTMs, z in the first state) of as many parameters, on random
characters. Generation: seconds of a text of 4 n tokens over those of n, 64 side by side; 4 is linear.
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from measuring import machine, timed, write_json
from textvae.generate.decoding import Decoding, generate
from textvae.model import TextVAE, build
from textvae.objective.objective import Objective
from textvae.objective.presets import load_settings
from textvae.parts.noise import step_noise
from textvae.text.batches import Batch

CHARACTERS, LATENT, TOP = 54, 50, 500
GENERATED, ROWS = 50, 64
DECODERS = {
    "lstm": {"name": "lstm"},
    "gated-convolutional": {"name": "gated-convolutional"},
    "bytenet": {"name": "bytenet"},
    "transformer": {"name": "transformer"},
}


def model_of(tables: Mapping[str, Any], length: int) -> tuple[TextVAE, Objective]:
    """A model of characters and its objective."""
    objective = {"kl": {}, "auxiliary": {"weight": 0.2}} if tables["decoder"]["name"] == "hybrid" else {"kl": {}}
    settings = load_settings(model={"latent": LATENT, "embedding": CHARACTERS, **tables}, objective=objective)
    torch.manual_seed(0)
    return build(settings.model, CHARACTERS, settings.terms(), length), Objective(settings.objective, 1)


def hybrid() -> dict[str, Any]:
    """The paper's sizes on Penn Treebank."""
    top = {"name": "lstm", "hidden": TOP, "norm": "layer"}
    return {"encoder": {"name": "convolutional"}, "decoder": {"name": "hybrid", "top": top}}


def recurrent(hidden: int) -> dict[str, Any]:
    """Two layer-norm LSTMs; z in the first state alone."""
    decoder = {"name": "lstm", "hidden": hidden, "norm": "layer", "inject": ["state"], "dropout": 0.0}
    return {"encoder": {"name": "lstm", "hidden": hidden, "norm": "layer"}, "decoder": decoder}


def parameters(model: TextVAE) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def equal_in_size(wanted: int, length: int) -> int:
    """The units at which the LSTM VAE has as many parameters."""
    return min(
        range(100, 1000, 4), key=lambda units: abs(parameters(model_of(recurrent(units), length)[0]) - wanted)
    )


def step_of(model: TextVAE, objective: Objective, batches: list[Batch], precision: str) -> Callable[[int], None]:
    """Forward, backward and Adam on one of the batches."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        noise = step_noise(0, number, len(batch.ids), slice(None))
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            loss, _ = objective(model(batch, noise), 0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def training(length: int, size: int, turns: int, precision: str) -> dict[str, Any]:
    """Seconds of a step of each of the two, and their sizes."""
    built = {"hybrid": model_of(hybrid(), length)}
    units = equal_in_size(parameters(built["hybrid"][0]), length)
    built["lstm"] = model_of(recurrent(units), length)
    ids = torch.randint(4, CHARACTERS, (4, size, length))
    lengths = torch.full((size,), length)
    batches = [Batch(part, lengths, torch.arange(size)) for part in ids]
    spent = timed({name: step_of(*pair, batches, precision) for name, pair in built.items()}, turns)
    sizes = {name: parameters(model) for name, (model, _) in built.items()}
    return {"units": units, "parameters": sizes, "seconds": spent, "ratio": spent["lstm"] / spent["hybrid"]}


def text_of(model: TextVAE, z: torch.Tensor, length: int) -> Callable[[int], object]:
    """Greedy decoding of all codes up to a length."""
    return lambda number: generate(model.decoder, z, Decoding(), length)


def generation(turns: int) -> dict[str, float]:
    """Seconds of a text four times as long over those of a short one, by decoder."""
    found = {}
    for name, decoder in DECODERS.items():
        model, _ = model_of({"decoder": decoder}, 4 * GENERATED)
        model.eval()
        z = torch.randn(ROWS, LATENT)
        with torch.no_grad():
            model.decoder.words.bias[3] = -1e9  # no text ends before its length
        spent = timed({str(times): text_of(model, z, times * GENERATED) for times in (1, 4)}, turns)
        found[name] = spent["4"] / spent["1"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = training(arguments.length, arguments.batch, arguments.turns, arguments.precision)
    sizes = found["parameters"]
    print(f"hybrid ({sizes['hybrid']:,} parameters) against two LSTMs of {found['units']} ({sizes['lstm']:,}):")
    print(f"characters a second, hybrid : LSTM VAE = {found['ratio']:.2f}")
    grown = generation(2)
    for name, ratio in grown.items():
        print(f"{name:>20}: a text of {4 * GENERATED} tokens takes {ratio:.1f}x one of {GENERATED}")
    if arguments.json:
        write_json(arguments.json, {**machine(), "training": found, "generation": grown})


if __name__ == "__main__":
    main()
