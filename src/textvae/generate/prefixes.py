"""Log-probability ratios of many pairs of sentences that share prefixes."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textvae.model import TextVAE
from textvae.parts.decoders import Decoder
from textvae.progress import Progress
from textvae.text.packed import PackedIds
from textvae.text.tokenizers import BOS, EOS, PAD

# Sentences scored at once; with 10,000 words their logits take at most 80 MB.
ROWS = 2000


def log_ratios(
    model: TextVAE,
    codes: Float[Tensor, "code latent"] | None,
    which: Int[Tensor, "pair under"],
    first: Sequence[list[int]],
    second: Sequence[list[int]],
    progress: Progress | None = None,
) -> Float64[Tensor, "pair under"]:
    """Return log p(x|z) - log p(y|z) of each pair, nats, end marks included, under the codes in `which`.

    Without codes it is log p(x) - log p(y) of a language model. The prefixes of sentences under the same code form
    a tree, each node of which is one step of the decoder, so that sentences that differ in their last word take
    little more time than one; each column of `which` has codes of its own, or trees are built again. The common
    prefix of a pair cancels and passes through no softmax; neither does the first word that differs, since both
    words have the same normaliser. Put the model into evaluation mode first. Millions of pairs are best given as
    `PackedIds`.
    """
    pairs, columns = which.shape
    ratios = torch.zeros(pairs, columns, dtype=torch.float64)
    done = 0
    for rows, column in _parts(which, _ranks([first, second])):
        pair, code = rows % pairs, which[rows % pairs, column]
        used, node = code.unique(return_inverse=True)
        z = None if codes is None else model.code(codes[used].to(model.device))
        both = [(first[at], second[at]) for at in pair.tolist()]
        sentences = [torch.tensor(two[row >= pairs]) for row, two in zip(rows.tolist(), both, strict=True)]
        ids = pad_sequence(sentences, batch_first=True, padding_value=PAD).to(model.device)
        differ = torch.tensor([_difference(*two) for two in both]).to(model.device)
        nats = _summed(model, z, node.to(model.device), ids, differ).cpu()
        ratios.index_put_((pair, column), torch.where(rows < pairs, nats, -nats), accumulate=True)
        done += len(rows)
        if progress is not None:
            progress(done, 2 * which.numel())
    return ratios


def _parts(
    which: Int[Tensor, "pair under"], rank: Int[Tensor, " sentence"]
) -> Iterator[tuple[Int[Tensor, " row"], Int[Tensor, " row"]]]:
    """Yield sentences, x of all pairs numbered before y of all, and columns of `which`, `ROWS` at a time.

    Sentences of one code are adjacent, and among them those with a common prefix.
    """
    rows = columns = torch.zeros(0, dtype=torch.long)
    for column, codes in enumerate(which.T):
        key = codes.repeat(2).long()
        order = key.mul_(len(rank)).add_(rank).argsort().int()
        del key
        begin = 0
        while begin < len(order):
            some = order[begin : begin + ROWS - len(rows)].long()
            rows, columns = torch.cat([rows, some]), torch.cat([columns, torch.full_like(some, column)])
            begin += len(some)
            if len(rows) == ROWS:
                yield rows, columns
                rows, columns = rows[ROWS:], columns[ROWS:]
    if len(rows):
        yield rows, columns


def _ranks(sides: Sequence[Sequence[list[int]]]) -> Int[Tensor, " sentence"]:
    """Return the place of each sentence, those of both sides, in their lexical order; equal ones in that given."""
    packed = [side if isinstance(side, PackedIds) else PackedIds(side) for side in sides]
    sizes = [np.diff(side.ends).astype(np.int32) for side in packed]
    order = np.arange(sum(map(len, packed)), dtype=np.int32)
    for place in reversed(range(max(int(size.max(initial=0)) for size in sizes))):
        words = np.concatenate([_words_at(side, size, place) for side, size in zip(packed, sizes, strict=True)])
        order = order[np.argsort(words[order], kind="stable")]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return torch.from_numpy(rank)


def _words_at(side: PackedIds, size: Int[np.ndarray, " sentence"], place: int) -> Int[np.ndarray, " sentence"]:
    """Return the word at a place of each sentence, -1 for those that have none there."""
    there = place < size
    words = np.full(len(size), -1, np.int32)
    words[there] = side.ids[side.ends[:-1][there] + place]
    return words


def _difference(x: Sequence[int], y: Sequence[int]) -> int:
    """Return the first position at which two sentences differ."""
    places = (place for place, (a, b) in enumerate(zip(x, y, strict=False)) if a != b)
    return next(places, min(len(x), len(y)))


def _summed(
    model: TextVAE,
    z: Tensor | None,
    node: Int[Tensor, " row"],
    ids: Int[Tensor, "row time"],
    differ: Int[Tensor, " row"],
) -> Float64[Tensor, " row"]:
    """Return the logit of each sentence's word at `differ` plus the log-probabilities of the words after it.

    `node` is at first the code of each sentence, then its prefix.
    """
    decoder = model.decoder
    state = decoder.start(z, 1)
    token = torch.full((1 if z is None else len(z),), BOS, device=ids.device)
    log_probs = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    going = torch.arange(len(ids), device=ids.device)
    for time in range(ids.shape[1]):
        read, state = decoder.advance(token, state)
        target, begun = ids[going, time], differ[going]
        at = begun == time
        log_probs[going[at]] += _logits(decoder, read[node[at]], target[at])
        after = begun < time
        if after.any():
            log_probs[going[after]] += _log_probabilities(decoder, read, node[after], target[after])
        on = target != EOS
        going, node, target = going[on], node[on], target[on]
        if not len(going):
            break
        words = decoder.words.out_features
        children, node = (node * words + target).unique(return_inverse=True)
        state, token = decoder.select(state, children // words), children % words
    return log_probs


def _logits(
    decoder: Decoder, read: Float[Tensor, "row size"], target: Int[Tensor, " row"]
) -> Float64[Tensor, " row"]:
    """Return the logit of one word for each row."""
    return ((read * decoder.words.weight[target]).sum(dim=1) + decoder.words.bias[target]).double()


def _log_probabilities(
    decoder: Decoder, read: Float[Tensor, "node size"], node: Int[Tensor, " row"], target: Int[Tensor, " row"]
) -> Float64[Tensor, " row"]:
    """Return the log-probability of one word for each row, after the prefix `node`."""
    used, row = node.unique(return_inverse=True)
    logits = decoder.logits(read[used]).float()
    normaliser = logits.logsumexp(dim=1)
    return (logits[row, target] - normaliser[row]).double()
