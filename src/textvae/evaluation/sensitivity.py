"""Sensitivity of decoded text to moves of its code: in random directions, and along the gradient of log p(x|z)."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from textvae.errors import RequestError
from textvae.generate.codec import MEASURED
from textvae.generate.paths import words_of
from textvae.generate.trained import Trained
from textvae.inference import evaluating
from textvae.metrics.edits import edit_distance
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.refinement import still
from textvae.text.batches import Batch, padded

DISTANCES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Along unit vectors drawn evenly from all directions; where log p(x|z) rises fastest; and the opposite way.
DIRECTIONS = ("random", "gradient", "against")
# Keeps the directions apart from the codes that (seed, number) draws.
_STREAM = 3
# Padded tokens, over codes, that are scored at once.
_TOKENS = 16_384


class Curve(NamedTuple):
    """Changes along directions of one kind, at each distance; means over texts and directions.

    `changed`: the share of decoded texts that are not the one decoded at distance 0. `edits`: how many words must
    be edited to get from that one to them. `loss`: by how many nats log p(x|z) of the given text x falls, below 0
    where it rises. Standard errors are over texts, None for a single one. Along the gradient all are means over the
    `texts` that have one: where the decoder ignores the code it is 0 and leads nowhere. None without such a text.
    """

    kind: str
    texts: int
    changed: list[float] | None
    edits: list[float] | None
    loss: list[float] | None
    changed_standard_error: list[float] | None
    edits_standard_error: list[float] | None
    loss_standard_error: list[float] | None


class Sensitivity(NamedTuple):
    """Estimate how decoded text changes when the codes of `texts` move by `distances`.

    `gradients` are the lengths of d log p(x|z) / dz. `half` is, by kind, the distance at which half of the decoded
    texts are other ones, between the measured distances by a line; None where that is not reached.
    """

    distances: list[float]
    curves: list[Curve]
    gradients: list[float]
    half: dict[str, float | None]
    texts: list[str]
    decoded: list[str]

    def document(self) -> dict[str, Any]:
        """All of it, as JSON has it; what is null has its reason."""
        farther = f"half of the texts have changed at no distance up to {max(self.distances):g}"
        reasons = {f"half.{kind}": farther for kind, value in self.half.items() if value is None}
        if len(self.texts) == 1:
            errors = (name for name in Curve._fields if name.endswith("_standard_error"))
            reasons |= dict.fromkeys(errors, "one text has no deviation")
        for curve in self.curves:
            if not curve.texts:
                nowhere = "the gradient is 0 for every text: the decoder ignores the code"
                reasons |= dict.fromkeys((f"half.{curve.kind}", f"curves.{curve.kind}"), nowhere)
            elif curve.texts == 1 < len(self.texts):
                reasons[f"curves.{curve.kind}.standard_errors"] = (
                    "one text alone has a gradient: it has no deviation"
                )
        return {**self._asdict(), "curves": [curve._asdict() for curve in self.curves], "reasons": reasons}


def sensitivity(
    trained: Trained,
    texts: Sequence[str],
    distances: Sequence[float] = DISTANCES,
    directions: int = 16,
    seed: int = 0,
) -> Sensitivity:
    """Move the code of each text, the mean of its posterior: what is decoded greedily, and what is log p(x|z)?

    Each code goes `distances` far in `directions` random directions, and along the gradient of log p(x|z) at the
    code, up and down. Distances are lengths in the space of codes, of which each coordinate of a standard normal
    prior has a deviation of 1; on the sphere they are angles. What is random depends on the seed and the text's
    place alone.

    Raises:
        RequestError: without texts, for distances that do not rise from above 0, fewer than one direction, and as
            `Trained.encode`.

    References: Prokhorov et al. 2019, section 3.3.1 and its footnote on the gradient's direction.
    """
    if not distances or not all(a < b < math.inf for a, b in zip((0.0, *distances), distances, strict=False)):
        raise RequestError(f"distances = {list(distances)}: must be above 0, rise, and be finite")
    if directions < 1:
        raise RequestError(f"directions = {directions}: must be 1 or more")
    if not texts:
        raise RequestError("texts: give one at least")
    codes = torch.from_numpy(trained.encode(texts))
    ids, _ = trained.token_ids(texts)
    gradient, before = _gradients(trained, ids, codes)
    ways = torch.cat(
        [_random(len(codes), directions, trained.latent, seed), gradient[:, None], -gradient[:, None]], 1
    )
    moved = _moved(trained, codes, ways, distances)
    decoded = trained.decode(codes, MEASURED)
    written = trained.decode(moved.flatten(0, 2), MEASURED)
    log_px = _log_px(trained, ids, moved.flatten(1, 2)).view(moved.shape[:3])
    shape = (len(codes), directions + 2, len(distances))
    edits, changed = _edits(trained, decoded, written)
    loss = (before[:, None, None] - log_px).numpy()
    values = (changed.reshape(shape), edits.reshape(shape), loss)
    rows = {"random": slice(directions), "gradient": slice(directions, directions + 1), "against": slice(-1, None)}
    steep = (gradient.norm(dim=1) > 0).numpy()
    told = {"random": np.ones(len(codes), dtype=bool), "gradient": steep, "against": steep}
    curves = [_curve(kind, *(value[told[kind], rows[kind]] for value in values)) for kind in DIRECTIONS]
    return Sensitivity(
        distances=list(map(float, distances)),
        curves=curves,
        gradients=gradient.norm(dim=1).tolist(),
        half={curve.kind: _half(distances, curve.changed) for curve in curves},
        texts=list(texts),
        decoded=decoded,
    )


def _gradients(
    trained: Trained, ids: list[list[int]], codes: Float[Tensor, "n latent"]
) -> tuple[Float[Tensor, "n latent"], Float64[Tensor, " n"]]:
    """d log p(x|z) / dz of each text at its code, and log p(x|z) in nats."""
    model, gradients, values = trained.model, [], []
    parts = (model.entering, model.expansion, model.decoder)
    with evaluating(model), still(parts, model.generative()), torch.enable_grad():
        for batch, part in _batches(ids):
            z = codes[part].to(model.device).requires_grad_()
            log_px = model.log_px(batch.to(model.device), z[None]).double().sum(-1)[0]
            (gradient,) = torch.autograd.grad(log_px.sum(), z)
            gradients.append(gradient.cpu())
            values.append(log_px.detach().cpu())
    return torch.cat(gradients), torch.cat(values)


def _log_px(trained: Trained, ids: list[list[int]], z: Float[Tensor, "n code latent"]) -> Float64[Tensor, "n code"]:
    """log p(x|z) of each text under codes of its own, in nats."""
    model, found = trained.model, []
    with evaluating(model):
        for batch, part in _batches(ids, z.shape[1]):
            codes = z[part].transpose(0, 1).to(model.device)
            some = codes.split(max(1, _TOKENS // batch.ids.numel()))
            log_px = [model.log_px(batch.to(model.device), few).double().sum(-1) for few in some]
            found.append(torch.cat(log_px).T.cpu())
    return torch.cat(found)


def _batches(ids: list[list[int]], codes: int = 1) -> Iterator[tuple[Batch, slice]]:
    """Texts in their order, as many at once as keep the tokens of all their codes few, and which they are."""
    size = max(1, _TOKENS // (max(map(len, ids)) * codes))
    for start in range(0, len(ids), size):
        part = slice(start, min(start + size, len(ids)))
        yield padded(ids[part], range(part.start, part.stop)), part


def _random(n: int, directions: int, latent: int, seed: int) -> Float[Tensor, "n direction latent"]:
    """Return normal numbers, whose directions are uniform; those of a text depend on its place."""
    noise = sentence_noise(mixed(seed, _STREAM), torch.arange(n))
    return noise(directions, latent).transpose(0, 1)


def _moved(
    trained: Trained,
    codes: Float[Tensor, "n latent"],
    ways: Float[Tensor, "n way latent"],
    distances: Sequence[float],
) -> Float[Tensor, "n way distance latent"]:
    """Each code moved along each way by each distance; on a sphere along its great circles."""
    lengths, start = torch.tensor(distances)[:, None], codes[:, None, None]
    if trained.run.settings.model.prior.on_sphere:
        inward = (ways * codes[:, None]).sum(2, keepdim=True) * codes[:, None]
        return lengths.cos() * start + lengths.sin() * F.normalize(ways - inward, dim=2)[:, :, None]
    return start + lengths * F.normalize(ways, dim=2, eps=1e-30)[:, :, None]


def _edits(
    trained: Trained, decoded: list[str], written: list[str]
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Return the edit distance of each text, in words, to that of its unmoved code, and 1 where it is above 0."""
    each = len(written) // len(decoded)
    before, known = words_of(trained, decoded), dict[tuple[str, int], int]()
    edits = np.zeros(len(written))
    for place, (text, words) in enumerate(zip(written, words_of(trained, written), strict=True)):
        own = place // each
        if (text, own) not in known:  # most texts come many times
            known[text, own] = edit_distance(before[own], words)
        edits[place] = known[text, own]
    return edits, (edits > 0).astype(np.float64)


def _curve(kind: str, *values: Float64[np.ndarray, "n way distance"]) -> Curve:
    """Means over texts and ways, and standard errors over texts."""
    texts = len(values[0])
    if not texts:
        return Curve(kind, 0, *[None] * 6)
    rows = [value.mean(axis=1) for value in values]
    means = [row.mean(axis=0).tolist() for row in rows]
    errors = [(row.std(axis=0, ddof=1) / math.sqrt(len(row))).tolist() if len(row) > 1 else None for row in rows]
    return Curve(kind, texts, *means, *errors)


def _half(distances: Sequence[float], changed: Sequence[float] | None) -> float | None:
    """Return the distance at which half of the texts have changed, interpolated; None if fewer have."""
    if changed is None:
        return None
    last, share = 0.0, 0.0
    for distance, now in zip(distances, changed, strict=True):
        if now >= 0.5:
            return last + (distance - last) * (0.5 - share) / (now - share)
        last, share = distance, now
    return None
