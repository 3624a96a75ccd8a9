"""The command line: each command parses, calls one function and prints; nothing heavy is imported before that."""

import sys
import warnings
from typing import Annotated

import typer

import textvae
from textvae.cli import (
    adversarial,
    chat,
    codes,
    comparison,
    corpora,
    fitting,
    forward,
    generation,
    inspection,
    likelihood,
    packing,
    paths,
    probing,
    scoring,
    syntax,
    training,
    transfer,
    transfer_curve,
)
from textvae.cli.output import Command, Commands, open_streams, plain, result
from textvae.extensions import installed

__all__ = ["app", "main"]

app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
data = typer.Typer(cls=Commands, rich_markup_mode=None, help="The corpora known by name.")

app.command(cls=Command)(training.quickstart)
app.command(cls=Command, epilog=training.methods_help())(training.train)
for command in (
    inspection.diagnose,
    inspection.evaluate,
    fitting.fit_prior,
    comparison.compare,
    comparison.report,
    generation.sample,
    generation.reconstruct,
    generation.impute,
    chat.chat,
    adversarial.adversarial,
    codes.encode,
    codes.decode,
    codes.neighbours,
    likelihood.log_prob,
    paths.interpolate,
    paths.homotopy,
    paths.sensitivity,
    transfer.transfer,
    transfer_curve.transfer_curve,
    scoring.score,
    probing.probe,
    syntax.syntax,
    forward.fce,
    packing.pack,
):
    app.command(cls=scoring.ScoreCommand if command is scoring.score else Command)(command)
data.command("list", cls=Command)(corpora.list_corpora)
data.command("describe", cls=Command)(corpora.describe)
data.command("verify", cls=Command)(corpora.verify)
data.command("make", cls=Command)(corpora.make)
app.add_typer(data, name="data")


def _version(asked: bool) -> bool:
    if asked:
        result(f"textvae {textvae.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Variational autoencoders of text: train, diagnose, evaluate, generate.

    Start with `textvae quickstart`, or `textvae train --data FILE` on your own sentences. Results go to stdout,
    progress and notes to stderr. Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted.
    """


def _check(command: object) -> str | None:
    return None if callable(command) else "it is not a function"


def main() -> None:
    """Run the command `textvae`; exit with its code."""
    open_streams()
    # A character that the terminal's encoding lacks is spelled out, it does not end the program.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"warning: {plain(str(message))}\n"
    own = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    for name, command in installed("textvae.commands", _check):
        if name in own | {"data"}:
            warnings.warn(f"textvae.commands: {name} is left out: its name is taken", stacklevel=1)
        else:
            app.command(name, cls=Command)(command)
    app(prog_name="textvae")
