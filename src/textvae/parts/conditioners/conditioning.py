"""The conditional half of a model: vectors of conditions, and the codes and posteriors that they change."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textvae.errors import RequestError
from textvae.parts.conditioners.conditioner import Conditioner
from textvae.parts.conditioners.inferred import LabelPosterior
from textvae.parts.posteriors import Posterior, Standardises
from textvae.parts.priors import Place


class Conditioning(nn.Module):
    """Vectors of conditions c, which prior, posterior and decoder read; and p(z|c), if the prior is conditional.

    Codes of a conditional model are those of the prior N(0, I). Under a conditional prior they are standardised,
    u = (z - mean) / std, by its mean and standard deviation, which `placement` computes from c. A `classifier`
    infers labels that sentences lack.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        placement: nn.Module | None = None,
        classifier: LabelPosterior | None = None,
    ) -> None:
        super().__init__()
        self.conditioner, self.placement = conditioner, placement
        self.classifier = classifier  # q(c|x) of labels that sentences lack

    @property
    def size(self) -> int:
        """The size of a condition's vector."""
        return self.conditioner.size

    def contexts(self, condition: Any, rows: int) -> Float[Tensor, "rows size"]:
        """Return the vectors of a condition of `rows` rows, or of one row that holds for all.

        Vectors given in place of a condition are returned as they are.

        Raises:
            RequestError: For no condition.
        """
        if condition is None:
            raise RequestError(
                "condition: the model is conditional, and none is given; "
                "give --condition COLUMN=VALUE, in Python condition={column: value}"
            )
        if isinstance(condition, Tensor):
            return condition
        device = next(self.parameters()).device
        contexts: Tensor = self.conditioner(condition.to(device))
        return contexts.expand(rows, -1)

    def read(self, hidden: Float[Tensor, "batch in"], context: Float[Tensor, "batch size"]) -> Tensor:
        """Return the encoder's vectors joined by those of the conditions: what the posterior is made from."""
        return torch.cat([hidden, context.to(hidden.dtype)], dim=1)

    def standardised(self, posterior: Posterior, context: Float[Tensor, "batch size"]) -> Posterior:
        """Return q(u|x, c) of a posterior q(z|x, c)."""
        if self.placement is None:
            return posterior
        assert isinstance(posterior, Standardises)  # settings refuse others
        return posterior.standardised(self.placement(context))

    def seen(
        self, z: Float[Tensor, "*any latent"] | None, context: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*rest"]:
        """Return the codes z = mean + std u with the vectors of their conditions; without codes, these alone."""
        if z is None:
            return context[None]
        if self.placement is not None:
            place: Place = self.placement(context)
            z = place.mean + place.std * z
        return torch.cat([z, context.to(z.dtype).expand(*z.shape[:-1], -1)], dim=-1)
