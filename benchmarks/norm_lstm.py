"""The LSTM with layer-normalised gates against torch's own without: its share of that one's speed.

python benchmarks/norm_lstm.py [--threads 2] [--repeats 11] [--json FILE]

One layer alone, on inputs that ask for their gradient: forward and backward, and forward without gradients as in
evaluation; both networks in the same precision.
"""

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from measuring import machine, timed, write_json
from textvae.parts.kernels.norm_lstm import NormLstm


def step_of(
    network: nn.Module, inputs: torch.Tensor, pull: torch.Tensor, bfloat16: bool, training: bool
) -> Callable[[int], None]:
    def step(_: int) -> None:
        with torch.set_grad_enabled(training), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            outputs, _ = network(inputs)
        if training:
            network.zero_grad(set_to_none=True)
            inputs.grad = None
            outputs.backward(pull.to(outputs.dtype))

    return step


def compare(batch: int, time: int, size: int, repeats: int) -> dict[str, float]:
    """nn.LSTM's seconds over ours, the median of the repeats, of either norm in both precisions."""
    inputs, pull = torch.randn(batch, time, size, requires_grad=True), torch.randn(batch, time, size)
    networks = {
        "torch": nn.LSTM(size, size, batch_first=True),
        "four gates jointly": NormLstm(size, size, 1, joint=True),
        "each gate": NormLstm(size, size, 1, joint=False),
    }
    shares = {}
    for training in (True, False):
        for bfloat16 in (False, True):
            steps = {name: step_of(net, inputs, pull, bfloat16, training) for name, net in networks.items()}
            seconds = [timed(steps, turns=2) for _ in range(repeats)]
            case = f"{'forward and backward' if training else 'no gradients'}, {'bf16' if bfloat16 else 'fp32'}"
            for name in list(networks)[1:]:
                shares[f"{case}, {name}"] = median(spent["torch"] / spent[name] for spent in seconds)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="32/25/512", help="batch/time/units, and as many inputs as units")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    batch, time, size = map(int, arguments.size.split("/"))
    shares = compare(batch, time, size, arguments.repeats)
    for case, share in shares.items():
        print(f"{case:>45}: {share:.2f} of nn.LSTM's speed")
    results: dict[str, Any] = {"size": arguments.size, "share of nn.LSTM's speed": shares}
    if arguments.json:
        write_json(arguments.json, {**machine(), "results": results})


if __name__ == "__main__":
    main()
