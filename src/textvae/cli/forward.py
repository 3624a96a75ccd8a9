"""`textvae fce`: forward cross entropy of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.decoding import decoding_options
from textvae.cli.options import AsJson, DataPlace, Seed
from textvae.cli.output import DASH, columns, document, number, plain, result
from textvae.cli.progress import Bars

if TYPE_CHECKING:
    from textvae.evaluation.forward import ForwardCrossEntropy, Row, Text
    from textvae.generate.decoding import Decoding


@decoding_options(allow_unk=True)
def fce(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    count: Annotated[int, typer.Option("-n", min=1, help="Sentences of a synthetic corpus.")] = 20_000,
    *,
    decoding: "Decoding",
    draws: Annotated[int, typer.Option(min=1, help="Synthetic corpora of each run.")] = 3,
    vocabulary: Annotated[
        str, typer.Option(metavar="NAME", help="common: words of every run's every corpus; run: the runs' own.")
    ] = "common",
    epochs: Annotated[int, typer.Option(min=1, help="Of a language model, at most.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Of a language model's training.")] = 32,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keeps texts and language models; default: fce in the first RUN."),
    ] = None,
    data: DataPlace = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Forward cross entropy: learn from what runs write.

    Language models are trained on what the runs write and tested on human text: nats per sentence, low is good,
    mean and standard deviation over the draws. All runs decode the same draws of the prior. `human text` is a
    language model trained on as many real sentences, `test text` what is tested on. Words outside the vocabulary
    are unknown everywhere: read FCE beside their share. A language model needs a decoding that draws. The same call
    goes on where an earlier one was interrupted.

    \b
    Examples:
      textvae fce RUN -n 20000 --decode nucleus:0.9
      textvae fce runs/c3 runs/c15 runs/c100 --out runs/fce --json
    """  # noqa: D301
    from textvae.evaluation.forward import forward_cross_entropy
    from textvae.evaluation.synthetic import Plan
    from textvae.run import Run

    plan = Plan(decoding, count, draws, vocabulary, seed, epochs, batch_size)
    with Bars() as bars:
        opened = [Run.open(run, data) for run in runs]
        found = forward_cross_entropy(opened, out or runs[0] / "fce", plan, bars.update)
    if as_json:
        document(found.document())
    else:
        result("\n".join([_table(found), f"vocabulary: {found.vocabulary:,} words", plain(found.signature)]))


def _table(found: "ForwardCrossEntropy") -> str:
    head = ["", "FCE", "per token", "unknown", "words", "length", "Self-BLEU-4", "sentences"]
    rows = [_row(plain(str(row.run)), row) for row in found.rows]
    return columns([head, *rows, _row("human text", found.human), ["test text", DASH, DASH, *_text(found.test)]])


def _row(name: str, row: "Row") -> list[str]:
    deviation = row.deviation("nats_per_sentence")
    nats = number(row.mean("nats_per_sentence"))
    return [
        name,
        nats if deviation is None else f"{nats} ± {number(deviation)}",
        number(row.mean("nats_per_token"), 3),
        *_shown(row.mean),
    ]


def _text(text: "Text") -> list[str]:
    return _shown(lambda name: getattr(text, name))


def _shown(value: Any) -> list[str]:
    unknown = f"{100 * value('unknown'):.1f} %"
    return [
        unknown,
        f"{value('words'):,.0f}",
        number(value("length"), 1),
        number(value("self_bleu_4"), 4),
        f"{value('sentences'):,.0f}",
    ]
