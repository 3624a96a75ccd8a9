"""Looks at validation sentences during training, by which terms change their weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from textvae.inference import look
from textvae.model import Pass, TextVAE
from textvae.objective.objective import Objective
from textvae.text.batches import TokenStore
from textvae.text.store import spaced
from textvae.training.phase import Stage

# Sentences of a look.
SENTENCES = 200


def due(stage: Stage, at: int) -> Iterator[str]:
    """Yield the terms that look at validation sentences after `at` steps of the phase."""
    for name, term in stage.objective.terms.items():
        every = term.looks_every(stage.planned)
        if every is not None and not at % every:
            yield name


def looked(
    model: TextVAE,
    store: TokenStore,
    objective: Objective,
    name: str,
    step: int,
    multipliers: Mapping[str, float],
    seed: int,
) -> dict[str, Any]:
    """Return what the term of a name sees at a step, as the log has it: `inference.Look`, and the weights."""
    weights = objective.weights(step, multipliers)

    def others(out: Pass) -> Tensor:
        own = (weights[other] * term(out, step) for other, term in objective.terms.items() if other != name)
        return sum(own, start=torch.zeros((), device=out.log_px.device))

    seen = look(model, store, others, seed, spaced(len(store), SENTENCES))
    return {**seen._asdict(), "weights": weights}
