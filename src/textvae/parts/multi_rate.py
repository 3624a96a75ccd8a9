"""Gates by the KL weight: one model that answers at any beta of an interval."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.settings.problems import Problem
from textvae.settings.schedules import Linear, Schedule
from textvae.settings.strict import Strict

# The golden ratio's fractional part, whose multiples modulo 1 are spread evenly however many there are.
GOLDEN = (math.sqrt(5) - 1) / 2


class MultiRateSettings(Strict):
    """Interval of the KL weight beta from which training draws one for each sentence, log-uniformly.

    The model answers at `beta` where no other is asked for. `reach` is the share of the interval of log beta, from
    `low` on, that is drawn from at a step. `knots` are the values of beta, evenly spaced in log beta, that have
    gates of their own; between two of them gates are interpolated.
    """

    low: PositiveFloat = 0.01
    high: PositiveFloat = 10.0
    beta: PositiveFloat = 1.0
    knots: Annotated[int, Field(ge=2, le=100)] = 8
    reach: Schedule = Linear(start=0.0, end=1.0, steps=0.3, delay=0.3, unit="run")

    def problems(self) -> list[Problem]:
        """Return the problems of an interval without a length, a beta outside it, and a reach beyond it."""
        if self.low >= self.high:
            return [Problem("low", f"is not below high = {self.high:g}", value=self.low)]
        problems = []
        if not self.low <= self.beta <= self.high:
            inside = f"the model is trained for KL weights from {self.low:g} to {self.high:g}"
            problems.append(Problem("beta", inside, "give one of these", value=self.beta))
        if self.reach.final != 1:
            problems.append(Problem("reach", f"ends at {self.reach.final:g} and not at 1, the whole interval"))
        return problems

    def drawn(self, noise: Noise, step: int, planned: int, per_epoch: int) -> Float[Tensor, " batch"]:
        """Draw a beta for every sentence at a step; log beta is uniform over what `reach` gives."""
        share = self.reach(step, planned, per_epoch)
        return self.at(share * torch.special.ndtr(noise(1, 1)[0, :, 0].double())).float()

    def spread(self, count: int) -> Float[Tensor, " count"]:
        """Return so many values of beta, spread over the interval in an order without a trend."""
        return self.at((0.5 + GOLDEN * torch.arange(count, dtype=torch.float64)) % 1).float()

    def points(self) -> list[float]:
        """Return the knots and the middles between them."""
        return self.at(torch.linspace(0, 1, 2 * self.knots - 1, dtype=torch.float64)).tolist()

    def at(self, share: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return the beta at a share of the interval of log beta, from 0 to 1."""
        low, high = math.log(self.low), math.log(self.high)
        return (low + (high - low) * share).exp().clamp(self.low, self.high)


class BetaGates(nn.Module):
    """Vectors scaled and shifted by functions of beta: v -> g(beta) * v + s(beta), piecewise linear in log beta.

    g is 1 and s is 0 at first. Where sentences with a high beta drop the code, their gates close, and those of
    other knots stay: what one beta learns of the code is not taken back by another.

    References:
        Bae et al. 2023, "Multi-Rate VAE", section 4: the pre-activations of every layer are gated by functions of
        an affine one of log beta. Here the vector of a sentence, which its posterior is made from, and its code
        are, so that recurrent kernels stay, and by functions that are local in beta.
    """

    log_beta: Tensor
    places: Tensor

    def __init__(self, sizes: Mapping[str, int], settings: MultiRateSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("log_beta", torch.tensor(math.log(settings.beta)), persistent=False)
        self.register_buffer("places", torch.arange(settings.knots, dtype=torch.float32), persistent=False)
        shape = {name: (settings.knots, size) for name, size in sizes.items()}
        self.scales = nn.ParameterDict({name: nn.Parameter(torch.ones(*own)) for name, own in shape.items()})
        self.shifts = nn.ParameterDict({name: nn.Parameter(torch.zeros(*own)) for name, own in shape.items()})

    def begin(self) -> None:
        """Open all gates."""
        for name, scales in self.scales.items():
            nn.init.ones_(scales)
            nn.init.zeros_(self.shifts[name])

    def of(self, name: str) -> list[nn.Parameter]:
        """Return the parameters of the gates of one kind of vectors."""
        return [self.scales[name], self.shifts[name]]

    @contextmanager
    def at(self, beta: Float[Tensor, "*batch"] | float | None) -> Iterator[None]:
        """Answer at `beta` in the block, one for all sentences or one for each; None stays where it is."""
        before = self.log_beta
        if beta is not None:
            self.log_beta = torch.as_tensor(beta).log().to(before)
        try:
            yield
        finally:
            self.log_beta = before

    def forward(self, name: str, vectors: Float[Tensor, "*any size"]) -> Float[Tensor, "*any size"]:
        """Return the vectors at the present beta."""
        low, high = math.log(self.settings.low), math.log(self.settings.high)
        share = (self.log_beta - low) / (high - low)
        knot = share.clamp(0, 1)[..., None] * (len(self.places) - 1)
        hats = (1 - (knot - self.places).abs()).clamp(min=0)
        with torch.autocast(vectors.device.type, enabled=False):
            return hats @ self.scales[name] * vectors + hats @ self.shifts[name]
