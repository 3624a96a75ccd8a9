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
AsJson = Annotated[bool, typer.Option("--json", help="Machine output.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of everything random.")]
IwSamples = Annotated[int, typer.Option(min=1, help="Importance samples a sentence.")]
IwSentences = Annotated[
    str, typer.Option(metavar="NUMBER|all", help="Sentences, drawn by the seed, to estimate NLL on.")
]


def sentences_of(iw_sentences: str) -> int | None:
    """Return the number of `--iw-sentences`; None for all.

    Raises:
        RequestError: if it is neither a number from 1 nor `all`.
    """
    if iw_sentences == "all":
        return None
    if not (iw_sentences.isascii() and iw_sentences.isdigit() and int(iw_sentences)):
        raise RequestError(f"--iw-sentences {iw_sentences}: give a number, 1 or more, or `all`")
    return int(iw_sentences)
