"""`textvae evaluate` and `textvae diagnose`."""

from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.decoding import by_name, decodings_options
from textvae.cli.options import AsJson, DataPlace, IwSamples, IwSentences, Prior, RunFolder, Seed, sentences_of
from textvae.cli.output import document, plain, result
from textvae.cli.progress import Bar
from textvae.cli.tables import caveats, signatures, table
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding


# What `evaluate --all` writes without its options.
SAMPLES, TIMES = 1000, 3


@decodings_options("greedy", "sample")
def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data: DataPlace = None,
    iw_samples: IwSamples = 500,
    iw_sentences: IwSentences = "500",
    every: Annotated[
        bool, typer.Option("--all", help="Also samples, reconstructions, probes; writes RUN/report.html.")
    ] = False,
    samples: Annotated[int, typer.Option(min=2, help="With --all: sentences written from the prior.")] = SAMPLES,
    times: Annotated[
        int, typer.Option(min=1, help="With --all: how often they are written, for mean ± deviation.")
    ] = TIMES,
    prior: Prior = "usual",
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
    say how text is written, with --all. Under --prior fitted, KL, bound and NLL are those under the prior of
    fit-prior, and all files go to RUN/fitted.

    \b
    Examples:
      textvae evaluate RUN --iw-sentences all
      textvae evaluate RUN --all --decode greedy --decode sample --decode nucleus:0.9
    """  # noqa: D301
    subset = sentences_of(iw_sentences)

    from textvae.evaluation.evaluate import evaluate as evaluated
    from textvae.evaluation.suite import DECODINGS
    from textvae.run import Run

    if every:
        from textvae.cli.evaluations import print_all

        opened = Run.open(run, data).under(prior)
        print_all(opened, split, iw_samples, subset, samples, by_name(decodings), seed, as_json, times)
        return
    others = {
        "--samples": samples != SAMPLES,
        "--times": times != TIMES,
        "--decode": decodings != [*DECODINGS.values()],
    }
    for option, given in others.items():
        if given:
            raise RequestError(f"{option}: says how text is written, which is done with --all; give --all too")
    with Bar(f"evaluating {run}", "sentence") as bar:
        scores = evaluated(Run.open(run, data).under(prior), split, iw_samples, subset, seed, bar.update)
    if as_json:
        document(scores)
        return
    head = f"{run}, {scores['split']}: {scores['sentences']:,} sentences, {scores['tokens']:,} tokens"
    result("\n".join([plain(head), table({str(run): scores}), *caveats(scores), *signatures(scores)]))


def diagnose(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    data: DataPlace = None,
    prior: Prior = "usual",
    as_json: AsJson = False,
) -> None:
    """Say whether the posterior has collapsed, and what to do.

    Reads the log and a split, and says what codes keep of a sentence. Shows five held-out sentences, each with its
    reconstruction and the sentence with the nearest code. The last line is the command to try next.
    """
    from textvae.evaluation.diagnose import diagnose as diagnosed
    from textvae.run import Run

    found = diagnosed(Run.open(run, data).under(prior), split)
    if as_json:
        document(found.document())
        return
    result("\n".join(map(plain, str(found).split("\n"))))
