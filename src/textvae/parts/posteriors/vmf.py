"""The von Mises-Fisher posterior: codes on the unit sphere around a direction, with a fixed concentration."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor, nn

from textvae.parts.noise import Noise
from textvae.parts.posteriors.posterior import ENTRIES, Expectation, PosteriorNetwork, PosteriorSettings, Rate
from textvae.parts.priors import Prior, log_area

# Standard normal numbers beyond this are taken to be this: one draw in 10^18.
FARTHEST = 9.0


@dataclass(frozen=True)
class VonMisesFisher:
    """q(z|x) proportional to exp(concentration mean . z) on the unit sphere; `mean` is the unit mean direction.

    Densities are with respect to the sphere's surface.

    References: Davidson et al. 2018, "Hyperspherical variational auto-encoders", eq. 3 and 4; Xu and Durrett 2018,
    "Spherical latent spaces for stable variational autoencoders", section 3.
    """

    mean: Float[Tensor, "batch latent"]
    concentration: float

    @property
    def expectation(self) -> Expectation:
        """E[z|x] = A(concentration) mean, inside the sphere; exact."""
        return Expectation(mean_length(self.mean.shape[1], self.concentration) * self.mean)

    def rsample(self, noise: Noise, samples: int = 1) -> Float[Tensor, "sample batch latent"]:
        """Reparametrised draws: cos(angle) mean + sin(angle) v, v uniform among the directions orthogonal to it.

        The angle is a function of one normal number, tabulated once, in place of the papers' rejection sampling:
        the concentration is fixed, so the angle needs no gradient.
        """
        latent = self.mean.shape[1]
        draws = noise(samples, latent + 1)
        angle = angles(draws[..., 0].double(), latent, self.concentration).to(self.mean.dtype)[..., None]
        free = draws[..., 1:].to(self.mean)
        across = free - (free * self.mean).sum(-1, keepdim=True) * self.mean
        return angle.cos() * self.mean + angle.sin() * F.normalize(across, dim=-1)

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """log q(z|x) in nats, each code under its own sentence's posterior."""
        constant = log_normaliser(self.mean.shape[1], self.concentration)
        return constant + self.concentration * (z * self.mean).sum(-1)

    def rate_per_dimension(self, prior: Prior) -> None:
        """None: the KL is no sum over dimensions."""
        return None

    def rate(self, z: Float[Tensor, "sample batch latent"], prior: Prior) -> Rate | None:
        """KL(q || uniform) in nats, the same for every sentence; to a prior off the sphere there is none."""
        if not prior.on_sphere:
            return None
        nats = rate_to_uniform(self.mean.shape[1], self.concentration)
        return Rate(self.mean.new_full((len(self.mean),), nats), "exact")

    def mixture_log_prob(
        self, z: Float[Tensor, "batch latent"], entries: int = ENTRIES
    ) -> Float64[Tensor, " batch"]:
        """log (1/N) sum_m q(z_n|x_m) of one code z_n from each sentence's posterior, in nats."""
        constant = log_normaliser(z.shape[1], self.concentration) - math.log(len(z))
        directions = self.concentration * self.mean.double()
        parts = [(rows @ directions.mT).logsumexp(1) for rows in z.double().split(max(1, entries // len(z)))]
        return constant + torch.cat(parts)


class VmfPosterior(PosteriorNetwork):
    """The mean direction as a normalised linear function of the encoder's vector, in full precision.

    References: Xu and Durrett 2018, section 3: the concentration is fixed, and with it the KL.
    """

    def __init__(self, size: int, latent: int, concentration: float = 50.0) -> None:
        super().__init__()
        self.concentration = concentration
        self.direction_of = nn.Linear(size, latent)

    def forward(
        self,
        hidden: Float[Tensor, "batch size"],
        noise: Noise | None = None,
        samples: int = 1,
        components: int | None = None,
    ) -> VonMisesFisher:
        """Return the posterior of each sentence."""
        with torch.autocast(hidden.device.type, enabled=False):
            direction = self.direction_of(hidden.to(self.direction_of.weight.dtype))
            return VonMisesFisher(F.normalize(direction, dim=1), self.concentration)


@lru_cache(maxsize=256)
def log_bessel(order: float, x: float) -> float:
    """log I_order(x) for order >= 0, x > 0, of the modified Bessel function of the first kind.

    The terms of its power series are all positive; those that count lie around the largest one.

    References: Abramowitz and Stegun 1964, eq. 9.6.10.

    >>> round(log_bessel(0.5, 2.0) - math.log(math.sqrt(1 / math.pi) * math.sinh(2.0)), 12) + 0
    0.0
    """
    peak = x * x / 2 / (order + math.hypot(order, x))
    width = math.sqrt(peak * (peak + order) / (2 * peak + order)) if peak else 0.0
    first, last = int(max(0.0, peak - 12 * width - 20)), int(peak + 12 * width + 50)
    k = torch.arange(first, last + 1, dtype=torch.float64)
    terms = (2 * k + order) * math.log(x / 2) - torch.lgamma(k + 1) - torch.lgamma(k + order + 1)
    return float(terms.logsumexp(0))


def log_normaliser(latent: int, concentration: float) -> float:
    """log C(concentration): what makes the density integrate to 1 over the sphere in `latent` dimensions."""
    order = latent / 2 - 1
    bessel = log_bessel(order, concentration)
    return order * math.log(concentration) - latent / 2 * math.log(2 * math.pi) - bessel


def rate_to_uniform(latent: int, concentration: float) -> float:
    """KL(vMF || uniform on the sphere) in nats: concentration E[mean . z] + log C(concentration) + log area.

    References: Xu and Durrett 2018, section 3; Davidson et al. 2018, eq. 5.
    """
    paid = concentration * mean_length(latent, concentration)
    return max(0.0, paid + log_normaliser(latent, concentration) + log_area(latent))


def mean_length(latent: int, concentration: float) -> float:
    """A(concentration) = I_{d/2}(concentration) / I_{d/2-1}(concentration), d = latent: the length of E[z|x].

    Also E[mean . z], the mean cosine of the angle between a code and its mean direction; below 1.

    References: Mardia and Jupp 2000, "Directional statistics", section 9.3.

    >>> round(mean_length(3, 2.0) - (1 / math.tanh(2.0) - 1 / 2.0), 12) + 0
    0.0
    """
    order = latent / 2 - 1
    return math.exp(log_bessel(order + 1, concentration) - log_bessel(order, concentration))


def angles(normal: Float64[Tensor, "*any"], latent: int, concentration: float) -> Float64[Tensor, "*any"]:
    """Return the angle between a code and its mean direction for standard normal numbers, monotone in them.

    Between the points of a table a cubic with the true slopes at both ends.
    """
    x, angle, slope = _table(latent, concentration, str(normal.device))
    normal = normal.clamp(x[0], x[-1])
    right = torch.searchsorted(x, normal.contiguous()).clamp(1, len(x) - 1)
    left = right - 1
    width = x[right] - x[left]
    t = (normal - x[left]) / width
    rise = angle[right] - angle[left]
    bend_left, bend_right = width * slope[left] - rise, rise - width * slope[right]
    return angle[left] + t * rise + t * (1 - t) * (bend_left * (1 - t) + bend_right * t)


@lru_cache(maxsize=16)
@torch.no_grad()
def _table(latent: int, concentration: float, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return normal numbers, the angles with equal probability below them, and their slopes, in float64.

    The angle's density is proportional to exp(concentration cos) sin^(latent - 2). Its integrals from the left and
    from the right are sums of positive parts, so both tails are as exact as the middle.
    """
    power = latent - 2
    mode_cosine = 2 * concentration / (power + math.hypot(power, 2 * concentration))
    mode = math.acos(mode_cosine)
    deviation = 1 / math.sqrt(concentration * mode_cosine + (power / math.sin(mode) ** 2 if power else 0.0))
    low, high = max(0.0, mode - 20 * deviation), min(math.pi, mode + 20 * deviation)
    near = torch.logspace(-25, 0, 1500, dtype=torch.float64)[:-1] * (high - low)  # a tail may end at 0 or pi
    even = torch.linspace(low, high, 3001, dtype=torch.float64)
    angle = torch.cat([even, low + near, high - near]).unique()

    def log_density(at: Tensor) -> Tensor:
        bent = power * at.sin().log() if power else torch.zeros_like(at)
        return concentration * (at.cos() - mode_cosine) + bent - (power * math.log(math.sin(mode)) if power else 0)

    width = angle.diff()
    inside = torch.zeros_like(width)
    for node, weight in ((-math.sqrt(0.6), 5 / 18), (0.0, 8 / 18), (math.sqrt(0.6), 5 / 18)):  # Gauss and Legendre
        inside += weight * width * log_density(angle[:-1] + width * (1 + node) / 2).exp()
    total = inside.sum()
    below, above = inside.cumsum(0)[:-1] / total, inside.flip(0).cumsum(0).flip(0)[1:] / total
    x = torch.where(below < 0.5, torch.special.ndtri(below), -torch.special.ndtri(above))
    angle = angle[1:-1]
    slope = (-0.5 * x.square() - 0.5 * math.log(2 * math.pi) - log_density(angle)).exp() * total
    kept = (x.abs() <= FARTHEST) & F.pad(x.diff() > 0, (1, 0), value=True)
    return x[kept].to(device), angle[kept].to(device), slope[kept].to(device)


class VmfSettings(PosteriorSettings):
    """von Mises-Fisher on the unit sphere, of a fixed concentration; its prior is uniform on the sphere."""

    name: Literal["vmf"]
    concentration: Annotated[float, Field(gt=0, le=1e6)] = 50.0  # above it float64 loses the KL to rounding
    fixed_rate: ClassVar[bool] = True
    on_sphere: ClassVar[bool] = True

    def build(self, size: int, latent: int) -> VmfPosterior:
        """Build its network."""
        return VmfPosterior(size, latent, self.concentration)

    def most_variance(self, latent: int) -> float:
        """Return A(concentration)^2: E[z|x] has that length."""
        return mean_length(latent, self.concentration) ** 2

    def stronger(self) -> tuple[str, float, str]:
        """Return twice the concentration."""
        return "concentration", 2 * self.concentration, "more-concentrated"
