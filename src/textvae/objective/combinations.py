"""Rules for combinations of settings that are each valid by themselves."""

from collections.abc import Mapping
from typing import Any

from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.parts.posteriors import POSTERIORS
from textvae.settings import Aggressive
from textvae.text.corpus import vocabulary_problems, window_problems


def combination_problems(settings: Settings) -> list[str]:
    """Return the problems of a combination of valid settings, one line each."""
    problems = []
    for number, phase in enumerate(settings.phase):
        where, length = f"phase[{number}]", (phase.epochs, phase.share)
        if phase.objective:
            problems += _objective_problems(settings, phase.objective, f"{where}.objective")
        last = number == len(settings.phase) - 1
        if last and (length != (None, None) or phase.until != "end"):
            problems.append(f"{where}: the last phase takes the rest of the run; remove epochs, share, until")
        elif not last and (phase.epochs is None) == (phase.share is None):
            problems.append(f"{where}: needs either epochs or share, its part of the run")
    used = sum((phase.epochs or 0) / settings.train.epochs + (phase.share or 0) for phase in settings.phase[:-1])
    if used >= 1:
        problems.append(f"phase: all but the last take {used:.0%} of the run; leave some to the last")
    if settings.phased():
        problems += [
            f"objective.{name}: no phase uses it, as each has an objective of its own; "
            f"set phase.{len(settings.phase) - 1}.objective.{name}, or that of another phase"
            for name in settings.objective
        ]
    else:
        problems += _objective_problems(settings, settings.objective, "objective")
    problems += _model_problems(settings)
    data = settings.data
    problems += window_problems(data) + vocabulary_problems(data)
    if data.corpus is not None and data.train is not None:
        problems.append("data.corpus and data.train: give one of the two")
    if data.train is None and (data.valid or data.test):
        problems.append("data.valid, data.test: need data.train beside them")
    if data.split.valid + data.split.test >= 1:
        problems.append("data.split: valid + test leave nothing to train on; they must sum to less than 1")
    return problems


def _objective_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[str]:
    """Return the problems of one objective."""
    if not settings.model.latent:
        return [
            f"{where}.{name}: needs a posterior, and model.latent = 0 is a language model without one; "
            "leave it out, as --method language-model does"
            for name, term in terms.items()
            if term.needs_posterior
        ]
    rates = [name for name, term in terms.items() if term.is_rate]
    problems = [f"{where}.{name}{problem}" for name, term in terms.items() for problem in term.problems(settings)]
    if settings.model.posterior.fixed_rate:
        kind = settings.model.posterior.name
        problems += [
            f"{where}.{name}: cannot steer the KL of {kind}, which its settings fix; use objective.kl"
            for name in rates
            if name not in ("kl", "mmd", "autoencoder")
        ]
    problems += _schedule_problems(settings, terms, where)
    if len(rates) != 1:
        known = ", ".join(name for name, term in TERMS.items() if term.is_rate)
        given = " and ".join(rates) or "none"
        drop = f"; leave the others out, as --set {where}.{rates[0]}=false does" if rates else ""
        problems.append(f"{where}: exactly one rate term is needed ({known}), given: {given}{drop}")
    return problems


def _schedule_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[str]:
    """Return the problems of schedules: ramps shorter than a step, and more cycles than known steps."""
    schedules = {f"{where}.{name}.weight": term.weight for name, term in terms.items()}
    own = settings.model.posterior.schedules()
    schedules |= {f"model.posterior.{name}": schedule for name, schedule in own.items()}
    most = settings.train.max_steps
    problems = [
        f"{path}.steps = {schedule.steps:g}: less than a step; for a share of the run give unit = 'run' beside it"
        for path, schedule in schedules.items()
        if schedule.schedule == "linear" and schedule.unit == "steps" and schedule.steps < 1
    ]
    return problems + [
        f"{path}.cycles = {schedule.cycles}: more cycles than train.max_steps = {most}; give fewer cycles"
        for path, schedule in schedules.items()
        if most is not None and schedule.schedule == "cyclical" and schedule.cycles > most
    ]


