"""Tables of settings that belong to no part: data, training, phases."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from textvae.settings.fields import Fraction
from textvae.settings.kinds import named
from textvae.settings.strict import Strict

# Updates of the encoder alone before one step.
Updates = Annotated[int, Field(gt=0, le=100_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # the range of torch's generators


class TokenizerSettings(Strict):
    """Settings of the tokenizer; `vocabulary` counts learned entries, not the four special ones; 0 is no limit.

    `word` splits at white space alone, `words` also punctuation and contractions from words.
    """

    name: Literal["word", "words", "character", "bpe"] = "word"
    vocabulary: NonNegativeInt = 10_000
    min_count: PositiveInt = 1
    lowercase: bool = False


class Split(Strict):
    """Shares of a single file that are held out, by a hash of each sentence's text."""

    valid: Fraction = 0.05
    test: Fraction = 0.05
    seed: int = 0


class Dialogue(Strict):
    """Columns of a table of dialogues, by name or position, and the utterances of a window, response included.

    Columns that are not given are found by common names. Without a column of turns, rows are in the order in which
    they were said.
    """

    dialogue: str | None = None
    turn: str | None = None
    speaker: str | None = None
    window: Annotated[int, Field(ge=2, le=1000)] = 10

    @field_validator("dialogue", "turn", "speaker", mode="before")
    @classmethod
    def _place(cls, given: Any) -> Any:
        """Return a number that names a column by position as text."""
        return _as_text(given)


def _as_text(given: Any) -> Any:
    """Return a position of a column, from 0, as text; anything else as it is."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else given


class Data(Strict):
    """Source of the text: a registered corpus or a path, or one file for each split.

    With `window` the model is trained on pieces of that many tokens of running text instead of sentences;
    `max_length` and `too_long` have no effect then. With `right_to_left` it reads and writes the last token of a
    sentence first. `vocabulary_of` names a run, or a `tokenizer.json`, whose tokenizer is used instead of learning
    one. `label` names a column of labels for evaluation. What the model is conditioned on is one of three:
    `condition_on` names columns of labels, `source` a column of texts, and `dialogue` the columns of a table of
    dialogues, whose utterances are conditioned on those before them. Utterances that are too long are cut: without
    them, what follows would have another context.
    """

    corpus: str | None = None
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    column: str | None = None
    label: str | None = None
    condition_on: Annotated[tuple[str, ...], Field(strict=False)] = ()
    source: str | None = None
    dialogue: Dialogue | None = None
    tokenizer: TokenizerSettings = TokenizerSettings()
    vocabulary_of: str | None = None
    max_length: PositiveInt = 100
    too_long: Literal["drop", "cut"] = Field(
        default_factory=lambda given: "cut" if given.get("dialogue") else "drop"
    )
    window: PositiveInt | None = None
    right_to_left: bool = False
    split: Split = Split()

    @field_validator("column", "label", "source", mode="before")
    @classmethod
    def _place(cls, given: Any) -> Any:
        """Return a number that names a column by position as text."""
        return _as_text(given)

    @field_validator("condition_on", mode="before")
    @classmethod
    def _places(cls, given: Any) -> Any:
        """Return columns given by position as text, and a single one as a tuple; refuse a repeated one."""
        columns = [given] if isinstance(given, str | int) else given
        if not isinstance(columns, list | tuple):
            return given
        places = tuple(map(_as_text, columns))
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"names {place!r} twice; name it once")
        return places

    @property
    def positions(self) -> int:
        """Most tokens of a text, end mark included."""
        return self.window or self.max_length + 1


class Adam(Strict):
    """Adam, Kingma and Ba 2015."""

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the optimizer's slots for each parameter, in its shape."""
        return ("exp_avg", "exp_avg_sq")


class AdamW(Adam):
    """Adam with decoupled weight decay, Loshchilov and Hutter 2019."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: NonNegativeFloat = 0.01


class Sgd(Strict):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 1.0
    momentum: Fraction = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the optimizer's slots for each parameter, in its shape."""
        return ("momentum_buffer",) if self.momentum else ()


Optimizer = Annotated[Adam | AdamW | Sgd, Field(discriminator="name")]


class Joint(Strict):
    """Joint update of encoder and decoder, once a step."""

    name: Literal["joint"] = "joint"

    @property
    def encoder_first(self) -> None:
        """None: there are no updates of the encoder alone."""
        return None


