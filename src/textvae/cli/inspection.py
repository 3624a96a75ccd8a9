"""`textvae evaluate` and `textvae diagnose`."""

from typing import Annotated, Any

import typer

from textvae.cli.options import AsJson, IwSamples, IwSentences, RunFolder, Seed, sentences_of
from textvae.cli.output import document, plain, result
from textvae.cli.progress import Bar
from textvae.cli.tables import caveats, signatures, table
from textvae.errors import RequestError

# What `evaluate --all` does without its options, and the way of decoding that some of them belong to.
USUAL: dict[str, Any] = {
    "samples": 1000,
    "times": 3,
    "decode": "greedy,sample",
    "top_k": 5,
    "top_p": 0.9,
    "beam": 5,
}
WAYS = {"top_k": "top-k", "top_p": "nucleus", "beam": "beam"}


def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    iw_samples: IwSamples = 500,
    iw_sentences: IwSentences = "500",
    every: Annotated[
        bool, typer.Option("--all", help="Also samples, reconstructions, probes; writes RUN/report.html.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=2, help="With --all: sentences written from the prior; 1000.")
    ] = None,
    times: Annotated[
        int | None, typer.Option(min=1, help="With --all: how often they are written, for mean ± deviation; 3.")
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="With --all: greedy, beam, sample, top-k, nucleus; greedy,sample."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Of top-k decoding: how many words to draw from; 5.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Of nucleus decoding: the mass of words to draw from; 0.9.")
    ] = None,
    beam: Annotated[int | None, typer.Option(help="Of beam decoding: texts kept side by side; 5.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score a run: likelihood, and what the code holds.

    Nats per sentence, the end mark counted, every sentence once, dropout off, KL at weight 1. The scores are
    also written to RUN/evaluation/SPLIT.json; where RUN cannot be written, a warning says so. With --all the
    run is also scored by what it writes (BLEU, Self-BLEU, diversity, copies; on the corpus grammar the distance
    to the truth), by its reconstructions, and by what codes tell of labels; that goes to
    RUN/evaluation/SPLIT-all.json and RUN/report.html.
    """
    subset = sentences_of(iw_sentences)

    from textvae.evaluation.evaluate import evaluate as evaluated

    given = {"samples": samples, "times": times, "decode": decode, "top_k": top_k, "top_p": top_p, "beam": beam}
    chosen = {name: value for name, value in given.items() if value is not None}
    writing = USUAL | chosen
    for name in chosen:
        option = "--" + name.replace("_", "-")
        if not every:
            raise RequestError(f"{option}: says how text is written, which is done with --all; give --all too")
        if name in WAYS and WAYS[name] not in map(str.strip, writing["decode"].split(",")):
            raise RequestError(f"{option}: is for {WAYS[name]} decoding, and --decode is {writing['decode']}")
    if every:
        from textvae.cli.evaluations import print_all, ways

        decodings = ways(writing["decode"], writing["top_k"], writing["top_p"], writing["beam"])
        print_all(run, split, iw_samples, subset, writing["samples"], decodings, seed, as_json, writing["times"])
        return
    with Bar(f"evaluating {run}", "sentence") as bar:
        scores = evaluated(run, split, iw_samples, subset, seed, bar.update)
    if as_json:
        document(scores)
        return
    head = f"{run}, {scores['split']}: {scores['sentences']:,} sentences, {scores['tokens']:,} tokens"
    result("\n".join([plain(head), table({str(run): scores}), *caveats(scores), *signatures(scores)]))


def diagnose(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    as_json: AsJson = False,
) -> None:
    """Say whether the posterior has collapsed and what to do.

    Reads the log and the codes of a split; the last line is the command to try next.
    """
    from textvae.evaluation.diagnose import diagnose as diagnosed

    found = diagnosed(run, split)
    if as_json:
        document(found.document())
        return
    lines = [plain(sentence) for sentence in found.sentences]
    result("\n".join([*lines, f"next: {plain(found.command)}"] if found.command else lines))
