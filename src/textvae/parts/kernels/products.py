"""Matrix products, by the fastest program that there is for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# `F.linear` through oneDNN; no gradients. None where torch was built without it.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def product(left: Float[Tensor, "row size"], right: Float[Tensor, "column size"]) -> Float[Tensor, "row column"]:
    """`left @ right.T`, without gradients in float32 on a CPU, where oneDNN does it.

    torch multiplies float32 matrices with MKL, which is slow on some processors: here oneDNN, which torch takes for
    bfloat16, is about twice as fast (`benchmarks/products.py`).
    """
    return linear(left, right, None)


def linear(
    inputs: Float[Tensor, "row size"], weight: Float[Tensor, "out size"], bias: Float[Tensor, " out"] | None
) -> Float[Tensor, "row out"]:
    """`F.linear`; where no gradient is needed through oneDNN also in float32, see `product`."""
    through_torch = (
        _ONEDNN is None
        or inputs.device.type != "cpu"
        or inputs.dtype != torch.float32
        or not inputs.numel()
        or torch.is_autocast_enabled("cpu")
        or torch.is_grad_enabled()
    )
    if through_torch:
        return F.linear(inputs, weight, bias)
    return _ONEDNN(inputs, weight, bias, "none", [], "")


@contextmanager
def exactly(cudnn: bool = True) -> Iterator[None]:
    """Keep CUDA to true float32 and to kernels that give the same bits twice, within.

    These are cuDNN's, or without `cudnn` torch's own. By itself cuDNN rounds what recurrent networks and
    convolutions multiply to 10 bits (TF32).
    """
    own = torch.backends.cudnn
    if not torch.cuda.is_available():
        yield
        return
    enabled = own.enabled and cudnn
    with own.flags(enabled, own.benchmark, own.benchmark_limit, deterministic=True, allow_tf32=False):
        yield
