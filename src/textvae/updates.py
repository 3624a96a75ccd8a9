"""How a step changes the weights. A step is one update of the decoder, whatever else an update does."""

from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from textvae import settings as s
from textvae.batches import Batch
from textvae.objective import Objective
from textvae.parts.noise import Noise


def optimizer_for(parameters: Any, settings: s.Adam | s.AdamW | s.Sgd) -> torch.optim.Optimizer:
    """The optimizer that settings describe, in torch's fused form: one pass over the weights."""
    options = settings.model_dump(exclude={"name"})
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.name]
    return kind(parameters, **options, fused=True)


def joint(
    fabric: Fabric,
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    noise: Noise,
    step: int,
    clip_norm: float = 0.0,
    clip_value: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Encoder and decoder together, one gradient step on the objective.

    Gives the loss and its raw parts in nats per sentence, and with `clip_norm` the gradient's norm before
    clipping. Element-wise clipping comes first where both are asked for. 0 switches either off.
    """
    out = model(batch, noise)
    loss, raw = objective(out, step)
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    raw["loss"] = loss.detach()
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if clip_value:
        nn.utils.clip_grad_value_(parameters, clip_value)
    if clip_norm:
        raw["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    return raw
