"""Every term sees the global batch: two processes with 2 and 3 sentences compute the value and gradients of one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from textvae.model import build
from textvae.objective.settings import parse
from textvae.objective.terms import TERMS
from textvae.objective.terms.autoencoder import Autoencoder
from textvae.objective.terms.inferred_labels import InferredLabels
from textvae.objective.terms.term import Term
from textvae.parts import gather
from textvae.parts.noise import sentence_noise
from textvae.text.batches import Batch
from textvae.text.conditions import MISSING, Labels

# Settings at which a term and its gradient are not 0, if the defaults are not such.
ACTIVE = {"free-bits": {"target": 1e-4}, "free-bits-total": {"target": 1e-4}, "capacity-max": {"target": 1e-4}}
# A model that every term fits.
MODEL = {
    "latent": 3,
    "embedding": 5,
    "init": 0.5,
    "encoder": {"hidden": 6},
    "decoder": {"name": "hybrid", "maps": [5], "top": {"name": "lstm", "hidden": 6}},
}
SHARES = (slice(0, 2), slice(2, 5))
STEP = 3


class Together:
    """The functions of `torch.distributed` that gathering uses, between threads instead of processes."""

    def __init__(self) -> None:
        self.mine, self.given = threading.local(), [torch.empty(0)] * len(SHARES)
        self.barrier = threading.Barrier(len(SHARES), timeout=20)

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return hasattr(self.mine, "rank")

    def get_world_size(self) -> int:
        return len(SHARES)

    def get_rank(self) -> int:
        return self.mine.rank

    def all_gather(self, parts: list[torch.Tensor], part: torch.Tensor) -> None:
        self.given[self.mine.rank] = part.clone()
        self.barrier.wait()
        for place, other in zip(parts, self.given, strict=True):
            place.copy_(other)
        self.barrier.wait()

    def all_reduce(self, tensor: torch.Tensor) -> None:
        parts = [torch.empty_like(tensor) for _ in SHARES]
        self.all_gather(parts, tensor)
        tensor.copy_(torch.stack(parts).sum(0))


def computed(name: str, term: Term, monkeypatch) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Return the term's value and gradients in one process with all sentences, and in each of two with a share."""
    infers = isinstance(term, InferredLabels)
    own = {"conditioner": {"name": "labels", "infer": True}} if infers else {}
    settings = parse({"model": {**MODEL, **own}, "data": {"max_length": 6}}, TERMS)
    torch.manual_seed(0)
    names = {"kind": ["x", "y"]}
    model = build(settings.model, 12, {name: term}, settings.data.positions, names).double()
    model.train(infers)  # labels are inferred in training alone
    labels = Labels(torch.tensor([[0], [MISSING], [1], [MISSING], [0]]))
    ids = torch.randint(4, 12, (5, 7), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 4, 3, 6, 2])
    ids[torch.arange(7) >= lengths[:, None]] = 0

    def compute(rows: slice) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch = Batch(ids[rows], lengths[rows], torch.arange(5)[rows], Labels(labels.values[rows]))
        noise = sentence_noise(0, batch.index)
        out = model(batch, lambda samples, size: noise(samples, size).double(), samples=2)
        value = term.planned(10)(out, STEP)
        parameters = dict(model.named_parameters())
        if not value.requires_grad:
            return value, {}
        gradients = torch.autograd.grad(value, parameters.values(), materialize_grads=True)
        return value.detach(), dict(zip(parameters, gradients, strict=True))

    whole = compute(slice(0, 5))
    together = Together()
    monkeypatch.setattr(gather, "dist", together)

    def process(rank: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        together.mine.rank = rank
        return compute(SHARES[rank])

    with ThreadPoolExecutor(len(SHARES)) as pool:
        return [whole, *pool.map(process, range(len(SHARES)))]


@pytest.mark.parametrize("name", TERMS.own)
def test_two_processes_equal_one(name, monkeypatch):
    term = TERMS[name](**ACTIVE.get(name, {}))
    (value, gradients), *shares = computed(name, term, monkeypatch)
    if isinstance(term, Autoencoder):  # zero by definition
        assert [float(one) for one in (value, *(share for share, _ in shares))] == [0.0] * 3
        return
    steepest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert float(value) and steepest, f"{name} or its gradient is 0 here: add settings to ACTIVE at which it is not"
    for share, _ in shares:
        torch.testing.assert_close(share, value, rtol=1e-9, atol=0)
    for parameter, gradient in gradients.items():
        mean = torch.stack([own[parameter] for _, own in shares]).mean(0)
        torch.testing.assert_close(mean, gradient, rtol=1e-7, atol=1e-10 * steepest, msg=parameter)


def test_a_term_that_gathers_nothing_is_found(monkeypatch):
    class Local(Term):
        def __call__(self, out, step):
            return out.z.square().sum(-1).mean()

    (value, _), *shares = computed("local", Local(), monkeypatch)
    assert all(abs(float(share) - float(value)) > 1e-3 for share, _ in shares)
