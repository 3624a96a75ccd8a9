"""Priors over the latent code, one file each; `PRIORS` names them as settings do."""

from typing import Annotated

from textvae.parts.priors.conditional import ConditionalGaussianSettings, Place
from textvae.parts.priors.fitted import FittedMixture, FittedSettings, Gaussians
from textvae.parts.priors.flow import FittedFlow, FittedFlowSettings
from textvae.parts.priors.mixture import MixtureOfGaussians, MixtureOfGaussiansSettings
from textvae.parts.priors.prior import Prior, PriorNetwork, PriorSettings, arc, chosen, line
from textvae.parts.priors.sphere import UniformSphere, UniformSphereSettings, log_area
from textvae.parts.priors.standard_normal import StandardNormal, StandardNormalSettings
from textvae.parts.priors.vamp import Component, MeanOfPosteriors, VampPrior, VampSettings
from textvae.settings.kinds import OneOf, kinds

__all__ = [
    "PRIORS",
    "AnyPrior",
    "Component",
    "FittedFlow",
    "FittedFlowSettings",
    "FittedMixture",
    "FittedSettings",
    "Gaussians",
    "MeanOfPosteriors",
    "MixtureOfGaussians",
    "Place",
    "Prior",
    "PriorNetwork",
    "PriorSettings",
    "StandardNormal",
    "StandardNormalSettings",
    "UniformSphere",
    "VampPrior",
    "arc",
    "chosen",
    "line",
    "log_area",
]

PRIORS = kinds(
    "textvae.priors",
    PriorSettings,
    [
        StandardNormalSettings,
        ConditionalGaussianSettings,
        MixtureOfGaussiansSettings,
        VampSettings,
        UniformSphereSettings,
    ],
)
AnyPrior = Annotated[PriorSettings, OneOf(PRIORS, "standard-normal")]
