"""Inputs of decoders at each position: the previous word, and the code or the code's features there."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textvae.settings.problems import Problem
from textvae.text.tokenizers import BOS, UNK


def previous(ids: Int[Tensor, "batch time"], keep: float, training: bool) -> Int[Tensor, "batch time"]:
    """Return the word before each, after word dropout; the begin mark before the first.

    >>> previous(torch.tensor([[7, 8, 3]]), keep=1.0, training=True).tolist()
    [[2, 7, 8]]
    """
    return torch.cat([ids.new_full((len(ids), 1), BOS), dropped(ids[:, :-1], keep, training)], dim=1)


def dropped(ids: Int[Tensor, "*any"], keep: float, training: bool) -> Int[Tensor, "*any"]:
    """Word dropout: each word but the begin mark stays with probability `keep` and else becomes the unknown word.

    In training only, but at a keep rate of 0 ("inputless") always.

    References: Bowman et al. 2016, section 3.1.
    """
    if keep == 1.0 or not (training or keep == 0.0):
        return ids
    kept = torch.rand(ids.shape, device=ids.device) < keep
    return torch.where(kept | (ids == BOS), ids, UNK)


def along(z: Float[Tensor, "sample batch *size"], time: int) -> Float[Tensor, "sample batch time size"]:
    """Return what is seen of a code at the first `time` positions: all of it, or a position's features."""
    return z[:, :, :time] if z.dim() == 4 else z[:, :, None].expand(-1, -1, time, -1)


def at(z: Float[Tensor, "row *size"], position: int) -> Float[Tensor, "row size"]:
    """Return what is seen of a code at one position."""
    return z[:, position] if z.dim() == 3 else z


def unseen_code(latent: int, inject: Sequence[str], other: str) -> list[Problem]:
    """Return the problem of a code that is injected nowhere; `other` is the place beside the inputs."""
    if inject or not latent:
        return []
    return [Problem("inject", "the decoder would never see z", f"give '{other}', 'input' or both", value=[])]
