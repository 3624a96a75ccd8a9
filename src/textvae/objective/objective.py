"""The objective: reconstruction, one rate term and any other terms, each with its weight at the step."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError
from textvae.model import Pass
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered


class Objective:
    """-log p(x|z) + sum over terms of weight(step) * term, nats per sentence over the global batch.

    Args:
        terms: Terms by name.
        total: Planned number of steps.
        per_epoch: Steps of an epoch.
    """

    def __init__(self, terms: Mapping[str, Term], total: int, per_epoch: int = 1) -> None:
        self.terms = {name: term.planned(per_epoch) for name, term in terms.items()}
        self.total, self.per_epoch = total, per_epoch

    def __call__(
        self, out: Pass, step: int, multipliers: Mapping[str, float] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss and its unweighted parts by name: `reconstruction` and every term."""
        raw = {"reconstruction": -gathered(out.log_px.sum(-1).mean(0)).mean()}
        loss = raw["reconstruction"]
        weights = self.weights(step, multipliers)
        for name, term in self.terms.items():
            raw[name] = _scalar(term(out, step), name)
            loss = loss + term.loss(raw, name, weights[name])
        if "kl" not in raw and (rate := _rate(out)) is not None:
            raw["kl"] = rate  # the log has the KL itself, whatever the rate term
        return loss, {name: value.detach() for name, value in raw.items()}

    def weights(self, step: int, multipliers: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return the weight of each term at a step, learned multipliers included."""
        learned = multipliers or {}
        return {
            name: term.weight(step, self.total, self.per_epoch) * learned.get(name, 1.0)
            for name, term in self.terms.items()
        }

    def kl_weight(self, step: int, multipliers: Mapping[str, float] | None = None) -> float:
        """Return the KL weight at `step`.

        It is 0 if the objective has no KL penalty, and 1 if the penalty is not linear in the KL, as with free bits.
        """
        name, term = next((name, term) for name, term in self.terms.items() if term.is_rate)
        if not term.penalises_kl:
            return 0.0
        return self.weights(step, multipliers)[name] if term.linear_in_kl else 1.0

    def final_kl_weight(self, multipliers: Mapping[str, float] | None = None) -> float:
        """Return the final KL weight for the present multipliers.

        It is 0 without a KL penalty, and 1 if the penalty is not linear in the KL or holds it at a target.
        """
        for name, term in self.terms.items():
            if term.is_rate and not (term.penalises_kl and term.weight.final):
                return 0.0
            if term.is_rate and term.linear_in_kl and term.holds() is None:
                return term.weight.final * (multipliers or {}).get(name, 1.0)
        return 1.0

    def settled(self) -> float:
        """Return the first step after which all weights and targets are constant, so that losses are comparable."""
        return max((term.settled(self.total, self.per_epoch) for term in self.terms.values()), default=0.0)


def criterion(
    record: Mapping[str, Any], objective: Objective, multipliers: Mapping[str, float] | None = None
) -> float:
    """Return the criterion by which validations are compared: reconstruction plus the KL at its final weight.

    At weight 1 it is the bound, without a KL penalty reconstruction; for a model of many KL weights the mean over
    them. Terms beside the rate do not count.
    """
    if "loss_over_rates" in record:
        return record["loss_over_rates"]
    bound, weight = record.get("bound"), objective.final_kl_weight(multipliers)
    if bound is None:
        return record["reconstruction"]
    return bound if weight == 1 or "kl" not in record else record["reconstruction"] + weight * record["kl"]


def _scalar(value: Any, name: str) -> Tensor:
    """Return the value of a term.

    Raises:
        RequestError: If it is not a scalar tensor.
    """
    if isinstance(value, Tensor) and not value.shape:
        return value
    kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    raise RequestError(f"objective.{name}: returned {kind}; a scalar tensor is needed, as gathered(values).mean()")


@torch.no_grad()
def _rate(out: Pass) -> Tensor | None:
    """Return the mean KL of the global batch, or None without one."""
    if out.posterior is None or out.prior is None or out.z is None:
        return None
    kl = out.posterior.rate(out.z, out.prior)
    return None if kl is None else gathered(kl.nats).mean()
