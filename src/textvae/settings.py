"""Settings of a run: strict TOML, every error at once with its place and the nearest known name.

`parse` turns a document (what `tomllib` gives) into a frozen `Settings`. The terms of the objective describe
their own settings and are handed in, so that a new term needs no change here.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from textvae.errors import RequestError

# Short forms that `--set` accepts.
ALIASES = {"train.lr": "train.optimizer.lr"}
# The field that says which kind of thing a table describes.
TAGS = ("name", "schedule")

Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch's generators take


class Strict(BaseModel):
    """A table of settings: frozen, unknown names refused, finite, no silent conversions but integer to float."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


class Tokenizer(Strict):
    """How text becomes tokens; `vocabulary` counts learned entries, not the four special ones; 0 is no limit."""

    name: Literal["word", "character", "bpe"] = "word"
    vocabulary: NonNegativeInt = 10_000
    min_count: PositiveInt = 1
    lowercase: bool = False


class Split(Strict):
    """Shares of a single file that are held out, by a hash of each sentence's text."""

    valid: Fraction = 0.05
    test: Fraction = 0.05
    seed: int = 0


class Data(Strict):
    """Where the text comes from: a registered corpus or a path, or one file for each split."""

    corpus: str | None = None
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    column: str | None = None
    label: str | None = None
    tokenizer: Tokenizer = Tokenizer()
    max_length: PositiveInt = 100
    too_long: Literal["drop", "cut"] = "drop"
    split: Split = Split()


class Encoder(Strict):
    """Reads the sentence; its last states parametrise the posterior."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: PositiveInt = 512
    layers: PositiveInt = 1
    bidirectional: bool = False


class GaussianPosterior(Strict):
    """q(z|x) = N(mu, diag sigma^2); sigma from a log variance or through a softplus."""

    name: Literal["gaussian"] = "gaussian"
    scale: Literal["log-variance", "softplus"] = "log-variance"


class StandardNormalPrior(Strict):
    """p(z) = N(0, I)."""

    name: Literal["standard-normal"] = "standard-normal"


class RecurrentDecoder(Strict):
    """p(x|z): word by word; z as the initial state, at every step, or both."""

    name: Literal["lstm", "gru"] = "lstm"
    hidden: PositiveInt = 512
    layers: PositiveInt = 1
    inject: Annotated[tuple[Literal["state", "input"], ...], Field(strict=False)] = ("state", "input")
    dropout: Fraction = 0.3
    word_keep: Probability = 1.0


class Model(Strict):
    """The parts and their sizes; `latent = 0` is the plain language model: the decoder alone."""

    latent: NonNegativeInt = 32
    embedding: PositiveInt = 256
    encoder: Encoder = Encoder()
    posterior: GaussianPosterior = GaussianPosterior()
    prior: StandardNormalPrior = StandardNormalPrior()
    decoder: RecurrentDecoder = RecurrentDecoder()
    init: PositiveFloat = 0.1


class Adam(Strict):
    """Adam, Kingma and Ba 2015."""

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8


class AdamW(Adam):
    """Adam with decoupled weight decay, Loshchilov and Hutter 2019."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: NonNegativeFloat = 0.01


class Sgd(Strict):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 1.0
    momentum: Fraction = 0.0


Optimizer = Annotated[Adam | AdamW | Sgd, Field(discriminator="name")]


class Plateau(Strict):
    """The learning rate is multiplied by `factor` after `patience` validations without a better bound."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: PositiveInt = 2
    min_lr: PositiveFloat = 1e-6


class Train(Strict):
    """The training loop. Steps are decoder updates; `batch_size` is the whole job's; clipping at 0 is off."""

    epochs: PositiveInt = 20
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 32
    optimizer: Optimizer = Adam()
    plateau: Plateau | None = None
    clip_norm: NonNegativeFloat = 5.0
    clip_value: NonNegativeFloat = 0.0
    patience: PositiveInt | None = None
    validate_every: PositiveInt | None = None
    log_every: PositiveInt = 50
    checkpoint_seconds: PositiveFloat = 60.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Seed = 0

    @field_validator("optimizer", mode="before")
    @classmethod
    def _adam_unless_named(cls, value: Any) -> Any:
        return {"name": "adam", **value} if isinstance(value, Mapping) else value


