"""Bag-of-words loss: z must predict the words of the sentence."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from textvae.model import Pass
from textvae.objective.terms.term import Term
from textvae.parts.gather import gathered
from textvae.parts.heads import BagOfWords
from textvae.settings.fields import SizeOrNone


class Bow(Term):
    """-E log p_bow(x|z), nats per sentence: the words of a sentence, without order, from a softmax of z alone.

    Summed over the sentence's tokens without the end mark, and averaged over the codes of a sentence and the global
    batch. `hidden` is the size of the tanh layer before the softmax, 0 for none. The softmax is trained with the
    model and is not used afterwards.

    References:
        Zhao et al. 2017, the bag-of-word loss; Liu et al. 2019, section 5.4 (VRAE + BOW).
    """

    hidden: SizeOrNone = 400

    def __call__(self, out: Pass, step: int) -> Float[Tensor, ""]:
        """Return minus the mean log-probability computed by the model's head `bow`."""
        return -gathered(out.heads["bow"].mean(0)).mean()

    def head(self, sizes: Mapping[str, int], vocabulary: int) -> BagOfWords:
        """Return the softmax over the vocabulary."""
        return BagOfWords(sizes["z"], vocabulary, self.hidden)
