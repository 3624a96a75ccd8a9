"""Importance-weighted likelihood of sentences of a split."""

from typing import NamedTuple

import numpy as np
import torch

from textvae.errors import RequestError
from textvae.generate.likelihood import IW_TOKENS, Weighted, weigh
from textvae.inference import evaluating
from textvae.metrics.weights import SAMPLES
from textvae.model import TextVAE
from textvae.progress import Progress
from textvae.run import Run
from textvae.text.batches import TokenStore, evaluation_batches

__all__ = ["AUTO", "Weighted", "importance_weights", "iw_numbers", "require_iw_numbers", "subset"]

# Importance samples and sentences to choose from, by the tokens that they read.
CHOICES = ((100, 100), (100, 200), (100, 500), (200, 500), (500, 500))
# Most tokens that importance weighting reads, as a share of those that training has read.
SHARE = 0.5
AUTO = "auto"


class IwNumbers(NamedTuple):
    """Importance samples a sentence, sentences (None: all), and why these if they were not asked for."""

    samples: int
    sentences: int | None
    reason: str = ""


def importance_weights(
    model: TextVAE,
    store: TokenStore,
    rows: np.ndarray,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
    tokens: int = IW_TOKENS,
) -> Weighted | None:
    """Estimate -log p(x) of each of the sentences `rows` as `generate.likelihood.weigh` does.

    None for a posterior without density. `tokens`, how much is worked on at once, changes nothing.
    """
    found = torch.empty(3, len(store), dtype=torch.float64)
    done, weighs = 0, model.prior is not None
    with evaluating(model):
        for batch in evaluation_batches(store, max(1, tokens // samples), rows):
            weighted = weigh(model, batch.to(model.device), samples, seed, tokens)
            if weighted is None:
                return None
            for row, values in zip(found, weighted, strict=True):
                if values is not None:
                    row[batch.index] = values
            done += len(batch.index)
            if progress is not None:
                progress(done, len(rows))
    nll, effective, shapes = found[:, torch.as_tensor(rows)]
    return Weighted(nll, effective if weighs else None, shapes if weighs and samples >= SAMPLES else None)


def require_iw_numbers(samples: int | str, sentences: int | None | str) -> None:
    """Refuse numbers of importance weighting that are neither `auto` nor 1 or more.

    Raises:
        RequestError: For such a number.
    """
    for name, value in (("iw_samples", samples), ("iw_sentences", sentences)):
        if value is not None and value != AUTO and not (isinstance(value, int) and value >= 1):
            raise RequestError(f"{name} = {value}: must be 1 or more, or {AUTO!r}")


def iw_numbers(run: Run, split: str, samples: int | str, sentences: int | None | str) -> IwNumbers:
    """Return the numbers of importance weighting; `auto` ones by what the run's training has read.

    Of `CHOICES` the largest that reads at most `SHARE` of the tokens that training has read, by the epochs of the
    log and the tokens of the splits; the smallest where even that reads more. Counts decide, not the clock, so that
    the numbers of a run are the same on every machine.
    """
    if AUTO not in (samples, sentences):
        return IwNumbers(int(samples), sentences if sentences is None else int(sentences))
    splits = (run.environment.get("data") or {}).get("splits") or {}
    train, own = (splits.get(name) or {} for name in ("train", split))
    epochs = max((record.get("epoch") or 0 for record in run.log()), default=0)
    read = round(epochs * train.get("tokens", 0))
    length = own.get("tokens", 0) / max(1, own.get("sentences", 0))
    usual = [(s, min(n, own.get("sentences") or n)) for s, n in CHOICES]
    affordable = [choice for choice in usual if choice[0] * choice[1] * length <= SHARE * read]
    reason = f"as many as read at most {SHARE:.0%} of the {read:,} tokens of training"
    if not affordable:
        reason = f"the fewest of the default, as training has read {read:,} tokens"
    found = affordable[-1] if affordable else usual[0]
    return IwNumbers(
        found[0] if samples == AUTO else int(samples),
        found[1] if sentences == AUTO else sentences if sentences is None else int(sentences),
        reason,
    )


def subset(sentences: int, wanted: int | None, seed: int) -> np.ndarray:
    """Draw the numbers of `wanted` sentences without replacement, by the seed; all of them for None."""
    if wanted is None or wanted >= sentences:
        return np.arange(sentences)
    return np.sort(np.random.default_rng([seed, 1]).choice(sentences, wanted, replace=False))
