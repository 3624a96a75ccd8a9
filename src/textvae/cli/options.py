"""Arguments and options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Machine output.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of everything random.")]
