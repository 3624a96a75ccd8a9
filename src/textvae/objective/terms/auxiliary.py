"""Auxiliary reconstruction of hybrid models: z alone must predict every word."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.settings import Settings
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered
from textvae.parts.heads import Historyless
from textvae.settings.problems import Problem


class Auxiliary(Term):
    """-E sum_t log p(x_t|z), nats per sentence: the text from a hybrid decoder's features, without history.

    Its weight is the paper's alpha. Its softmax is trained with the model and is not used afterwards.

    References:
        Semeniuta et al. 2017, eq. 2 to 4.
    """

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return minus the mean log-probability computed by the model's head `auxiliary`."""
        return -gathered(out.heads["auxiliary"].mean(0)).mean()

    def head(self, sizes: Mapping[str, int], vocabulary: int) -> Historyless:
        """Return the softmax over the vocabulary."""
        return Historyless(sizes["code"], vocabulary)

    def problems(self, settings: Settings) -> list[Problem]:
        """Reject a decoder without features of every position."""
        decoder = settings.model.decoder
        if not decoder.fixed_length:
            needs = f"needs features of every position, and the {decoder.name} decoder has none"
            return [Problem("", needs, "set model.decoder.name = 'hybrid'")]
        return []
