"""`textvae pack`: a run made ready to travel."""

from pathlib import Path
from typing import Annotated

import typer

from textvae.cli.options import AsJson, RunFolder
from textvae.cli.output import columns, document, note, plain, result

# Why each folder of a run stays behind.
REASONS = {
    "checkpoint": "only training resumes from it",
    "fce": "texts and language models of textvae fce",
    "text": "the text, which was given in Python",
}


def pack(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tar.gz|FOLDER", help="Where it goes; NAME.tar.gz if not given.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pack a run for another place, without its checkpoint.

    The packed run has settings, tokenizer, weights, log, evaluations and report: all that evaluation and generation
    take, but not the text, of which it keeps file names and fingerprints. It cannot be resumed. Equal runs make
    equal archives.

    \b
    Examples:
      textvae pack runs/mine
      textvae pack runs/mine --out shared/mine
      textvae sample shared/mine
    """  # noqa: D301
    from textvae.run.pack import pack as packed

    found = packed(run, out)
    if as_json:
        document(found.document())
        return
    rows = [[plain(name), f"{size:,} bytes", ""] for name, size in found.files.items()]
    result("\n".join([plain(str(found.out)), columns(rows)]))
    for name, size in found.left_out.items():
        note(f"left out: {name}, {size:,} bytes: {REASONS[name]}")
    if found.text:
        note(f"left out: the text ({', '.join(found.text)}); --data says where it is to commands that need it")
