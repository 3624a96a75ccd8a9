"""Output of `textvae evaluate --all`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textvae.cli.output import DASH, columns, document, note, number, plain, result
from textvae.cli.probing import probe_table
from textvae.cli.progress import Bars
from textvae.cli.tables import caveats, numbers_chosen, signatures, table

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding
    from textvae.run import Run


def print_all(
    run: "Run",
    split: str,
    iw_samples: int | str,
    iw_sentences: int | None | str,
    samples: int,
    decodings: Mapping[str, "Decoding"],
    seed: int,
    as_json: bool,
    times: int,
    vectors: Path | None = None,
) -> None:
    """Evaluate everything that fits the run, and print it."""
    from textvae.evaluation.opened import open_run
    from textvae.evaluation.suite import evaluate_all
    from textvae.report.run_report import write_run_report

    with Bars() as bars:
        trained = open_run(run)
        found = evaluate_all(
            trained,
            split,
            iw_samples,
            iw_sentences,
            samples,
            decodings,
            seed=seed,
            progress=bars.update,
            times=times,
            vectors=vectors,
        )
        write_run_report(trained, split, found, seed)
    if as_json:
        document(found)
        return
    head = f"{run.folder}, {found['split']}: {found['sentences']:,} sentences, {found['tokens']:,} tokens"
    draw = {
        "reconstruction_by_length": _reconstructions,
        "generated": _generated,
        "true_distance": _true_distances,
        "probes": _probes,
    }
    below = [*numbers_chosen(found), *caveats(found), *signatures(found)]
    blocks = ["\n".join([plain(head), table({str(run.folder): found}), *below])]
    for name, drawn in draw.items():
        title = name.replace("_", " ")
        blocks.append(drawn(found[name]) if found[name] else f"no {title}: {plain(found['reasons'][name])}")
    if "responses" in found:
        blocks.append(_responses(found["responses"]))
    result("\n\n".join(blocks))
    if trained.saved:  # else there were warnings
        note(f"written: {', '.join(map(str, trained.saved))}")


def _responses(part: Mapping[str, Any]) -> str:
    """Return the scores of responses, one a line, and what is not known."""
    scores = {name: value for name, value in part.items() if name not in ("signature", "reasons")}
    shown = {name: f"{one:,}" if isinstance(one, int) else number(one, 3) for name, one in scores.items()}
    rows = [[name.replace("_", " "), text] for name, text in shown.items()]
    return "\n".join(["responses", columns(rows), *dict.fromkeys(part["reasons"].values()), part["signature"]])


def _reconstructions(part: Mapping[str, Any]) -> str:
    rows = [["reconstructions", *next(iter(part.values())), "sentences"]]
    for bucket, scores in part.items():
        count = next(iter(scores.values()))["sentences"]
        rows.append([bucket, *map(_score, scores.values()), f"{count:,}"])
    return columns(rows)


def _generated(part: Mapping[str, Any]) -> str:
    written = {name: one for name, one in part.items() if one["scores"]}
    left_out = [f"no {plain(name)}: {plain(one['reason'])}" for name, one in part.items() if not one["scores"]]
    metrics = dict.fromkeys(metric for one in written.values() for metric in one["scores"])
    rows = [["written from the prior", *map(plain, written), ""]] + [
        [metric, *(_score(one["scores"][metric]) for one in written.values()), _reasons(written, metric)]
        for metric in metrics
    ]
    return "\n".join([*([columns(rows)] if written else []), *left_out])


def _reasons(written: Mapping[str, Any], metric: str) -> str:
    """Return why a score is undefined."""
    return "; ".join(dict.fromkeys(filter(None, (one["scores"][metric].get("reason") for one in written.values()))))


def _true_distances(part: Mapping[str, Any]) -> str:
    written = {name: one for name, one in part.items() if one}
    if not written:
        return f"no distance to the grammar: nothing was written by {plain(', '.join(part))}"
    rows = [["distance to the grammar", *map(plain, written), ""]]
    told = {
        "inside": "share of the language",
        "surprisal": "nats, of those inside",
        "entropy": "nats, exact",
        "reverse_kl_inside": "nats, KL(model inside || grammar)",
    }
    for name, unit in told.items():
        rows.append([name.replace("_", " "), *(_with_error(one, name) for one in written.values()), unit])
    attributes = dict.fromkeys(name for one in written.values() for name in one["attributes"] or ())
    for name in attributes:
        rows.append(
            [name, *(_ways((one["attributes"] or {}).get(name)) for one in written.values()), "KL both ways"]
        )
    rows.append(["jointly", *(_ways(one["joint"]) for one in written.values()), "KL both ways"])
    return columns(rows)


def _probes(part: Mapping[str, Any]) -> str:
    return "\n\n".join(probe_table(label, found) for label, found in part.items())


def _score(found: Mapping[str, Any]) -> str:
    """Return a score as text, with its deviation over draws if there are several."""
    value, deviation = found["value"], found.get("standard_deviation")
    shown = f"{value:,}" if isinstance(value, int) else number(value, 4)
    return shown if deviation is None else f"{shown} ± {number(deviation, 4)}"


def _with_error(found: Mapping[str, Any], name: str) -> str:
    value, error = number(found.get(name), 4), found.get(f"{name}_standard_error")
    return value if error is None or value == DASH else f"{value} ± {number(error, 4)}"


def _ways(found: Mapping[str, Any] | None) -> str:
    return f"{number(found['reverse'], 3)} / {number(found['forward'], 3)}" if found else DASH
