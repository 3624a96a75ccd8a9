"""mu-forcing: a hinge on the spread of the posterior means of a batch."""

from typing import Literal

from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor

from textvae.metrics.latent import less_noise
from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem


class MuForcing(Term):
    """max(0, margin - spread), nats per sentence: keeps the posterior means of a batch apart.

    Reading `paper`: the spread is half the variance of the means over the batch, summed over dimensions; at weight
    1 and below the margin its pull on mu - mean(mu) cancels that of the KL exactly. Reading `per-dimension`: the
    variance averaged over dimensions, without the half, as in the released program; a margin m there equals one of
    m K / 2 in the paper's reading, for K dimensions, and its pull is 2 / K of it, so it holds only with a weight
    near K / 2.

    The variance is the biased one over the global batch, and the gradient flows through the mean; a batch of one
    gives the margin. The means are E[z|x], for a vMF posterior inside the sphere. Flows and multi-step posteriors
    have no closed form; theirs are `mean`, the image of the base distribution's mean. If means are averages of
    random draws (semi-implicit posteriors), the average contribution of the draws' own scatter is subtracted, since
    noise alone is not spread.

    References:
        Liu et al. 2019, section 4.
    """

    margin: NonNegativeFloat = 2.0
    reading: Literal["paper", "per-dimension"] = "paper"

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the hinge of the global batch."""
        assert out.posterior is not None
        means, noise = out.posterior.expectation or (out.posterior.mean, None)
        variance = gathered(means).var(dim=0, correction=0)
        variance = less_noise(variance, None if noise is None else gathered(noise))
        spread = variance.sum() / 2 if self.reading == "paper" else variance.mean()
        return (self.margin - spread).clamp(min=0)

    def balance(self, latent: int, kl_weight: float) -> float:
        """Return the weight at which, below the margin, its pull on the means equals that of the KL."""
        return kl_weight * (1.0 if self.reading == "paper" else latent / 2)

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a batch of one, and a margin that the posterior's means cannot reach."""
        posterior, latent = settings.model.posterior, settings.model.latent
        problems = []
        if settings.train.batch_size == 1:
            problems.append(
                Problem("", "the means of a batch of one have no spread", "give train.batch_size 2 or more")
            )
        variance = posterior.most_variance(latent)
        if variance is not None:
            most = variance / 2 if self.reading == "paper" else variance / latent
            if self.margin > most:
                spread = f"the means of the {posterior.name} posterior spread by at most {most:.3g}"
                problems.append(Problem("margin", spread, "give that or less", value=self.margin))
        return problems
