"""Looks at validation sentences during training, by which terms change their weights."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from textvae.inference import look
from textvae.model import Pass, TextVAE
from textvae.objective.terms.term import Term
from textvae.text.batches import TokenStore
from textvae.text.store import spaced
from textvae.training.checkpoint import State
from textvae.training.phase import Stage

# Sentences of a look, which costs about five steps of training.
SENTENCES = 100


def looks(
    model: TextVAE, store: TokenStore, stage: Stage, state: State, seed: int
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield what each term sees that looks at validation sentences after this step, and change its learned factor.

    Each is the seconds that the look took, and `inference.Look` with the weights at the step, as the log has them.
    """
    objective, at = stage.objective, state.step - state.phase_start
    for name, term in objective.terms.items():
        every = term.looks_every(stage.planned)
        if every is None or at % every:
            continue
        began = time.monotonic()
        weights = objective.weights(at - 1, state.multipliers)
        others = {other: own for other, own in objective.terms.items() if other != name}

        def loss(out: Pass, others: Mapping[str, Term] = others, weights: Mapping[str, float] = weights) -> Tensor:
            own = (weights[other] * term(out, at - 1) for other, term in others.items())
            return sum(own, start=torch.zeros((), device=out.log_px.device))

        seen = look(model, store, loss, seed, spaced(len(store), SENTENCES))
        yield time.monotonic() - began, {**seen._asdict(), "weights": weights}
        state.multipliers[name] = term.after_look(state.multipliers[name], seen.exchange_rate, at / stage.planned)
