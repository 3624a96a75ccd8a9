"""How a step changes the weights. A step is one update of the decoder, whatever else an update does."""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from textvae import settings as s
from textvae.model import TextVAE
from textvae.objective.objective import Objective
from textvae.parts.noise import Noise
from textvae.parts.posteriors import DiagonalGaussian
from textvae.parts.refinement import gaussian_of, parameters_of, refined_path, still, through_refinement
from textvae.text.batches import Batch
from textvae.training.job import Job


def optimizer_for(parameters: Iterable[nn.Parameter], settings: s.Adam | s.AdamW | s.Sgd) -> torch.optim.Optimizer:
    """Build the optimizer that settings describe, in torch's fused form: one pass over the weights.

    Every parameter has its slots from the beginning, at the zeros that its first step would start from. torch makes
    them at a parameter's first gradient, but its fused SGD fails where some parameters have momentum and others had
    no gradient yet, such as the decoder's after updates of the encoder alone.
    """
    options = settings.model_dump(exclude={"name"})
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.name]
    optimizer = kind(parameters, **options, fused=True)
    for parameter in (each for group in optimizer.param_groups for each in group["params"]):
        optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in settings.slots}
        if "exp_avg" in settings.slots:
            optimizer.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return optimizer


def joint(
    job: Job,
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    noise: Noise,
    step: int,
    clip_norm: float = 0.0,
    clip_value: float = 0.0,
    draws: tuple[int, int | None] = (1, None),
    multipliers: Mapping[str, float] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Encoder and decoder together, one gradient step on the objective.

    `draws` are the codes of a sentence and the components of a semi-implicit posterior beside them; `multipliers`
    the learned factors of weights. Gives the loss and its raw parts in nats per sentence, and with `clip_norm` the
    gradient's norm before clipping.
    """
    with job.autocast():
        out = model(batch, noise, *draws)
    loss, raw = objective(out, step, multipliers)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    raw["loss"] = loss.detach()
    return raw | stepped(model, optimizer, clip_norm, clip_value)


def refining(
    job: Job,
    model: TextVAE,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    noise: Noise,
    step: int,
    clip_norm: float = 0.0,
    clip_value: float = 0.0,
    multipliers: Mapping[str, float] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The joint step of semi-amortized inference: the loss at the refined posteriors, its gradient taken through
    the refinement to the encoder and, as the refinement depends on them too, to the decoder's weights.

    The refinement pays the KL as the objective does (`Objective.kl_weight`); in evaluation it pays it in full.
    Without steps of refinement it is `joint`; all else is as there. Source: Kim et al. 2018, algorithm 2.
    """
    settings = model.refinement
    assert settings is not None
    with job.autocast():
        first = model.amortized(batch)
    assert isinstance(first, DiagonalGaussian)
    start = parameters_of(first)
    # The code of the loss comes first, so that without steps it is the one that the joint update draws.
    draw, inner = noise(1, first.mean.shape[1]), noise(1, first.mean.shape[1])
    nats = model.negative_bound(batch, inner, objective.kl_weight(step, multipliers))
    with still((model.decoder, model.expansion), model.generative()), job.autocast():
        path, factors = refined_path(nats, start, settings)
    last = path[-1].requires_grad_()
    posterior = gaussian_of(last)
    with job.autocast():
        out = model.scored(batch, posterior.rsample(lambda samples, size: draw), posterior)
    loss, raw = objective(out, step, multipliers)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    raw["loss"] = loss.detach()
    gradient = last.grad if last.grad is not None else torch.zeros_like(last)
    with still((model.decoder, model.expansion)):  # in full precision: differences of bfloat16 gradients are noise
        gradient = through_refinement(nats, path, factors, settings, gradient)
    start.backward(gradient)
    return raw | stepped(model, optimizer, clip_norm, clip_value)


def stepped(
    model: nn.Module, optimizer: torch.optim.Optimizer, clip_norm: float, clip_value: float
) -> dict[str, Float[Tensor, ""]]:
    """One step down the gradients that the parameters have; gives their norm before clipping, if it was clipped.

    Over several processes gradients are averaged first. Element-wise clipping comes before the norm's where both
    are asked for; 0 switches either off.
    """
    found = {}
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    average(parameters)
    if clip_value:
        nn.utils.clip_grad_value_(parameters, clip_value)
    if clip_norm:
        found["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    return found


def average(parameters: Iterable[nn.Parameter]) -> None:
    """Each gradient becomes its mean over the processes; all have the same ones, as all run the same program."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def encoder_updates(update: Callable[[int], tuple[float, int]], settings: s.Aggressive) -> int:
    """The inner loop of aggressive training: `update(i)` changes the encoder alone and gives nats and tokens.

    Takes `settings.inner` updates, or goes on until the nats per token of `check` updates are no fewer than those
    of the `check` before, `most` at most. Gives the number of updates.

    Source: He et al. 2019, algorithm 1; Fu et al. 2020, algorithm 1 (T_a).
    """
    if settings.inner != "converged":
        for number in range(settings.inner):
            update(number)
        return settings.inner
    before, nats, tokens = float("inf"), 0.0, 0
    for number in range(settings.most):
        found = update(number)
        nats, tokens = nats + found[0], tokens + found[1]
        if (number + 1) % settings.check == 0:
            if nats / tokens >= before:
                return number + 1
            before, nats, tokens = nats / tokens, 0.0, 0
    return settings.most
