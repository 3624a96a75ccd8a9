"""Free bits: the KL is penalised only above a target, per dimension or in total. The unit is nats."""

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term, below_least, rate, without_rate
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem

Form = Literal["clamp", "mask"]
Over = Literal["batch", "sentence"]


class FreeBits(Term):
    """sum_d max(target, KL_d), nats per sentence: `target` nats of each dimension are free.

    KL_d is the mean over the global batch (`over = "batch"`) or that of a single sentence, with the sums averaged.
    Form `clamp` is the formula. Form `mask` counts only dimensions at or above the target, at their KL_d; the
    others count 0. The gradients are the same: none for a dimension below the target, that of the KL for the
    others. The value of `clamp` is higher by `target` for each dimension below. A target of 0 gives the KL.

    The target is in nats, although papers say bits; in total it amounts to `target` times the latent size.

    References:
        Kingma et al. 2016, free bits (the batch's mean, each dimension its own group, clamp); Liu et al. 2019,
        section 5.4 (FB, 0.0125 for each of 16 dimensions).
    """

    is_rate: ClassVar[bool] = True
    steers_kl: ClassVar[bool] = True

    target: NonNegativeFloat = 0.1
    form: Form = "clamp"
    over: Over = "batch"

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the sum over dimensions for the global batch."""
        assert out.posterior is not None and out.prior is not None
        kl = out.posterior.rate_per_dimension(out.prior)
        assert kl is not None  # `problems` refuses a posterior and a prior without one
        nats = gathered(kl)
        if self.over == "batch":
            return above(nats.mean(0), self.target, self.form).sum()
        return above(nats, self.target, self.form).sum(1).mean()

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject posteriors and priors whose KL is not a sum over dimensions, or always exceeds the target."""
        posterior, prior = settings.model.posterior, settings.model.prior
        if problems := without_rate(settings):
            return problems
        other = "use objective.free-bits-total, or model."
        if not posterior.rate_by_dimension:
            none = f"the {posterior.name} posterior has no KL per dimension"
            return [Problem("", none, f"{other}posterior.name = 'gaussian'")]
        if not prior.standard:
            none = f"the {prior.name} prior leaves no KL per dimension"
            return [Problem("", none, f"{other}prior.name = 'standard-normal'")]
        return below_least(settings, self.target, settings.model.latent)


class FreeBitsTotal(Term):
    """max(target, KL), nats per sentence: `target` nats of the whole code are free.

    KL is the mean over the global batch (`over = "batch"`) or that of each sentence, averaged afterwards. Form
    `mask` is 0 below the target, where `clamp` is the target; the gradients are the same, none below the target and
    that of the KL from it on. A target of 0 gives the KL if that is exact; if it is estimated from codes, negative
    estimates are clamped to 0.

    References:
        Yang et al. 2017; Liu et al. 2019, section 5.4 (FB-all, 0.2 in total).
    """

    is_rate: ClassVar[bool] = True
    steers_kl: ClassVar[bool] = True

    target: NonNegativeFloat = 3.0
    form: Form = "clamp"
    over: Over = "batch"

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the thresholded KL of the global batch."""
        nats = gathered(rate(out))
        return above(nats.mean() if self.over == "batch" else nats, self.target, self.form).mean()

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject posteriors without a KL or always above the target, and the mask without a KL per dimension."""
        posterior = settings.model.posterior
        if problems := without_rate(settings):
            return problems
        if self.form == "mask" and not posterior.rate_by_dimension:
            none = f"the {posterior.name} posterior has no KL per dimension to mask"
            return [Problem("form", none, "use form = 'clamp', or model.posterior.name = 'gaussian'", value="mask")]
        return below_least(settings, self.target)


def above(nats: Float[Tensor, "*any"], target: float, form: Form) -> Float[Tensor, "*any"]:
    """Return numbers from the target up unchanged, others as the target or 0 without a gradient; nan stays nan."""
    return nats.clamp(min=target) if form == "clamp" else nats.masked_fill(nats < target, 0.0)
