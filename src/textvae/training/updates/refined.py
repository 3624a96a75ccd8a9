"""The update of semi-amortized inference."""

import torch
from jaxtyping import Float
from torch import Tensor

from textvae.parts.refinement import gaussian_of, parameters_of, refined_path, still, through_refinement
from textvae.training.updates.update import StepInput, Update


class RefinedUpdate(Update):
    """The loss at the refined posteriors; its gradient goes through the refinement to the encoder.

    As the refinement depends on the decoder's weights too, it also goes to these. The refinement weights the KL as
    the objective does (`Objective.kl_weight`); in evaluation its weight is 1. Without steps of refinement it is the
    joint update.

    References: Kim et al. 2018, algorithm 2.
    """

    def step(self, given: StepInput) -> dict[str, Float[Tensor, ""]]:
        """Take the step, by one code a sentence."""
        model, settings = self.model, self.model.refinement
        assert settings is not None
        with self.job.autocast():
            start = parameters_of(model.amortized(given.batch))
        # The code of the loss comes first, so that without steps it is the one that the joint update draws.
        size = start.shape[1] // 2
        draw, inner = given.noise(1, size), given.noise(1, size)
        nats = model.negative_bound(given.batch, inner, self.objective.kl_weight(given.step, given.multipliers))
        with still((model.decoder, model.expansion), model.generative()), self.job.autocast():
            path, factors = refined_path(nats, start, settings)
        last = path[-1].requires_grad_()
        posterior = gaussian_of(last)
        with self.job.autocast():
            out = model.scored(given.batch, posterior.rsample(lambda samples, size: draw), posterior)
        loss, raw = self.objective(out, given.step, given.multipliers)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        raw["loss"] = loss.detach()
        gradient = last.grad if last.grad is not None else torch.zeros_like(last)
        with still((model.decoder, model.expansion)):  # in full precision: bfloat16 differences are noise
            gradient = through_refinement(nats, path, factors, settings, gradient)
        start.backward(gradient)
        return raw | self.descend()
