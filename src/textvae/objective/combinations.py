"""Which settings, each right by itself, do not fit together."""

import math
from collections.abc import Mapping
from typing import Any

from textvae.objective.terms import TERMS
from textvae.parts.kernels.convolutions import each
from textvae.settings import (
    Aggressive,
    ByteNetDecoder,
    FeedForwardTop,
    HybridDecoder,
    MultiStepPosterior,
    RecurrentDecoder,
    Settings,
    TransformerDecoder,
    VampPrior,
)
from textvae.text.corpus import vocabulary_problems, window_problems

# Posteriors whose density of any code is known, each sentence's by itself: what a VampPrior is a mean of.
MIXED = ("gaussian", "gaussian-mixture", "iaf", "planar", "radial", "multi-step")


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
            problems.append(f"{where}: needs epochs or share, one of the two: its part of the run")
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
    """What does not fit in one objective."""
    if not settings.model.latent:
        return [
            f"{where}.{name}: needs a posterior, and model.latent = 0 is a language model without one; "
            "leave it out, as --method language-model does"
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
    problems += _schedule_problems(settings, terms, where)
    if len(rates) != 1:
        known = ", ".join(name for name, term in TERMS.items() if term.is_rate)
        given = " and ".join(rates) or "none"
        drop = f"; leave the others out, as --set {where}.{rates[0]}=false does" if rates else ""
        problems.append(f"{where}: exactly one rate term is needed ({known}), given: {given}{drop}")
    return problems


def _schedule_problems(settings: Settings, terms: Mapping[str, Any], where: str) -> list[str]:
    """A rise over a part of a step; more cycles than steps, as far as the settings say how many steps there are."""
    schedules = {f"{where}.{name}.weight": term.weight for name, term in terms.items()}
    if settings.model.posterior.name == "semi-implicit":
        schedules["model.posterior.components"] = settings.model.posterior.components
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
    """Parts of the model that do not fit each other."""
    model, problems = settings.model, []
    posterior, prior = model.posterior.name, model.prior.name
    problems += _architecture_problems(settings)
    if posterior == "vmf" and prior != "uniform-sphere":
        problems.append("model.posterior.name = 'vmf': its only prior is model.prior.name = 'uniform-sphere'")
    if prior == "uniform-sphere" and posterior != "vmf":
        problems.append("model.prior.name = 'uniform-sphere': codes must lie there: model.posterior.name = 'vmf'")
    if settings.train.batches == "equal-length" and (
        posterior == "batch-norm" or model.encoder.name == "convolutional" or model.decoder.name == "hybrid"
    ):
        problems.append(
            "train.batches = 'equal-length': a rare length makes a batch of one, which has no statistics for batch "
            "normalisation; leave it out"
        )
    if posterior == "batch-norm" and settings.train.batch_size == 1:
        problems.append("train.batch_size = 1: a batch of one has no statistics for batch-norm; give 2 or more")
    if isinstance(model.posterior, MultiStepPosterior) and 0 < model.latent < model.posterior.steps:
        problems.append(
            f"model.posterior.steps = {model.posterior.steps}: each step draws a part of the code, which has only "
            f"model.latent = {model.latent} dimensions; give {model.latent} or less"
        )
    if posterior == "vmf" and model.latent == 1:
        problems.append("model.latent = 1: a sphere needs 2 dimensions or more")
    if posterior in ("delta", "batch-norm") and prior != "standard-normal":
        problems.append(
            f"model.posterior.name = {posterior!r}: keeps its KL up against the standard normal prior only; "
            "leave model.prior as it is"
        )
    if prior == "vamp" and posterior not in MIXED:
        problems.append(
            f"model.prior.name = 'vamp': is made of posteriors with a density, and {posterior} has none "
            f"that can be mixed; set model.posterior.name to one of {', '.join(map(repr, MIXED))}"
        )
    if model.inference.name == "refined" and posterior != "gaussian":
        problems.append(
            "model.inference.name = 'refined': refines a Gaussian; set model.posterior.name = 'gaussian'"
        )
    if model.inference.name == "refined" and prior != "standard-normal":
        problems.append("model.inference.name = 'refined': needs model.prior.name = 'standard-normal'")
    return problems + _update_problems(settings)


def _update_problems(settings: Settings) -> list[str]:
    """Updates that do not fit the model."""
    model, problems = settings.model, []
    updates = {"train.update": settings.train.update}
    updates |= {f"phase[{n}].update": phase.update for n, phase in enumerate(settings.phase) if phase.update}
    for where, update in updates.items():
        if not isinstance(update, Aggressive):
            continue
        if not model.latent:
            problems.append(f"{where}.name = 'aggressive': a language model has no encoder to update")
        if model.inference.name == "refined":
            problems.append(f"{where}.name = 'aggressive': the refinement takes its place; choose one of the two")
        if update.ramp_components and model.posterior.name != "semi-implicit":
            problems.append(
                f"{where}.ramp_components: only model.posterior.name = 'semi-implicit' has components that can rise"
            )
        if update.inner == "converged" and update.check > update.most:
            problems.append(
                f"{where}.check = {update.check}: after at most {update.most} updates the loss would never be "
                "looked at; give less, or more of most"
            )
    return problems


def _architecture_problems(settings: Settings) -> list[str]:
    """Encoders and decoders whose sizes do not fit each other."""
    model, problems = settings.model, []
    encoder, decoder = model.encoder, model.decoder
    if isinstance(decoder, RecurrentDecoder | TransformerDecoder) and model.latent and not decoder.inject:
        places = "'prefix', 'input'" if decoder.name == "transformer" else "'state', 'input'"
        problems.append(f"model.decoder.inject = []: the decoder would never see z; give {places} or both")
    top = decoder.top if isinstance(decoder, HybridDecoder) else decoder
    for place, table in (("encoder", encoder), ("decoder", decoder)):
        problems += _layer_problems(f"model.{place}", table, settings.data.positions)
    if isinstance(decoder, HybridDecoder):
        problems += _layer_problems("model.decoder.top", top, settings.data.positions)
        if not model.latent:
            problems.append("model.decoder.name = 'hybrid': unfolds a code, and model.latent = 0 has none")
    if isinstance(top, FeedForwardTop) and (model.tied or model.shared_embedding):
        problems.append(
            "model.decoder.top.name = 'feed-forward': has no embeddings to share or tie; set model.tied and "
            "model.shared_embedding to false"
        )
    elif model.tied and decoder.hidden != model.embedding:
        problems.append(
            f"model.tied: the softmax sees {decoder.hidden} units and embeddings have {model.embedding}; "
            "give model.embedding that size"
        )
    if model.shared_embedding and any({"encoder", "decoder"} & set(phase.reset) for phase in settings.phase):
        problems.append(
            "model.shared_embedding: a phase that resets the encoder or the decoder would reset both; "
            "set it to false"
        )
    normalised = encoder.name == "convolutional" or isinstance(decoder, HybridDecoder)
    normalised = normalised or (isinstance(top, ByteNetDecoder) and top.norm == "batch")
    if settings.train.batch_size == 1 and normalised:
        problems.append(
            "train.batch_size = 1: convolutions are batch-normalised, and a batch of one has no statistics"
        )
    if isinstance(model.prior, VampPrior) and encoder.name == "convolutional":
        problems.append(
            "model.prior.name = 'vamp': pseudo-sentences would have a part in the convolutional encoder's batch "
            "normalisation; set model.encoder.name to another"
        )
    return problems


def _layer_problems(place: str, table: Any, positions: int) -> list[str]:
    """What does not fit within one encoder or decoder, for texts of up to `positions` tokens."""
    problems = []
    if table.name == "gru" and table.norm != "none":
        instead = f"set {place}.norm = 'none' or {place}.name = 'lstm'"
        problems.append(f"{place}.norm = {table.norm!r}: is made for the LSTM; {instead}")
    if table.name == "transformer" and table.hidden % (2 * table.heads):
        problems.append(f"{place}.heads = {table.heads}: hidden = {table.hidden} must be a multiple of twice that")
    if table.name in ("convolutional", "hybrid"):
        problems += _convolution_problems(place, table, positions)
    return problems


def _convolution_problems(place: str, table: Any, positions: int) -> list[str]:
    """Kernels and strides that do not fit the maps, each other, or the length of texts."""
    layers = len(table.maps)
    problems = [
        f"{place}.{name} = {list(given)}: {len(given)} for {layers} layers of maps; "
        "give one number for all, or one for each"
        for name in ("kernel", "stride")
        if not isinstance(given := getattr(table, name), int) and len(given) != layers
    ]
    if problems:
        return problems
    kernels, strides = each(table.kernel, layers), each(table.stride, layers)
    for number, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        at = f"{place}.kernel" if isinstance(table.kernel, int) else f"{place}.kernel[{number}]"
        problem = f"{at} = {kernel}: leaves gaps at stride {stride}; give a kernel of at least the stride"
        if kernel < stride and problem not in problems:
            problems.append(problem)
    if (every := math.prod(strides)) > positions:
        given = table.stride if isinstance(table.stride, int) else list(table.stride)
        problems.append(
            f"{place}.stride = {given}: {layers} layers bring {every:,} positions together, and the longest text "
            f"has {positions:,}; give smaller strides or fewer maps, or longer texts"
        )
    return problems
