"""Interface of updates, which change the weights at a step of training, and their optimizers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from textvae.model import TextVAE
from textvae.objective.objective import Objective
from textvae.parts.noise import Noise
from textvae.settings import Adam, AdamW, Sgd
from textvae.text.batches import Batch
from textvae.training.job import Job


@dataclass(frozen=True)
class StepInput:
    """Input of one step: this process's share of a global batch, its noise, and the step of the phase.

    `step` counts from the start of the phase. A sentence gets `codes` codes, and `components` beside each where the
    posterior draws some. `multipliers` are the learned factors of weights, by term. `beta` is the KL weight of each
    sentence, where each has its own.
    """

    batch: Batch
    noise: Noise
    step: int
    codes: int = 1
    components: int | None = None
    multipliers: Mapping[str, float] = field(default_factory=dict)
    beta: Float[Tensor, " batch"] | None = None


class Update(ABC):
    """One gradient step on the objective, over all processes of the job.

    Element-wise clipping (`clip_value`) comes before the norm's (`clip_norm`) where both are asked for; 0 switches
    either off.
    """

    def __init__(
        self,
        job: Job,
        model: TextVAE,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        clip_norm: float = 0.0,
        clip_value: float = 0.0,
    ) -> None:
        self.job, self.model, self.objective, self.optimizer = job, model, objective, optimizer
        self.clip_norm, self.clip_value = clip_norm, clip_value

    @abstractmethod
    def step(self, given: StepInput) -> dict[str, Float[Tensor, ""]]:
        """Change the weights; return the loss and its raw parts in nats per sentence.

        With `clip_norm` also the gradient's norm before clipping.
        """

    def descend(self) -> dict[str, Float[Tensor, ""]]:
        """Take a step down the gradients that the parameters have; return their norm if it is clipped.

        Over several processes gradients are averaged first.
        """
        norm = {}
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        average(parameters)
        if self.clip_value:
            nn.utils.clip_grad_value_(parameters, self.clip_value)
        if self.clip_norm:
            norm["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        return norm


def average(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; all have the same ones, as all run the same program."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def optimizer_for(parameters: Iterable[nn.Parameter], settings: Adam | AdamW | Sgd) -> torch.optim.Optimizer:
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
