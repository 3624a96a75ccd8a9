"""Beam search: the likeliest texts of each code, free or with some of their words given."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textvae.text.tokenizers import BOS, EOS, PAD, UNK

# Stands in a template for a word that is to be found.
BLANK = -1


class Hypothesis(NamedTuple):
    """A text that was found: its ids without the end mark, and log p(text|z) in nats, the end mark counted.

    A text that did not `end` was cut at the greatest length.
    """

    ids: list[int]
    log_prob: float
    ended: bool


@dataclass(frozen=True)
class Search:
    """How a beam is searched.

    `size` texts are kept. A text's score is log p(text|z) over its number of tokens, end mark counted, to the
    power of `normalisation`: 0 is the probability itself, 1 the mean over tokens. Words of `banned` and an end mark
    before `min_length` words are not written; that takes nothing from what others are worth. Without `end` an end
    mark ends nothing.

    Source: Graves 2012, "Sequence transduction with recurrent neural networks", section 2.4.
    """

    size: int
    max_length: int
    normalisation: float = 0.0
    min_length: int = 0
    banned: tuple[int, ...] = (PAD, BOS)
    end: bool = True

    def score(self, log_prob: float, tokens: int) -> float:
        """What texts are compared by."""
        return log_prob / tokens**self.normalisation


@torch.no_grad()
def beam(
    decoder: Any,
    code: Tensor | None,
    rows: int,
    search: Search,
    templates: Int[Tensor, "row time"] | None = None,
) -> list[list[Hypothesis]]:
    """Up to `search.size` texts of each code, the best first; `code` is what the decoder sees of z.

    `templates` hold the ids of words that are given, with their end mark, and BLANK for those that are to be found,
    which are neither end marks nor unknown words. What is given is scored too. A text then has its template's
    length; templates of unequal lengths are padded.
    """
    device = next(decoder.parameters()).device
    state, token = decoder.start(code, rows), torch.full((rows,), BOS, device=device)
    place = torch.arange(rows, device=device)  # which code each row of the batch belongs to
    ids = torch.full((rows, 1, 0), EOS, device=device)
    log_prob = torch.zeros(rows, 1, device=device)
    found: list[list[tuple[float, Hypothesis]]] = [[] for _ in range(rows)]
    scores = torch.full((rows, search.size), -math.inf, dtype=torch.float64, device=device)  # the best of those
    steps = search.max_length if templates is None else templates.shape[1]
    for time in range(steps):
        logits, state = decoder.step(token, state)
        logits = logits.float().view(*log_prob.shape, -1)
        surplus = log_prob - logits.logsumexp(2)  # before words are banned: log p is the model's
        _ban(logits, search, time, None if templates is None else templates[place, time])
        best, word, parent = _candidates(logits, surplus, search.size)
        ids = torch.cat([ids.gather(1, parent[:, :, None].expand(-1, -1, time)), word[:, :, None]], dim=2)
        ended = (word == EOS) & search.end
        among = ended & best.isfinite()
        among[:, search.size :] = False  # those that come after go on in their place
        _collect(found, place, ids[:, :, :-1], best, among, search, time + 1, ended=True)
        reached = (best.double() / (time + 1) ** search.normalisation).masked_fill(~among, -math.inf)
        scores[place] = torch.cat([scores[place], reached], dim=1).topk(search.size, dim=1)[0]
        log_prob, order = best.masked_fill(ended, -math.inf).topk(min(search.size, best.shape[1]), dim=1)
        ids = ids.gather(1, order[:, :, None].expand(-1, -1, time + 1))
        parent = parent.gather(1, order)
        # The rows in which a text that has not ended can still be among the best.
        attainable = log_prob[:, 0].double() / steps**search.normalisation
        going = (attainable.isfinite() & (attainable > scores[place, -1])).nonzero()[:, 0]
        if time + 1 == steps:
            alive = log_prob[going]
            _collect(found, place[going], ids[going], alive, alive.isfinite(), search, steps, not search.end)
        if time + 1 == steps or not len(going):
            break
        width = logits.shape[1]
        state = decoder.select(state, (going[:, None] * width + parent[going]).flatten())
        place, ids, log_prob = place[going], ids[going], log_prob[going]
        token = ids[:, :, -1].flatten()
    return [[text for _, text in sorted(row, key=lambda one: -one[0])[: search.size]] for row in found]


def _ban(
    logits: Float[Tensor, "row beam word"], search: Search, time: int, given: Int[Tensor, " row"] | None
) -> None:
    """What may not be written at a position gets no mass, in place; where a word is given all others do not."""
    banned = search.banned if time >= search.min_length else (*search.banned, EOS)
    if given is None:
        for word in banned:
            logits[:, :, word] = -math.inf
        return
    blank = (given == BLANK)[:, None, None]
    at = given.clamp(min=0)[:, None, None].expand(-1, logits.shape[1], 1)
    kept = logits.gather(2, at)
    for word in (*banned, EOS, UNK):
        logits[:, :, word] = -math.inf
    logits.masked_fill_(~blank, -math.inf)
    logits.scatter_(2, at, torch.where(blank, logits.gather(2, at), kept))


def _candidates(
    logits: Float[Tensor, "row beam word"], surplus: Float[Tensor, "row beam"], size: int
) -> tuple[Float[Tensor, "row candidate"], Int[Tensor, "row candidate"], Int[Tensor, "row candidate"]]:
    """The best continuations of each row's texts: log p, last word, and which text they continue.

    Twice as many as there is room for: half of them may have ended.
    """
    each = min(2 * size, logits.shape[2])
    likeliest, words = logits.topk(each, dim=2)
    every = (likeliest + surplus[:, :, None]).flatten(1)
    best, at = every.topk(min(2 * size, every.shape[1]), dim=1)
    return best, words.flatten(1).gather(1, at), at // each


def _collect(
    found: list[list[tuple[float, Hypothesis]]],
    place: Int[Tensor, " row"],
    ids: Int[Tensor, "row candidate time"],
    log_prob: Float[Tensor, "row candidate"],
    chosen: Bool[Tensor, "row candidate"],
    search: Search,
    tokens: int,
    ended: bool,
) -> None:
    """Put the chosen texts, which have `tokens` tokens, among those that were found."""
    rows, candidates = chosen.nonzero().unbind(1)
    if not len(rows):
        return
    texts, nats = ids[rows, candidates].tolist(), log_prob[rows, candidates].tolist()
    for code, text, log_px in zip(place[rows].tolist(), texts, nats, strict=True):
        found[code].append((search.score(log_px, tokens), Hypothesis(text, log_px, ended)))
