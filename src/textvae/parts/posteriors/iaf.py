"""A Gaussian sent through inverse autoregressive flows that see the text."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.gaussian import positive
from textvae.parts.posteriors.posterior import Rate
from textvae.parts.priors import Prior
from textvae.settings.tables import Scale

# Added to the gates' inputs: at first a flow changes its code little. The paper says +1 or +2.
OPEN = 1.5
# Pairs of a code and a posterior that a mixture inverts at once: what fits a processor's cache, and a GPU's cores.
PAIRS, PAIRS_GPU = 1 << 11, 1 << 17


class Flow(nn.Module):
    """z' = s * z + (1 - s) * m with [m, s] from an autoregressive network of z and a context vector.

    The network has one masked layer of `hidden` tanh units. Unit k of degree floor(k latent / hidden) sees the
    dimensions before its degree; m and s of dimension i see the units of degree i or less, so only dimensions
    before i. Every unit, m and s see the context. The determinant of dz'/dz is the product of s.

    Source: Kingma et al. 2016, eq. 13 and 14 (LSTM-type update); Germain et al. 2015, eq. 8 and 9 (masks). A
    departure: tanh for ELU, which keeps the inverse tame far from the data, and degrees that begin at 0, so that
    one dimension works too.
    """

    inner_mask: Tensor
    outer_mask: Tensor

    def __init__(self, latent: int, hidden: int, context: int) -> None:
        super().__init__()
        self.latent = latent
        self.inner = nn.Linear(latent, hidden)
        self.inner_context = nn.Linear(context, hidden, bias=False)
        self.outer = nn.Linear(hidden, 2 * latent)  # rows: m and s of dimension 0, then those of dimension 1, ...
        self.outer_context = nn.Linear(context, 2 * latent, bias=False)
        degree = torch.arange(hidden) * latent // hidden
        dimension = torch.arange(latent)
        self.units = [int((degree == i).sum()) for i in range(latent)]
        self.register_buffer("inner_mask", dimension < degree[:, None], persistent=False)
        self.register_buffer("outer_mask", (degree <= dimension[:, None]).repeat_interleave(2, 0), persistent=False)

    def forward(
        self, z: Float[Tensor, "*sample batch latent"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "*sample batch latent"], Float[Tensor, "*sample batch"]]:
        """The code after the flow, and the log determinant."""
        with torch.autocast(z.device.type, enabled=False):
            inner, outer, inner_bias, outer_bias = self._weights(z, context)
            units = (z @ inner.mT + inner_bias.mT).tanh()
            m, raw = (units @ outer.mT + outer_bias.mT).unflatten(-1, (self.latent, 2)).unbind(-1)
            s = torch.sigmoid(raw + OPEN)
            return s * z + (1 - s) * m, F.logsigmoid(raw + OPEN).sum(-1)

    def inverse(
        self, z: Float[Tensor, "latent #sample #batch"], context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "latent sample batch"], Float[Tensor, "sample batch"]]:
        """The code before the flow, dimensions first, and the log determinant of the flow there; differentiable.

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
            return torch.stack(before), log_det

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


@dataclass(frozen=True)
class Iaf:
    """q(z|x): z_0 ~ N(base_mean, diag base_std^2) for each sentence, then the flows, dimensions reversed between.

    Source: Kingma et al. 2016, algorithm 1.
    """

    base_mean: Float[Tensor, "batch latent"]
    base_std: Float[Tensor, "batch latent"]
    context: Float[Tensor, "batch context"]
    flows: tuple[Flow, ...]
    # Codes that were drawn, with their log densities: those come for nothing with a draw. Never copied along.
    _drawn: list[tuple[Tensor, int, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def mean(self) -> Float[Tensor, "batch latent"]:
        """Where the base's mean is sent: a typical code, but not the mean of q(z|x), which has no closed form."""
        return self._sent(self.base_mean)[0]

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws; their densities are kept for `log_prob` of the same tensor."""
        drawn = noise(samples, self.base_mean.shape[1]).to(self.base_mean)
        z, log_det = self._sent(self.base_mean + self.base_std * drawn)
        log_q = -0.5 * (drawn.square() + math.log(2 * math.pi)).sum(-1) - self.base_std.log().sum(-1) - log_det
        self._drawn[:] = [(z, _version(z), log_q)]
        return z

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats: for the codes last drawn what is known of them, for all others by inversion.

        The inversion is done in float64, as that of a mixture, so that both say the same of a sharp posterior.
        """
        for known, version, log_q in self._drawn:
            if known is z and _version(z) == version and (log_q.requires_grad or not torch.is_grad_enabled()):
                return log_q
        flat = z.flatten(0, -3).movedim(-1, 0) if z.dim() > 2 else z.mT[:, None]
        log_q = self._inverted(flat.double(), self.base_mean.double(), self.base_std.double(), self.context)
        return log_q.view(z.shape[:-1]).to(z)

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: the KL of a flow is no sum over dimensions."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate:
        """KL(q || prior) in nats, averaged over the codes `z`."""
        return Rate((self.log_prob(z) - prior.log_prob(z)).mean(0), "monte-carlo")

    @torch.no_grad()
    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], pairs: int | None = None
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats.

        All N^2 inversions in float64, about `pairs` of them at a time in square blocks.
        """
        pairs = pairs or (PAIRS if z.device.type == "cpu" else PAIRS_GPU)
        side = max(1, math.isqrt(pairs))
        codes = z.double().mT[:, :, None]
        mean, std, context = self.base_mean.double(), self.base_std.double(), self.context
        total = codes.new_full((len(z),), -math.inf)
        for first in range(0, len(z), side):
            of = slice(first, first + side)
            for start in range(0, len(z), side):
                part = slice(start, start + side)
                densities = self._inverted(codes[:, part], mean[of], std[of], context[of])
                total[part] = torch.logaddexp(total[part], densities.logsumexp(1))
        return total - math.log(len(z))

    def _sent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Base codes through the flows, and the log determinant of it all."""
        log_det = z.new_zeros(z.shape[:-1])
        for number, flow in enumerate(self.flows):
            z, change = flow(z.flip(-1) if number else z, self.context)
            log_det = log_det + change
        return z, log_det

    def _inverted(self, z: Tensor, mean: Tensor, std: Tensor, context: Tensor) -> Tensor:
        """log q (sample, batch) of codes with their dimensions first, (latent, sample, batch or 1)."""
        log_det = z.new_zeros(())
        for number, flow in reversed(list(enumerate(self.flows))):
            z, change = flow.inverse(z, context)
            z, log_det = z.flip(0) if number else z, log_det + change
        standard = (z - mean.mT[:, None]) / std.mT[:, None]
        base = -0.5 * (standard.square() + math.log(2 * math.pi)).sum(0) - std.log().sum(1)
        return base - log_det


def _version(z: Tensor) -> int:
    """Counts changes in place, where torch does."""
    return 0 if z.is_inference() else z._version


class IafPosterior(nn.Module):
    """Mean and scale of the base and a context vector of size `context`, linear in the encoder's vector, and flows.

    All in full precision. With no flows it is the Gaussian posterior.

    Source: Kingma et al. 2016, section 3 and algorithm 1; Bowman et al. 2016, section 3, tried flows without gain.
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
        self.flows = nn.ModuleList(Flow(latent, hidden, context) for _ in range(flows))

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> Iaf:
        """The posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.parameters_of.weight.dtype)
            mean, raw = self.parameters_of(hidden).chunk(2, dim=1)
            flows = tuple(flow for flow in self.flows if isinstance(flow, Flow))
            return Iaf(mean, positive(raw, self.scale), self.context_of(hidden), flows)
