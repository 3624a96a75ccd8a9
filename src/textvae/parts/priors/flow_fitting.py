"""Fit a normalizing flow to codes by maximum likelihood, with early stopping on other codes."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from textvae.parts.priors.fitting import fit
from textvae.parts.priors.flow import CODES, FittedFlow, FittedFlowSettings

# Adam's learning rate, codes of a step, and most epochs.
RATE, BATCH, EPOCHS = 3e-3, 512, 40
# After so many epochs that raise the density of other codes by less than so many nats the best weights come back
# and the rate is divided by 3; the fit ends where that was to happen the fourth time.
PATIENCE, LEAST, DIVISOR, CUTS = 2, 1e-3, 3.0, 3
# Greatest norm of a gradient.
NORM = 5.0


def fit_flow(
    codes: Float[Tensor, "n latent"],
    others: Float[Tensor, "m latent"],
    settings: FittedFlowSettings,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FittedFlow, int]:
    """Fit a flow to codes by maximum likelihood, until the mean log density of other codes rises no more.

    It begins as the Gaussian with the moments of the codes. Steps are those of Adam in float32, the rate is lowered
    on a plateau. `latent` + 1 codes are needed.

    Args:
        codes: Codes that the flow is fitted to.
        others: Codes whose density ends the fit.
        settings: Sizes.
        seed: Of the first weights and the order of the codes.
        progress: Called with the epoch and the most epochs.

    Returns:
        The flow with the highest density of the other codes, and the epoch that it is of; 0 is the Gaussian.

    References: Prechelt 1998, "Early stopping -- but when?" (other data decides, and the best weights stay).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = settings.build(codes.shape[1], 0)
    moments = fit(codes)
    flow.mean.copy_(moments.means[0])
    flow.factor.copy_(moments.factors[0])
    scaled, scaled_others = (flow.scaled(some.double()).float() for some in (codes, others))
    flow.splines.float()
    epoch = _train(flow, scaled, scaled_others, torch.Generator().manual_seed(seed), progress)
    flow.splines.double()
    return flow, epoch


def _train(
    flow: FittedFlow,
    codes: Float32[Tensor, "n latent"],
    others: Float32[Tensor, "m latent"],
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Train the splines of a flow, leave the best weights in it, and return the epoch that they are of."""
    parameters = list(flow.splines.parameters())
    best, best_epoch, weights = _density(flow, others), 0, [parameter.clone() for parameter in parameters]
    rate, cuts, since = RATE, 0, 0
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for epoch in range(1, EPOCHS + 1):
        flow.splines.requires_grad_()
        for rows in torch.randperm(len(codes), generator=generator).split(BATCH):
            optimizer.zero_grad()
            with torch.enable_grad():
                (-flow.log_prob_of_scaled(codes[rows]).mean()).backward()
            nn.utils.clip_grad_norm_(parameters, NORM)
            optimizer.step()
        flow.splines.requires_grad_(False)
        if progress is not None:
            progress(epoch, EPOCHS)
        density = _density(flow, others)
        if density > best + LEAST:
            best, best_epoch, since = density, epoch, 0
            weights = [parameter.clone() for parameter in parameters]
            continue
        since += 1
        if since == PATIENCE:
            cuts, since, rate = cuts + 1, 0, rate / DIVISOR
            _restore(parameters, weights)
            optimizer = torch.optim.Adam(parameters, lr=rate)
            if cuts > CUTS:
                break
    _restore(parameters, weights)
    return best_epoch


def _restore(parameters: list[nn.Parameter], weights: list[Tensor]) -> None:
    """Put weights in place of the present ones."""
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.copy_(weight)


def _density(flow: FittedFlow, codes: Float32[Tensor, "n latent"]) -> float:
    """Return the mean log density of scaled codes, in nats."""
    return torch.cat([flow.log_prob_of_scaled(some) for some in codes.split(CODES)]).double().mean().item()
