"""The usual update: encoder and decoder together."""

from jaxtyping import Float
from torch import Tensor

from textvae.training.updates.update import StepInput, Update


class JointUpdate(Update):
    """Encoder and decoder together, one gradient step on the objective."""

    def step(self, given: StepInput) -> dict[str, Float[Tensor, ""]]:
        """Take the step."""
        with self.job.autocast():
            out = self.model(given.batch, given.noise, given.codes, given.components, given.beta)
        loss, raw = self.objective(out, given.step, given.multipliers)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        raw["loss"] = loss.detach()
        return raw | self.descend()
