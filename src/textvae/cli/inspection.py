"""`textvae evaluate` and `textvae diagnose`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli import output
from textvae.cli.decoding import by_name, decodings_options
from textvae.cli.options import (
    AsJson,
    BesidePrior,
    DataPlace,
    IwSamplesOrAuto,
    IwSentences,
    Prior,
    Rate,
    RunFolder,
    Seed,
    iw_numbers_of,
)
from textvae.cli.output import document, number, plain, result
from textvae.cli.progress import Bar
from textvae.cli.tables import caveats, numbers_chosen, signatures, table
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding
    from textvae.run import Run


# What `evaluate --all` writes without its options.
SAMPLES, TIMES = 1000, 3


@decodings_options("greedy", "sample")
def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data: DataPlace = None,
    iw_samples: IwSamplesOrAuto = "auto",
    iw_sentences: IwSentences = "auto",
    every: Annotated[
        bool, typer.Option("--all", help="Also samples, reconstructions, probes; writes RUN/report.html.")
    ] = False,
    samples: Annotated[int, typer.Option(min=2, help="With --all: sentences written from the prior.")] = SAMPLES,
    times: Annotated[
        int, typer.Option(min=1, help="With --all: how often they are written, for mean ± deviation.")
    ] = TIMES,
    vectors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --all, of a model of dialogues: word vectors to score responses by."
        ),
    ] = None,
    prior: BesidePrior = None,
    rates: Annotated[
        bool, typer.Option("--rates", help="The rate-distortion curve instead, of a run of --method multi-rate.")
    ] = False,
    *,
    decodings: "list[Decoding]",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score a run: likelihood, and what the code holds.

    Nats per sentence, the end mark counted, every sentence once, dropout off, KL at weight 1. The scores are
    also written to RUN/evaluation/SPLIT.json; where RUN cannot be written, a warning says so. With --all the
    run is also scored by what it writes (BLEU, Self-BLEU, diversity, copies; on the corpus grammar the distance
    to the truth), by its reconstructions, and by what codes tell of labels; that goes to
    RUN/evaluation/SPLIT-all.json and RUN/report.html. --samples, --times, --decode and the options of decoding
    say how text is written, with --all. If RUN has a prior of fit-prior, a second column has the scores under
    it, which go to RUN/fitted; --all and --json take one prior. Importance samples and sentences are by default as
    many as read at most half of the tokens that training has read.

    With --rates a run of many KL weights is scored at each instead: rate, reconstruction, bound, loss and active
    units, which go to RUN/evaluation/SPLIT-rates.json; that of valid is where --rate of other commands looks.

    \b
    Examples:
      textvae evaluate RUN --iw-sentences all
      textvae evaluate RUN --rates
      textvae evaluate RUN --all --decode greedy --decode sample --decode nucleus:0.9
    """  # noqa: D301
    numbers = iw_numbers_of(iw_samples, iw_sentences)

    from textvae.evaluation.suite import DECODINGS
    from textvae.run import Run

    written = {"--samples": samples != SAMPLES, "--times": times != TIMES}
    written["--decode"] = decodings != [*DECODINGS.values()]
    if rates:
        _refuse({"--all": every, "--prior": prior, **written}, "--rates measures a curve under the run's own prior")
        _print_rates(run, split, data, seed, as_json)
        return
    if every:
        from textvae.cli.evaluations import print_all

        opened = Run.open(run, data).under(prior or "usual")
        print_all(opened, split, *numbers, samples, by_name(decodings), seed, as_json, times, vectors)
        return
    _refuse({**written, "--vectors": vectors}, "says how text is written, which is done with --all; give --all too")
    _print_scores(Run.open(run, data), split, numbers, prior, seed, as_json)


def _refuse(options: Mapping[str, Any], reason: str) -> None:
    """Refuse the first option that is given, for the reason."""
    for option, given in options.items():
        if given:
            raise RequestError(f"{option}: {reason}")


def _print_scores(
    opened: "Run",
    split: str,
    numbers: tuple[int | str, int | None | str],
    prior: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Score a run, under its fitted prior too if none was asked for, and print the scores."""
    from textvae.evaluation.evaluate import evaluate as evaluated
    from textvae.evaluation.opened import beside

    run = opened.folder
    fitted = None if prior or as_json else beside(opened)
    usual = opened.under(prior or ("usual" if as_json else "own"))
    with Bar(f"evaluating {run}", "sentence") as bar:
        scores = evaluated(usual, split, *numbers, seed, bar.update)
    if as_json:
        document(scores)
        return
    found = {str(run): scores}
    if fitted is not None:
        with Bar(f"evaluating {run} under its fitted prior", "sentence") as bar:
            found = {"own prior": scores, "fitted prior": evaluated(fitted, split, *numbers, seed, bar.update)}
    result(_text(run, found))


def _print_rates(run: Path, split: str, data: Path | None, seed: int, as_json: bool) -> None:
    """Measure the rate-distortion curve of a run, print it, and write it into the run."""
    from textvae.evaluation.opened import open_run
    from textvae.files import write_json
    from textvae.run import Run
    from textvae.run.rates import measure

    opened = open_run(Run.open(run, data), "own")
    with Bar(f"evaluating {run} at many KL weights", "weight") as bar:
        curve = measure(opened.run, split, seed, progress=bar.update, model=opened.model)
    opened.save(f"evaluation/{split}-rates.json", lambda path: write_json(path, curve))
    if as_json:
        document(curve)
        return
    names = ("rate", "reconstruction", "bound", "loss")
    rows = [["beta", "rate (KL)", *names[1:], "active units", ""]]
    for point in curve["points"]:
        nats = (number(point[name]) for name in names)
        rows.append([f"{point['beta']:.3g}", *nats, str(point["active_units"]), ""])
    about = f"{run}, {split}: {curve['sentences']:,} sentences, nats a sentence, loss = reconstruction + beta rate"
    result("\n".join([plain(about), output.table(rows)]))


def _text(run: Path, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the scores of a run, a column for each of its priors, with what they depend on."""
    scores = next(iter(found.values()))
    head = f"{run}, {scores['split']}: {scores['sentences']:,} sentences, {scores['tokens']:,} tokens"
    prefix = {name: f"{name}: " if len(found) > 1 else "" for name in found}
    careful = [f"{prefix[name]}{caveat}" for name, own in found.items() for caveat in caveats(own)]
    signed = dict.fromkeys(one for own in found.values() for one in signatures(own))
    return "\n".join([plain(head), table(found), *numbers_chosen(scores), *careful, *signed])


def diagnose(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    data: DataPlace = None,
    prior: Prior = "usual",
    rate: Rate = None,
    as_json: AsJson = False,
) -> None:
    """Say whether the posterior has collapsed, and what to do.

    Reads the log and a split, and says what codes keep of a sentence. Shows five held-out sentences, each with its
    reconstruction and the sentence with the nearest code. The last line is the command to try next.
    """
    from textvae.evaluation.diagnose import diagnose as diagnosed
    from textvae.run import Run
    from textvae.run.rates import at_rate

    opened = Run.open(run, data)
    found = diagnosed((opened if rate is None else at_rate(opened, rate)).under(prior), split)
    if as_json:
        document(found.document())
        return
    result("\n".join(map(plain, str(found).split("\n"))))
