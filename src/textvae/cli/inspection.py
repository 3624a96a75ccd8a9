"""`textvae evaluate` and `textvae diagnose`, and the tables of scores that are printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from textvae.cli.output import DASH, columns, document, number, plain, result
from textvae.cli.progress import Bar
from textvae.errors import RequestError

NATS = "nats/sentence"

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Machine output.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of everything random.")]


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


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores of runs, by name, side by side: a row a score, a column a run, then the unit."""
    found = [measures(scores) for scores in runs.values()]
    rows = [["", *map(plain, runs), ""]] if len(runs) > 1 else []
    for same in zip(*found, strict=True):
        units = [unit for _, value, unit in same if value != DASH]
        if units:
            rows.append([same[0][0], *(value for _, value, _ in same), units[0]])
    return columns(rows)


def signatures(scores: Mapping[str, Any]) -> list[str]:
    """What the scores of an evaluation depend on: the moments and the information, MMD, and last the likelihood."""
    found = (scores.get(name) for name in ("latent_signature", "mmd_signature", "signature"))
    return [one for one in found if one]


def caveats(scores: Mapping[str, Any]) -> list[str]:
    """What is to be kept in mind about the scores of an evaluation."""
    from textvae.metrics.weights import caveat

    found = caveat(scores)
    return [] if found is None else [f"careful: {found}"]


def measures(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What `evaluate` found, as rows of a name, a number and its unit; a dash for a score that is not there."""
    units, latent = scores.get("active_units") or {}, scores.get("latent")
    n, ceiling = scores.get("mutual_information_sentences"), number(scores.get("mutual_information_ceiling"))
    mixed = f"nats, of {n:,} mixed, at most ln {n:,} = {ceiling}" if n else ""
    kind, drawn = scores.get("nll_iw_kind"), scores.get("sentences")
    norm, spread = "of sampled codes", "of sampled codes"
    if scores.get("kl_moment_matched", 0) is not None:  # under another prior than N(0, I) these are not its own
        norm += f"; the prior's own: {number(latent / drawn) if latent and drawn else DASH}"
        spread += "; of the prior 0"
    own = number(scores.get("mmd_squared_prior_deviation"), 5)
    samples = "exact" if kind == "exact" else f"{scores.get('iw_samples')} importance samples"
    if kind == "surrogate":
        samples += " by a surrogate density"
    return [
        ("reconstruction", _mean(scores, "reconstruction"), NATS),
        ("KL", _rate(scores), f"{NATS}, {scores.get('rate_kind')}"),
        ("bound", _mean(scores, "bound"), NATS),
        ("NLL", _mean(scores, "nll_iw"), f"{NATS}, {samples}, {scores.get('iw_sentences')} sentences"),
        ("bound of the same", _of_drawn(scores), f"{NATS}, on the NLL's sentences"),
        ("effective samples", *_effective(scores)),
        ("entropy of the corpus", _mean(scores, "entropy"), f"{NATS}, exact"),
        ("NLL above the true one", _mean(scores, "gap_to_surprisal"), f"{NATS}, on the NLL's sentences"),
        ("perplexity of the bound", _mean(scores, "perplexity_bound"), "per token, end mark counted"),
        ("perplexity of the NLL", _mean(scores, "perplexity_iw"), "per token, end mark counted"),
        ("bits per character", _mean(scores, "bits_per_character"), "by the bound"),
        ("MI of sentence and code", _information(scores, scores.get("rate_kind")), mixed),
        ("active units", _count(units.get("0.01")), f"of {latent}, variance above 0.01"),
        ("very active units", _count(units.get("0.2")), f"of {latent}, variance above 0.2"),
        ("shuffle gap", _mean(scores, "shuffle_gap"), f"{NATS} lost with another sentence's code"),
        ("aggregated posterior", _drawn(scores, "kl_moment_matched"), "nats from the prior, by moments"),
        ("MMD² to the prior", _small(scores, "mmd_squared"), f"the prior's own codes: ± {own}"),
        ("log det covariance", _drawn(scores, "log_det_covariance"), spread),
        ("squared norm of the mean", _drawn(scores, "mean_squared_norm"), norm),
        ("H - D, I and R", _bounds(scores.get("information_bounds")), "nats; H - D <= I <= R"),
        ("distinct samples", _count(scores.get("distinct_samples")), "of 100 greedy ones from the prior"),
    ]


def _mean(scores: Mapping[str, Any], name: str) -> str:
    """A score, with its standard error where there is one."""
    error = scores.get(f"{name}_standard_error")
    value = number(scores.get(name))
    return value if error is None or value == DASH else f"{value} ± {number(error)}"


def _rate(scores: Mapping[str, Any]) -> str:
    """The KL, with its standard error where it is estimated from drawn codes."""
    return number(scores.get("kl")) if scores.get("rate_kind") == "exact" else _mean(scores, "kl")


def _of_drawn(scores: Mapping[str, Any]) -> str:
    """The bound of the NLL's sentences, where these are not all."""
    every = scores.get("iw_sentences") == scores.get("sentences")
    return DASH if every else number(scores.get("bound_iw_sentences"))


def _effective(scores: Mapping[str, Any]) -> tuple[str, str]:
    """The median of effective samples, and what is known of the others."""
    low, share = scores.get("iw_effective_samples_low"), scores.get("iw_heavy_tailed")
    unit = f"of {scores.get('iw_samples')}, the median; {number(low, 1)} at the 5th percentile"
    if share is not None:
        unit += f"; heavy tails: {100 * share:.0f} %"
    return number(scores.get("iw_effective_samples"), 1), unit


def _information(scores: Mapping[str, Any], kind: str | None) -> str:
    """The mutual information; by two estimates where one is from above and one from below, if both are there."""
    from textvae.metrics.information import estimates

    value, lowest = scores.get("mutual_information"), scores.get("mutual_information_lower")
    if value is None:
        return DASH
    return estimates(number(value), None if lowest is None else number(lowest), kind == "upper")


def _drawn(scores: Mapping[str, Any], name: str) -> str:
    """A mean over draws of the codes, with its standard deviation over them."""
    deviation, value = scores.get(f"{name}_standard_deviation"), number(scores.get(name))
    return value if deviation is None or value == DASH else f"{value} ± {number(deviation)}"


def _small(scores: Mapping[str, Any], name: str) -> str:
    """A score near 0 with its standard error."""
    error, value = scores.get(f"{name}_standard_error"), number(scores.get(name), 5)
    return value if error is None or value == DASH else f"{value} ± {number(error, 5)}"


def _bounds(found: Mapping[str, Any] | None) -> str:
    """The three quantities, and whether they are in order."""
    if not found:
        return DASH
    verdict = {True: "holds", False: "does not hold", None: "undecided"}[found["holds"]]
    return f"{number(found['lower'])}, {_information(found, None)}, {number(found['rate'])}: {verdict}"


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"
