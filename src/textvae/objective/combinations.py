"""Rules for combinations of settings that are each valid by themselves."""

from collections.abc import Mapping
from typing import Any

from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.parts.conditioners import CONDITIONERS
from textvae.parts.posteriors import POSTERIORS
from textvae.settings import Aggressive, Data
from textvae.settings.problems import Problem
from textvae.text.corpus import vocabulary_problems, window_problems


def combination_problems(settings: Settings) -> list[Problem]:
    """Return the problems of a combination of valid settings."""
    problems = []
    for number, phase in enumerate(settings.phase):
        where, length = f"phase[{number}]", (phase.epochs, phase.share)
        if phase.objective:
            problems += _objective_problems(settings, phase.objective, f"{where}.objective")
        last = number == len(settings.phase) - 1
        if last and (length != (None, None) or phase.until != "end"):
            problems.append(
                Problem(where, "the last phase takes the rest of the run", "remove epochs, share, until")
            )
        elif not last and (phase.epochs is None) == (phase.share is None):
            problems.append(Problem(where, "needs either epochs or share, its part of the run"))
    used = sum((phase.epochs or 0) / settings.train.epochs + (phase.share or 0) for phase in settings.phase[:-1])
    if used >= 1:
        taken = f"all but the last take {used:.0%} of the run"
        problems.append(Problem("phase", taken, "leave some to the last"))
    if settings.phased():
        unused = "no phase uses it, as each has an objective of its own"
        last_phase = f"phase.{len(settings.phase) - 1}"
        problems += [
            Problem(f"objective.{name}", unused, f"set {last_phase}.objective.{name}, or that of another phase")
            for name in settings.objective
        ]
    else:
        problems += _objective_problems(settings, settings.objective, "objective")
    return problems + _prior_problems(settings) + _model_problems(settings) + _data_problems(settings.data)


def _prior_problems(settings: Settings) -> list[Problem]:
    """Return the problem of a prior that is to be fitted to codes that no Gaussian has a density for, if so."""
    model = settings.model
    if not settings.train.fit_prior or (model.latent and not model.prior.on_sphere):
        return []
    why = "codes lie on a sphere, where a Gaussian has no density" if model.latent else "model.latent = 0: no codes"
    return [Problem("train.fit_prior = true", why, "set it to false")]


def _data_problems(data: Data) -> list[Problem]:
    """Return the problems of the text and its splits."""
    problems = window_problems(data) + vocabulary_problems(data)
    if data.corpus is not None and data.train is not None:
        problems.append(Problem("data.corpus and data.train", "give one of the two"))
    if data.train is None and (data.valid or data.test):
        problems.append(Problem("data.valid, data.test", "need data.train beside them"))
    if data.split.valid + data.split.test >= 1:
        nothing = "valid + test leave nothing to train on"
        problems.append(Problem("data.split", nothing, "they must sum to less than 1"))
    return problems


def _objective_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[Problem]:
    """Return the problems of one objective."""
    if not settings.model.latent:
        needs = "needs a posterior, and model.latent = 0 is a language model without one"
        return [
            Problem(f"{where}.{name}", needs, "leave it out, as --method language-model does")
            for name, term in terms.items()
            if term.needs_posterior
        ]
    rates = [name for name, term in terms.items() if term.is_rate]
    problems = [
        problem.under(f"{where}.{name}") for name, term in terms.items() for problem in term.problems(settings)
    ]
    if settings.model.posterior.fixed_rate:
        fixed = f"cannot steer the KL of {settings.model.posterior.name}, which its settings fix"
        problems += [
            Problem(f"{where}.{name}", fixed, "use objective.kl") for name in rates if terms[name].steers_kl
        ]
    problems += _schedule_problems(settings, terms, where)
    if len(rates) != 1:
        known = ", ".join(name for name, term in TERMS.items() if term.is_rate)
        given = " and ".join(rates) or "none"
        drop = f"leave the others out, as --set {where}.{rates[0]}=false does" if rates else ""
        problems.append(Problem(where, f"exactly one rate term is needed ({known}), given: {given}", drop))
    return problems


