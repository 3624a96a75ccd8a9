"""Arguments and options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

from textvae.errors import RequestError

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]
DataPlace = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Where the run's text is now: its file, or the folder of its files.",
        show_default=False,
    ),
]
Prior = Annotated[
    str,
    typer.Option(
        "--prior",
        metavar="own|fitted",
        help="The run's own prior, or the one of fit-prior: the default where train.fit_prior made it.",
        show_default=False,
    ),
]
BesidePrior = Annotated[
    str | None,
    typer.Option(
        "--prior",
        metavar="own|fitted",
        help="Under one prior alone. Without: the run's own, and the one of fit-prior beside it.",
        show_default=False,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="NATS|beta=B",
        help="Of a run of --method multi-rate: the KL at which it answers, or the KL weight.",
        show_default=False,
    ),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="COLUMN=VALUE",
        help="Of a conditional model: a label that holds for all; once for each column.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine output.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of everything random.")]
IwSamples = Annotated[int, typer.Option(min=1, help="Importance samples a sentence.")]
IwSamplesOrAuto = Annotated[
    str, typer.Option("--iw-samples", metavar="NUMBER|auto", help="Importance samples a sentence.")
]
IwSentences = Annotated[
    str, typer.Option(metavar="NUMBER|all|auto", help="Sentences, drawn by the seed, to estimate NLL on.")
]


def condition_of(given: list[str] | None, option: str = "--condition") -> dict[str, str] | None:
    """Return labels by column, given as COLUMN=VALUE; None if none is given.

    Raises:
        RequestError: For another form, and for a column that is given twice.
    """
    labels: dict[str, str] = {}
    for one in given or ():
        column, equals, value = one.partition("=")
        if not (column and equals and value):
            raise RequestError(f"{option} {one}: give COLUMN=VALUE, such as sentiment=negative")
        if column in labels:
            raise RequestError(f"{option} {one}: {column} is given twice; a text has one value of it")
        labels[column] = value
    return labels or None


def iw_numbers_of(iw_samples: str, iw_sentences: str) -> tuple[int | str, int | None | str]:
    """Return the numbers of `--iw-samples` and `--iw-sentences`; `auto` as it is, None for all sentences.

    Raises:
        RequestError: if one is neither a number from 1 nor one of its words.
    """
    return _number("--iw-samples", iw_samples), (
        None if iw_sentences == "all" else _number("--iw-sentences", iw_sentences, "`all` or ")
    )


def _number(option: str, given: str, words: str = "") -> int | str:
    if given == "auto":
        return given
    if not (given.isascii() and given.isdigit() and int(given)):
        raise RequestError(f"{option} {given}: give a number, 1 or more, or {words}`auto`")
    return int(given)
