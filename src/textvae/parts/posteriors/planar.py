"""A Gaussian sent through planar flows whose parameters come from the text."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textvae.parts.posteriors.flows import LinearFlowPosterior
from textvae.parts.posteriors.posterior import PosteriorSettings
from textvae.settings.fields import Depth, Scale

# Newton steps at most: each takes off a third at least, where the slope nearly vanishes.
STEPS = 100
# Squared norms below it count as this: a map without a direction moves nothing.
SMALLEST = 1e-12


class PlanarMap:
    """z' = z + u tanh(w . z + b), with u, w and b of each sentence in a part of its context.

    For the map to be invertible w . u must not be below -1: of the u that is given the part along w is changed so
    that w . u becomes m(w . u) = softplus(w . u) - 1. The determinant of the Jacobian, 1 + m (1 - tanh^2), is then
    tanh^2 + (1 - tanh^2) softplus(w . u), a sum of positive numbers.

    References: Rezende and Mohamed 2015, eq. 10 to 12 and appendix A.1.
    """

    def __init__(self, latent: int, part: slice) -> None:
        self.latent, self.part = latent, part

    def __call__(
        self, z: Float[Tensor, "*sample batch latent"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*sample batch latent"], Float[Tensor, "*sample batch"]]:
        """Return the codes after the map, and the log determinants."""
        with torch.autocast(z.device.type, enabled=False):
            u, w, b, slope = self._parameters(z, context)
            bend = ((z * w).sum(-1) + b).tanh()
            return z + u * bend[..., None], _log_det(bend, slope)

    def inverse(
        self, z: Float[Tensor, "latent #sample #batch"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "latent sample batch"], Float[Tensor, "sample batch"]]:
        """Return the codes before the map, dimensions first, and the log determinants there; differentiable once.

        a = w . z + b solves a + m tanh(a) = w . z' + b, one equation of one number for each code.
        """
        with torch.autocast(z.device.type, enabled=False):
            u, w, b, slope = self._parameters(z, context)
            a = _root((z * w.mT[:, None]).sum(0) + b, slope - 1)
            bend = a.tanh()
            return z - u.mT[:, None] * bend, _log_det(bend, slope)

    def _parameters(self, like: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u as it is used, w, b, and 1 + w . u of each sentence, as `like` is."""
        u, w, b = context[:, self.part].to(like).split([self.latent, self.latent, 1], dim=1)
        along = (u * w).sum(1)
        slope = F.softplus(along)
        lacking = (slope - 1 - along) / w.square().sum(1).clamp(min=SMALLEST)
        return u + lacking[:, None] * w, w, b[:, 0], slope


def _log_det(bend: Float[Tensor, "*any batch"], slope: Float[Tensor, " batch"]) -> Float[Tensor, "*any batch"]:
    """log(1 + m (1 - tanh^2)) of tanh and 1 + m."""
    flat = bend.square()
    return (flat + (1 - flat) * slope).clamp(min=torch.finfo(bend.dtype).tiny).log()


def _root(y: Float[Tensor, "sample batch"], m: Float[Tensor, " batch"]) -> Float[Tensor, "sample batch"]:
    """Return the a for which a + m tanh(a) = y, for m > -1; differentiable once.

    Both sides are odd and rise. For positive y and m < 0 the left side is convex and Newton's method comes down to
    the root from an upper bound, for m > 0 it is concave and comes up from a lower bound: |y| / (1 + m) and
    |y| - m are such bounds.
    """
    with torch.no_grad():
        goal, steep = y.abs(), 1 + m
        straight, far = goal / steep.clamp(min=torch.finfo(y.dtype).tiny), goal - m
        a = torch.where(m < 0, torch.minimum(straight, far), torch.maximum(straight, far))
        for _ in range(STEPS):
            bend = a.tanh()
            flat = bend.square()
            left = a + m * bend - goal
            if not bool((left.abs() > 4 * torch.finfo(y.dtype).eps * (a + goal)).any()):
                break  # as near as rounding lets it come
            a = a - left / (flat + (1 - flat) * steep).clamp(min=torch.finfo(y.dtype).tiny)
        a = a * y.sign()
        bend = a.tanh()
        flat = bend.square()
        rise = (flat + (1 - flat) * steep).clamp(min=torch.finfo(y.dtype).tiny)
    return a - (a + m * bend - y) / rise  # one step more, which has the derivatives of the root


class PlanarPosterior(LinearFlowPosterior):
    """Base and planar maps of each sentence, linear in the encoder's vector.

    References: Rezende and Mohamed 2015, sections 3.1 and 4.2; Bowman et al. 2016, section 3, tried such flows
    without gain.
    """

    def __init__(self, size: int, latent: int, flows: int = 10, scale: Scale = "log-variance") -> None:
        super().__init__(PlanarMap, 2 * latent + 1, size, latent, flows, scale)


class PlanarSettings(PosteriorSettings):
    """A Gaussian sent through planar flows whose parameters come from x."""

    name: Literal["planar"]
    flows: Depth = 10
    scale: Scale = "log-variance"
    density_anywhere: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> PlanarPosterior:
        """Build its network."""
        return PlanarPosterior(size, latent, self.flows, self.scale)
