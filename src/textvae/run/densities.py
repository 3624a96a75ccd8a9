"""Densities to fit to codes, by kind: what can be asked of each, how many codes it takes, and the best one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from textvae.errors import RequestError, did_you_mean
from textvae.parts.priors import FittedFlow, FittedFlowSettings, FittedMixture, FittedSettings, Gaussians
from textvae.parts.priors.fitting import COVARIANCES, fit, least_codes, log_densities
from textvae.parts.priors.flow_fitting import fit_flow
from textvae.progress import PartProgress, of_part

KINDS = ("gaussian", "mixture", "flow")
# Numbers of components that are tried, in this order, until the density of validation codes falls.
TRIED = {"gaussian": (1,), "mixture": (1, 2, 5, 10, 20)}
# Codes whose densities are computed at once.
CODES = 8192


class Best(NamedTuple):
    """The best of some densities fitted to codes.

    `log_density` has the mean log density of other codes by what was tried; `chosen` is what the prior's record
    says of the one that was taken.
    """

    settings: FittedSettings | FittedFlowSettings
    prior: FittedMixture | FittedFlow
    log_density: dict[str, float]
    chosen: dict[str, Any]


class Densities(ABC):
    """Densities of one kind."""

    @abstractmethod
    def with_enough(self, codes: int, latent: int) -> "Densities":
        """Return those that there are enough codes for.

        Raises:
            RequestError: If there are none, or one was asked for that takes more.
        """

    @abstractmethod
    def best(
        self,
        fitted_to: Float[Tensor, "n latent"],
        chosen_on: Float[Tensor, "m latent"],
        seed: int,
        progress: PartProgress | None = None,
    ) -> Best:
        """Fit them to codes and return the one with the highest mean log density of other codes."""


@dataclass(frozen=True)
class Mixtures(Densities):
    """Mixtures of Gaussians with the numbers of components that are `tried`, `asked` for or the usual ones."""

    kind: str
    tried: tuple[int, ...]
    asked: bool
    covariance: str

    def with_enough(self, codes: int, latent: int) -> "Mixtures":
        """Leave out usual numbers of components that take more codes."""
        few = [number for number in self.tried if least_codes(number, latent, self.covariance) > codes]
        if few and (self.asked or few == [*self.tried]):
            least = least_codes(few[0], latent, self.covariance)
            fewer = "; give covariance = 'diagonal', which takes fewer" if self.covariance == "full" else ""
            raise RequestError(
                f"components = {few[0]}: {codes:,} codes are too few; {few[0]} of {latent} dimensions with "
                f"{self.covariance} covariance take {least:,} or more{fewer}"
            )
        return replace(self, tried=tuple(number for number in self.tried if number not in few))

    def best(
        self,
        fitted_to: Float[Tensor, "n latent"],
        chosen_on: Float[Tensor, "m latent"],
        seed: int,
        progress: PartProgress | None = None,
    ) -> Best:
        """Fit mixtures of more and more components until the mean log density of other codes falls."""
        best, densities = choose(fitted_to, chosen_on, self.tried, self.covariance, seed, progress)
        components = len(best.means)
        values: Any = {"name": f"fitted-{self.kind}", "components": components, "covariance": self.covariance}
        settings = FittedSettings(**values)
        prior = settings.build(fitted_to.shape[1], 0)
        prior.load_state_dict(best._asdict())
        return Best(settings, prior, densities, {"components": components, "covariance": self.covariance})


@dataclass(frozen=True)
class Flows(Densities):
    """A normalizing flow of the usual size, which starts from the Gaussian with the moments of the codes."""

    def with_enough(self, codes: int, latent: int) -> "Flows":
        """Refuse codes that do not determine a covariance."""
        if codes < (least := least_codes(1, latent, "full")):
            raise RequestError(
                f"kind = 'flow': {codes:,} codes are too few; one of {latent} dimensions takes {least:,} or more"
            )
        return self

    def best(
        self,
        fitted_to: Float[Tensor, "n latent"],
        chosen_on: Float[Tensor, "m latent"],
        seed: int,
        progress: PartProgress | None = None,
    ) -> Best:
        """Fit the flow until the mean log density of other codes rises no more."""
        settings = FittedFlowSettings()
        flow, epochs = fit_flow(fitted_to, chosen_on, settings, seed, of_part(progress, "fitting"))
        densities = {
            "gaussian": log_densities(fit(fitted_to), chosen_on).logsumexp(1).mean().item(),
            "flow": log_prob(flow, chosen_on).mean().item(),
        }
        sizes = settings.model_dump(exclude={"name"})
        return Best(settings, flow, densities, {"flow": {**sizes, "epochs": epochs}})


def densities_of(kind: str, components: int | Sequence[int] | None, covariance: str | None) -> Densities:
    """Return the densities of a kind.

    Raises:
        RequestError: For an unknown kind or covariance, and for what the kind does not have.
    """
    if kind not in KINDS:
        raise RequestError(f"kind = {kind!r}: unknown{did_you_mean(kind, KINDS)}")
    if kind not in TRIED:
        for name, value in (("components", components), ("covariance", covariance)):
            if value is not None:
                raise RequestError(f"{name} = {value!r}: a {kind} has none; leave it out, or take kind = 'mixture'")
        settings = FittedFlowSettings()
        if settings.missing is not None:
            raise RequestError(f"kind = {kind!r}: {settings.missing}, or take kind = 'mixture'")
        return Flows()
    covariance = "full" if covariance is None else covariance
    tried = _components(kind, components)
    if covariance not in COVARIANCES:
        raise RequestError(f"covariance = {covariance!r}: unknown{did_you_mean(covariance, COVARIANCES)}")
    return Mixtures(kind, tried, components is not None, covariance)


def log_prob(prior: FittedMixture | FittedFlow, codes: Float[Tensor, "n latent"]) -> Float64[Tensor, " n"]:
    """Return log p'(z) of any number of codes in nats, some at a time."""
    return torch.cat([prior.log_prob(some.double()) for some in codes.split(CODES)])


def choose(
    fitted_to: Float[Tensor, "n latent"],
    chosen_on: Float[Tensor, "m latent"],
    tried: Sequence[int],
    covariance: str,
    seed: int,
    progress: PartProgress | None = None,
) -> tuple[Gaussians, dict[str, float]]:
    """Fit mixtures of more and more components until the mean log density of other codes falls.

    Returns:
        The best, and the mean log density by number of components.
    """
    told = of_part(progress, "fitting")
    best, densities = None, dict[str, float]()
    for place, components in enumerate(tried):
        fitted = fit(fitted_to, components, covariance, seed)
        density = log_densities(fitted, chosen_on).logsumexp(1).mean().item()
        if best is not None and not density > max(densities.values()):
            densities[str(components)] = density
            break
        best, densities[str(components)] = fitted, density
        if told is not None:
            told(place + 1, len(tried))
    assert best is not None
    return best, densities


def _components(kind: str, components: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the numbers of components to try, in order."""
    if components is not None and TRIED[kind] == (1,):
        raise RequestError(f"components = {components}: a {kind} has one; leave it out, or take kind = 'mixture'")
    given = TRIED[kind] if components is None else (components,) if isinstance(components, int) else components
    if not given or any(number < 1 for number in given):
        raise RequestError(f"components = {components}: give numbers, 1 or more")
    return tuple(sorted(set(given)))
