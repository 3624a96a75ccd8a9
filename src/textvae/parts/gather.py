"""The whole global batch on every process, so that a statistic of N processes is that of one."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Concatenates every process's rows; backwards, each process gets the sum of what all ask of its rows."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001, D102
        size = torch.tensor(len(rows), device=rows.device)
        sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, size)
        counts = [int(count) for count in sizes]
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.start, ctx.size = sum(counts[: dist.get_rank()]), len(rows)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001, D102
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # others may be handed the same one
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.size]


def gathered(rows: Float[Tensor, "batch *any"]) -> Float[Tensor, "total *any"]:
    """Return the rows of all processes, in the order of their ranks, with gradients; with one process, the rows.

    Every process computes the same loss from the same gathered rows. Backwards each process's rows get the sum
    over the processes of its gradient, N times the one-process gradient, and the mean that data-parallel
    training takes over processes makes that the one-process gradient exactly, however unequal the shares.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    return _Gather.apply(rows)


def summed(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return sums over all processes, without gradients."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values