def _schedule_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[Problem]:
    """Return the problems of schedules: ramps shorter than a step, and more cycles than known steps."""
    schedules = {f"{where}.{name}.weight": term.weight for name, term in terms.items()}
    schedules |= {f"model.{name}": schedule for name, schedule in settings.model.schedules().items()}
    most = settings.train.max_steps
    share = "for a share of the run give unit = 'run' beside it"
    problems = [
        Problem(f"{path}.steps", "less than a step", share, value=schedule.steps)
        for path, schedule in schedules.items()
        if schedule.schedule == "linear" and schedule.unit == "steps" and schedule.steps < 1
    ]
    return problems + [
        Problem(
            f"{path}.cycles",
            f"more cycles than train.max_steps = {most}",
            "give fewer cycles",
            value=schedule.cycles,
        )
        for path, schedule in schedules.items()
        if most is not None and schedule.schedule == "cyclical" and schedule.cycles > most
    ]


def _model_problems(settings: Settings) -> list[Problem]:
    """Return the problems among the parts of the model, and between them and the updates."""
    problems = _architecture_problems(settings) + _embedding_problems(settings) + _gate_problems(settings)
    return problems + _code_problems(settings) + _condition_problems(settings) + _update_problems(settings)


def _architecture_problems(settings: Settings) -> list[Problem]:
    """Return the problems of encoder, decoder and posterior, each alone and with the batches."""
    model, positions, train = settings.model, settings.data.positions, settings.train
    encoder, decoder, posterior, prior = model.encoder, model.decoder, model.posterior, model.prior
    problems = [problem.under("model.encoder") for problem in encoder.problems(positions)]
    problems += [problem.under("model.decoder") for problem in decoder.problems(model.latent, positions)]
    if model.latent:
        problems += [problem.under("model.posterior") for problem in posterior.problems(model.latent)]
    elif decoder.fixed_length:
        unfolds = "unfolds a code, and model.latent = 0 has none"
        problems.append(Problem("model.decoder.name", unfolds, value=decoder.name))
    normalised = {
        f"model.posterior.name = {posterior.name!r}": bool(model.latent) and posterior.batch_statistics,
        f"model.encoder.name = {encoder.name!r}": bool(model.latent) and encoder.batch_statistics,
        f"model.decoder.name = {decoder.name!r}": decoder.batch_statistics,
    }
    if parts := " and ".join(part for part, is_normalised in normalised.items() if is_normalised):
        single = f"a batch of one has no statistics for the batch normalisation of {parts}"
        if train.batch_size == 1:
            problems.append(Problem("train.batch_size", single, "give 2 or more", value=1))
        if train.batches == "equal-length":
            rare = f"a rare length makes a batch of one, and {single}"
            problems.append(Problem("train.batches", rare, "leave it out", value=train.batches))
    if prior.of_posteriors and encoder.batch_statistics:
        part = "pseudo-sentences would have a part in the batch normalisation of the encoder"
        problems.append(Problem("model.prior.name", part, "set model.encoder.name to another", value=prior.name))
    return problems


def _embedding_problems(settings: Settings) -> list[Problem]:
    """Return the problems of embeddings that are shared, tied or dropped."""
    model, decoder, problems = settings.model, settings.model.decoder, []
    if not decoder.embeds:
        for name in ("tied", "shared_embedding"):
            if getattr(model, name):
                none = "the decoder reads no words, so it has no embeddings to tie or share"
                problems.append(Problem(f"model.{name}", none, "set it to false", value=True))
        if 0 < model.word_keep < 1:  # at 0 it reads no words anyway
            none = "the decoder reads no words that could be dropped"
            problems.append(Problem("model.word_keep", none, "leave it out", value=model.word_keep))
    elif model.tied and decoder.softmax_size != model.embedding:
        sizes = f"the softmax sees {decoder.softmax_size} units and embeddings have {model.embedding}"
        problems.append(Problem("model.tied", sizes, "give model.embedding that size"))
    if model.shared_embedding and any({"encoder", "decoder"} & set(phase.reset) for phase in settings.phase):
        both = "a phase that resets the encoder or the decoder would reset both"
        problems.append(Problem("model.shared_embedding", both, "set it to false"))
    return problems


