"""A Gaussian sent through inverse autoregressive flows that see the text."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.flows import Flowed
from textvae.parts.posteriors.gaussian import positive
from textvae.parts.posteriors.posterior import PosteriorNetwork, PosteriorSettings
from textvae.settings.fields import Depth, Scale, Size

# Added to the gates' inputs: at first a flow changes its code little. The paper says +1 or +2.
OPEN = 1.5


class Flow(nn.Module):
    """z' = s * z + (1 - s) * m with [m, s] from an autoregressive network of z and a context vector.

    The network has one masked layer of `hidden` tanh units. Unit k of degree floor(k latent / hidden) sees the
    dimensions before its degree; m and s of dimension i see the units of degree i or less, so only dimensions
    before i. Every unit, m and s see the context. The determinant of dz'/dz is the product of s.

    References: Kingma et al. 2016, eq. 13 and 14 (LSTM-type update); Germain et al. 2015, eq. 8 and 9 (masks). A
    departure: tanh for ELU, which keeps the inverse tame far from the data, and degrees that begin at 0, so that
    one dimension works too.
    """

    inner_mask: Tensor
    outer_mask: Tensor

    def __init__(self, latent: int, hidden: int, context: int, turned: bool = False) -> None:
        super().__init__()
        self.latent, self.turned = latent, turned
        self.inner = nn.Linear(latent, hidden)
        self.inner_context = nn.Linear(context, hidden, bias=False)
        self.outer = nn.Linear(hidden, 2 * latent)  # rows: m and s of dimension 0, then those of dimension 1, ...
        self.outer_context = nn.Linear(context, 2 * latent, bias=False)
        degree = torch.arange(hidden) * latent // hidden
        dimension = torch.arange(latent)
        # Units of each degree; counted on the CPU, as the model may be built of shapes alone.
        self.units = torch.bincount(
            torch.arange(hidden, device="cpu") * latent // hidden, minlength=latent
        ).tolist()
        self.register_buffer("inner_mask", dimension < degree[:, None], persistent=False)
        self.register_buffer("outer_mask", (degree <= dimension[:, None]).repeat_interleave(2, 0), persistent=False)

    def forward(
        self, z: Float[Tensor, "*sample batch latent"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*sample batch latent"], Float[Tensor, "*sample batch"]]:
        """Return the code after the flow, and the log determinant."""
        with torch.autocast(z.device.type, enabled=False):
            inner, outer, inner_bias, outer_bias = self._weights(z, context)
            z = z.flip(-1) if self.turned else z
            units = (z @ inner.mT + inner_bias.mT).tanh()
            m, raw = (units @ outer.mT + outer_bias.mT).unflatten(-1, (self.latent, 2)).unbind(-1)
            s = torch.sigmoid(raw + OPEN)
            return s * z + (1 - s) * m, F.logsigmoid(raw + OPEN).sum(-1)

    def inverse(
        self, z: Float[Tensor, "latent #sample #batch"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "latent sample batch"], Float[Tensor, "sample batch"]]:
        """Return the code before the flow, dimensions first, and the flow's log determinant; differentiable.

        One dimension after the other, each adding its part to the units and outputs that see it: in all about the
        arithmetic of one pass.
        """
        with torch.autocast(z.device.type, enabled=False):
            inner, outer, inner_bias, outer_bias = self._weights(z, context)
            units, outputs = inner_bias[:, None], outer_bias[:, None]  # of what is still to come
            before: list[Tensor] = []
            log_det = z.new_zeros(z.shape[1:])
            start = 0
            for i, width in enumerate(self.units):
                active, units = units[:width].tanh(), units[width:]
                part = outer[2 * i :, start : start + width] @ active.flatten(1)
                outputs = outputs + part.unflatten(1, active.shape[1:])
                m, raw = outputs[0], outputs[1] + OPEN
                s = torch.sigmoid(raw)
                before.append((z[i] - (1 - s) * m) / s)
                log_det = log_det + F.logsigmoid(raw)
                outputs, start = outputs[2:], start + width
                units = torch.addcmul(units, inner[start:, i, None, None], before[-1])
            return torch.stack(before[::-1] if self.turned else before), log_det

    def _weights(self, like: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Masked weights, and what the context adds to units and outputs (feature, batch), as `like` is."""
        inner, outer, from_inner, from_outer, inner_bias, outer_bias, inner_mask, outer_mask = (
            tensor.to(like)
            for tensor in (
                self.inner.weight,
                self.outer.weight,
                self.inner_context.weight,
                self.outer_context.weight,
                self.inner.bias,
                self.outer.bias,
                self.inner_mask,
                self.outer_mask,
            )
        )
        seen = context.to(like).mT
        return (
            inner * inner_mask,
            outer * outer_mask,
            from_inner @ seen + inner_bias[:, None],
            from_outer @ seen + outer_bias[:, None],
        )


class Iaf(Flowed):
    """q(z|x) by inverse autoregressive flows, dimensions reversed between them.

    References: Kingma et al. 2016, algorithm 1.
    """


class IafPosterior(PosteriorNetwork):
    """Mean and scale of the base and a context vector of size `context`, linear in the encoder's vector, and flows.

    All in full precision. With no flows it is the Gaussian posterior.

    References: Kingma et al. 2016, section 3 and algorithm 1; Bowman et al. 2016, section 3, tried flows without
    gain.
    """

    def __init__(
        self,
        size: int,
        latent: int,
        flows: int = 2,
        hidden: int = 64,
        context: int = 32,
        scale: Scale = "log-variance",
    ) -> None:
        super().__init__()
        self.scale: Scale = scale
        self.parameters_of = nn.Linear(size, 2 * latent)
        self.context_of = nn.Linear(size, context)
        self.flows = nn.ModuleList(Flow(latent, hidden, context, turned=number > 0) for number in range(flows))

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> Iaf:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.parameters_of.weight.dtype)
            mean, raw = self.parameters_of(hidden).chunk(2, dim=1)
            flows = tuple(flow for flow in self.flows if isinstance(flow, Flow))
            return Iaf(mean, positive(raw, self.scale), self.context_of(hidden), flows)


class IafSettings(PosteriorSettings):
    """A Gaussian sent through inverse autoregressive flows that see x."""

    name: Literal["iaf"]
    flows: Depth = 2
    hidden: Size = 64
    context: Size = 32
    scale: Scale = "log-variance"
    density_anywhere: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> IafPosterior:
        """Build its network."""
        return IafPosterior(size, latent, self.flows, self.hidden, self.context, self.scale)
