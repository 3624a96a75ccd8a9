"""Beam search: the likeliest texts of each code, free or with some of their words given."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textvae.generate.bans import Bans
from textvae.text.tokenizers import BOS, EOS, UNK

# Marks a missing word in a template.
BLANK = -1


class Hypothesis(NamedTuple):
    """A text found by the search: its ids without the end mark, and log p(text|z) in nats, end mark included.

    A text whose `ended` is False was cut at the greatest length.
    """

    ids: list[int]
    log_prob: float
    ended: bool


@dataclass(frozen=True)
class Search:
    """Parameters of a beam search.

    `size` texts are kept. The score of a text is log p(text|z) divided by its number of tokens, end mark included,
    to the power of `normalisation`: 0 gives the log-probability itself, 1 the mean over tokens. What `bans` forbids
    is not written, which does not change the scores of other words; given words are never forbidden, but count as
    a part of the text. Without `end` an end mark is an ordinary token.

    References:
        Graves 2012, "Sequence transduction with recurrent neural networks", section 2.4.
    """

    size: int
    max_length: int
    normalisation: float = 0.0
    bans: Bans = Bans()
    end: bool = True

    def score(self, log_prob: float, tokens: int) -> float:
        """Return the score by which texts are ranked."""
        return log_prob / tokens**self.normalisation


@torch.no_grad()
def beam(
    decoder: Any,
    code: Tensor | None,
    rows: int,
    search: Search,
    templates: Int[Tensor, "row time"] | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `search.size` texts of each code, the best first; `code` is the decoder's view of z.

    `templates` hold the ids of given words with their end mark, and BLANK for missing words, which are filled with
    neither end marks nor unknown words. Given words are scored too. A text has the length of its template;
    templates of unequal lengths are padded.
    """
    device = next(decoder.parameters()).device
    state, token = decoder.start(code, rows), torch.full((rows,), BOS, device=device)
    place = torch.arange(rows, device=device)  # the code of each row of the batch
    ids = torch.full((rows, 1, 0), EOS, device=device)
    log_prob = torch.zeros(rows, 1, device=device)
    found: list[list[tuple[float, Hypothesis]]] = [[] for _ in range(rows)]
    scores = torch.full((rows, search.size), -math.inf, dtype=torch.float64, device=device)  # the best of those
    steps = search.max_length if templates is None else templates.shape[1]
    for time in range(steps):
        logits, state = decoder.step(token, state)
        logits = logits.float().view(*log_prob.shape, -1)
        surplus = log_prob - logits.logsumexp(2)  # before words are banned, so that log p is the model's
        _ban(logits, search.bans, ids, None if templates is None else templates[place, time])
        best, word, parent = _candidates(logits, surplus, search.size)
        ids = torch.cat([ids.gather(1, parent[:, :, None].expand(-1, -1, time)), word[:, :, None]], dim=2)
        ended = (word == EOS) & search.end
        among = ended & best.isfinite()
        among[:, search.size :] = False  # the next best continue in their place
        _collect(found, place, ids[:, :, :-1], best, among, search, time + 1, ended=True)
        reached = (best.double() / (time + 1) ** search.normalisation).masked_fill(~among, -math.inf)
        scores[place] = torch.cat([scores[place], reached], dim=1).topk(search.size, dim=1)[0]
        log_prob, order = best.masked_fill(ended, -math.inf).topk(min(search.size, best.shape[1]), dim=1)
        ids = ids.gather(1, order[:, :, None].expand(-1, -1, time + 1))
        parent = parent.gather(1, order)
        # Rows in which an unfinished text can still be among the best.
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
    logits: Float[Tensor, "row beam word"],
    bans: Bans,
    ids: Int[Tensor, "row beam time"],
    given: Int[Tensor, " row"] | None,
) -> None:
    """Set the logits of words that may not follow to -inf, in place; where a word is given, of all others."""
    if given is None:
        bans.apply(logits.flatten(0, 1), ids.flatten(0, 1))
        return
    blank = (given == BLANK)[:, None, None]
    at = given.clamp(min=0)[:, None, None].expand(-1, logits.shape[1], 1)
    kept = logits.gather(2, at)
    bans.apply(logits.flatten(0, 1), ids.flatten(0, 1))
    for word in (EOS, UNK):
        logits[:, :, word] = -math.inf
    logits.masked_fill_(~blank, -math.inf)
    logits.scatter_(2, at, torch.where(blank, logits.gather(2, at), kept))


def _candidates(
    logits: Float[Tensor, "row beam word"], surplus: Float[Tensor, "row beam"], size: int
) -> tuple[Float[Tensor, "row candidate"], Int[Tensor, "row candidate"], Int[Tensor, "row candidate"]]:
    """Return the best continuations of each row's texts: log p, last word, and the text they continue.

    There are twice as many as the beam holds, since half of them may have ended.
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
    """Add the chosen texts, which have `tokens` tokens, to the results."""
    rows, candidates = chosen.nonzero().unbind(1)
    if not len(rows):
        return
    texts, nats = ids[rows, candidates].tolist(), log_prob[rows, candidates].tolist()
    for code, text, log_px in zip(place[rows].tolist(), texts, nats, strict=True):
        found[code].append((search.score(log_px, tokens), Hypothesis(text, log_px, ended)))
