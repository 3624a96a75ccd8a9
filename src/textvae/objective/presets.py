"""Method presets, and settings from a file, a preset and assignments."""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from textvae.errors import RequestError, did_you_mean
from textvae.objective.combinations import combination_problems
from textvae.objective.settings import Settings, parse
from textvae.objective.terms import TERMS
from textvae.parts.settings import ModelSettings
from textvae.settings import fitted, merge, override, read_document, spelled_out
from textvae.settings.problems import refuse

# The method without a code.
LANGUAGE_MODEL = "language-model"


def methods() -> dict[str, Path]:
    """Return the files of the method presets, which are named fragments of settings."""
    folder = resources.files("textvae.objective") / "methods"
    return {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir() if file.name.endswith(".toml")}


def load_settings(
    path: Path | str | Mapping[str, Any] | None = None,
    method: str | None = None,
    assignments: Iterable[str] = (),
    **tables: Any,
) -> Settings:
    """Return settings from a file or document, then a method preset, then `tables`, then `path=value` assignments.

    Later sources override earlier ones. A method's objective replaces that of the file; its decoder settings apply
    as far as the file's decoder has them. Without an objective, a model with a latent code gets the plain KL at
    weight 1, unless each of its phases has its own objective.

    Raises:
        RequestError: Naming every wrong place, unknown method and impossible combination.
    """
    if path is None or isinstance(path, Mapping):
        document = dict(path or {})
    else:
        document = read_document(Path(path))
    if method is not None:
        presets = methods()
        if method not in presets:
            raise RequestError(f"--method {method}: unknown method{did_you_mean(method, presets)}")
        preset = fitted(read_document(presets[method]), document, ModelSettings)
        document = merge(document, preset) | {"objective": preset.get("objective", {})}
        document["phase"] = preset.get("phase", [])
    document = override(merge(document, spelled_out(tables)), assignments)
    settings = parse(document, TERMS)
    if method == LANGUAGE_MODEL and settings.model.latent:
        raise RequestError(
            f"--method {method}: has no code, but model.latent = {settings.model.latent} asks for one; "
            "remove one of the two"
        )
    if not settings.objective and settings.model.latent and not settings.phased():
        rate = "kl" if settings.model.posterior.has_rate else "autoencoder"
        settings = settings.model_copy(update={"objective": {rate: TERMS[rate]()}})
    refuse(combination_problems(settings))
    return settings
