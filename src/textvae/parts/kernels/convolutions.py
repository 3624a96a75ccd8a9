"""Convolutions over texts: batch normalisation, strided ones for encoders, transposed ones that unfold a code."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from textvae.parts.gather import gathered
from textvae.settings.problems import Problem

EPSILON, MOMENTUM = 1e-5, 0.1


class BatchNorm(nn.Module):
    """Every channel normalised over the global batch and its positions, then scaled and shifted as is learned.

    In training over the positions that are `inside`, and over all processes' sentences; in evaluation with running
    statistics, so that a sentence alone gives what it gives among a thousand. Those are the mean of the first
    batches' and then take a tenth of each. In full precision.

    References: Ioffe and Szegedy 2015, algorithm 1; with the biased variance also for the running one.
    """

    running_mean: Tensor
    running_variance: Tensor
    batches: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros(()))

    def begin(self) -> None:
        """Neither scaled nor shifted; running statistics of channels that need no normalising."""
        with torch.no_grad():
            for ones in (self.gain, self.running_variance):
                ones.fill_(1.0)
            for zeros in (self.shift, self.running_mean, self.batches):
                zeros.zero_()

    def forward(
        self, x: Float[Tensor, "batch channels time"], inside: Bool[Tensor, "batch 1 time"] | None = None
    ) -> Float[Tensor, "batch channels time"]:
        """Return the normalised channels; in training mode the running statistics move."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.gain.dtype)
            mean, variance = self.running_mean, self.running_variance
            if self.training:
                mean, variance = _moments(x, inside)
                with torch.no_grad():
                    self.batches += 1
                    share = self.batches.reciprocal().clamp(min=MOMENTUM)
                    self.running_mean.lerp_(mean, share)
                    self.running_variance.lerp_(variance, share)
            scale = self.gain * (variance + EPSILON).rsqrt()
            return torch.addcmul((self.shift - mean * scale)[:, None], x, scale[:, None])