def _model_problems(settings: Settings) -> list[str]:
    """Return the problems among the parts of the model."""
    model, problems = settings.model, []
    posterior, prior, refined = model.posterior, model.prior, model.inference.refinement is not None
    problems += _architecture_problems(settings)
    if model.latent:
        problems += posterior.problems(model.latent)
    if posterior.on_sphere != prior.on_sphere:
        on_sphere = " or ".join(repr(name) for name, kind in POSTERIORS.items() if kind.on_sphere)
        problems.append(
            f"model.posterior.name = {posterior.name!r}: its only prior is model.prior.name = 'uniform-sphere'"
            if posterior.on_sphere
            else f"model.prior.name = {prior.name!r}: codes must lie on it; set model.posterior.name = {on_sphere}"
        )
    if settings.train.batches == "equal-length" and _batch_statistics(settings):
        problems.append(
            "train.batches = 'equal-length': a rare length makes a batch of one, which has no statistics for batch "
            "normalisation; leave it out"
        )
    if posterior.batch_statistics and settings.train.batch_size == 1:
        problems.append(
            f"train.batch_size = 1: a batch of one has no statistics for {posterior.name}; give 2 or more"
        )
    if posterior.on_sphere and model.latent == 1:
        problems.append("model.latent = 1: a sphere needs 2 dimensions or more")
    if posterior.only_standard and not prior.standard:
        problems.append(
            f"model.posterior.name = {posterior.name!r}: keeps its KL up against the standard normal prior only; "
            "leave model.prior as it is"
        )
    if prior.of_posteriors and not posterior.density_anywhere:
        known = ", ".join(repr(name) for name, kind in POSTERIORS.items() if kind.density_anywhere)
        problems.append(
            f"model.prior.name = {prior.name!r}: is made of posteriors with a density, and {posterior.name} has "
            f"none that can be mixed; set model.posterior.name to one of {known}"
        )
    if refined and not posterior.refinable:
        problems.append(
            f"model.inference.name = {model.inference.name!r}: refines a Gaussian; "
            "set model.posterior.name = 'gaussian'"
        )
    if refined and not prior.standard:
        problems.append(
            f"model.inference.name = {model.inference.name!r}: needs model.prior.name = 'standard-normal'"
        )
    return problems + _update_problems(settings)


def _batch_statistics(settings: Settings) -> bool:
    """Return True if a part is normalised over the batch."""
    model = settings.model
    encoded = model.latent > 0 and (model.posterior.batch_statistics or model.encoder.batch_statistics)
    return encoded or model.decoder.batch_statistics


def _update_problems(settings: Settings) -> list[str]:
    """Return the problems between updates and the model."""
    model, problems = settings.model, []
    updates = {"train.update": settings.train.update}
    updates |= {f"phase[{n}].update": phase.update for n, phase in enumerate(settings.phase) if phase.update}
    for where, update in updates.items():
        if not isinstance(update, Aggressive):
            continue
        if not model.latent:
            problems.append(f"{where}.name = 'aggressive': a language model has no encoder to update")
        if model.inference.refinement is not None:
            problems.append(f"{where}.name = 'aggressive': the refinement takes its place; choose one of the two")
        if update.ramp_components and not model.posterior.surrogate:
            known = " or ".join(repr(name) for name, kind in POSTERIORS.items() if kind.surrogate)
            problems.append(
                f"{where}.ramp_components: only model.posterior.name = {known} has components that can rise"
            )
        if update.inner == "converged" and update.check > update.most:
            problems.append(
                f"{where}.check = {update.check}: after at most {update.most} updates the loss would never be "
                "looked at; give less, or more of most"
            )
    return problems


def _architecture_problems(settings: Settings) -> list[str]:
    """Return the problems of encoder and decoder, each alone and together."""
    model, positions = settings.model, settings.data.positions
    encoder, decoder = model.encoder, model.decoder
    problems = encoder.problems("model.encoder", positions) + decoder.problems("model.decoder", positions)
    if model.latent:
        problems += decoder.code_problems("model.decoder")
    elif decoder.fixed_length:
        problems.append(f"model.decoder.name = {decoder.name!r}: unfolds a code, and model.latent = 0 has none")
    if not decoder.embeds:
        if model.tied or model.shared_embedding:
            problems.append(
                "model.decoder.top.name = 'feed-forward': has no embeddings to share or tie; set model.tied and "
                "model.shared_embedding to false"
            )
        if 0 < model.word_keep < 1:  # at 0 it reads no words anyway
            problems.append(
                f"model.word_keep = {model.word_keep}: the decoder reads no words that could be dropped; "
                "leave it out"
            )
    elif model.tied and decoder.softmax_size != model.embedding:
        problems.append(
            f"model.tied: the softmax sees {decoder.softmax_size} units and embeddings have {model.embedding}; "
            "give model.embedding that size"
        )
    if model.shared_embedding and any({"encoder", "decoder"} & set(phase.reset) for phase in settings.phase):
        problems.append(
            "model.shared_embedding: a phase that resets the encoder or the decoder would reset both; "
            "set it to false"
        )
    normalised = (model.latent > 0 and encoder.batch_statistics) or decoder.batch_statistics
    if settings.train.batch_size == 1 and normalised:
        problems.append(
            "train.batch_size = 1: convolutions are batch-normalised, and a batch of one has no statistics"
        )
    if model.prior.of_posteriors and encoder.batch_statistics:
        problems.append(
            f"model.prior.name = {model.prior.name!r}: pseudo-sentences would have a part in the batch "
            "normalisation of the encoder; set model.encoder.name to another"
        )
    return problems
