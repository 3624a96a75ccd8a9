"""The objective: reconstruction plus one rate term plus any others, each with its weight at the step."""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError
from textvae.model import Pass
from textvae.parts.gather import gathered
from textvae.settings import Settings, merge, override, parse, read_document
from textvae.terms import TERMS
from textvae.terms.term import Term


class Objective:
    """-log p(x|z) + sum over terms of weight(step) * term, nats per sentence over the global batch."""

    def __init__(self, terms: Mapping[str, Term], total_steps: int) -> None:
        self.terms, self.total_steps = terms, total_steps

    def __call__(self, out: Pass, step: int) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, and its raw parts by name: `reconstruction` and every term, unweighted."""
        raw = {"reconstruction": -gathered(out.log_px.sum(-1).mean(0)).mean()}
        loss = raw["reconstruction"]
        weights = self.weights(step)
        for name, term in self.terms.items():
            raw[name] = term(out, step)
            loss = loss + weights[name] * raw[name]
        return loss, {name: value.detach() for name, value in raw.items()}

    def weights(self, step: int) -> dict[str, float]:
        """The weight of each term at a step."""
        return {name: term.weight(step, self.total_steps) for name, term in self.terms.items()}


def methods() -> dict[str, Path]:
    """The method presets: named fragments of settings."""
    folder = resources.files("textvae") / "methods"
    return {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir() if file.name.endswith(".toml")}


def load_settings(
    path: Path | None = None, method: str | None = None, assignments: Iterable[str] = (), **tables: Any
) -> Settings:
    """Settings from a file, a method preset on top, `tables` on top of that, and `path=value` assignments last.

    A method's objective takes the place of the file's. Without an objective a model with a latent code gets the
    plain KL at weight 1.

    Raises:
        RequestError: names every wrong place, unknown method and impossible combination.
    """
    document = {} if path is None else read_document(path)
    if method is not None:
        presets = methods()
        if method not in presets:
            raise RequestError(f"--method {method}: unknown method; known: {', '.join(sorted(presets))}")
        preset = read_document(presets[method])
        document = merge(document, preset) | {"objective": preset.get("objective", {})}
    document = override(merge(document, tables), assignments)
    settings = parse(document, TERMS)
    if not settings.objective and settings.model.latent:
        settings = settings.model_copy(update={"objective": {"kl": TERMS["kl"]()}})
    problems = combination_problems(settings)
    if problems:
        raise RequestError("\n".join(problems))
    return settings


def combination_problems(settings: Settings) -> list[str]:
    """What does not fit together in settings that are each right by themselves, one line a problem."""
    terms = settings.objective
    rates = [name for name, term in terms.items() if term.is_rate]
    known = ", ".join(name for name, term in TERMS.items() if term.is_rate)
    problems = []
    if not settings.model.latent:
        problems += [
            f"objective.{name}: needs a posterior, and model.latent = 0 is a language model without one"
            for name, term in terms.items()
            if term.needs_posterior
        ]
    elif len(rates) != 1:
        given = " and ".join(rates) or "none"
        problems.append(f"objective: exactly one rate term is needed ({known}), given: {given}")
    if settings.model.latent and not settings.model.decoder.inject:
        problems.append("model.decoder.inject = []: the decoder would never see z; give 'state', 'input' or both")
    data = settings.data
    if data.corpus is not None and data.train is not None:
        problems.append("data.corpus and data.train: give one of the two")
    if data.train is None and (data.valid or data.test):
        problems.append("data.valid, data.test: need data.train beside them")
    if data.split.valid + data.split.test >= 1:
        problems.append("data.split: valid + test leave nothing to train on; they must sum to less than 1")
    return problems
