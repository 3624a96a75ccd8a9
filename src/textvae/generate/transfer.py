"""Attribute transfer: latent directions of an attribute, and texts moved along them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from numpy.typing import ArrayLike

from textvae.errors import RequestError
from textvae.files import replacing
from textvae.generate import arrays, origin
from textvae.generate.codec import Codec
from textvae.text.readers import require_texts


def direction(
    trained: Codec, sources: str | Iterable[str], targets: str | Iterable[str]
) -> Float32[np.ndarray, " latent"]:
    """Return the direction from the mean code of the sources to the mean code of the targets.

    Either side is one text or many. Strength 1 moves the sources, on average, to the targets. With one text on each
    side it is z_q - z_p.

    Raises:
        RequestError: For sides that are empty or equal or have equal codes, and for a language model.

    References:
        Liu et al. 2019, section 5.6 "Sentiment Transformation", z_b = z_a + z_q - z_p.
    """
    given = {"sources": sources, "targets": targets}
    sides = [[side] if isinstance(side, str) else require_texts(side, name) for name, side in given.items()]
    for name, side in zip(given, sides, strict=True):
        if not side:
            raise RequestError(f"{name}: no text; give one or more on either side")
    if set(sides[0]) == set(sides[1]):
        raise RequestError(f"sources and targets: are the same, {sides[0][0]!r}; give texts that differ")
    both = trained.encode([*sides[0], *sides[1]]).astype(np.float64)
    way = both[len(sides[0]) :].mean(0) - both[: len(sides[0])].mean(0)
    if not way.any():
        raise RequestError(
            f"sources and targets: have the same code, {sides[0][0]!r} and {sides[1][0]!r} among them; "
            "give texts that differ in words which the model knows"
        )
    return way.astype(np.float32)


def separation(
    a: Float[np.ndarray, "n latent"], b: Float[np.ndarray, "m latent"], way: Float[np.ndarray, " latent"]
) -> float | None:
    """Return the distance of the means of two sets of codes along a direction, in within-set standard deviations.

    Near 0 the code does not encode the attribute, and no step along the direction changes it; above 2 the sets
    hardly overlap. None if codes do not vary within the sets, as with one text on each side.
    """
    unit = way.astype(np.float64) / max(float(np.linalg.norm(way)), 1e-30)
    first, second = a @ unit, b @ unit
    within = np.concatenate([first - first.mean(), second - second.mean()]).std()
    return float(abs(second.mean() - first.mean()) / within) if within > 0 else None


def by_label(
    texts: Sequence[str], labels: Sequence[str], source: str, target: str, place: str = "labels"
) -> tuple[list[str], list[str]]:
    """Return the texts labelled `source` and those labelled `target`; `place` is named in errors.

    Raises:
        RequestError: For equal or missing labels, naming the present ones, and for a single label.
    """
    if source == target:
        raise RequestError(f"{place}: from {source!r} to {target!r}: the labels are equal; give two")
    counts = Counter(labels)
    listed = ", ".join(f"{label!r} ({count:,})" for label, count in counts.most_common(20))
    if not counts:
        raise RequestError(f"{place}: no text; a direction needs texts of two labels")
    if len(counts) < 2:
        raise RequestError(f"{place}: has one label only, {listed}; a direction needs two")
    for label in (source, target):
        if label not in counts:
            raise RequestError(f"{place}: no text has the label {label!r}; the labels are {listed}")
    pairs = list(zip(texts, labels, strict=True))
    sources, targets = ([text for text, own in pairs if own == label] for label in (source, target))
    return sources, targets


def moved(
    trained: Codec, z: Float32[np.ndarray, "n latent"], way: ArrayLike, strength: float
) -> Float32[np.ndarray, "n latent"]:
    """Return codes moved along a direction by `strength` times its length; on a sphere they are projected back.

    Raises:
        RequestError: For a direction of another width or not finite, and for a strength that is not finite.
    """
    if not np.isfinite(strength):
        raise RequestError(f"strength = {strength}: must be finite")
    codes = (z + strength * checked(way, trained.latent)).astype(np.float32)
    if trained.run.settings.model.prior.on_sphere:
        codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)
    return codes


def checked(way: ArrayLike, latent: int, place: str = "direction") -> Float32[np.ndarray, " latent"]:
    """Return a direction as an array, after checking that it has this width.

    Raises:
        RequestError: If it is not a direction of this width.
    """
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused
            array = np.asarray(way, dtype=np.float32)
    except (TypeError, ValueError):
        raise RequestError(f"{place}: is not an array of numbers") from None
    if array.shape not in ((latent,), (1, latent)):
        raise RequestError(f"{place}: has shape {array.shape}; the run's codes have {latent} numbers")
    if not np.isfinite(array).all():
        raise RequestError(f"{place}: holds a number that is not finite")
    return array.reshape(latent)


def save_direction(path: Path | str, way: Float32[np.ndarray, " latent"], run: str | None = None) -> None:
    """Write a direction to a `.npy` file atomically.

    With `run`, the `Trained.identity` of its model, the file is refused as a direction of another model.

    Raises:
        RequestError: For another suffix.
        WorkError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise RequestError(f"{path}: unknown suffix {path.suffix!r}; directions are written as .npy")
    with replacing(path) as file:
        np.save(file, way, allow_pickle=False)
        file.write(b"" if run is None else origin.mark(run))


def load_direction(path: Path | str, latent: int, run: str | None = None) -> Float32[np.ndarray, " latent"]:
    """Return the direction in a file that `save_direction` or NumPy wrote, for a run of this width.

    With `run`, the `Trained.identity` of the run, a file of another run is refused.

    Raises:
        RequestError: For a file that is missing, damaged, of another width, not finite or of another run.
    """
    way = checked(arrays.mapped(path), latent, str(path))
    origin.check(Path(path), origin.of_npy(Path(path)), run)
    return way
