"""Tables of settings that belong to no part, schedules, kinds of parts, and the reading of TOML into tables."""

from textvae.settings.documents import fitted, leaves, merge, override, parsed, read_document, spelled_out
from textvae.settings.tables import (
    Adam,
    AdamW,
    Aggressive,
    Data,
    Decay,
    Joint,
    Optimizer,
    Phase,
    Plateau,
    Sgd,
    Split,
    TokenizerSettings,
    Train,
    Update,
)

__all__ = [
    "Adam",
    "AdamW",
    "Aggressive",
    "Data",
    "Decay",
    "Joint",
    "Optimizer",
    "Phase",
    "Plateau",
    "Sgd",
    "Split",
    "TokenizerSettings",
    "Train",
    "Update",
    "fitted",
    "leaves",
    "merge",
    "override",
    "parsed",
    "read_document",
    "spelled_out",
]
