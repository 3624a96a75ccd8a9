"""KL with a weight that training raises while the code is worth it."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from textvae.objective.settings import Settings
from textvae.objective.terms.kl import Kl
from textvae.settings.problems import Problem


class SelectedKl(Kl):
    """E_n KL(q(z|x_n) || p(z)), nats per sentence, with a weight w that training raises from `start` to `end`.

    At each of `looks` evenly spaced steps the exchange rate is measured on validation sentences
    (`inference.look`): by how many nats reconstruction and the other terms fall for one more nat of KL. Where the
    posterior fits the objective it is w. So w becomes w times `factor` if the exchange rate is at least `ready`
    times w. It stays if it is less: then the posterior still holds nats that nothing reads yet, and a higher
    weight would make it drop them. After the share `until` of the steps w stays. With the weight `end` the KL ends
    where one more nat lowers the other losses by that many nats. `weight` multiplies w; leave it at 1.

    References:
        Prokhorov et al. 2019, section 5, asks for an automatic selection of C; here the final weight is chosen,
        and C follows from the text. Alemi et al. 2018, "Fixing a broken ELBO": the KL weight is the slope -dD/dR.
    """

    learned: ClassVar[bool] = True

    start: PositiveFloat = 0.02
    end: PositiveFloat = 0.3
    factor: Annotated[float, Field(gt=1, le=10)] = 1.1
    ready: Annotated[float, Field(ge=0, le=1)] = 0.7
    looks: Annotated[PositiveInt, Field(le=1000)] = 64
    until: Annotated[float, Field(gt=0, le=1)] = 0.7

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of w."""
        return self.start, self.end

    def multiplier(self, before: float | None, raw: Mapping[str, float]) -> float:
        """Return w, which changes at looks alone."""
        return self.start if before is None else before

    def looks_every(self, planned: int) -> int:
        """Return the number of steps between looks."""
        return max(1, planned // self.looks)

    def after_look(self, before: float, exchange_rate: float | None, share: float) -> float:
        """Return w after a look at `share` of the planned steps.

        >>> term = SelectedKl()
        >>> [round(term.after_look(0.1, rate, 0.5), 2) for rate in (0.1, 0.08, 0.05, None)]
        [0.11, 0.11, 0.1, 0.1]
        """
        if share > self.until or exchange_rate is None or exchange_rate < self.ready * before:
            return before
        return min(before * self.factor, self.end)

    def settled(self, total: int, per_epoch: int) -> float:
        """Return the last step at which w may rise."""
        return max(self.until * total, super().settled(total, per_epoch))

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject posteriors without a KL or an exchange rate, and an end below the start."""
        problems = super().problems(settings)
        posterior = settings.model.posterior
        if not problems and not (posterior.widens and settings.model.inference.refinement is None):
            known = "those of the gaussian posterior with amortized inference alone are known"
            remedy = "use objective.kl, as --method vanilla does"
            problems = [Problem("", f"measures exchange rates, and {known}", remedy)]
        if self.end < self.start:
            problems.append(Problem("end", f"is below start = {self.start:g}", "give that or more", value=self.end))
        return problems
