"""Types of fields that several tables share."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, WrapValidator

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
# Units of one layer (a million of them make a matrix of 4 TB), and layers in a row.
Size = Annotated[int, Field(gt=0, le=2**20)]
SizeOrNone = Annotated[int, Field(ge=0, le=2**20)]
Depth = Annotated[int, Field(gt=0, le=1000)]
DepthOrNone = Annotated[int, Field(ge=0, le=1000)]
# Maps of a convolution: from 8,192 on, transposed convolutions of oneDNN crash at some output sizes.
Map = Annotated[int, Field(gt=0, le=2**12)]
Maps = Annotated[tuple[Map, ...], Field(strict=False, min_length=1, max_length=100)]
Width = Annotated[int, Field(gt=0, le=2**10)]
Widths = Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=100)]


def _each_or_all(value: Any, either: Callable[[Any], Any]) -> Any:
    """Report one problem if neither of two forms fits, instead of one for each."""
    try:
        return either(value)
    except ValidationError:
        raise ValueError("give one number, 1 to 1,024, for all layers, or a list of one for each") from None


# One number for all layers, or one for each.
EachOrAll = Annotated[Width | Widths, WrapValidator(_each_or_all)]
# Normalisation of a masked convolution: over the channels of a position, or over the positions of a batch.
PositionNorm = Literal["layer", "batch"]
# Layer normalisation of an LSTM's gates: all four jointly, or each by itself.
Norm = Literal["none", "layer", "layer-per-gate"]
# sigma = exp(v / 2), softplus(v), or sqrt(softplus(v)) of an unbounded v.
Scale = Literal["log-variance", "softplus", "softplus-variance"]
