"""The bag-of-words loss: z must predict which words the sentence has."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered
from textvae.parts.heads import BagOfWords
from textvae.settings.fields import SizeOrNone


class Bow(Term):
    """-E log p_bow(x|z), nats per sentence: the words of a sentence, without order, from a softmax of z alone.

    Summed over the sentence's tokens, the end mark not among them, and averaged over the codes of a sentence and
    the global batch. `hidden` is the size of the tanh layer before the softmax, 0 for none. The softmax is learned
    with the model and is of no use afterwards.

    Source: Zhao et al. 2017, the bag-of-word loss; Liu et al. 2019, section 5.4 (VRAE + BOW).
    """

    hidden: SizeOrNone = 400
    needs_posterior: ClassVar[bool] = True

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Minus the mean log-probability that the model's head `bow` found."""
        return -gathered(out.heads["bow"].mean(0)).mean()

    def head(self, sizes: Mapping[str, int], vocabulary: int) -> BagOfWords:
        """The softmax over the vocabulary."""
        return BagOfWords(sizes["z"], vocabulary, self.hidden)
