"""`textvae train` and `textvae quickstart`."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.options import Seed
from textvae.cli.output import leading, note, plain, result
from textvae.cli.progress import Bar, Bars, TrainingProgress, validation_line
from textvae.cli.tables import table
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.objective.settings import Settings
    from textvae.run import Run

# The order of methods in docs/methods.md.
ORDER = (
    "auto language-model vanilla beta kl-annealing kl-annealing-converged cyclical free-bits free-bits-total "
    "capacity capacity-max lagrangian mmd point mu-forcing mu-forcing-annealing bow bow-annealing word- "
    "dropout inputless hybrid gaussian-mixture semi-implicit semi-implicit-cyclical batch-norm delta iaf "
    "planar radial multi-step vmf mixture-prior vamp-prior aggressive aggressive-semi-implicit semi-amortized "
    "pretrained"
).split()


def methods_help() -> str:
    """Return every method with its description, for the end of `textvae train --help`."""
    presets = {file.stem: file for file in (Path(__file__).parents[1] / "objective" / "methods").glob("*.toml")}
    names = [name for name in ORDER if name in presets] + sorted(set(presets) - set(ORDER))
    lines = [f"  {name:<26}{_first_sentence(presets[name])}" for name in names]
    return "\n".join(["\b", "Methods (docs/methods.md has equations, sources and when to use each):", *lines])


def _first_sentence(preset: Path) -> str:
    """Return the first sentence of the comment at the beginning of a preset."""
    comment = [line[1:].strip() for line in preset.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return " ".join(comment).split(". ")[0].rstrip(".")


Source = Annotated[
    str | None, typer.Option("--data", metavar="FILE|CORPUS", help="The text; with --resume, where it is now.")
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="A preset, see below; auto without settings."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a setting; may be given many times."),
]

ConditionOn = Annotated[
    list[str] | None,
    typer.Option(
        "--condition-on",
        metavar="NAME|NUMBER|label",
        help="A column of labels that the model is conditioned on; several times for several.",
        show_default=False,
    ),
]
Aim = Annotated[
    str | None,
    typer.Option(
        metavar="representation|balance|generation",
        help="What auto is for: codes that keep much, likelihood and samples, or both (balance).",
        show_default=False,
    ),
]
SettingsFile = Annotated[
    Path | None, typer.Argument(metavar="SETTINGS.toml", show_default=False, help="Settings as TOML.")
]
NewRun = Annotated[
    Path | None, typer.Option(metavar="RUN", help="The new run folder; runs/CORPUS-METHOD if not given.")
]
Start = Annotated[
    Path | None, typer.Option("--from", metavar="RUN", help="Start with the weights and settings of this run.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the settings that it comes to, and stop.")]


def train(
    settings: SettingsFile = None,
    data: Source = None,
    train_file: Annotated[str | None, typer.Option("--train", metavar="FILE", help="Text to train on.")] = None,
    valid: Annotated[str | None, typer.Option("--valid", metavar="FILE", help="Text to validate on.")] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="FILE", help="Text to evaluate on.")] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the text.")] = None,
    label: Annotated[str | None, typer.Option(metavar="NAME|NUMBER", help="The column of a label.")] = None,
    condition_on: ConditionOn = None,
    methods: Methods = None,
    assignments: Assignments = None,
    aim: Aim = None,
    out: NewRun = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")] = None,
    start: Start = None,
    dry_run: DryRun = False,
) -> None:
    """Train a model on your sentences or a known corpus.

    Ctrl-C saves the run, and --resume continues it. FILE is text with one sentence a line, or TSV, CSV or JSONL
    with a text column, each also as .gz. From a single file the validation and test splits are made, and recorded.
    Without --method it is auto: tokenizer, sizes and epochs by the text, and a diagnosis at the end.

    \b
    Examples:
      textvae train --data reviews.txt
      textvae train --data reviews.txt --method mu-forcing
      textvae train --data ptb --set train.epochs=3 --set model.latent=16
      textvae train --data reviews.csv --condition-on sentiment
      textvae train --data tweets.tsv --column text --set data.tokenizer.name=character
      textvae train --data reviews.txt --set 'objective.kl.weight={schedule="linear", steps=5000}'
      textvae train settings.toml --out runs/mine
      textvae train --resume runs/mine
      textvae train --resume runs/mine --set train.epochs=40
      textvae train --from runs/mine --data other.txt --set train.epochs=3

    --from takes the settings of a run (or those of SETTINGS.toml), its tokenizer and its weights. What is given
    beside it is changed: text, method, rate, epochs; the model stays. The optimizer starts afresh.

    \b
    Settings often set: data.max_length, data.tokenizer.name (word, words, character, bpe),
    data.tokenizer.vocabulary, data.tokenizer.min_count, model.latent, model.encoder.hidden,
    model.decoder.hidden, model.decoder.dropout, train.epochs, train.max_steps, train.batch_size,
    train.lr, train.patience, train.seed. A wrong name is answered with the nearest one.
    """  # noqa: D301
    sources = {"corpus": data, "train": train_file, "valid": valid, "test": test, "column": column, "label": label}
    conditions = _conditions(condition_on, label)
    given = {name: value for name, value in sources.items() if value is not None} | conditions.get("data", {})
    if resume is not None:
        if settings or methods or aim or out or start or given.keys() - {"corpus"} or dry_run:
            raise RequestError("--resume: a run goes on with its own settings; give beside it only --set, --data")
        _train(resume, lambda progress: _resumed(resume, data, assignments or [], progress))
        return
    given = _in_place_of_others(given, start is not None and settings is None)
    method = _one(methods)
    from textvae.training.choice import default_method, load_chosen
    from textvae.training.texts import new_folder

    if settings is None and method is None and start is None:
        method = default_method(assignments or (), **conditions)
    below = settings if start is None or settings is not None else _settings_of(start)
    tables = conditions | ({"data": given} if given else {})
    loaded, chosen = load_chosen(below, method, assignments or (), aim, **tables)
    if dry_run:
        result(loaded.toml().rstrip())
        return
    _tell_columns(loaded)
    folder = out or new_folder(loaded.data.train or loaded.data.corpus or "text", _name(method, settings, start))
    _train(folder, lambda progress: _started(loaded, folder, progress, start), True, chosen)


def _name(method: str | None, settings: Path | None, start: Path | None) -> str:
    """Return what a run is called beside its text: its method, settings file or the run it starts from."""
    return method or (settings.stem if settings else start.resolve().name if start else "")


def _conditions(columns: list[str] | None, label: str | None) -> dict[str, Any]:
    """Return tables of settings for a model conditioned on columns of labels; `label` is that of --label."""
    if not columns:
        return {}
    names = [label if column == "label" and label is not None else column for column in columns]
    return {"data": {"condition_on": names}, "model": {"conditioner": {"name": "labels"}}}


def _in_place_of_others(given: dict[str, Any], of_a_run: bool) -> dict[str, Any]:
    """Return the text that was given, with None for settings of other text, which do not belong to it.

    The columns of a settings file stay, those of a run's own text do not.
    """
    if "corpus" in given:
        given = {"train": None, "valid": None, "test": None, **given}
    elif "train" in given:
        given = {"corpus": None, **given}
    if of_a_run and ("corpus" in given or "train" in given):
        given = {"valid": None, "test": None, "column": None, "label": None, **given}
    return given


def _tell_columns(settings: "Settings") -> None:
    """Print which columns of the user's own files are read, with the first sentence of each.

    Raises:
        RequestError: For a file that cannot be used, as far as its first rows show.
    """
    from textvae.cli.texts import tell_notes
    from textvae.text.corpus import readings

    for reading in readings(settings.data):
        next(reading, None)
        tell_notes(reading)


def _one(methods: list[str] | None) -> str | None:
    """Return the method that was given, if one was."""
    if methods and len(methods) > 1:
        raise RequestError(
            f"--method {', --method '.join(methods)}: a run has one preset; give what the others have by --set, "
            "such as objective.mu-forcing.margin=2 (--dry-run shows the settings of each)"
        )
    return methods[0] if methods else None


def quickstart(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the runs and the report go.")] = Path(
        "runs/quickstart"
    ),
    seed: Seed = 0,
) -> None:
    """Train a VAE that collapses and one that does not.

    Compares the two, prints samples and writes a report. Needs no data: the text comes from a grammar whose
    entropy is known exactly. Takes a few minutes on two cores.
    """
    from textvae.quickstart import quickstart as started

    with Bars() as bars:
        try:
            reports = started(out, seed, bars.update)
        except KeyboardInterrupt:
            bars.close()
            note(f"Interrupted. Resume with: textvae quickstart --out {_quoted(out)} --seed {seed}")
            raise typer.Exit(130) from None
    blocks = [table({report.name: report.evaluation for report in reports})]
    for report in reports:
        lines = [f"{plain(report.name)}: {plain(report.verdict)}", "  five samples from the prior:"]
        lines += [f"    {plain(text)}" for text in report.samples]
        if report.interpolation:
            lines += ["  from one draw of the prior to another:"]
            lines += [f"    {plain(text)}" for text in report.interpolation]
        blocks.append("\n".join(lines))
    result("\n\n".join([*blocks, f"report: {plain(str(out / 'report.html'))}"]))


def _settings_of(start: Path) -> dict[str, Any]:
    """Return the settings of a run to start from."""
    from textvae.run import Run
    from textvae.training.start import start_document

    return start_document(Run.open(start))


def _started(settings: "Settings", folder: Path, progress: TrainingProgress | None, start: Path | None) -> "Run":
    from textvae.training.loop import train

    return train(settings, folder, progress, start)


def _resumed(folder: Path, data: str | None, assignments: list[str], progress: TrainingProgress | None) -> "Run":
    from textvae.run import Run
    from textvae.training.loop import resume

    return resume(Run.open(folder, data), progress, assignments)


def _train(
    folder: Path,
    work: Callable[[TrainingProgress | None], "Run"],
    new: bool = False,
    chosen: Sequence[str] | None = None,
) -> None:
    """Do the work with a bar, then print the run's folder and its last validation.

    Of the method `auto` print what was `chosen`, and a diagnosis at the end.
    """
    marker = folder / "environment.json"  # the file that makes a folder a run
    foreign = new and marker.exists()
    progress = None
    try:
        if leading():
            with Bar(str(folder), "step") as bar:
                progress = TrainingProgress(bar, chosen or ())
                run = work(progress)
        else:
            run = work(None)
    except KeyboardInterrupt:
        if foreign or not marker.exists():
            raise  # before there was anything to save
        step = _checkpoint(folder).get("step", 0)
        note(f"Interrupted at step {step:,}. Resume with: textvae train --resume {_quoted(folder)}")
        raise typer.Exit(130) from None
    if not leading():
        return
    records = [record for record in run.log() if record.get("split") == "valid"]
    if progress is not None and progress.step is None:
        note(f"{folder}: finished already; there was nothing left to do")
    if new:
        for line in [*_shortened(run), *_unknown(run)]:
            note(line)
    best = _checkpoint(folder).get("best_step", 0) if run.settings.train.keep == "best" else 0
    lines = [plain(str(folder)), *_validations(records, best)]
    if chosen is None:
        result("\n".join(lines))
        note(f"next: textvae diagnose {_quoted(folder)}")
        return
    from textvae.evaluation.diagnose import diagnose

    result("\n".join([*lines, "", *map(plain, str(diagnose(run)).split("\n"))]))


def _shortened(run: "Run") -> list[str]:
    """Return the amount of text that each split lost by its length."""
    limit = run.settings.data.max_length
    lines = []
    for name, counts in run.environment["data"]["splits"].items():
        for what in ("dropped", "cut"):
            if counts[what]:
                given = counts["sentences"] + counts["dropped"]
                lines.append(
                    f"{name}: {counts[what]:,} of {given:,} sentences were {what}, being longer than "
                    f"data.max_length = {limit}"
                )
    return lines


def _unknown(run: "Run") -> list[str]:
    """Return the share of unknown tokens in each split, if there are any."""
    shares = run.environment["data"]["unknown_tokens"]
    told = ", ".join(f"{share:.1%} of {name}" for name, share in shares.items())
    return [f"unknown words: {told}"] if any(shares.values()) else []


def _validations(records: list[dict[str, Any]], best_step: int) -> list[str]:
    """Return the last validation and, if the kept weights are of an earlier one, that one."""
    kept = [record for record in records if record["step"] == best_step]
    lines = [validation_line(records[-1])] if records else []
    return [
        *lines,
        *(
            f"weights kept from the best {validation_line(record)}"
            for record in kept[:1]
            if record is not records[-1]
        ),
    ]


def _checkpoint(folder: Path) -> dict[str, Any]:
    """Return the state in the last checkpoint."""
    from textvae.files import read_tensors

    path = folder / "checkpoint" / "last.safetensors"
    return read_tensors(path)[1] if path.exists() else {}


def _quoted(folder: Path) -> str:
    """Return a folder as typed in a shell, safe to print."""
    return plain(shlex.quote(str(folder)))
