"""The objective: reconstruction plus one rate term plus any others, each with its weight at the step."""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.errors import RequestError
from textvae.model import Pass
from textvae.parts.gather import gathered
from textvae.settings import Settings, merge, override, parse, read_document
from textvae.terms import TERMS
from textvae.terms.term import Term


class Objective:
    """-log p(x|z) + sum over terms of weight(step) * term, nats per sentence over the global batch.

    `total` steps are planned, `per_epoch` of them an epoch.
    """

    def __init__(self, terms: Mapping[str, Term], total: int, per_epoch: int = 1) -> None:
        self.terms = {name: term.planned(per_epoch) for name, term in terms.items()}
        self.total, self.per_epoch = total, per_epoch

    def __call__(
        self, out: Pass, step: int, multipliers: Mapping[str, float] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, and its raw parts by name: `reconstruction` and every term, unweighted."""
        raw = {"reconstruction": -gathered(out.log_px.sum(-1).mean(0)).mean()}
        loss = raw["reconstruction"]
        weights = self.weights(step, multipliers)
        for name, term in self.terms.items():
            raw[name] = term(out, step)
            loss = loss + term.loss(raw, name, weights[name])
        if "kl" not in raw and (rate := _rate(out)) is not None:
            raw["kl"] = rate  # whatever is paid, the log has the KL itself
        return loss, {name: value.detach() for name, value in raw.items()}

    def weights(self, step: int, multipliers: Mapping[str, float] | None = None) -> dict[str, float]:
        """The weight of each term at a step, learned multipliers included."""
        learned = multipliers or {}
        return {
            name: term.weight(step, self.total, self.per_epoch) * learned.get(name, 1.0)
            for name, term in self.terms.items()
        }

    def settled(self) -> float:
        """The step from which on no weight and no target changes: from there on losses can be compared."""
        return max((term.settled(self.total, self.per_epoch) for term in self.terms.values()), default=0.0)


def criterion(record: Mapping[str, Any], objective: Objective) -> float:
    """What makes one validation better than another: the bound, or reconstruction where the rate is not paid."""
    paid = any(term.is_rate and term.pays and term.weight.final for term in objective.terms.values())
    bound = record.get("bound")
    return record["reconstruction"] if bound is None or not (paid or "kl" not in record) else bound


@torch.no_grad()
def _rate(out: Pass) -> Tensor | None:
    """The mean KL of the global batch, where there is one."""
    if out.posterior is None or out.prior is None or out.z is None:
        return None
    found = out.posterior.rate(out.z, out.prior)
    return None if found is None else gathered(found.nats).mean()


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
        document["phase"] = preset.get("phase", [])
    document = override(merge(document, tables), assignments)
    settings = parse(document, TERMS)
    if not settings.objective and settings.model.latent:
        rate = "autoencoder" if settings.model.posterior.name == "point" else "kl"
        settings = settings.model_copy(update={"objective": {rate: TERMS[rate]()}})
    problems = combination_problems(settings)
    if problems:
        raise RequestError("\n".join(problems))
    return settings


def combination_problems(settings: Settings) -> list[str]:
    """What does not fit together in settings that are each right by themselves, one line a problem."""
    problems = []
    for number, phase in enumerate(settings.phase):
        where, length = f"phase[{number}]", (phase.epochs, phase.share)
        if phase.objective:
            problems += _objective_problems(settings, phase.objective, f"{where}.objective")
        last = number == len(settings.phase) - 1
        if last and (length != (None, None) or phase.until != "end"):
            problems.append(f"{where}: the last phase takes what is left; leave out epochs, share, until")
        elif not last and (phase.epochs is None) == (phase.share is None):
            problems.append(f"{where}: needs either epochs or share, its part of the run, as all but the last do")
    used = sum((phase.epochs or 0) / settings.train.epochs + (phase.share or 0) for phase in settings.phase)
    if used >= 1:
        problems.append(f"phase: all but the last take {used:.0%} of the run; leave some to the last")
    problems += _objective_problems(settings, settings.objective, "objective")
    problems += _model_problems(settings)
    data = settings.data
    if data.corpus is not None and data.train is not None:
        problems.append("data.corpus and data.train: give one of the two")
    if data.train is None and (data.valid or data.test):
        problems.append("data.valid, data.test: need data.train beside them")
    if data.split.valid + data.split.test >= 1:
        problems.append("data.split: valid + test leave nothing to train on; they must sum to less than 1")
    return problems


def _objective_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[str]:
    """What does not fit in one objective."""
    if not settings.model.latent:
        return [
            f"{where}.{name}: needs a posterior, and model.latent = 0 is a language model without one"
            for name, term in terms.items()
            if term.needs_posterior
        ]
    rates = [name for name, term in terms.items() if term.is_rate]
    problems = [f"{where}.{name}{problem}" for name, term in terms.items() for problem in term.problems(settings)]
    if settings.model.posterior.name == "vmf":
        problems += [
            f"{where}.{name}: cannot steer the KL of vmf, which its concentration sets; use objective.kl"
            for name in rates
            if name not in ("kl", "mmd", "autoencoder")
        ]
    problems += _cycle_problems(settings, terms, where)
    if len(rates) != 1:
        known = ", ".join(name for name, term in TERMS.items() if term.is_rate)
        given = " and ".join(rates) or "none"
        problems.append(f"{where}: exactly one rate term is needed ({known}), given: {given}")
    return problems


def _cycle_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[str]:
    """More cycles than steps, as far as the settings say how many steps there are."""
    schedules = {f"{where}.{name}.weight": term.weight for name, term in terms.items()}
    if settings.model.posterior.name == "semi-implicit":
        schedules["model.posterior.components"] = settings.model.posterior.components
    most = settings.train.max_steps
    return [
        f"{path}.cycles = {schedule.cycles}: more cycles than train.max_steps = {most}; give fewer cycles"
        for path, schedule in schedules.items()
        if most is not None and schedule.schedule == "cyclical" and schedule.cycles > most
    ]


def _model_problems(settings: Settings) -> list[str]:
    """Parts of the model that do not fit each other."""
    model, problems = settings.model, []
    posterior, prior = model.posterior.name, model.prior.name
    if model.latent and not model.decoder.inject:
        problems.append("model.decoder.inject = []: the decoder would never see z; give 'state', 'input' or both")
    if posterior == "vmf" and prior != "uniform-sphere":
        problems.append("model.posterior.name = 'vmf': its only prior is model.prior.name = 'uniform-sphere'")
    if prior == "uniform-sphere" and posterior != "vmf":
        problems.append("model.prior.name = 'uniform-sphere': codes must lie there: model.posterior.name = 'vmf'")
    if posterior == "vmf" and model.latent == 1:
        problems.append("model.latent = 1: a sphere needs 2 dimensions or more")
    if posterior == "delta" and prior != "standard-normal":
        problems.append(
            "model.posterior.name = 'delta': its rate is committed against the standard normal prior only"
        )
    if prior == "vamp" and posterior not in ("gaussian", "gaussian-mixture", "iaf"):
        problems.append(
            f"model.prior.name = 'vamp': is made of posteriors with a density, and {posterior} has none "
            "that can be mixed; set model.posterior.name to 'gaussian', 'gaussian-mixture' or 'iaf'"
        )
    if model.inference.name == "refined" and posterior != "gaussian":
        problems.append(
            "model.inference.name = 'refined': refines a Gaussian; set model.posterior.name = 'gaussian'"
        )
    if model.inference.name == "refined" and prior != "standard-normal":
        problems.append("model.inference.name = 'refined': needs model.prior.name = 'standard-normal'")
    updates = [settings.train.update, *(phase.update for phase in settings.phase if phase.update is not None)]
    if any(update.name != "joint" for update in updates):
        if not model.latent:
            problems.append("train.update.name = 'aggressive': a language model has no encoder to update")
        if model.inference.name == "refined":
            problems.append(
                "train.update.name = 'aggressive': the refinement takes its place; choose one of the two"
            )
    return problems