def _moments(
    x: Float[Tensor, "batch channels time"], inside: Bool[Tensor, "batch 1 time"] | None
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and biased variance of each channel over the global batch's positions that are inside."""
    count = x.new_tensor(len(x) * x.shape[2]) if inside is None else inside.sum().to(x.dtype)
    total = gathered(count.expand(1, 1)).sum()
    if inside is not None:
        x = x.masked_fill(~inside, 0.0)
    mean = gathered(x.sum((0, 2))[None]).sum(0) / total
    apart = x - mean[:, None]
    if inside is not None:
        apart = apart.masked_fill(~inside, 0.0)
    return mean, gathered(apart.square().sum((0, 2))[None]).sum(0) / total


def each(value: int | Sequence[int], layers: int) -> tuple[int, ...]:
    """One number for every layer."""
    return (value,) * layers if isinstance(value, int) else tuple(value)


def padded(positions: int, strides: Sequence[int]) -> int:
    """Return the number of positions that strides divide evenly, `positions` or the next above.

    >>> padded(50, (2, 2)), padded(52, (2, 2))
    (52, 52)
    """
    every = math.prod(strides)
    return -(-positions // every) * every


def _before(kernel: int, stride: int) -> int:
    """Return the number of the kernel - stride positions of padding before the text: half the kernel."""
    return min((kernel - 1) // 2, max(0, kernel - stride))


class Convolution(nn.Module):
    """A convolution that makes ceil(time / stride) positions of `time`, batch-normalised, ReLU; outside is zero."""

    def __init__(self, channels: int, maps: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weights = nn.Conv1d(channels, maps, kernel, stride, bias=False)  # normalising would take a bias away
        self.norm = BatchNorm(maps)

    def forward(
        self, x: Float[Tensor, "batch channels time"], inside: Bool[Tensor, "batch 1 time"]
    ) -> tuple[Float[Tensor, "batch maps shorter"], Bool[Tensor, "batch 1 shorter"]]:
        """Return the maps, and which positions of them begin inside the text."""
        before = _before(self.kernel, self.stride)
        after = max(0, self.kernel - self.stride - before)
        inside = inside[:, :, :: self.stride]
        maps = self.norm(self.weights(F.pad(x, (before, after))), inside)
        return maps.relu().masked_fill(~inside, 0.0), inside


class TransposedConvolution(nn.Module):
    """A transposed convolution that makes stride x time positions of `time`, batch-normalised, ReLU."""

    def __init__(self, channels: int, maps: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before = stride, _before(kernel, stride)
        self.weights = nn.ConvTranspose1d(channels, maps, kernel, stride, bias=False)
        self.norm = BatchNorm(maps)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch maps longer"]:
        """Return the maps; half of the kernel's overhang is cut off at the start, as padding 1 of kernel 3 does."""
        longer = self.stride * x.shape[2]
        return self.norm(self.weights(x)[:, :, self.before : self.before + longer]).relu()


class Expansion(nn.Module):
    """A code unfolded into features of every position: the feed-forward half of the hybrid decoder.

    Linear with ReLU into `first_maps` maps at the lowest resolution, then transposed convolutions, one for each of
    `maps`. It has `positions` positions or, where strides do not divide them, some more: no text can be longer.

    References: Semeniuta et al. 2017, sections 3.2 and 3.3; kernel 3 and stride 2 double the length exactly.
    """

    def __init__(
        self,
        latent: int,
        maps: Sequence[int],
        kernel: int | Sequence[int],
        stride: int | Sequence[int],
        first_maps: int,
        positions: int,
    ) -> None:
        super().__init__()
        kernels, strides = each(kernel, len(maps)), each(stride, len(maps))
        self.positions = padded(positions, strides)
        self.first_maps, self.maps = first_maps, tuple(maps)
        self.first = nn.Linear(latent, first_maps * (self.positions // math.prod(strides)))
        channels = (first_maps, *maps)
        sizes = zip(channels[:-1], maps, kernels, strides, strict=True)
        self.layers = nn.ModuleList(TransposedConvolution(*size) for size in sizes)

    @property
    def features(self) -> int:
        """The size of a position's features."""
        return self.maps[-1]

    def forward(self, z: Float[Tensor, "*any latent"]) -> Float[Tensor, "*any position maps"]:
        """Return the features of each code's positions."""
        x = self.first(z.reshape(-1, z.shape[-1])).relu()
        x = x.view(len(x), self.first_maps, -1)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(1, 2).reshape(*z.shape[:-1], self.positions, -1)


def convolution_problems(
    maps: Sequence[int], kernel: int | Sequence[int], stride: int | Sequence[int], positions: int
) -> list[Problem]:
    """Return what is wrong with kernels and strides: for the maps, each other, or texts of `positions` tokens.

    Paths are relative to the part.
    """
    layers = len(maps)
    problems = [
        Problem(
            name,
            f"{len(given)} for {layers} layers of maps",
            "give one number for all, or one for each",
            value=list(given),
        )
        for name, given in (("kernel", kernel), ("stride", stride))
        if not isinstance(given, int) and len(given) != layers
    ]
    if problems:
        return problems
    strides = each(stride, layers)
    for number, (width, step) in enumerate(zip(each(kernel, layers), strides, strict=True)):
        at = "kernel" if isinstance(kernel, int) else f"kernel[{number}]"
        remedy = "give a kernel of at least the stride"
        problem = Problem(at, f"leaves gaps at stride {step}", remedy, value=width)
        if width < step and problem not in problems:
            problems.append(problem)
    if (every := math.prod(strides)) > positions:
        given = stride if isinstance(stride, int) else list(stride)
        joined = f"{layers} layers bring {every:,} positions together, and the longest text has {positions:,}"
        problems.append(
            Problem("stride", joined, "give smaller strides or fewer maps, or longer texts", value=given)
        )
    return problems
