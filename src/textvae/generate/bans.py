"""Tokens that a text may not go on with: control tokens, an early end, and repeated sequences."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from textvae.text.tokenizers import BOS, EOS, PAD


@dataclass(frozen=True)
class Bans:
    """Tokens that are not written: `never`, an end mark before `min_length` tokens, and repetitions.

    With `no_repeat` = N no sequence of N tokens comes twice in a text, overlapping ones included. End marks are in
    no sequence and always allowed by this rule; a text that nothing else may follow ends even before `min_length`.
    """

    never: tuple[int, ...] = (PAD, BOS)
    min_length: int = 0
    no_repeat: int = 0

    def apply(self, logits: Float[Tensor, "row word"], ids: Int[Tensor, "row time"]) -> None:
        """Set the logits of tokens that may not follow `ids` to -inf, in place."""
        early = ids.shape[1] < self.min_length
        end = logits[:, EOS].clone() if early and self.no_repeat else None
        for word in (*self.never, EOS) if early else self.never:
            logits[:, word] = -math.inf
        if self.no_repeat:
            row, token = repeating(ids, self.no_repeat)
            logits[row, token] = -math.inf
        if end is not None:
            stuck = logits.isneginf().all(dim=1)
            logits[stuck, EOS] = end[stuck]


def repeating(ids: Int[Tensor, "row time"], n: int) -> tuple[Int[Tensor, " ban"], Int[Tensor, " ban"]]:
    """Return the row and token of each token that would repeat a sequence of n tokens of its row.

    >>> import torch
    >>> row, word = repeating(torch.tensor([[5, 6, 7, 5, 6], [5, 6, 7, 8, 9]]), 3)
    >>> row.tolist(), word.tolist()
    ([0], [7])
    """
    if ids.shape[1] < n:
        return ids.new_empty(0), ids.new_empty(0)
    sequences = ids.unfold(1, n, 1)
    last = ids[:, ids.shape[1] - n + 1 :]
    same = (sequences[:, :, :-1] == last[:, None]).all(dim=2) & (sequences != EOS).all(dim=2)
    row, place = same.nonzero(as_tuple=True)
    return row, sequences[row, place, -1]
