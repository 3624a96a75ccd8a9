"""Fit a prior at the end of a run whose settings ask for one."""

import warnings
from contextlib import suppress

from textvae.errors import RequestError, WorkError
from textvae.run import Run
from textvae.run.fitting import fit_prior
from textvae.training.job import Job


def fit_prior_of(run: Run, job: Job) -> None:
    """Fit a prior to the codes of a run whose settings ask for one, unless it has one of these weights."""
    if not run.settings.train.fit_prior or not job.leads:
        return
    with suppress(RequestError):  # there is none, or it belongs to earlier weights
        run.under("fitted")
        return
    try:
        reason = fit_prior(run).not_kept
    except (RequestError, WorkError) as error:
        reason = str(error)
    if reason is not None:
        warnings.warn(f"train.fit_prior: no prior was kept: {reason}", stacklevel=3)
