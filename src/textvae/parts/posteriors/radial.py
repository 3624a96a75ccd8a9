"""A Gaussian sent through radial flows whose parameters come from the text."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textvae.parts.posteriors.flows import LinearFlowPosterior
from textvae.parts.posteriors.posterior import PosteriorSettings
from textvae.settings.fields import Depth, Scale


class RadialMap:
    """z' = z + beta (z - centre) / (alpha + r), r = |z - centre|, with a sentence's parameters in its context.

    alpha is a softplus. For the map to be invertible beta must not be below -alpha: it is s - alpha with s another
    softplus. So r goes to r (r + s) / (r + alpha), whose inverse is the positive root of a quadratic equation, and
    the determinant of the Jacobian is ((r + s) / (r + alpha))^(d - 1) (r^2 + 2 alpha r + alpha s) / (r + alpha)^2.

    References: Rezende and Mohamed 2015, eq. 14 and appendix A.2. That alpha is a softplus is not said there.
    """

    def __init__(self, latent: int, part: slice) -> None:
        self.latent, self.part = latent, part

    def __call__(
        self, z: Float[Tensor, "*sample batch latent"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*sample batch latent"], Float[Tensor, "*sample batch"]]:
        """Return the codes after the map, and the log determinants."""
        with torch.autocast(z.device.type, enabled=False):
            centre, alpha, s = self._parameters(z, context)
            away = z - centre
            r = torch.linalg.vector_norm(away, dim=-1)
            return centre + away * ((r + s) / (r + alpha))[..., None], self._log_det(r, alpha, s)

    def inverse(
        self, z: Float[Tensor, "latent #sample #batch"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "latent sample batch"], Float[Tensor, "sample batch"]]:
        """Return the codes before the map, dimensions first, and the log determinants there; differentiable.

        r^2 + (s - r') r - alpha r' = 0, solved by whichever of the two usual forms subtracts nothing.
        """
        with torch.autocast(z.device.type, enabled=False):
            centre, alpha, s = self._parameters(z, context)
            away = z - centre.mT[:, None]
            far = torch.linalg.vector_norm(away, dim=0)
            half = (far - s) / 2
            product = alpha * far
            root = (half.square() + product).sqrt() + half.abs()
            r = torch.where(half > 0, root, product / root)
            return centre.mT[:, None] + away * ((r + alpha) / (r + s)), self._log_det(r, alpha, s)

    def _log_det(
        self, r: Float[Tensor, "*any batch"], alpha: Float[Tensor, " batch"], s: Float[Tensor, " batch"]
    ) -> Float[Tensor, "*any batch"]:
        """Return the log determinant at a distance from the centre before the map."""
        outer = (r + alpha).log()
        return (
            (self.latent - 1) * (r + s).log()
            - (self.latent + 1) * outer
            + (r.square() + 2 * alpha * r + alpha * s).log()
        )

    def _parameters(self, like: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the centre, alpha and s of each sentence, as `like` is."""
        centre, raw = context[:, self.part].to(like).split([self.latent, 2], dim=1)
        alpha, s = F.softplus(raw).clamp(min=torch.finfo(like.dtype).tiny).unbind(1)
        return centre, alpha, s


class RadialPosterior(LinearFlowPosterior):
    """Base and radial maps of each sentence, linear in the encoder's vector.

    References: Rezende and Mohamed 2015, sections 3.1 and 4.2; Bowman et al. 2016, section 3, tried flows without
    gain.
    """

    def __init__(self, size: int, latent: int, flows: int = 10, scale: Scale = "log-variance") -> None:
        super().__init__(RadialMap, latent + 2, size, latent, flows, scale)


class RadialSettings(PosteriorSettings):
    """A Gaussian sent through radial flows whose parameters come from x."""

    name: Literal["radial"]
    flows: Depth = 10
    scale: Scale = "log-variance"
    density_anywhere: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> RadialPosterior:
        """Build its network."""
        return RadialPosterior(size, latent, self.flows, self.scale)
