"""Homotopies: texts along paths between two codes, their smoothness, and the same paths in several models."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from textvae.errors import RequestError
from textvae.generate.codec import MEASURED, UNKNOWN_ENDS
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.metrics.edits import edit_distance
from textvae.metrics.text import distinct

EQUAL_ENDS = "both ends have the same code, so there is no path; give other ends"
Ends = Float32[np.ndarray, "pair 2 latent"]
# Paths that are decoded at once where there are many.
PAIRS = 1000


@dataclass(frozen=True)
class Smoothness:
    """Measures of the change of texts along a path.

    The NLLs are None without a language model, and `nll_between` also if there is nothing between the ends.

    Attributes:
        distinct: Number of different texts.
        steps: Number of texts.
        edits: Words edited from each text to the next, `steps` - 1 numbers.
        nll_ends: -log p(text) under a language model, nats, averaged over the two ends.
        nll_between: The same, averaged over the texts between them.
    """

    steps: int
    distinct: int
    edits: tuple[int, ...]
    nll_ends: float | None = None
    nll_between: float | None = None

    @property
    def mean_edit(self) -> float:
        """Mean number of words edited per step."""
        return sum(self.edits) / len(self.edits)

    @property
    def largest_edit(self) -> int:
        """Largest number of words edited in one step."""
        return max(self.edits)

    def document(self) -> dict[str, Any]:
        """Return all values for JSON, with a reason for each null."""
        reasons = {}
        if self.nll_ends is None:
            reasons = dict.fromkeys(("nll_ends", "nll_between"), "no language model was given")
        elif self.nll_between is None:
            reasons = {"nll_between": "a path of two steps has no texts between its ends"}
        return {
            **asdict(self),
            "mean_edit": self.mean_edit,
            "largest_edit": self.largest_edit,
            "reasons": reasons,
        }


class Homotopy(NamedTuple):
    """A path and its texts, both ends included."""

    codes: Float32[np.ndarray, "steps latent"]
    texts: list[str]
    smoothness: Smoothness

    @property
    def repeated(self) -> list[bool]:
        """True for each text that occurred earlier on the path."""
        return [text in self.texts[:place] for place, text in enumerate(self.texts)]

    def document(self) -> dict[str, Any]:
        """Return the texts and their measures for JSON."""
        return {"steps": self.texts, "repeated": self.repeated, "smoothness": self.smoothness.document()}


class Cell(NamedTuple):
    """The homotopies of one model with one decoding."""

    model: Trained
    decoding: Decoding
    homotopies: Iterable[Homotopy]


def homotopies(
    trained: Trained,
    ends: Ends,
    steps: int = 9,
    kind: str | None = None,
    decoding: Decoding = MEASURED,
    seed: int = 0,
    language_model: Trained | None = None,
    begin: int = 0,
) -> list[Homotopy]:
    """Decode the path between each pair of codes side by side; the first pair is number `begin`, from 0.

    `kind` is as in `Trained.path`. With a `language_model` the texts' NLL is measured too.

    Raises:
        RequestError: For ends with equal codes, as `Trained.path` and `decode`, and if the language model is not
        one.

    References:
        Bowman et al. 2016, section 6.3.
    """
    for number, (a, b) in enumerate(ends, begin + 1):
        if np.array_equal(a, b):
            raise RequestError(f"pair {number}: {EQUAL_ENDS}")
    codes = [trained.path(a, b, steps, kind) for a, b in ends]
    if not codes:
        return []
    texts = trained.decode(np.concatenate(codes), decoding, seed, begin * steps)
    nll = None if language_model is None else language_model.nll(texts)
    paths = []
    for number, path in enumerate(codes):
        part = slice(number * steps, (number + 1) * steps)
        smooth = smoothness(texts[part], words_of(trained, texts[part]), None if nll is None else nll[part])
        paths.append(Homotopy(path, texts[part], smooth))
    return paths


def prior_ends(trained: Trained, pairs: int, seed: int = 0, begin: int = 0) -> Ends:
    """Return pairs of draws from the prior: consecutive pairs of the codes that `Trained.sample` decodes.

    The first pair is number `begin`.

    Raises:
        RequestError: As `Trained.draw`.
    """
    return trained.draw(2 * pairs, seed, 2 * begin).reshape(pairs, 2, trained.latent)


def text_ends(trained: Trained, pairs: Sequence[tuple[str, str]]) -> Ends:
    """Return the codes of pairs of texts.

    Raises:
        RequestError: As `Trained.encode`, for two equal texts, and for equal codes of unknown words.
    """
    ends, reasons = usable_ends(trained, pairs)
    for number, reason in reasons.items():
        raise RequestError(f"pair {number + 1}: {reason}")
    return ends


def usable_ends(trained: Trained, pairs: Sequence[tuple[str, str]]) -> tuple[Ends, dict[int, str]]:
    """Return the codes of the pairs of texts that have a path, and by number the reasons why others have none.

    Raises:
        RequestError: As `Trained.encode`.
    """
    reasons = {}
    for number, (a, b) in enumerate(pairs):
        if not a or not b:
            reasons[number] = "has one sentence; give two"
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


def code_ends(codes: Float32[np.ndarray, "n latent"], begin: int = 0) -> Ends:
    """Return codes, after `begin` others, as consecutive pairs.

    Raises:
        RequestError: If their number is odd.
    """
    if len(codes) % 2:
        raise RequestError(f"{begin + len(codes)} codes: their number is odd; give two for each path, its ends")
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
    """Decode the same codes with several models and decodings, model by model: paths between draws of N(0, I).

    Raises:
        RequestError: If the models' codes differ in size, or a prior is not the standard normal one.

    References:
        Prokhorov et al. 2019, Table 2.
    """
    cells = each_cell(models, decodings, paths, steps, kind, seed, language_model)
    return [cell._replace(homotopies=[*cell.homotopies]) for cell in cells]


def each_cell(
    models: Sequence[Trained],
    decodings: Sequence[Decoding],
    paths: int = 1,
    steps: int = 7,
    kind: str | None = None,
    seed: int = 0,
    language_model: Trained | None = None,
) -> Iterator[Cell]:
    """Return an iterator over the cells of `same_paths`, whose paths are decoded as they are taken.

    Raises:
        RequestError: At once, as `same_paths`.
    """
    for trained in models:
        trained.draw(0)  # refuses a language model
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

    def decoded(trained: Trained, decoding: Decoding) -> Iterator[Homotopy]:
        for begin in range(0, paths, PAIRS):
            ends = prior_ends(trained, min(PAIRS, paths - begin), seed, begin)
            yield from homotopies(trained, ends, steps, kind, decoding, seed, language_model, begin)

    return (Cell(trained, one, decoded(trained, one)) for trained in models for one in decodings)


def smoothness(
    texts: Sequence[str], words: Sequence[Sequence[Hashable]], nll: Float64[np.ndarray, " steps"] | None = None
) -> Smoothness:
    """Return the measures of the texts along one path, from their words and their NLLs under a language model."""
    edits = tuple(edit_distance(a, b) for a, b in zip(words, words[1:], strict=False))
    if nll is None:
        return Smoothness(len(texts), distinct(texts), edits)
    between = float(nll[1:-1].mean()) if len(nll) > 2 else None
    return Smoothness(len(texts), distinct(texts), edits, float(nll[[0, -1]].mean()), between)


def words_of(trained: Trained, texts: Sequence[str]) -> list[list[Any]]:
    """Return the words of texts; their tokens if these are not words."""
    if trained.tokenizer.of_words:
        return [trained.tokenizer.pieces(text) for text in texts]
    return [list(ids) for ids in trained.tokenizer.encode(texts)]
