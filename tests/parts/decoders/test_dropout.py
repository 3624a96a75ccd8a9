"""Dropout of input embeddings and dropout of everything else, in every family of decoders."""

import pytest
import torch
from torch import Tensor, nn

from textvae.objective.settings import Settings, parse
from textvae.objective.terms import TERMS
from textvae.settings import override
from textvae.text.tokenizers import PAD

V = 11
IDS = torch.tensor([[5, 6, 7, 3], [4, 3, PAD, PAD], [9, 10, 3, PAD]])
WAYS = {
    "lstm": ["name=lstm", "hidden=6"],
    "gru": ["name=gru", "hidden=6"],
    "gated-convolutional": ["name=gated-convolutional", "hidden=6", "bottleneck=4", "width=3"],
    "bytenet": ["name=bytenet", "hidden=6"],
    "transformer": ["name=transformer", "hidden=8", "heads=2", "layers=1"],
    "hybrid lstm": ["name=hybrid", "top.hidden=6"],
    "hybrid gru": ["name=hybrid", "top.name=gru", "top.hidden=6"],
    "hybrid bytenet": ["name=hybrid", "top.name=bytenet", "top.hidden=6"],
}
ways = pytest.mark.parametrize("way", WAYS)


def settings(way: str, **rates: float) -> Settings:
    at = "model.decoder.top." if way.startswith("hybrid") else "model.decoder."
    given = [f"model.decoder.{setting}" for setting in WAYS[way]]
    return parse(override({}, [*given, *(f"{at}{name}={rate}" for name, rate in rates.items())]), TERMS)


def scored(way: str, embeddings: float = 1.0, seed: int = 1, **rates: float) -> tuple[Tensor, Tensor]:
    """log p of a decoder in training whose embeddings are all equal, and these as its network saw them."""
    torch.manual_seed(0)
    part = settings(way, **rates).model.decoder.build(V, 40, 2, 1.0).train()
    seen: list[Tensor] = []
    assert isinstance(part.embedding, nn.Embedding)
    with torch.no_grad():
        part.embedding.weight.fill_(embeddings)
    first = getattr(part, "enter", None) or getattr(part, "entry", None) or part.network
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][..., :40]))
    features = 200 if way.startswith("hybrid") else 2
    z = torch.randn(1, 3, *([4] if way.startswith("hybrid") else []), features)
    torch.manual_seed(seed)
    with torch.no_grad():
        return part.log_prob(IDS, z), seen[0]


@ways
def test_embeddings_have_a_dropout_of_their_own(way):
    """480 numbers are each zero with probability 0.75 or else 4; outputs stay whole."""
    found, seen = scored(way, dropout=0.0, embedding_dropout=0.75)
    assert sorted(seen.unique().tolist()) == [0.0, 4.0]
    assert abs(float((seen == 0).double().mean()) - 0.75) < 4 * (0.75 * 0.25 / seen.numel()) ** 0.5
    without = {"embeddings": 0.0, "dropout": 0.0, "embedding_dropout": 0.75}  # zeros do not change by dropping
    assert torch.equal(scored(way, **without)[0], scored(way, seed=2, **without)[0])
    assert not torch.equal(found, scored(way, seed=2, dropout=0.0, embedding_dropout=0.75)[0])


@ways
def test_outputs_have_theirs_without_embeddings(way):
    found, seen = scored(way, dropout=0.5, embedding_dropout=0.0)
    assert bool((seen == 1).all())
    assert not torch.equal(found, scored(way, seed=2, dropout=0.5, embedding_dropout=0.0)[0])


@ways
def test_embeddings_are_dropped_as_the_rest_where_nothing_else_is_said(way):
    """Number by number, so that a run of before has the same weights; and its settings are written as before."""
    found, seen = scored(way, dropout=0.5)
    expected, seen_too = scored(way, dropout=0.5, embedding_dropout=0.5)
    assert torch.equal(found, expected) and torch.equal(seen, seen_too)
    assert 0 < int((seen == 0).sum()) < seen.numel()
    assert "embedding_dropout" not in settings(way, dropout=0.5).toml()
    assert "embedding_dropout = 0.25" in settings(way, embedding_dropout=0.25).toml()
