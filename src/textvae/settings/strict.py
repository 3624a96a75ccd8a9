"""What every table of settings is: frozen, and strict about names, types and what numbers can be."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

# Beyond these a number is infinite or 0 in float32, or soon will be.
LEAST, MOST = 1e-38, 1e38


class Strict(BaseModel):
    """A table of settings: frozen, unknown names refused, finite, no silent conversions but integer to float.

    Whole numbers have 64 bits, others are such as float32 has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _of_the_machine(cls, given: Any) -> Any:
        """Refuses numbers that torch's types do not hold."""
        for number in given if isinstance(given, tuple) else (given,):
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError("has more than 64 bits; give a smaller number")
            if isinstance(number, float) and number and not LEAST <= abs(number) <= MOST:
                raise ValueError(f"is not a number of float32; give one from {LEAST:g} to {MOST:g}")
        return given
