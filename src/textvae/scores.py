"""A model's scores of every sentence of a split: what validation, `evaluate` and `diagnose` all start from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from textvae.batches import Batch, TokenStore, evaluation_batches
from textvae.metrics.information import MutualInformation, mutual_information
from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, RateKind

# Padded tokens scored at once.
TOKENS = 4096


@dataclass(frozen=True)
class Scores:
    """Per sentence, in the order of `rows`: nats in float64, codes and posteriors where the model has them."""

    reconstruction: Float[Tensor, " n"]
    rate: Float[Tensor, " n"] | None
    rate_kind: RateKind | None
    rate_per_dimension: Float[Tensor, " latent"] | None
    z: Float[Tensor, "n latent"] | None
    posterior: DiagonalGaussian | None
    tokens: int

    @property
    def bound(self) -> Float[Tensor, " n"]:
        """Reconstruction plus rate, an upper bound on -log p(x); for a language model -log p(x) itself."""
        return self.reconstruction if self.rate is None else self.reconstruction + self.rate

    def __len__(self) -> int:
        return len(self.reconstruction)


@contextmanager
def evaluating(model: TextVAE) -> Iterator[None]:
    """Dropout off, no gradients, float32; the training mode is put back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            yield
    finally:
        model.train(training)


def on(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    condition = None if batch.condition is None else batch.condition.to(device)
    return Batch(batch.ids.to(device), batch.lengths.to(device), batch.index.to(device), condition)


def score(
    model: TextVAE, store: TokenStore, seed: int = 0, samples: int = 1, rows: np.ndarray | None = None
) -> Scores:
    """Every sentence of a split once (or the given rows), with `samples` codes each, at weight 1, dropout off.

    The noise of a sentence depends on the seed and its number alone, so no batching changes a score.
    """
    order: list[Tensor] = []
    columns: dict[str, list[Tensor]] = {}
    kind: RateKind | None = None
    with evaluating(model):
        for batch in evaluation_batches(store, max(1, TOKENS // samples), rows):
            found, kind = _scored(model, on(model.device, batch), seed, samples)
            order.append(batch.index)
            for name, values in found.items():
                columns.setdefault(name, []).append(values.cpu())
    index = torch.cat(order)
    wanted = torch.as_tensor(np.arange(len(store)) if rows is None else rows)
    place = torch.argsort(index)[torch.argsort(torch.argsort(wanted))]
    joined = {name: torch.cat(parts)[place] for name, parts in columns.items()}
    posterior = DiagonalGaussian(joined["mean"], joined["std"]) if "mean" in joined else None
    return Scores(
        reconstruction=joined["reconstruction"],
        rate=joined.get("rate"),
        rate_kind=kind,
        rate_per_dimension=None if posterior is None else posterior.rate_per_dimension().double().mean(0),
        z=joined.get("z"),
        posterior=posterior,
        tokens=int(store.lengths[wanted.numpy()].sum()),
    )


def information(scores: Scores, sentences: int) -> MutualInformation:
    """I(x; z) by the posteriors of the first `sentences` sentences, one code each."""
    assert scores.posterior is not None and scores.z is not None
    posterior, z = scores.posterior[:sentences], scores.z[:sentences]
    return mutual_information(posterior.log_prob(z), posterior.mixture_log_prob(z))


def _scored(model: TextVAE, batch: Batch, seed: int, samples: int) -> tuple[dict[str, Tensor], RateKind | None]:
    """The scores of one batch, by name."""
    out = model(batch, sentence_noise(seed, batch.index, model.device), samples)
    found = {"reconstruction": -out.log_px.double().sum(-1).mean(0)}
    if out.posterior is None:
        return found, None
    rate = out.posterior.rate(out.z, out.prior)
    found |= {"rate": rate.nats.double(), "z": out.z[0], "mean": out.posterior.mean, "std": out.posterior.std}
    return found, rate.kind
