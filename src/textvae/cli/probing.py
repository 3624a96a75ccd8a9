"""`textvae probe`: what codes know of a label."""

from pathlib import Path
from typing import Annotated, Any

import typer

from textvae.cli.options import AsJson, DataPlace, RunFolder, Seed
from textvae.cli.output import columns, document, note, number, plain, result
from textvae.cli.progress import Bar
from textvae.cli.texts import Column, refuse_stdin, tell_notes
from textvae.errors import RequestError


def probe(
    run: RunFolder,
    label: Annotated[
        str | None, typer.Option(metavar="NAME|NUMBER", help="The column of the label.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labelled text; else the run's own.", show_default=False)
    ] = None,
    test_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Test on it; else on a fifth of FILE.", show_default=False)
    ] = None,
    column: Column = None,
    data: DataPlace = None,
    label_counts: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="How many labels to learn from; 100,1000,all.", show_default=False),
    ] = None,
    labels: Annotated[str | None, typer.Option(hidden=True)] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often fewer labels than all are drawn.")] = 5,
    split: Annotated[str, typer.Option(help="Of the run's own text, to test on: valid or test.")] = "test",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say how well codes tell a label, from few labels.

    Logistic regression from posterior means to a label, beside the same from a bag of words, and beside the
    commonest label: accuracy on other sentences. Of one FILE sentences of the same words are all learned from or
    all tested on; a sentence of --test-file or of the run's split that was learned from too is counted. Of the
    corpus `grammar` labels are the true attributes.

    \b
    Examples:
      textvae probe RUN --file labelled.tsv --label sentiment
      textvae probe RUN --label topic --label-counts 100,all
    """  # noqa: D301
    refuse_stdin(file)
    refuse_stdin(test_file)
    if labels is not None:
        if label_counts is not None:
            raise RequestError(f"--labels {labels}: is an old name of --label-counts, which is given; leave it out")
        note("--labels of probe is now called --label-counts; the old name will go")
        label_counts = labels
    sizes = None if label_counts is None else [_size(part.strip()) for part in label_counts.split(",")]

    from textvae.evaluation.probing import probe_run
    from textvae.run import Run

    with Bar(f"probing {run}", "fit") as bar:
        found = probe_run(
            Run.open(run, data), label, file, test_file, column, sizes, draws, seed, split, bar.update, tell_notes
        )
    if test_file is not None and (again := max(one["tested_in_training"] for one in found["probes"].values())):
        tested = next(iter(found["probes"].values()))["tested"]
        note(f"{test_file}: {again:,} of {tested:,} sentences have the same words as one that was learned from")
    if as_json:
        document(found)
        return
    result("\n\n".join(probe_table(name, one) for name, one in found["probes"].items()))


def probe_table(label: str, found: dict[str, Any]) -> str:
    """Return the accuracies of one label: a row for each number of labels."""
    most = found["majority"]
    rows = [["labels", "code", "bag of words", ""]]
    for sizes in found["sizes"]:
        code, bag = sizes["code"], sizes["bag_of_words"]
        rows.append([f"{code['labels']:,}", _accuracy(code), _accuracy(bag), _spread(code)])
    left_out = f", {found['unlabelled']:,} without label left out" if found["unlabelled"] else ""
    if again := found.get("tested_in_training"):
        left_out = f" ({again:,} with the same words as one learned from){left_out}"
    head = (
        f"{plain(label)}: {found['values']} values, accuracy on {found['tested']:,} sentences{left_out}; "
        f"the commonest label: {_accuracy(most)}"
    )
    return "\n".join([head, columns(rows), plain(found["signature"])])


def _accuracy(found: dict[str, Any]) -> str:
    spread = found["standard_deviation"] if found["draws"] > 1 else found["standard_error"]
    return f"{number(found['accuracy'], 4)} ± {number(spread, 4)}"


def _spread(found: dict[str, Any]) -> str:
    """Return the text that follows the ±."""
    if found["draws"] == 1:
        return "± standard error"
    return f"± deviation of {found['draws']} draws; standard error {number(found['standard_error'], 4)}"


def _size(text: str) -> int | None:
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise RequestError(f"--label-counts {text}: give numbers, 1 or more, or `all`, with commas between them")
    return int(text)
