"""Labels that some sentences lack, inferred in training."""

from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered
from textvae.settings.problems import Problem


class InferredLabels(Term):
    """KL(q(c|x) || p(c)) of missing labels and -`classification` log q(c|x) of given ones, nats per sentence.

    With `model.conditioner.infer` the other parts of the objective are expectations over the labels that a sentence
    lacks, by q(c|x). p(c) is uniform. Where few sentences are labelled give `classification` = 0.1 N / N_labelled,
    which is the alpha of the paper.

    References:
        Kingma et al. 2014, "Semi-supervised learning with deep generative models", eq. 7 to 9.
    """

    classification: NonNegativeFloat = 1.0

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return the mean over the global batch; 0 where the labels were given and nothing was inferred."""
        if out.labels is None:
            return out.log_px.new_zeros(())
        return gathered(out.labels.kl + self.classification * out.labels.given).mean()

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a model that infers no labels."""
        if settings.model.conditioner.infers:
            return []
        return [Problem("", "the model infers no labels", "set model.conditioner.infer = true, or leave it out")]
