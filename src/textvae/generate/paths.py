"""Homotopies: the texts along a path between two codes, how smoothly they change, and paths of several models."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from textvae.errors import RequestError
from textvae.generate.codec import GREEDY, UNKNOWN_ENDS
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.metrics.edits import edit_distance
from textvae.metrics.text import distinct

EQUAL_ENDS = "both ends have the same code, so there is no path; give other ends"
Ends = Float32[np.ndarray, "pair 2 latent"]


@dataclass(frozen=True)
class Smoothness:
    """How the texts along a path change.

    `distinct` texts of all `steps`; `edits` is how many words must be edited to get from each text to the next, so
    it has one number less. The NLLs are -log p(text) by a language model in nats, means over the two ends and over
    the texts between them; None without a language model, or where there is nothing between the ends.
    """

    steps: int
    distinct: int
    edits: tuple[int, ...]
    nll_ends: float | None = None
    nll_between: float | None = None

    @property
    def mean_edit(self) -> float:
        """Words edited at a step, on average."""
        return sum(self.edits) / len(self.edits)

    @property
    def largest_edit(self) -> int:
        """Words edited at the step where the text jumps most."""
        return max(self.edits)

    def document(self) -> dict[str, Any]:
        """All of it, as JSON has it; what is null has its reason."""
        reasons = {}
        if self.nll_ends is None:
            reasons = dict.fromkeys(("nll_ends", "nll_between"), "no language model was given")
        elif self.nll_between is None:
            reasons = {"nll_between": "a path of two steps has nothing between its ends"}
        return {
            **asdict(self),
            "mean_edit": self.mean_edit,
            "largest_edit": self.largest_edit,
            "reasons": reasons,
        }


class Homotopy(NamedTuple):
    """A path and its texts, both ends among them."""

    codes: Float32[np.ndarray, "steps latent"]
    texts: list[str]
    smoothness: Smoothness

    @property
    def repeated(self) -> list[bool]:
        """Which texts came before on the path."""
        return [text in self.texts[:place] for place, text in enumerate(self.texts)]

    def document(self) -> dict[str, Any]:
        """The texts and what is said of them, as JSON has it."""
        return {"steps": self.texts, "repeated": self.repeated, "smoothness": self.smoothness.document()}


class Cell(NamedTuple):
    """The homotopies of one model by one decoding."""

    model: Trained
    decoding: Decoding
    homotopies: list[Homotopy]


def homotopies(
    trained: Trained,
    ends: Ends,
    steps: int = 9,
    kind: str | None = None,
    decoding: Decoding = GREEDY,
    seed: int = 0,
    language_model: Trained | None = None,
    begin: int = 0,
) -> list[Homotopy]:
    """The path between each pair of codes, decoded side by side; the first pair is number `begin`, from 0.

    `kind` as in `Trained.path`. With a `language_model` the texts' NLL is measured too.

    Raises:
        RequestError: for ends with equal codes, as `Trained.path` and `decode`, and where the language model is
            none.

    Source: Bowman et al. 2016, section 6.3.
    """
    for number, (a, b) in enumerate(ends, begin + 1):
        if np.array_equal(a, b):
            raise RequestError(f"pair {number}: {EQUAL_ENDS}")
    codes = [trained.path(a, b, steps, kind) for a, b in ends]
    if not codes:
        return []
    texts = trained.decode(np.concatenate(codes), decoding, seed, begin * steps)
    nll = None if language_model is None else language_model.nll(texts)
    found = []
    for number, path in enumerate(codes):
        part = slice(number * steps, (number + 1) * steps)
        smooth = smoothness(texts[part], words_of(trained, texts[part]), None if nll is None else nll[part])
        found.append(Homotopy(path, texts[part], smooth))
    return found


def prior_ends(trained: Trained, pairs: int, seed: int = 0) -> Ends:
    """Pairs of draws from the prior: of the codes that `Trained.sample` decodes the first two, the next two, ...

    Raises:
        RequestError: as `Trained.draw`.
    """
    return trained.draw(2 * pairs, seed).reshape(pairs, 2, trained.latent)


def text_ends(trained: Trained, pairs: Sequence[tuple[str, str]]) -> Ends:
    """The codes of pairs of texts.

    Raises:
        RequestError: as `Trained.encode`, for two texts that are the same, and for equal codes of unknown words.
    """
    ends, reasons = usable_ends(trained, pairs)
    for number, reason in reasons.items():
        raise RequestError(f"pair {number + 1}: {reason}")
    return ends


def usable_ends(trained: Trained, pairs: Sequence[tuple[str, str]]) -> tuple[Ends, dict[int, str]]:
    """The codes of pairs of texts between which there is a path, and why there is none between others, by number.

    Raises:
        RequestError: as `Trained.encode`.
    """
    reasons = {}
    for number, (a, b) in enumerate(pairs):
        if not a or not b:
            reasons[number] = "has one sentence; two are needed"
        elif a == b:
            reasons[number] = f"both ends are {a!r}; give two different sentences"
    numbers = [number for number in range(len(pairs)) if number not in reasons]
    texts = [text for number in numbers for text in pairs[number]]
    ends = trained.encode(texts).reshape(len(numbers), 2, trained.latent)
    equal = (ends[:, 0] == ends[:, 1]).all(1)
    for number in (numbers[row] for row in np.flatnonzero(equal)):
        a, b = pairs[number]
        unknown = not trained.knows(a) and not trained.knows(b)
        reasons[number] = f"{a!r} and {b!r}: {UNKNOWN_ENDS if unknown else EQUAL_ENDS}"
    return ends[~equal], dict(sorted(reasons.items()))


def code_ends(codes: Float32[np.ndarray, "n latent"]) -> Ends:
    """Codes as pairs: the first two, the next two, and so on.

    Raises:
        RequestError: when their number is odd.
    """
    if len(codes) % 2:
        raise RequestError(f"{len(codes)} codes: their number is odd; two by two they are the ends of paths")
    return codes.reshape(-1, 2, codes.shape[1])


def same_paths(
    models: Sequence[Trained],
    decodings: Sequence[Decoding],
    paths: int = 1,
    steps: int = 7,
    kind: str | None = None,
    seed: int = 0,
    language_model: Trained | None = None,
) -> list[Cell]:
    """The same codes by several models and decodings, model by model: paths between draws of N(0, I).

    Raises:
        RequestError: when the models' codes differ in size, or a prior is not the standard normal one.

    Source: Prokhorov et al. 2019, Table 2.
    """
    for trained in models:
        ends = prior_ends(trained, paths, seed)  # refuses a language model
        if trained.latent != models[0].latent:
            raise RequestError(
                f"{trained.run.folder}: has codes of {trained.latent} numbers and {models[0].run.folder} of "
                f"{models[0].latent}; the same codes need the same size"
            )
        if not trained.run.settings.model.prior.standard:
            raise RequestError(
                f"{trained.run.folder}: has the prior {trained.run.settings.model.prior.name}; the same codes need "
                "the standard normal one in every model"
            )
    return [
        Cell(trained, decoding, homotopies(trained, ends, steps, kind, decoding, seed, language_model))
        for trained in models
        for decoding in decodings
    ]


def smoothness(
    texts: Sequence[str], words: Sequence[Sequence[Hashable]], nll: Float64[np.ndarray, " steps"] | None = None
) -> Smoothness:
    """The score of the texts along one path, by their words and their NLLs under a language model."""
    edits = tuple(edit_distance(a, b) for a, b in zip(words, words[1:], strict=False))
    if nll is None:
        return Smoothness(len(texts), distinct(texts), edits)
    between = float(nll[1:-1].mean()) if len(nll) > 2 else None
    return Smoothness(len(texts), distinct(texts), edits, float(nll[[0, -1]].mean()), between)


def words_of(trained: Trained, texts: Sequence[str]) -> list[list[Any]]:
    """The words of texts; the tokens where these are not words."""
    if trained.tokenizer.name == "word":
        return [text.split() for text in texts]
    return [list(ids) for ids in trained.tokenizer.encode(texts)]
