"""The conditional Gaussian prior p(z|c), as a map from standardised codes to codes."""

from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.priors.prior import PriorSettings
from textvae.parts.priors.standard_normal import StandardNormal
from textvae.settings.fields import SizeOrNone


class Place(NamedTuple):
    """Mean and standard deviation of p(z|c) for each condition of a batch."""

    mean: Float[Tensor, "batch latent"]
    std: Float[Tensor, "batch latent"]


class ConditionalGaussian(nn.Module):
    """p(z|c) = N(mu(c), diag sigma(c)^2), from a tanh layer of `hidden` units; with 0 units linear in c.

    Codes of a conditional model are standardised: u = (z - mu(c)) / sigma(c), so that p(u|c) = N(0, I) whatever the
    condition, and KL(q(u|x, c) || N(0, I)) = KL(q(z|x, c) || p(z|c)). The decoder reads z = mu(c) + sigma(c) u.

    References: Zhao et al. 2017, "Learning discourse-level diversity", section 3.1 (prior network).
    """

    def __init__(self, context: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(context, hidden) if hidden else None
        self.parameters_of = nn.Linear(hidden or context, 2 * latent)

    def forward(self, context: Float[Tensor, "batch size"]) -> Place:
        """Return mean and standard deviation of each row, in full precision."""
        with torch.autocast(context.device.type, enabled=False):
            context = context.to(self.parameters_of.weight.dtype)
            hidden = context if self.hidden is None else self.hidden(context).tanh()
            mean, log_variance = self.parameters_of(hidden).chunk(2, dim=1)
            return Place(mean, (0.5 * log_variance).exp())


class ConditionalGaussianSettings(PriorSettings):
    """p(z|c) = N(mu(c), diag sigma(c)^2), computed from the condition by a tanh layer of `hidden` units."""

    name: Literal["conditional-gaussian"]
    hidden: SizeOrNone = 400
    standard: ClassVar[bool] = True  # of standardised codes
    conditional: ClassVar[bool] = True

    def build(self, latent: int, embedding: int) -> StandardNormal:
        """Build the prior of standardised codes."""
        return StandardNormal(latent)

    def placement(self, latent: int, context: int) -> ConditionalGaussian:
        """Build the network of mu and sigma for vectors of conditions of size `context`."""
        return ConditionalGaussian(context, latent, self.hidden)
