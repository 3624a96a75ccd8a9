"""Maximum mean discrepancy between the codes of a batch and the prior."""

import math
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from textvae.metrics.discrepancy import to_prior, within_prior
from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem
from textvae.settings.schedules import Constant, Schedule


class Mmd(Term):
    """MMD^2(q(z), N(0, I)) of the global batch's codes: constrains the aggregate q(z), not each q(z|x).

    The kernel is exp(-|x - y|^2 / (2 s^2)) with s the `bandwidth`, by default the square root of the latent size,
    at which two draws from the prior have a kernel of about 1/e. See `discrepancy`. The value is dimensionless,
    between about 0 and 2, so its default weight is 100; InfoVAE's lambda went up to 1,000 for images. There, alpha
    = 1 leaves reconstruction + lambda MMD without a KL of single sentences, which is this term. With the point
    posterior it is the deterministic Wasserstein autoencoder.

    A departure: the prior's part is exact, where the paper draws codes from it.

    References:
        Zhao et al. 2019 (InfoVAE), the MMD variant with alpha = 1; Tolstikhin et al. 2018 (WAE-MMD); Gretton et al.
        2012, lemma 6 (the estimate); Prokhorov et al. 2019, section 1.
    """

    is_rate: ClassVar[bool] = True
    penalises_kl: ClassVar[bool] = False  # it penalises a distance of q(z), not the KL of a sentence

    weight: Schedule = Constant(value=100.0)
    bandwidth: Annotated[float, Field(ge=1e-3, le=1e6)] | None = None

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the discrepancy of the global batch, over all codes of every sentence."""
        assert out.z is not None
        codes = gathered(out.z.transpose(0, 1).contiguous())
        return discrepancy(codes, self.bandwidth or math.sqrt(codes.shape[-1]))

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a prior other than the standard normal."""
        prior = settings.model.prior
        if not prior.standard:
            other = "set model.prior.name = 'standard-normal', or "
            if prior.on_sphere:  # the posterior has no other prior
                other = ""
            only = f"compares codes with the standard normal prior only, not with the {prior.name} prior"
            return [Problem("", only, f"{other}use objective.kl")]
        return []


def discrepancy(codes: Float[Tensor, "batch sample latent"], bandwidth: float) -> Float[Tensor, ""]:
    """Return the squared MMD between the distribution of the codes and N(0, I), dimensionless.

    It is E k(z, z') - 2 E k(z, y) + E k(y, y') for a Gaussian kernel k of variance s^2 and y from N(0, I). The
    expectations over y are known: for d dimensions
    E_y k(z, y) = (s^2 / (s^2 + 1))^(d/2) exp(-|z|^2 / (2 (s^2 + 1))) and E k(y, y') = (s^2 / (s^2 + 2))^(d/2).
    E k(z, z') is the mean over pairs of codes of different sentences, since codes of one sentence are not
    independent draws from q(z): the estimate is unbiased and may be negative. For a single sentence, which has no
    such pairs, the mean is over all pairs, including a code with itself; that is never below 0 except for rounding.
    """
    batch, samples, latent = codes.shape
    variance = bandwidth**2
    with torch.autocast(codes.device.type, enabled=False):
        z = codes.reshape(batch * samples, latent)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        squares = z.square().sum(1)
        # Rounding can make a distance of almost 0 negative.
        distances = (squares[:, None] + squares - 2 * z @ z.mT).clamp(min=0)
        pairs = (-distances / (2 * variance)).exp()
        if batch > 1:
            sentence = torch.arange(batch, device=z.device).repeat_interleave(samples)
            pairs = pairs.masked_fill(sentence[:, None] == sentence, 0.0)
            within = pairs.sum() / (batch * (batch - 1) * samples**2)
        else:
            within = pairs.mean()
        return within - 2 * to_prior(squares, bandwidth, latent).mean() + within_prior(bandwidth, latent)