class Settings(Strict):
    """All settings of a run. `objective` maps a term's name to the term."""

    data: Data = Data()
    model: Model = Model()
    objective: dict[str, Any] = Field(default_factory=dict)
    train: Train = Train()

    def document(self) -> dict[str, Any]:
        """The settings as plain values, every default spelled out, as written to `settings.toml`."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        dumped["objective"] = {
            name: term.model_dump(mode="json", exclude_none=True) for name, term in self.objective.items()
        }
        return dumped

    def toml(self) -> str:
        """The settings as a TOML document that `parse` reads back to the same settings."""
        return tomli_w.dumps(self.document())


def read_document(path: Path) -> dict[str, Any]:
    """A TOML file as plain values.

    Raises:
        RequestError: when there is no such file or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RequestError(f"{path}: no such settings file") from None
    except IsADirectoryError:
        raise RequestError(f"{path}: is a folder; a settings file in TOML is expected") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text; a settings file in TOML is expected") from None
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two documents in one, the second on top; another kind of schedule or optimizer replaces the whole table."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and _kind(key, old) == _kind(key, value, old):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _kind(key: str, table: Mapping[str, Any], below: Mapping[str, Any] | None = None) -> Any:
    """What a table describes, where kinds differ in their settings; without a name it is of the kind below it."""
    if key == "optimizer":
        return table.get("name", _kind(key, below) if below is not None else "adam")
    return table.get("schedule", None if below is None else below.get("schedule"))


def override(document: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The document with `path=value` assignments on top; a value that is not TOML is taken as a string.

    >>> override({}, ["train.epochs=3", "data.corpus=ptb"])
    {'train': {'epochs': 3}, 'data': {'corpus': 'ptb'}}

    Raises:
        RequestError: when an assignment has no `=` or no path.
    """
    result = dict(document)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = ALIASES.get(path.strip(), path.strip()).split(".")
        if not equals or not all(keys):
            raise RequestError(f"--set {assignment}: expected path=value, such as train.epochs=3")
        try:
            (value,) = tomllib.loads(f"value = {text}").values()
        except ValueError:  # not TOML, or more than one value
            value = text.strip()
        for key in reversed(keys):
            value = {key: value}
        result = merge(result, value)
    return result


def parse(document: Mapping[str, Any], terms: Mapping[str, type[BaseModel]]) -> Settings:
    """Settings from a document, the objective's tables through the given terms.

    Raises:
        RequestError: names every wrong place at once, one a line.
    """
    problems: list[str] = []
    settings = Settings()
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems += [_problem(Settings, problem, document) for problem in error.errors()]
    objective = document.get("objective", {})
    built = {}
    for name, table in objective.items() if isinstance(objective, Mapping) else ():
        if name not in terms:
            problems.append(f"objective.{name}: unknown term{_did_you_mean(name, terms)}")
            continue
        try:
            built[name] = terms[name].model_validate(table)
        except ValidationError as error:
            problems += [_problem(terms[name], problem, table, f"objective.{name}.") for problem in error.errors()]
    if problems:
        raise RequestError("\n".join(problems))
    return settings.model_copy(update={"objective": built})


def _problem(model: type[BaseModel], error: Any, document: Any, prefix: str = "") -> str:
    """One line for one of pydantic's errors: place, what is wrong, what would do."""
    place: list[str] = []
    here: Any = model
    value: Any = document
    names: list[str] = []
    for part in error["loc"]:
        names = _field_names(here)
        if isinstance(value, Mapping) and part in value:
            place, value, here = [*place, str(part)], value[part], _field(here, part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            place[-1:] = [f"{place[-1]}[{part}]"] if place else [f"[{part}]"]
            value = value[part]
        elif part in names:  # a required name that the document lacks
            place = [*place, str(part)]
        else:  # the tag of a union, which is no key of the document
            here = _member(here, part)
    where = prefix + ".".join(place) if place else prefix.rstrip(".")
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown setting{_did_you_mean(place[-1], names)}"
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):
        return f"{where} = {value!r}: too few values"
    if error["type"] == "missing":
        return f"{where}: is required"
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["discriminator"].strip("'")
        expected = error["ctx"]["expected_tags"].replace("'", "")
        known = [name.strip() for name in expected.split(",")]
        return f"{where}.{tag}: unknown value {value.get(tag)!r}{_did_you_mean(str(value.get(tag)), known)}"
    if error["type"] == "union_tag_not_found":
        tag = error["ctx"]["discriminator"].strip("'")
        return f"{where}.{tag}: is required: it says which kind of thing this is"
    if error["type"] == "literal_error":
        known = [word.strip("' ") for word in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{where}: unknown value {value!r}{_did_you_mean(str(value), known)}"
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{where} = {value!r}: a table is expected"
    if error["type"] == "tuple_type":
        return f"{where} = {value!r}: a list is expected"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where} = {value!r}: {message}"


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The settings tables that an annotation can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return []


def _member(here: Any, tag: Any) -> Any:
    """The member of a union of tables that a tag names; where there is none, the union."""
    for member in _members(here):
        for field in TAGS:
            if field in member.model_fields and member.model_fields[field].default == tag:
                return member
        if member.__name__ == tag:
            return member
    return here


def _field(here: Any, name: Any) -> Any:
    """What a table's field can hold."""
    for member in _members(here):
        if name in member.model_fields:
            return member.model_fields[name].annotation
    return None


def _field_names(here: Any) -> list[str]:
    """The names that a table knows."""
    return [name for member in _members(here) for name in member.model_fields]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
