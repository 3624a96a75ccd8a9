"""Base class of all tables of settings: frozen, and strict about names, types and numbers."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

# Beyond these, numbers are or soon become infinite or 0 in float32.
LEAST, MOST = 1e-38, 1e38


class Strict(BaseModel):
    """A frozen table of settings: unknown names refused, numbers finite, no silent conversion but integer to float.

    Integers have 64 bits, other numbers the range of float32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _of_the_machine(cls, given: Any) -> Any:
        """Refuse numbers that torch's types cannot represent."""
        for number in given if isinstance(given, tuple) else (given,):
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError("has more than 64 bits; give a smaller number")
            if isinstance(number, float) and number and not LEAST <= abs(number) <= MOST:
                raise ValueError(f"is not a number of float32; give one from {LEAST:g} to {MOST:g}")
        return given
