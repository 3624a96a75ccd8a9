"""The objective: reconstruction plus one rate term plus any others, each with its weight at the step."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered


class Objective:
    """-log p(x|z) + sum over terms of weight(step) * term, nats per sentence over the global batch.

    `total` steps are planned, `per_epoch` of them an epoch.
    """

    def __init__(self, terms: Mapping[str, Term], total: int, per_epoch: int = 1) -> None:
        self.terms = {name: term.planned(per_epoch) for name, term in terms.items()}
        self.total, self.per_epoch = total, per_epoch

    def __call__(
        self, out: Pass, step: int, multipliers: Mapping[str, float] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, and its raw parts by name: `reconstruction` and every term, unweighted."""
        raw = {"reconstruction": -gathered(out.log_px.sum(-1).mean(0)).mean()}
        loss = raw["reconstruction"]
        weights = self.weights(step, multipliers)
        for name, term in self.terms.items():
            raw[name] = term(out, step)
            loss = loss + term.loss(raw, name, weights[name])
        if "kl" not in raw and (rate := _rate(out)) is not None:
            raw["kl"] = rate  # whatever is paid, the log has the KL itself
        return loss, {name: value.detach() for name, value in raw.items()}

    def weights(self, step: int, multipliers: Mapping[str, float] | None = None) -> dict[str, float]:
        """The weight of each term at a step, learned multipliers included."""
        learned = multipliers or {}
        return {
            name: term.weight(step, self.total, self.per_epoch) * learned.get(name, 1.0)
            for name, term in self.terms.items()
        }

    def kl_weight(self, step: int, multipliers: Mapping[str, float] | None = None) -> float:
        """What a nat of KL costs at a step: the rate term's weight, nothing where the rate is not paid.

        Where it is paid in another way than by the nat, such as beyond a reserve, 1.
        """
        name, term = next((name, term) for name, term in self.terms.items() if term.is_rate)
        if not term.pays:
            return 0.0
        return self.weights(step, multipliers)[name] if term.by_nat else 1.0

    def settled(self) -> float:
        """The step from which on no weight and no target changes: from there on losses can be compared."""
        return max((term.settled(self.total, self.per_epoch) for term in self.terms.values()), default=0.0)


def criterion(record: Mapping[str, Any], objective: Objective) -> float:
    """What makes one validation better than another: the bound, or reconstruction where the rate is not paid."""
    paid = any(term.is_rate and term.pays and term.weight.final for term in objective.terms.values())
    bound = record.get("bound")
    return record["reconstruction"] if bound is None or not (paid or "kl" not in record) else bound


@torch.no_grad()
def _rate(out: Pass) -> Tensor | None:
    """The mean KL of the global batch, where there is one."""
    if out.posterior is None or out.prior is None or out.z is None:
        return None
    found = out.posterior.rate(out.z, out.prior)
    return None if found is None else gathered(found.nats).mean()
