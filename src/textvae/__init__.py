"""Variational autoencoders of text that do not collapse.

>>> import textvae
>>> textvae.__version__
'0.1.0'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textvae.comparison import compare
    from textvae.evaluation.diagnose import diagnose
    from textvae.evaluation.evaluate import evaluate
    from textvae.generate.trained import load
    from textvae.objective.presets import load_settings
    from textvae.run.fitting import fit_prior
    from textvae.training.loop import resume
    from textvae.training.texts import train

__version__ = "0.1.0"
__all__ = ["compare", "diagnose", "evaluate", "fit_prior", "load", "load_settings", "resume", "train"]


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used, because torch takes a second to load."""
    from importlib import import_module

    homes = {
        "compare": "textvae.comparison",
        "diagnose": "textvae.evaluation.diagnose",
        "evaluate": "textvae.evaluation.evaluate",
        "fit_prior": "textvae.run.fitting",
        "load": "textvae.generate.trained",
        "load_settings": "textvae.objective.presets",
        "resume": "textvae.training.loop",
        "train": "textvae.training.texts",
    }
    if name not in homes:
        raise AttributeError(f"module 'textvae' has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
