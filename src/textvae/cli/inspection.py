"""`textvae evaluate` and `textvae diagnose`."""

from typing import Annotated

import typer

from textvae.cli.options import AsJson, RunFolder, Seed
from textvae.cli.output import document, plain, result
from textvae.cli.progress import Bar
from textvae.cli.tables import caveats, signatures, table
from textvae.errors import RequestError

# Options of `evaluate` that only `--all` has a use for, and the way of decoding that some of them belong to.
OF_ALL = {"samples": None, "times": None, "decode": None, "top_k": "top-k", "top_p": "nucleus", "beam": "beam"}


def evaluate(
    context: typer.Context,
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    iw_samples: Annotated[int, typer.Option(min=1, help="Importance samples a sentence.")] = 500,
    iw_sentences: Annotated[
        str, typer.Option(metavar="NUMBER|all", help="Sentences, drawn by the seed, to estimate NLL on.")
    ] = "500",
    every: Annotated[
        bool, typer.Option("--all", help="Also samples, reconstructions, probes; writes RUN/report.html.")
    ] = False,
    samples: Annotated[int, typer.Option(min=2, help="With --all: sentences written from the prior.")] = 1000,
    times: Annotated[
        int, typer.Option(min=1, help="With --all: how often they are written, for mean ± deviation.")
    ] = 3,
    decode: Annotated[
        str, typer.Option(metavar="NAME,...", help="With --all: greedy, beam, sample, top-k, nucleus.")
    ] = "greedy,sample",
    top_k: Annotated[int, typer.Option(help="Of top-k decoding: how many words to draw from.")] = 5,
    top_p: Annotated[float, typer.Option(help="Of nucleus decoding: the mass of words to draw from.")] = 0.9,
    beam: Annotated[int, typer.Option(help="Of beam decoding: texts kept side by side.")] = 5,
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
    if iw_sentences != "all" and not (iw_sentences.isascii() and iw_sentences.isdigit() and int(iw_sentences)):
        raise RequestError(f"--iw-sentences {iw_sentences}: give a number, 1 or more, or `all`")
    subset = None if iw_sentences == "all" else int(iw_sentences)

    from textvae.evaluation.evaluate import evaluate as evaluated

    for name, way in OF_ALL.items():
        source = context.get_parameter_source(name)
        if source is None or source.name == "DEFAULT":
            continue
        option = "--" + name.replace("_", "-")
        if not every:
            raise RequestError(f"{option}: says how text is written, which is done with --all; give --all too")
        if way is not None and way not in map(str.strip, decode.split(",")):
            raise RequestError(f"{option}: is for {way} decoding, and --decode is {decode}")
    if every:
        from textvae.cli.evaluations import print_all, ways

        decodings = ways(decode, top_k, top_p, beam)
        print_all(run, split, iw_samples, subset, samples, decodings, seed, as_json, times)
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