def _code_problems(settings: Settings) -> list[Problem]:
    """Return the problems between posterior, prior and inference."""
    model, problems = settings.model, []
    posterior, prior, inference = model.posterior, model.prior, model.inference
    if posterior.on_sphere and not prior.on_sphere:
        only = "its only prior is model.prior.name = 'uniform-sphere'"
        problems.append(Problem("model.posterior.name", only, value=posterior.name))
    if prior.on_sphere and not posterior.on_sphere:
        known = " or ".join(repr(name) for name, kind in POSTERIORS.items() if kind.on_sphere)
        remedy = f"set model.posterior.name = {known}"
        problems.append(Problem("model.prior.name", "codes must lie on it", remedy, value=prior.name))
    if posterior.on_sphere and model.latent == 1:
        problems.append(Problem("model.latent", "a sphere needs 2 dimensions or more", value=1))
    if posterior.only_standard and not prior.standard:
        only = "keeps its KL up against the standard normal prior only"
        problems.append(Problem("model.posterior.name", only, "leave model.prior as it is", value=posterior.name))
    if prior.of_posteriors and not posterior.density_anywhere:
        known = ", ".join(repr(name) for name, kind in POSTERIORS.items() if kind.density_anywhere)
        made = f"is made of posteriors with a density, and {posterior.name} has none that can be mixed"
        remedy = f"set model.posterior.name to one of {known}"
        problems.append(Problem("model.prior.name", made, remedy, value=prior.name))
    if inference.refinement is not None and not posterior.refinable:
        remedy = "set model.posterior.name = 'gaussian'"
        problems.append(Problem("model.inference.name", "refines a Gaussian", remedy, value=inference.name))
    if inference.refinement is not None and not prior.standard:
        needs = "needs model.prior.name = 'standard-normal'"
        problems.append(Problem("model.inference.name", needs, value=inference.name))
    return problems


def _condition_problems(settings: Settings) -> list[Problem]:
    """Return the problems between conditions, the data that names them, and the parts that read them."""
    model, data, problems = settings.model, settings.data, list[Problem]()
    conditioner, prior, posterior = model.conditioner, model.prior, model.posterior
    readers = {kind.reads: name for name, kind in CONDITIONERS.items() if kind.reads is not None}
    for setting, name in readers.items():
        value = getattr(data, setting)
        if conditioner.reads == setting and not value:
            none = f"reads the condition that data.{setting} names, and it names none"
            remedy = f"give data.{setting}, or leave out model.conditioner"
            problems.append(Problem("model.conditioner.name", none, remedy, value=conditioner.name))
        elif conditioner.reads != setting and value:
            remedy = f"set model.conditioner.name = {name!r}, or leave it out"
            problems.append(Problem(f"data.{setting}", "is a condition that the model does not read", remedy))
        if value and data.window is not None:
            pieces = "pieces of running text have no condition of their own"
            problems.append(Problem(f"data.{setting}", pieces, "leave out data.window, or the condition"))
    if prior.conditional and conditioner.reads is None:
        remedy = "give model.conditioner, or leave model.prior as it is"
        problems.append(Problem("model.prior.name", "there is no condition", remedy, value=prior.name))
    if prior.conditional and not posterior.standardises:
        known = ", ".join(repr(name) for name, kind in POSTERIORS.items() if kind.standardises)
        made = f"cannot be standardised by model.prior.name = {prior.name!r}"
        remedy = f"set it to one of {known}, or leave model.prior as it is"
        problems.append(Problem("model.posterior.name", made, remedy, value=posterior.name))
    if conditioner.infers:
        problems += _inference_problems(settings)
    if prior.of_posteriors and conditioner.reads is not None:
        without = "its pseudo-sentences have no condition"
        problems.append(Problem("model.prior.name", without, "leave model.prior as it is", value=prior.name))
    return problems


