"""Fit a prior to a trained run and measure its rate-distortion curve, where its settings ask for it."""

import warnings
from contextlib import suppress

from textvae.errors import RequestError, WorkError
from textvae.files import write_json
from textvae.run import Run
from textvae.run.fitted import read_fitted
from textvae.run.fitting import fit_prior
from textvae.run.folder import own_folder
from textvae.run.rates import CURVE, SENTENCES, measure, points_of
from textvae.training.job import Job


def finish(run: Run, job: Job) -> None:
    """Fit a prior and measure the curve of a run whose settings ask for them, unless they are there."""
    if not job.leads:
        return
    if run.settings.train.fit_prior:
        _fit_prior_of(run)
    if run.settings.model.multi_rate is not None:
        _measure_curve_of(run)


def _fit_prior_of(run: Run) -> None:
    """Fit a prior to the codes of a run, unless it has one of these weights."""
    with suppress(RequestError):  # there is none, or it belongs to earlier weights
        read_fitted(run.folder)
        return
    try:
        reason = fit_prior(run).not_kept
    except (RequestError, WorkError) as error:
        reason = str(error)
    if reason is not None:
        warnings.warn(f"train.fit_prior: no prior was kept: {reason}", stacklevel=4)


def _measure_curve_of(run: Run) -> None:
    """Measure the curve on validation sentences, unless the run has one of these weights."""
    with suppress(RequestError):  # there is none, or it belongs to earlier weights
        points_of(run)
        return
    try:
        folder, name = CURVE.split("/")
        write_json(own_folder(run.folder, folder) / name, measure(run, most=SENTENCES))
    except (RequestError, WorkError) as error:
        warnings.warn(f"the rate-distortion curve was not measured: {error}", stacklevel=4)
