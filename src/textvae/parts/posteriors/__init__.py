"""Approximate posteriors q(z|x), one file each; `POSTERIORS` names them as settings do."""

from typing import Annotated

from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.posteriors.batch_norm import BatchNormPosterior, BatchNormSettings
from textvae.parts.posteriors.delta import DeltaPosterior, DeltaSettings
from textvae.parts.posteriors.flows import Flowed
from textvae.parts.posteriors.gaussian import DiagonalGaussian, GaussianPosterior, GaussianSettings, gaussian_kl
from textvae.parts.posteriors.iaf import Iaf, IafPosterior, IafSettings
from textvae.parts.posteriors.mixture import GaussianMixture, MixturePosterior, MixtureSettings
from textvae.parts.posteriors.multi_step import MultiStep, MultiStepPosterior, MultiStepSettings
from textvae.parts.posteriors.planar import PlanarPosterior, PlanarSettings
from textvae.parts.posteriors.point import Point, PointPosterior, PointSettings
from textvae.parts.posteriors.posterior import (
    Drawn,
    Expectation,
    Posterior,
    PosteriorNetwork,
    PosteriorSettings,
    Rate,
    RateKind,
    Restated,
    Slow,
    Standardises,
    expected,
    joined,
    mapped,
)
from textvae.parts.posteriors.radial import RadialPosterior, RadialSettings
from textvae.parts.posteriors.semi_implicit import SemiImplicit, SemiImplicitPosterior, SemiImplicitSettings
from textvae.parts.posteriors.vmf import VmfPosterior, VmfSettings, VonMisesFisher
from textvae.settings.kinds import OneOf, kinds

__all__ = [
    "POSTERIORS",
    "AnyPosterior",
    "BatchNormPosterior",
    "DeltaPosterior",
    "DiagonalGaussian",
    "Drawn",
    "Expectation",
    "Flowed",
    "GaussianMixture",
    "GaussianPosterior",
    "GaussianSettings",
    "Iaf",
    "IafPosterior",
    "MixturePosterior",
    "MultiStep",
    "MultiStepPosterior",
    "PlanarPosterior",
    "Point",
    "PointPosterior",
    "Posterior",
    "PosteriorNetwork",
    "PosteriorSettings",
    "RadialPosterior",
    "Rate",
    "RateKind",
    "Restated",
    "SemiImplicit",
    "SemiImplicitPosterior",
    "Slow",
    "Standardises",
    "VmfPosterior",
    "VonMisesFisher",
    "aggregated_log_prob",
    "expected",
    "gaussian_kl",
    "joined",
    "mapped",
]


POSTERIORS = kinds(
    "textvae.posteriors",
    PosteriorSettings,
    [
        GaussianSettings,
        BatchNormSettings,
        DeltaSettings,
        MixtureSettings,
        SemiImplicitSettings,
        IafSettings,
        PlanarSettings,
        RadialSettings,
        MultiStepSettings,
        VmfSettings,
        PointSettings,
    ],
)
AnyPosterior = Annotated[PosteriorSettings, OneOf(POSTERIORS, "gaussian")]
