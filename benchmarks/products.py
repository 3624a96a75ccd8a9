"""Float32 matrix products through oneDNN, as evaluation and decoding do them, against `F.linear`, as a ratio.

python benchmarks/products.py [--threads 2]
"""

import argparse
from statistics import median

import torch
import torch.nn.functional as F

from measuring import timed
from textvae.parts.kernels.products import linear

SHAPES = [(256, 512, 10_000), (1000, 512, 10_000), (256, 128, 400), (32, 512, 10_000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for rows, size, words in SHAPES:
        inputs, weight, bias = torch.randn(rows, size), torch.randn(words, size), torch.randn(words)
        contenders = {
            "ours": lambda _, x=inputs, w=weight, b=bias: linear(x, w, b),
            "torch": lambda _, x=inputs, w=weight, b=bias: F.linear(x, w, b),
        }
        ratios = []
        for _ in range(7):
            seconds = timed(contenders, turns=10)
            ratios.append(seconds["torch"] / seconds["ours"])
        print(f"{rows:>5} x {size} by {words:,}: {median(ratios):.2f}x the speed of F.linear")


if __name__ == "__main__":
    with torch.no_grad():
        main()
