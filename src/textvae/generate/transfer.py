"""Attribute transfer: directions in the latent space that stand for an attribute, and texts moved along them."""

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
    """What has to be added to a code to turn what `sources` are into what `targets` are.

    One text or many on either side: the mean code of the targets less that of the sources, so that strength 1 takes
    the sources, on average, as far as the targets. With one text on each side it is z_q - z_p.

    Raises:
        RequestError: for sides without text, that are equal or have equal codes, and by a language model.

    Source: Liu et al. 2019, section 5.6 "Sentiment Transformation", z_b = z_a + z_q - z_p.
    """
    given = {"sources": sources, "targets": targets}
    sides = [[side] if isinstance(side, str) else require_texts(side, name) for name, side in given.items()]
    for name, side in zip(given, sides, strict=True):
        if not side:
            raise RequestError(f"{name}: no text; a direction needs one or more on either side")
    if set(sides[0]) == set(sides[1]):
        raise RequestError(f"sources and targets: are the same, {sides[0][0]!r}; give texts that differ")
    both = trained.encode([*sides[0], *sides[1]]).astype(np.float64)
    found = both[len(sides[0]) :].mean(0) - both[: len(sides[0])].mean(0)
    if not found.any():
        raise RequestError(
            f"sources and targets: have the same code, {sides[0][0]!r} and {sides[1][0]!r} among them; "
            "give texts that differ in words which the model knows"
        )
    return found.astype(np.float32)


def separation(
    a: Float[np.ndarray, "n latent"], b: Float[np.ndarray, "m latent"], way: Float[np.ndarray, " latent"]
) -> float | None:
    """How far the means of two sets of codes are apart along a direction, in standard deviations within the sets.

    Near 0 the code does not say the attribute, and no step along the direction will change it; above 2 few codes of
    one set lie among the other's. None where codes do not vary within the sets, as with one text on each side.
    """
    unit = way.astype(np.float64) / max(float(np.linalg.norm(way)), 1e-30)
    first, second = a @ unit, b @ unit
    within = np.concatenate([first - first.mean(), second - second.mean()]).std()
    return float(abs(second.mean() - first.mean()) / within) if within > 0 else None


def by_label(
    texts: Sequence[str], labels: Sequence[str], source: str, target: str, place: str = "labels"
) -> tuple[list[str], list[str]]:
    """The texts labelled `source` and those labelled `target`; `place` is named in errors.

    Raises:
        RequestError: for labels that are equal or not there, with those that are, and for a single one.
    """
    if source == target:
        raise RequestError(f"{place}: from {source!r} to {target!r}: are equal; give two labels")
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
    sources, targets = ([text for text, found in pairs if found == label] for label in (source, target))
    return sources, targets


def moved(
    trained: Codec, z: Float32[np.ndarray, "n latent"], way: ArrayLike, strength: float
) -> Float32[np.ndarray, "n latent"]:
    """Codes moved along a direction, `strength` times its length; on a sphere they are brought back to it.

    Raises:
        RequestError: for a direction of another width, or with a number that is not finite, and such a strength.
    """
    if not np.isfinite(strength):
        raise RequestError(f"strength = {strength}: must be finite")
    codes = (z + strength * checked(way, trained.latent)).astype(np.float32)
    if trained.run.settings.model.prior.on_sphere:
        codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)
    return codes


def checked(way: ArrayLike, latent: int, place: str = "direction") -> Float32[np.ndarray, " latent"]:
    """A direction, once it is found to be one for codes of this width.

    Raises:
        RequestError: where it is not.
    """
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            found = np.asarray(way, dtype=np.float32)
    except (TypeError, ValueError):
        raise RequestError(f"{place}: is not an array of numbers") from None
    if found.shape not in ((latent,), (1, latent)):
        raise RequestError(f"{place}: has shape {found.shape}; the run's codes have {latent} numbers")
    if not np.isfinite(found).all():
        raise RequestError(f"{place}: holds a number that is not finite")
    return found.reshape(latent)


def save_direction(path: Path | str, way: Float32[np.ndarray, " latent"], run: str | None = None) -> None:
    """Write a direction to a `.npy` file, which is replaced whole or not at all.

    With `run`, the `Trained.identity` of its model, the file is not read as a direction of another one.

    Raises:
        RequestError: for another suffix.
        WorkError: when the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise RequestError(f"{path}: unknown suffix {path.suffix!r}; directions are written as .npy")
    with replacing(path) as file:
        np.save(file, way, allow_pickle=False)
        file.write(b"" if run is None else origin.mark(run))


def load_direction(path: Path | str, latent: int, run: str | None = None) -> Float32[np.ndarray, " latent"]:
    """A direction from a file that `save_direction` or NumPy wrote, for a run of this width.

    With `run`, the `Trained.identity` of the run, a file that says that it is of another one is refused.

    Raises:
        RequestError: for a file that is missing, damaged, of another width, not finite or of another run.
    """
    way = checked(arrays.mapped(path), latent, str(path))
    origin.check(Path(path), origin.of_npy(Path(path)), run)
    return way
