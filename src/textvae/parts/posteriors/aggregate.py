"""The density of a mixture of very many Gaussians: what aggregated posteriors are."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from textvae.parts.posteriors.posterior import ENTRIES


@torch.no_grad()
def aggregated_log_prob(
    z: Float[Tensor, "codes latent"],
    mean: Float[Tensor, "components latent"],
    std: Float[Tensor, "components latent"],
    log_weight: Float[Tensor, " components"],
    own: int = 0,
    entries: int = ENTRIES,
) -> Float64[Tensor, " codes"]:
    """log sum_m w_m N(z_n | mean_m, diag std_m^2) of each code in nats, without gradients.

    The squares are multiplied out, so that all densities are two matrix products in float64, about `entries` of
    them at a time in square blocks. That loses about 1e-15 (range of codes / std)^2 nats. With `own` > 0 the
    components n own, ..., n own + own - 1 are where code n was drawn from, and their densities are computed without
    that loss. The weights are taken as they are: for a mean over N sentences they contain 1/N.
    """
    centre = mean.double().mean(dim=0)  # densities do not see it, the rounding of the products does
    codes, mean, std = z.double() - centre, mean.double() - centre, std.double()
    peak = log_weight.double() - std.log().sum(1) - z.shape[1] / 2 * math.log(2 * math.pi)
    precision = std.pow(-2)
    scaled = mean * precision
    constant = peak - (mean * scaled).sum(1) / 2
    squares, exact = codes.square(), None
    if own:
        from_own = (codes[:, None] - mean.view(len(z), own, -1)) / std.view(len(z), own, -1)
        exact = peak.view(len(z), own) - from_own.square().sum(-1) / 2
    rows = min(len(z), max(1, math.isqrt(entries)))
    columns = max(1, entries // rows)
    total = codes.new_full((len(z),), -math.inf)
    for start in range(0, len(z), rows):
        part = slice(start, min(start + rows, len(z)))
        for first in range(0, len(mean), columns):
            block = slice(first, min(first + columns, len(mean)))
            densities = torch.addmm(constant[block], codes[part], scaled[block].mT)
            densities.addmm_(squares[part], precision[block].mT, alpha=-0.5)
            torch.minimum(densities, peak[block], out=densities)  # rounding puts none above its own peak
            if exact is not None:
                _put_own(densities, exact, part, block)
            total[part] = torch.logaddexp(total[part], densities.logsumexp(1))
    return total


def _put_own(densities: Tensor, exact: Float64[Tensor, "codes own"], part: slice, block: slice) -> None:
    """Overwrite, in a block of densities, those of codes under their own components."""
    own = exact.shape[1]
    if part.stop * own <= block.start or part.start * own >= block.stop:
        return
    codes = torch.arange(part.start, part.stop, device=exact.device)
    column = (codes[:, None] * own + torch.arange(own, device=exact.device)) - block.start
    row, component = ((column >= 0) & (column < block.stop - block.start)).nonzero(as_tuple=True)
    densities[row, column[row, component]] = exact[part][row, component]
