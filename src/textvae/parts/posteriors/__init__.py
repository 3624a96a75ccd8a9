"""Approximate posteriors q(z|x): a module that turns the encoder's vector into a distribution over codes."""

from torch import nn

from textvae.parts.posteriors.gaussian import DiagonalGaussian, GaussianPosterior, gaussian_kl
from textvae.parts.posteriors.posterior import Posterior, Rate, RateKind, joined, mapped
from textvae.settings import tables

__all__ = [
    "DiagonalGaussian",
    "GaussianPosterior",
    "Posterior",
    "Rate",
    "RateKind",
    "gaussian_kl",
    "joined",
    "mapped",
    "posterior_of",
]


def posterior_of(settings: tables.Posterior, size: int, latent: int) -> nn.Module:
    """The posterior that settings name, for encoder vectors of `size` and codes of `latent` dimensions."""
    assert isinstance(settings, tables.GaussianPosterior)
    return GaussianPosterior(size, latent, settings.scale)