def _inference_problems(settings: Settings) -> list[Problem]:
    """Return the problems of labels that are inferred in training."""
    model, problems = settings.model, list[Problem]()
    if "inferred-labels" not in settings.terms():
        none = "infers labels, and no term of the objective trains the classifier"
        problems.append(Problem("model.conditioner.infer", none, "give objective.inferred-labels", value=True))
    posterior = model.posterior
    against = {
        "model.latent": (not model.latent, "a language model has no encoder that could read them"),
        "model.inference.name": (model.inference.refinement is not None, "a refined posterior is of one condition"),
        "model.multi_rate": (
            model.multi_rate is not None,
            "expectations over labels have no KL weight",
        ),
        "model.posterior.name": (
            posterior.batch_statistics or posterior.surrogate,
            f"{posterior.name} is of sentences, not of their possible labels",
        ),
    }
    remedy = "set model.conditioner.infer = false, or change this"
    return problems + [Problem(place, reason, remedy) for place, (is_so, reason) in against.items() if is_so]


def _gate_problems(settings: Settings) -> list[Problem]:
    """Return the problems of gates by the KL weight, which objective and parts of the model must allow."""
    model, problems = settings.model, list[Problem]()
    if model.multi_rate is None:
        return problems
    problems += [problem.under("model.multi_rate") for problem in model.multi_rate.problems()]
    if not model.latent:
        problems.append(Problem("model.multi_rate", "a language model has no KL to weight", "leave it out"))
    elif "multi-rate" not in settings.terms():
        draws = "no objective weights the KL of each sentence by its own beta"
        problems.append(Problem("model.multi_rate", draws, "give objective.multi-rate, or leave it out"))
    changing = {
        f"model.posterior.name = {model.posterior.name!r}": model.posterior.batch_statistics,
        f"model.encoder.name = {model.encoder.name!r}": model.encoder.batch_statistics,
        f"model.prior.name = {model.prior.name!r}": model.prior.of_posteriors,
        f"model.inference.name = {model.inference.name!r}": model.inference.refinement is not None,
    }
    problems += [
        Problem(part, "would mix sentences of different KL weights, as model.multi_rate draws them", "set another")
        for part, mixes in changing.items()
        if mixes
    ]
    if model.posterior.fixed_rate:
        fixed = f"the KL of {model.posterior.name} is fixed by its settings, whatever its weight"
        problems.append(Problem("model.multi_rate", fixed, "leave it out"))
    return problems


def _update_problems(settings: Settings) -> list[Problem]:
    """Return the problems between updates and the model."""
    model, problems = settings.model, []
    updates = {"train.update": settings.train.update}
    updates |= {f"phase[{n}].update": phase.update for n, phase in enumerate(settings.phase) if phase.update}
    for where, update in updates.items():
        if not isinstance(update, Aggressive):
            continue
        if not model.latent:
            none = "a language model has no encoder to update"
            problems.append(Problem(f"{where}.name", none, value=update.name))
        if model.inference.refinement is not None:
            instead = "the refinement takes its place"
            problems.append(Problem(f"{where}.name", instead, "choose one of the two", value=update.name))
        if update.ramp_components and not model.posterior.surrogate:
            known = " or ".join(repr(name) for name, kind in POSTERIORS.items() if kind.surrogate)
            only = f"only model.posterior.name = {known} has components that can rise"
            problems.append(Problem(f"{where}.ramp_components", only))
        if update.inner == "converged" and update.check > update.most:
            never = f"after at most {update.most} updates the loss would never be looked at"
            problems.append(Problem(f"{where}.check", never, "give less, or more of most", value=update.check))
    return problems
