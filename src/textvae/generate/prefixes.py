"""log p(x|z) of many sentences that begin alike: what they have in common is computed once."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textvae.model import TextVAE
from textvae.tokenizers import BOS, EOS, PAD

# Sentences scored side by side; with 10,000 words their logits take at most 80 MB.
ROWS = 2000


def log_px(
    model: TextVAE,
    codes: Float[Tensor, "code latent"] | None,
    which: Int[Tensor, "sentence under"],
    sentences: Sequence[list[int]],
    progress: Callable[[int, int], None] | None = None,
) -> Float64[Tensor, "sentence under"]:
    """log p(x|z) of each sentence in nats, end mark included, under each of the codes that `which` names for it.

    Without codes log p(x) by a language model. The beginnings of sentences under the same code form a tree, each
    node of which is one step of the decoder, so that sentences that differ in their last word cost hardly more than
    one. Put the model into evaluation mode first.
    """
    rows = [torch.tensor(sentence) for sentence in sentences]
    ids = pad_sequence(rows, batch_first=True, padding_value=PAD)
    columns = which.shape[1]
    # Sentences of one code follow each other, and among them those that begin alike.
    rank = torch.tensor(sorted(range(len(rows)), key=sentences.__getitem__)).argsort()
    order = (which * len(rows) + rank[:, None]).flatten().argsort()
    found = torch.empty(which.numel(), dtype=torch.float64)
    done = 0
    for part in order.split(ROWS):
        used, node = which.flatten()[part].unique(return_inverse=True)
        z = None if codes is None else model.code(codes[used].to(model.device))
        given = ids[part // columns].to(model.device)
        found[part] = _summed(model, z, node.to(model.device), given).cpu()
        done += len(part)
        if progress is not None:
            progress(done, len(order))
    return found.view_as(which)


def _summed(
    model: TextVAE, z: Tensor | None, node: Int[Tensor, " row"], ids: Int[Tensor, "row time"]
) -> Float64[Tensor, " row"]:
    """The same of a few; `node` is at first the code of each sentence, then the beginning that it has."""
    state = model.decoder.start(z, 1)
    token = torch.full((1 if z is None else len(z),), BOS, device=ids.device)
    found = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    going = torch.arange(len(ids), device=ids.device)
    for time in range(ids.shape[1]):
        logits, state = model.decoder.step(token, state)
        wanted = ids[going, time]
        normaliser = logits.float().logsumexp(dim=1)
        found[going] += (logits[node, wanted].float() - normaliser[node]).double()
        on = wanted != EOS
        going, node, wanted = going[on], node[on], wanted[on]
        if not len(going):
            break
        words = logits.shape[1]
        children, node = (node * words + wanted).unique(return_inverse=True)
        state, token = model.decoder.select(state, children // words), children % words
    return found
