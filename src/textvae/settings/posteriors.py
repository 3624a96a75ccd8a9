"""The tables of posteriors, of how they are inferred, and of priors."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator

from textvae.settings.architectures import Depth, DepthOrNone, Fraction, Size, SizeOrNone
from textvae.settings.schedules import Constant, Schedule
from textvae.settings.strict import Strict

# Of a semi-implicit posterior, beside each code of a sentence.
MOST_COMPONENTS = 100_000
# sigma = exp(v / 2), softplus(v), or sqrt(softplus(v)) of an unbounded v.
Scale = Literal["log-variance", "softplus", "softplus-variance"]


class GaussianPosterior(Strict):
    """q(z|x) = N(mu, diag sigma^2); `scale` is the parametrisation of sigma."""

    name: Literal["gaussian"] = "gaussian"
    scale: Scale = "log-variance"


class BatchNormPosterior(Strict):
    """A Gaussian whose means are batch-normalised with a fixed scale `gamma` and a learned shift (BN-VAE)."""

    name: Literal["batch-norm"]
    gamma: PositiveFloat = 0.5
    scale: Scale = "log-variance"


class DeltaPosterior(Strict):
    """A Gaussian whose scales are bounded away from the prior's, so that its KL is at least `rate` nats."""

    name: Literal["delta"]
    rate: PositiveFloat = 3.0


class MixturePosterior(Strict):
    """A mixture of diagonal Gaussians, weights and parameters from x."""

    name: Literal["gaussian-mixture"]
    components: Size = 5
    scale: Scale = "log-variance"


class SemiImplicitPosterior(Strict):
    """z ~ N(lambda), lambda a network of x and noise; J `samples` of z a sentence, K `components` beside each."""

    name: Literal["semi-implicit"]
    samples: Size = 5
    components: Schedule = Constant(value=50)
    noise: SizeOrNone = 100
    hidden: Size = 128
    layers: DepthOrNone = 1
    scale: Scale = "log-variance"

    @field_validator("components")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        """Refuses a fixed number that is not whole; a schedule's values are rounded."""
        if isinstance(given, Constant) and given.value % 1:
            raise ValueError("components are counted: give a whole number")
        if max(getattr(given, "start", 0.0), given.final) > MOST_COMPONENTS:
            raise ValueError(f"components are drawn for every sentence: give at most {MOST_COMPONENTS:,}")
        return given


class IafPosterior(Strict):
    """A Gaussian sent through inverse autoregressive flows that see x."""

    name: Literal["iaf"]
    flows: Depth = 2
    hidden: Size = 64
    context: Size = 32
    scale: Scale = "log-variance"


class PlanarPosterior(Strict):
    """A Gaussian sent through planar flows whose parameters come from x."""

    name: Literal["planar"]
    flows: Depth = 10
    scale: Scale = "log-variance"


class RadialPosterior(Strict):
    """A Gaussian sent through radial flows whose parameters come from x."""

    name: Literal["radial"]
    flows: Depth = 10
    scale: Scale = "log-variance"


class MultiStepPosterior(Strict):
    """z drawn in `steps` parts, each a Gaussian whose parameters a GRU gives from x and the parts before it."""

    name: Literal["multi-step"]
    steps: Depth = 4
    hidden: Size = 64
    scale: Scale = "log-variance"


class VmfPosterior(Strict):
    """von Mises-Fisher on the unit sphere, of a fixed concentration; its prior is uniform on the sphere."""

    name: Literal["vmf"]
    concentration: Annotated[float, Field(gt=0, le=1e6)] = 50.0  # above it float64 loses the KL to rounding


class PointPosterior(Strict):
    """z is a function of x: the sequence autoencoder. It has no rate."""

    name: Literal["point"]


Posterior = Annotated[
    GaussianPosterior
    | BatchNormPosterior
    | DeltaPosterior
    | MixturePosterior
    | SemiImplicitPosterior
    | IafPosterior
    | PlanarPosterior
    | RadialPosterior
    | MultiStepPosterior
    | VmfPosterior
    | PointPosterior,
    Field(discriminator="name"),
]


class StandardNormalPrior(Strict):
    """p(z) = N(0, I)."""

    name: Literal["standard-normal"] = "standard-normal"


class MixturePrior(Strict):
    """p(z) is a learned mixture of diagonal Gaussians."""

    name: Literal["gaussian-mixture"]
    components: Size = 50


class VampPrior(Strict):
    """p(z) is the mean of the posteriors of learned pseudo-sentences of `length` embeddings."""

    name: Literal["vamp"]
    components: Size = 50
    length: Size = 10


class UniformSpherePrior(Strict):
    """p(z) is uniform on the unit sphere: the prior of the vMF posterior, and of no other."""

    name: Literal["uniform-sphere"]


Prior = Annotated[StandardNormalPrior | MixturePrior | VampPrior | UniformSpherePrior, Field(discriminator="name")]


class Amortized(Strict):
    """The posterior's parameters are what the encoder says."""

    name: Literal["amortized"] = "amortized"


class Refined(Strict):
    """Semi-amortized: the encoder's Gaussian is refined for each sentence by gradient steps on its bound."""

    name: Literal["refined"]
    steps: DepthOrNone = 5
    lr: PositiveFloat = 0.1
    momentum: Fraction = 0.5
    clip_norm: NonNegativeFloat = 5.0


Inference = Annotated[Amortized | Refined, Field(discriminator="name")]
