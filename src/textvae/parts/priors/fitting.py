"""Fit Gaussians to codes: by moments, and mixtures by expectation maximisation."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from textvae.parts.priors.fitted import Gaussians

COVARIANCES = ("full", "diagonal")
# Added to the variances of a component, as a part of the variance of all codes in that dimension.
FLOOR = 1e-6
# The fit ends when a step raises the mean log density by less than this, nats, and after so many steps.
TOLERANCE, STEPS = 1e-3, 200
# Codes whose densities are held at once.
CODES = 8192


@torch.no_grad()
def fit(
    codes: Float[Tensor, "n latent"], components: int = 1, covariance: str = "full", seed: int = 0
) -> Gaussians:
    """Fit a mixture of Gaussians to codes by expectation maximisation; one component has the codes' own moments.

    It starts from k-means++ by the seed, each code in the component of its nearest centre. Dimensions are scaled to
    variance 1 meanwhile, and 1e-6 is added to the variances of components. `least_codes` are needed.

    References: Arthur and Vassilvitskii 2007, "k-means++"; Bishop 2006, "Pattern recognition and machine learning",
    section 9.2.
    """
    codes = codes.double()
    centre, scale = codes.mean(0), codes.std(0, correction=0)
    scale = scale.clamp(min=1e-6 * scale.max().item())  # a dimension may be constant where others are not
    scaled = (codes - centre) / scale
    nearest = torch.cdist(scaled, centres(scaled, components, seed)).argmin(1)
    shares = torch.nn.functional.one_hot(nearest, components).double()
    fitted, before = gaussians(scaled, shares, covariance), -math.inf
    for _ in range(STEPS if components > 1 else 0):
        parts = log_densities(fitted, scaled)
        total = parts.logsumexp(1)
        if total.mean().item() - before < TOLERANCE:
            break
        before = total.mean().item()
        fitted = gaussians(scaled, (parts - total[:, None]).exp(), covariance)
    return Gaussians(fitted.log_weights, fitted.means * scale + centre, scale[:, None] * fitted.factors)


def centres(codes: Float64[Tensor, "n latent"], components: int, seed: int) -> Float64[Tensor, "components latent"]:
    """Choose codes as centres, each with a probability as the squared distance to the nearest one before it."""
    generator = torch.Generator().manual_seed(seed)
    places = [int(torch.randint(len(codes), (), generator=generator))]
    squares = torch.full((len(codes),), math.inf, dtype=torch.float64)
    for _ in range(components - 1):
        squares = torch.minimum(squares, (codes - codes[places[-1]]).square().sum(1))
        if not squares.any():  # there are fewer different codes than components
            squares = torch.ones_like(squares)
        # By the inverse of the distribution function: torch.multinomial takes no more than 2^24 codes.
        places.append(int((squares.cumsum(0) < torch.rand((), generator=generator) * squares.sum()).sum()))
    return codes[torch.tensor(places).clamp(max=len(codes) - 1)]


def gaussians(
    codes: Float64[Tensor, "n latent"], shares: Float64[Tensor, "n components"], covariance: str
) -> Gaussians:
    """Return the Gaussians of codes that belong to each component by their shares: the maximisation step."""
    totals = shares.sum(0).clamp(min=1e-10)
    means = shares.mT @ codes / totals[:, None]
    latent = codes.shape[1]
    factors = torch.zeros(len(totals), latent, latent, dtype=torch.float64)
    for k, mean in enumerate(means):
        apart = codes - mean
        if covariance == "diagonal":
            factors[k] = (shares[:, k] @ apart.square() / totals[k] + FLOOR).sqrt().diag()
        else:
            square = (shares[:, k, None] * apart).mT @ apart / totals[k]
            factors[k] = torch.linalg.cholesky(square + FLOOR * torch.eye(latent, dtype=torch.float64))
    return Gaussians(totals.log() - totals.sum().log(), means, factors)


@torch.no_grad()
def log_densities(fitted: Gaussians, codes: Float[Tensor, "n latent"]) -> Float64[Tensor, "n components"]:
    """Return `Gaussians.log_prob` of any number of codes, some at a time."""
    return torch.cat([fitted.log_prob(some) for some in codes.split(CODES)])


def least_codes(components: int, latent: int, covariance: str) -> int:
    """Return how many codes a mixture takes at least: as many for each component as determine its covariance."""
    return components * (latent + 1 if covariance == "full" else 2)
