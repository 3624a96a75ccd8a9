"""The rate-distortion curve of a run of many KL weights: `textvae evaluate RUN --rates`."""

import math
from typing import Any

import numpy as np

import textvae
from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.inference import score
from textvae.metrics.latent import active_units
from textvae.model import TextVAE
from textvae.progress import Progress
from textvae.run import Run, model_of, require_rates
from textvae.run.data import corpus_of
from textvae.run.records import Count, Error, Stored, read_stored
from textvae.text.store import spaced

# Where the curve by which a rate is looked up lies in a run, and most sentences that it is measured on in training.
CURVE, SENTENCES = "evaluation/valid-rates.json", 1000


class Point(Stored):
    """A point of the curve."""

    beta: Error
    rate: float
    reconstruction: Error


class Curve(Stored):
    """Required part of the document of a curve."""

    weights: str
    sentences: Count
    points: list[Point]


def measure(
    run: Run,
    split: str = "valid",
    seed: int = 0,
    most: int | None = None,
    progress: Progress | None = None,
    model: TextVAE | None = None,
) -> dict[str, Any]:
    """Measure rate and distortion of a run at its knots of beta and between them; nats per sentence.

    Args:
        run: A run of many KL weights.
        split: Its sentences.
        seed: Seed of the codes, one a sentence, the same numbers at every beta.
        most: Most sentences, evenly spaced; None for all.
        progress: Told of the points.
        model: The run's model, by default loaded.

    Returns:
        A document whose `points` have, by rising beta, the rate (KL), the reconstruction loss, the bound, the loss
        reconstruction + beta rate, and active units (variance above 0.01).

    Raises:
        RequestError: If the run was trained at one weight, or the split cannot be used.
    """
    betas = require_rates(run).points()
    model = model or model_of(run)
    assert model.gates is not None
    store = corpus_of(run).split(split)
    rows = np.arange(len(store)) if most is None else spaced(len(store), most)
    points = []
    for done, beta in enumerate(betas):
        with model.gates.at(beta):
            scores = score(model, store, seed, rows=rows)
            means, noise = scores.expectation(seed, rows)
        assert scores.rate is not None  # settings refuse gates for a posterior without a KL
        rate, reconstruction = scores.rate.mean().item(), scores.reconstruction.mean().item()
        points.append(
            {
                "beta": beta,
                "rate": rate,
                "reconstruction": reconstruction,
                "bound": reconstruction + rate,
                "loss": reconstruction + beta * rate,
                "active_units": active_units(means, 0.01, noise),
            }
        )
        if progress is not None:
            progress(done + 1, len(betas))
    return {
        "split": split,
        "sentences": len(rows),
        "rate_kind": scores.rate_kind,
        "points": points,
        "weights": file_digest(run.folder / "model.safetensors"),
        "seed": seed,
        "unit": "nats/sentence",
        "textvae": textvae.__version__,
    }


def at_rate(run: Run, asked: float | str) -> Run:
    """Return a run at the KL weight whose rate is the one that is asked for.

    Args:
        run: A run of many KL weights.
        asked: Nats per sentence, or a weight as `beta=0.3`.

    Raises:
        RequestError: For what is neither, a rate or weight outside the curve, and a curve that is missing, damaged
            or of other weights.
    """
    text = str(asked)
    number = _number(text.removeprefix("beta="))
    if number is None:
        raise RequestError(f"rate = {text!r}: give nats per sentence, as 5, or a KL weight, as beta=0.3")
    if text.startswith("beta="):
        return run.at_beta(number)
    points = points_of(run)
    rates = [point["rate"] for point in points]
    for low, high in zip(points, points[1:], strict=False):
        if low["rate"] >= number >= high["rate"]:
            share = (low["rate"] - number) / ((low["rate"] - high["rate"]) or 1)
            return run.at_beta(low["beta"] ** (1 - share) * high["beta"] ** share)
    raise RequestError(
        f"rate = {number:g}: the rate of {run.folder} goes from {min(rates):.2f} to {max(rates):.2f} nats per "
        "sentence; give one of these"
    )


def _number(text: str) -> float | None:
    """Return a finite number, or None for a text that is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def points_of(run: Run) -> list[dict[str, float]]:
    """Return the points of the curve that a run keeps.

    Raises:
        RequestError: If there is none, it is damaged, or it is of other weights.
    """
    path, again = run.folder / CURVE, f"measure it with `textvae evaluate {run.folder} --split valid --rates`"
    require_rates(run)
    if not path.exists():
        raise RequestError(f"{path}: no such file, so no rate can be looked up; {again}")
    document = read_stored(path, Curve, again)
    if document["weights"] != file_digest(run.folder / "model.safetensors"):
        raise RequestError(f"{path}: is of other weights than model.safetensors has now; {again}")
    return document["points"]
