"""Free bits: the KL is paid for only above a target, for each dimension or in all. Their unit here is nats."""

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term, below_least, rate, without_rate
from textvae.parts.gather import gathered

Form = Literal["clamp", "mask"]
Over = Literal["batch", "sentence"]


class FreeBits(Term):
    """sum_d max(target, KL_d), nats per sentence: each dimension has `target` nats that cost nothing more.

    KL_d is the mean over the global batch (`over = "batch"`) or that of a single sentence, the sums of which are
    then averaged. Form `clamp` is the formula. Form `mask` counts only dimensions at or above the target, at their
    KL_d; those below are worth 0. The gradients are the same: none from a dimension below the target, that of the
    KL from the others; the value of `clamp` is higher by `target` for each dimension below. A target of 0 gives the
    KL.

    The target is in nats, though papers say bits; over all dimensions it makes `target` times the latent size.

    Source: Kingma et al. 2016, free bits (the batch's mean, each dimension a group of its own, clamp); Liu et al.
    2019, section 5.4 (FB, 0.0125 for each of 16 dimensions).
    """

    is_rate: ClassVar[bool] = True

    target: NonNegativeFloat = 0.1
    form: Form = "clamp"
    over: Over = "batch"

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """The sum over dimensions for the global batch."""
        assert out.posterior is not None and out.prior is not None
        found = out.posterior.rate_per_dimension(out.prior)
        assert found is not None  # `problems` refuses a posterior and a prior without one
        nats = gathered(found)
        if self.over == "batch":
            return above(nats.mean(0), self.target, self.form).sum()
        return above(nats, self.target, self.form).sum(1).mean()

    def problems(self, settings: Settings) -> list[str]:
        """Refuses posteriors and priors whose KL is no sum over dimensions, or always above the target."""
        posterior, prior = settings.model.posterior, settings.model.prior
        if found := without_rate(settings):
            return found
        instead = "no KL per dimension; use objective.free-bits-total, or"
        if not posterior.rate_by_dimension:
            return [f": the {posterior.name} posterior has {instead} model.posterior.name = 'gaussian'"]
        if not prior.standard:
            return [f": the {prior.name} prior leaves {instead} model.prior.name = 'standard-normal'"]
        return below_least(settings, self.target, settings.model.latent)


class FreeBitsTotal(Term):
    """max(target, KL), nats per sentence: `target` nats of the whole code cost nothing more.

    KL is the mean over the global batch (`over = "batch"`) or that of each sentence, averaged afterwards. Form
    `mask` is worth 0 below the target where `clamp` is worth the target; the gradients are the same, none below
    the target and that of the KL from it on. A target of 0 is the KL where that is exact; where it is estimated
    from codes, estimates below 0 are held at 0.

    Source: Yang et al. 2017; Liu et al. 2019, section 5.4 (FB-all, 0.2 in all).
    """

    is_rate: ClassVar[bool] = True

    target: NonNegativeFloat = 3.0
    form: Form = "clamp"
    over: Over = "batch"

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """What the KL of the global batch costs."""
        nats = gathered(rate(out))
        return above(nats.mean() if self.over == "batch" else nats, self.target, self.form).mean()

    def problems(self, settings: Settings) -> list[str]:
        """Refuses posteriors without a KL or always above the target, and the mask where no dimension has one."""
        posterior = settings.model.posterior
        if found := without_rate(settings):
            return found
        if self.form == "mask" and not posterior.rate_by_dimension:
            return [
                f".form = 'mask': the {posterior.name} posterior has no KL per dimension to mask; "
                "use form = 'clamp', or model.posterior.name = 'gaussian'"
            ]
        return below_least(settings, self.target)


def above(nats: Float[Tensor, "*any"], target: float, form: Form) -> Float[Tensor, "*any"]:
    """Each number from the target up; below it the target or 0, without a gradient. Not-a-number stays."""
    return nats.clamp(min=target) if form == "clamp" else nats.masked_fill(nats < target, 0.0)
