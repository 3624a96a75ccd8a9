"""What every table of settings is: frozen, and strict about names and types."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A table of settings: frozen, unknown names refused, finite, no silent conversions but integer to float."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)
