"""Conditioners: from what a model is conditioned on to the vector that prior, posterior and decoder read."""

from typing import Annotated

from textvae.parts.conditioners.conditioner import Conditioner, ConditionerSettings, NoConditioner
from textvae.parts.conditioners.conditioning import Conditioning
from textvae.parts.conditioners.dialogue import DialogueConditionerSettings
from textvae.parts.conditioners.inferred import LabelNats, LabelPosterior, OfHypotheses
from textvae.parts.conditioners.labels import LabelConditionerSettings
from textvae.parts.conditioners.text import TextConditionerSettings
from textvae.settings.kinds import OneOf, kinds

__all__ = [
    "CONDITIONERS",
    "AnyConditioner",
    "Conditioner",
    "ConditionerSettings",
    "Conditioning",
    "LabelNats",
    "LabelPosterior",
    "NoConditioner",
    "OfHypotheses",
]

CONDITIONERS = kinds(
    "textvae.conditioners",
    ConditionerSettings,
    [NoConditioner, LabelConditionerSettings, TextConditionerSettings, DialogueConditionerSettings],
)
AnyConditioner = Annotated[ConditionerSettings, OneOf(CONDITIONERS, "none")]