class Aggressive(Strict):
    """Updates of the encoder alone before each step.

    `inner` is T_a, a fixed number, or "converged": until the loss over `check` batches no longer falls, at most
    `most`. `until = "mi"` ends them for good when validation MI stops rising, `until = "end"` never. The default is
    "mi" for a loop until convergence (He et al. 2019) and "end" for a fixed number (Fu et al. 2020, algorithm 1).
    With `ramp_components` a semi-implicit posterior's K rises within every loop, as `share` describes.
    """

    name: Literal["aggressive"]
    inner: Annotated[int, Field(ge=0, le=100_000)] | Literal["converged"] = "converged"
    check: Updates = 15
    most: Updates = 100
    ramp_components: bool = False
    until: Literal["mi", "end"] = Field(default_factory=lambda given: _until(given))

    @field_validator("inner", mode="before")
    @classmethod
    def _one_message(cls, given: Any) -> Any:
        """Refuse a value of neither type here, where otherwise each of the two would report it."""
        if given == "converged" or (
            isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 100_000
        ):
            return given
        raise ValueError("give a number of updates, 0 to 100,000, or 'converged'")

    @property
    def encoder_first(self) -> "Aggressive":
        """Itself: updates of the encoder alone come before each step."""
        return self

    def share(self, number: int) -> float:
        """Return the share of K at update `number` of a loop, from 0; it is 1 at the last update of a loop.

        It rises over the whole of a loop of fixed length. A loop until convergence has no known length: there it
        rises over the first `check` updates, which is the shortest loop, and after which losses are comparable.

        >>> [Aggressive(name="aggressive", inner=4, ramp_components=True).share(number) for number in range(4)]
        [0.25, 0.5, 0.75, 1.0]

        References:
            Fu et al. 2020, appendix A.
        """
        if not self.ramp_components:
            return 1.0
        rise = self.check if self.inner == "converged" else self.inner
        return min(1.0, (number + 1) / rise)


def _until(given: Mapping[str, Any]) -> Literal["mi", "end"]:
    """Return the default of `until` given the settings above it."""
    return "mi" if given.get("inner", "converged") == "converged" else "end"


Update = Annotated[Joint | Aggressive, Field(discriminator="name")]


class Plateau(Strict):
    """Multiply the learning rate by `factor` after `patience` validations without a better one."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: PositiveInt = 2
    min_lr: PositiveFloat = 1e-6


class Decay(Strict):
    """Multiply the learning rate by `factor` after every `every`-th epoch beyond the first `after`.

    Epochs are counted from the start of the phase, whose optimizer starts afresh.

    References:
        Semeniuta et al. 2017, whose program multiplies by 0.95 after every epoch beyond the 20th.
    """

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.95
    after: NonNegativeInt = 20
    every: PositiveInt = 1

    def falls(self, epochs: int) -> bool:
        """Return True if the rate falls after that number of epochs.

        >>> [epochs for epochs in range(9) if Decay(after=3, every=2).falls(epochs)]
        [5, 7]
        """
        return epochs > self.after and (epochs - self.after) % self.every == 0


class Train(Strict):
    """Settings of the training loop; `batch_size` is the whole job's, steps are decoder updates.

    Clipping at 0 is off. Batches group similar lengths, or with `batches = "equal-length"` only equal ones, as in
    the programs that Fu et al. 2020 follow; a rare length then has a small batch. Gradients are clipped by their
    norm unless only `clip_value` is given, which clips them element by element. `keep` says which weights become
    the model of the run: those of the best validation, or those of the last. With `fit_prior` a mixture is fitted
    to their codes at the end, as `textvae fit-prior` does; if it is kept, it is the run's usual prior.
    """

    epochs: PositiveInt = 20
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 32
    batches: Literal["bucketed", "equal-length"] = "bucketed"
    optimizer: Annotated[Optimizer, named("adam")] = Adam()
    update: Annotated[Update, named("joint")] = Joint()
    plateau: Plateau | None = None
    decay: Decay | None = None
    clip_value: NonNegativeFloat = 0.0
    clip_norm: NonNegativeFloat = Field(default_factory=lambda given: 0.0 if given.get("clip_value") else 5.0)
    patience: PositiveInt | None = None
    keep: Literal["best", "last"] = "best"
    fit_prior: bool = False
    validate_every: PositiveInt | None = None
    log_every: PositiveInt = 50
    checkpoint_seconds: PositiveFloat = 60.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Seed = 0


Part = Literal["encoder", "posterior", "prior", "decoder"]


class Phase(Strict):
    """A stretch of a run and its differences from the run's settings; the last phase takes the rest of the run.

    It lasts `epochs`, or a `share` of the run. `until = "converged"` ends it earlier, after `patience` validations
    without a better one, which count only once its schedules are constant. `reset` reinitialises parts at its
    start.
    """

    epochs: PositiveInt | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    until: Literal["end", "converged"] = "end"
    patience: PositiveInt = 1
    reset: Annotated[tuple[Part, ...], Field(strict=False)] = ()
    objective: dict[str, Any] = Field(default_factory=dict)
    optimizer: Annotated[Optimizer, named("adam")] | None = None
    update: Annotated[Update, named("joint")] | None = None
