"""Approximate posteriors q(z|x): a module that turns the encoder's vector into a distribution over codes."""

from torch import nn

from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.posteriors.batch_norm import BatchNormPosterior
from textvae.parts.posteriors.delta import DeltaPosterior
from textvae.parts.posteriors.flows import Flowed
from textvae.parts.posteriors.gaussian import DiagonalGaussian, GaussianPosterior, gaussian_kl
from textvae.parts.posteriors.iaf import Iaf, IafPosterior
from textvae.parts.posteriors.mixture import GaussianMixture, MixturePosterior
from textvae.parts.posteriors.multi_step import MultiStep, MultiStepPosterior
from textvae.parts.posteriors.planar import PlanarPosterior
from textvae.parts.posteriors.point import Point, PointPosterior
from textvae.parts.posteriors.posterior import (
    Drawn,
    Expectation,
    Posterior,
    Rate,
    RateKind,
    expected,
    joined,
    mapped,
)
from textvae.parts.posteriors.radial import RadialPosterior
from textvae.parts.posteriors.semi_implicit import SemiImplicit, SemiImplicitPosterior
from textvae.parts.posteriors.vmf import VmfPosterior, VonMisesFisher
from textvae.settings import posteriors as tables

__all__ = [
    "BatchNormPosterior",
    "DeltaPosterior",
    "DiagonalGaussian",
    "Drawn",
    "Expectation",
    "Flowed",
    "GaussianMixture",
    "GaussianPosterior",
    "Iaf",
    "IafPosterior",
    "MixturePosterior",
    "MultiStep",
    "MultiStepPosterior",
    "PlanarPosterior",
    "Point",
    "PointPosterior",
    "Posterior",
    "RadialPosterior",
    "Rate",
    "RateKind",
    "SemiImplicit",
    "SemiImplicitPosterior",
    "VmfPosterior",
    "VonMisesFisher",
    "aggregated_log_prob",
    "expected",
    "gaussian_kl",
    "joined",
    "mapped",
    "posterior_of",
]


def posterior_of(settings: tables.Posterior, size: int, latent: int) -> nn.Module:
    """The posterior that settings name, for encoder vectors of `size` and codes of `latent` dimensions."""
    match settings:
        case tables.BatchNormPosterior():
            return BatchNormPosterior(size, latent, settings.gamma, settings.scale)
        case tables.DeltaPosterior():
            return DeltaPosterior(size, latent, settings.rate)
        case tables.MixturePosterior():
            return MixturePosterior(size, latent, settings.components, settings.scale)
        case tables.VmfPosterior():
            return VmfPosterior(size, latent, settings.concentration)
        case tables.PointPosterior():
            return PointPosterior(size, latent)
        case tables.SemiImplicitPosterior():
            shape = (settings.noise, settings.hidden, settings.layers)
            return SemiImplicitPosterior(size, latent, *shape, settings.scale, round(settings.components.final))
        case tables.IafPosterior():
            return IafPosterior(size, latent, settings.flows, settings.hidden, settings.context, settings.scale)
        case tables.PlanarPosterior():
            return PlanarPosterior(size, latent, settings.flows, settings.scale)
        case tables.RadialPosterior():
            return RadialPosterior(size, latent, settings.flows, settings.scale)
        case tables.MultiStepPosterior():
            return MultiStepPosterior(size, latent, settings.steps, settings.hidden, settings.scale)
        case _:
            return GaussianPosterior(size, latent, settings.scale)
