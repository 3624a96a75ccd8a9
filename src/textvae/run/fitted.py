"""The folder `fitted` of a run: a prior that was fitted to its codes, by `fitting.fit_prior`.

`prior.safetensors` holds the prior and `prior.json` its record: what it was fitted to, and what it changes. Results
under it lie beside them, named as in the run's own folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from textvae.errors import RequestError
from textvae.files import file_digest, read_tensors, write_json, write_tensors
from textvae.parts.priors import FittedFlowSettings, FittedSettings
from textvae.run.folder import own_folder
from textvae.run.records import Stored, read_stored
from textvae.settings.fields import Depth, Size

FOLDER = "fitted"


class Record(Stored):
    """Required part of `prior.json`: the kind of the prior, and the files that it belongs to, by SHA-256."""

    kind: Literal["gaussian", "mixture", "flow"]
    weights: str
    tensors: str


class GaussiansRecord(Record):
    """`prior.json` of a Gaussian or a mixture."""

    components: Size
    covariance: Literal["full", "diagonal"]

    def settings(self) -> FittedSettings:
        """Return the settings of the prior."""
        values: Any = {"name": f"fitted-{self.kind}", "components": self.components, "covariance": self.covariance}
        return FittedSettings(**values)


class Flow(Stored):
    """Sizes of a flow."""

    transforms: Depth
    hidden: Size
    bins: Size


class FlowRecord(Record):
    """`prior.json` of a flow."""

    flow: Flow

    def settings(self) -> FittedFlowSettings:
        """Return the settings of the prior."""
        return FittedFlowSettings(transforms=self.flow.transforms, hidden=self.flow.hidden, bins=self.flow.bins)


RECORDS: dict[str, type[GaussiansRecord | FlowRecord]] = {
    "gaussian": GaussiansRecord,
    "mixture": GaussiansRecord,
    "flow": FlowRecord,
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted prior as a run keeps it: settings, tensors by name, and the digest of their file."""

    settings: FittedSettings | FittedFlowSettings
    tensors: Mapping[str, Tensor]
    digest: str

    @property
    def name(self) -> str:
        """Name in signatures: its kind, and six digits that tell it from other fits of that kind."""
        return f"{self.settings.label}-{self.digest[:6]}"

    def put_into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a model with this prior in place of its own."""
        prior = "prior_network."
        others = {name: tensor for name, tensor in weights.items() if not name.startswith(prior)}
        return others | {f"{prior}{name}": tensor for name, tensor in self.tensors.items()}


def read_fitted(folder: Path) -> Fitted:
    """Return the fitted prior of a run folder.

    Raises:
        RequestError: If there is none, it is damaged, or the run's weights are not those that it was fitted to.
    """
    path, tensors = folder / FOLDER / "prior.json", folder / FOLDER / "prior.safetensors"
    again = refit(folder)
    if not path.exists():
        raise RequestError(f"{folder}: has no fitted prior; fit one with `textvae fit-prior {folder}`")
    record = read_stored(path, Record, again)
    weights = folder / "model.safetensors"
    if record["weights"] != file_digest(weights):
        raise RequestError(
            f"{path}: was fitted to other weights than {weights.name} has now, as after more training; {again}"
        )
    if not tensors.exists() or (digest := file_digest(tensors)) != record["tensors"]:
        raise RequestError(f"{tensors}: missing, or not the file that prior.json is of; {again}")
    kind = RECORDS[record["kind"]]
    settings = kind.model_validate(read_stored(path, kind, again)).settings()
    return Fitted(settings, read_tensors(tensors)[0], digest)


def refit(folder: Path) -> str:
    """Return the remedy for a fitted prior of a run folder that cannot be used."""
    return f"fit it again with `textvae fit-prior {folder}`"


def write_fitted(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a fitted prior into a run folder, in place of an earlier one; the record last.

    Raises:
        RequestError: If its folder is a link.
        WorkError: If the folder cannot be written.
    """
    place = own_folder(folder, FOLDER)
    write_tensors(place / "prior.safetensors", tensors)
    write_json(place / "prior.json", {**record, "tensors": file_digest(place / "prior.safetensors")})
