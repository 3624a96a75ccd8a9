"""`textvae fit-prior`: a prior fitted to the codes of a trained run."""

from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.options import AsJson, DataPlace, RunFolder, Seed
from textvae.cli.output import columns, document, note, number, plain, result
from textvae.cli.progress import Bars
from textvae.errors import RequestError, WorkError

if TYPE_CHECKING:
    from textvae.run.fitting import PriorFit


def fit_prior(
    run: RunFolder,
    kind: Annotated[
        str, typer.Option(metavar="NAME", help="gaussian, mixture (of Gaussians) or flow.")
    ] = "mixture",
    components: Annotated[
        str | None,
        typer.Option(metavar="K,K,...", help="mixture: numbers of components to try.", show_default="1,2,5,10,20"),
    ] = None,
    covariance: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="gaussian, mixture: full or diagonal.", show_default="full"),
    ] = None,
    codes: Annotated[int, typer.Option(min=1, help="Most training sentences, one code each.")] = 50_000,
    data: DataPlace = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a prior to the codes of a trained run.

    The KL is the information in the code plus the divergence of the aggregated posterior from the prior. A prior
    fitted to codes of training sentences reduces the second part; encoder and decoder stay as they are. The number
    of components is the one with the highest mean log density of codes of validation sentences; a flow, a neural
    spline flow that needs pip install 'textvae[flow]', is trained until that rises no more. A prior that lowers the
    validation bound is kept in RUN/fitted, in place of an earlier one: sample, evaluate, compare and diagnose
    use it with --prior fitted, interpolate with --fitted-prior. Another is not kept, and the exit code is 1.

    \b
    Examples:
      textvae fit-prior RUN
      textvae fit-prior RUN --kind gaussian
      textvae fit-prior RUN --components 10,50 --covariance diagonal
      textvae fit-prior RUN --kind flow
    """  # noqa: D301
    tried = None if components is None else _numbers(components)

    from textvae.run import Run
    from textvae.run.fitting import fit_prior as fitted_prior

    with Bars() as bars:
        found = fitted_prior(Run.open(run, data), kind, tried, covariance, codes, seed, bars.update)
    if as_json:
        document(found.document())
    else:
        result("\n".join(_lines(found)))
    if found.not_kept is not None:
        raise WorkError(f"{run}: the fitted prior was not kept: {found.not_kept}")
    note(f"kept in {run / 'fitted'}: use it with --prior fitted, such as `textvae sample {run} --prior fitted`")


def _lines(found: "PriorFit") -> list[str]:
    """Return what was fitted and what it changes."""
    what = "prior" if found.components is None else "components"
    rows = [[what, "log density of validation codes", ""], ["own prior", number(found.log_density_own), ""]]
    best = found.kind if found.components is None else str(found.components)
    for tried, density in found.log_density.items():
        chosen = "chosen" if tried == best and len(found.log_density) > 1 else ""
        rows.append([tried, number(density), chosen])
    changes = [["on validation sentences", "own prior", "fitted", ""]]
    for name, before, after in (
        ("KL", found.kl_before, found.kl_after),
        ("bound", found.bound_before, found.bound_after),
    ):
        if before is not None:
            changes.append([name, number(before), number(after), "nats/sentence"])
    gain = f"{number(found.gain)} ± {number(found.gain_standard_error)}"
    changes.append(["log density of codes", "", f"+{gain}" if found.gain >= 0 else gain, "nats/sentence"])
    head = f"{found.run}: {found.codes:,} codes of training, {found.validation_codes:,} of validation sentences"
    return [plain(head), columns(rows), "", columns(changes), found.signature]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(
            f"--components {text}: give whole numbers with commas between them, such as 5,10,20"
        ) from None
