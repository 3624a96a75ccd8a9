"""`textvae adversarial`: how well completions can be told from the truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.options import AsJson, Seed
from textvae.cli.output import DASH, columns, document, number, plain, result
from textvae.cli.progress import Bars
from textvae.cli.texts import Column, File, streamed_texts

if TYPE_CHECKING:
    from textvae.evaluation.adversarial import Adversarial
    from textvae.metrics.adversarial import AdversarialError


def adversarial(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    file: File = None,
    column: Column = None,
    language_model: Annotated[
        Path,
        typer.Option(
            metavar="RUN", help="A language model trained apart, which measures likelihood.", show_default=False
        ),
    ] = ...,  # type: ignore[assignment]
    last: Annotated[float, typer.Option(metavar="SHARE", help="So much of each sentence's end is missing.")] = 0.2,
    beam: Annotated[
        int | None, typer.Option(min=1, help="How many texts are kept side by side; 5, of a language model 15.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which code and words are updated.")] = 3,
    count: Annotated[
        int | None, typer.Option("-n", min=10, help="How many sentences: the first that can be used; else all.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Complete sentences and see whether classifiers can tell.

    Every run imputes the ends of held-out sentences. A logistic regression on unigrams and an LSTM then learn to
    tell completed sentences from true ones: accuracy on unseen ones less 50 % is the adversarial error, the lower
    the better. NLL of whole sentences is that under the language model. Bowman et al. 2016, Table 4.

    \b
    Examples:
      textvae adversarial VAE LM --file held-out.txt --language-model OTHER-LM
      textvae adversarial VAE --file held-out.txt --language-model LM --last 0.4 -n 5000 --json
    """  # noqa: D301
    from textvae.evaluation.adversarial import adversarial as evaluated
    from textvae.generate.trained import load

    given = streamed_texts(None, file, column)
    with Bars() as bars:
        models = [load(run) for run in runs]
        found = evaluated(
            models, given, load(language_model), last, beam, rounds, count, seed, progress=bars.update
        )
    if as_json:
        document(found.document())
    else:
        result("\n\n".join([_head(found), _table(found), _examples(found), found.signature]))


def _head(found: "Adversarial") -> str:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
    return f"{len(found.texts):,} sentences" + (f"; left out: {left_out}" if left_out else "")


def _table(found: "Adversarial") -> str:
    rows = [["", "beam", "unigrams", "LSTM", "NLL", "recovered", "endings", ""]]
    for model in found.models:
        rows.append(
            [
                plain(model.run),
                f"{model.rounds}x{model.beam}",
                _error(model.unigram),
                _error(model.lstm),
                f"{number(model.nll)} ± {number(model.nll_standard_error)}",
                f"{number(100 * model.recovered, 1)} %",
                f"{model.endings:,}",
                "",
            ]
        )
    truth = f"{number(found.nll)} ± {number(found.nll_standard_error)}"
    rows.append(["true sentences", DASH, DASH, DASH, truth, DASH, f"{found.endings:,}", ""])
    return columns(rows) + "\nadversarial errors in %, NLL in nats/sentence, both ± standard error"


def _error(found: "AdversarialError") -> str:
    deviation = None if found.standard_error is None else 100 * found.standard_error
    return f"{number(100 * found.error, 1)} ± {number(deviation, 1)}"


def _examples(found: "Adversarial") -> str:
    lines = []
    for example in found.examples()[:3]:
        lines.append(plain(example.pop("known")) + " …")
        lines += [f"  {plain(name)}: {plain(ending)}" for name, ending in example.items()]
    return "\n".join(lines)
