"""The page of `homotopy.py`: tables of the claims' statistics, then paths to be read."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textvae.generate.paths import Homotopy
    from textvae.generate.trained import Trained

AUTOENCODER, SAMPLES = "autoencoder", 3
# Whose paths the page shows; of those with a prior posterior samples and tail samples too.
SHOWN = ("word-dropout", "bow-annealing", "capacity-15", AUTOENCODER, "vanilla")
WHOSE = ("the mean", "samples", "another's samples")


def markdown(numbers: Mapping[str, Any], paths: Sequence[tuple[str, list[str]]]) -> str:
    """The page: tables of the claims' statistics, then paths to be read."""
    from textvae.comparison.tables import escaped

    head = [
        f"# Ways through the space of codes: {numbers['corpus']}, scale {numbers['scale']}, seed {numbers['seed']}",
        "Written by `recipes/homotopy.py`, with the numbers in the JSON file beside it. NLL is by a language model "
        "of the same size, nats with the end mark counted; ± is one standard error.",
    ]
    parts = [
        *head,
        *(build(numbers) for build in TABLES),
        "## Paths to be read",
        "`=` marks a text that came before.",
    ]
    for heading, lines in paths:
        parts.append(f"**{heading}**\n\n" + "\n".join(f"{at}. {escaped(line)}" for at, line in enumerate(lines, 1)))
    return "\n\n".join(parts) + "\n"


def shown(value: Mapping[str, Any] | float | None, digits: int = 2) -> str:
    """A number or a mean with its standard error."""
    if not isinstance(value, Mapping):
        return "–" if value is None else f"{value:.{digits}f}"
    error = value["standard_error"]
    return f"{value['mean']:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def share(value: Mapping[str, Any] | None) -> str:
    """A share in per cent, with its standard error."""
    if value is None:
        return "–"
    error = value["standard_error"]
    return f"{100 * value['mean']:.0f}" + ("" if error is None else f" ± {100 * error:.0f}") + " %"


def table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under its heading."""
    lines = [heading, "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _runs(numbers: Mapping[str, Any]) -> str:
    names = ("reconstruction", "kl", "bound", "nll_iw", "shuffle_gap", "log_det_covariance", "mean_squared_norm")
    rows = [[name, *(shown(row[one]) for one in names)] for name, row in numbers["runs"].items()]
    return table("## The models, test split", ["", *(name.replace("_", " ") for name in names)], rows)


def _b8(numbers: Mapping[str, Any]) -> str:
    heads = ("between", "ends", "rise", "per token: between", "ends", "rise", "different", "words a step", "most")
    ways = [
        (unit, kind) for unit in ("nats_per_sentence", "nats_per_token") for kind in ("between", "ends", "rise")
    ]
    rows = []
    for where, models in numbers["B8"].items():
        for name, row in models.items():
            nats = [shown(row[unit][kind]) for unit, kind in ways]
            change = [shown(row[kind], 1) for kind in ("different", "words_a_step", "largest_step")]
            right = [share(row["grammatical"] and row["grammatical"][kind]) for kind in ("between", "ends")]
            rows.append([f"{name}, {where}", *nats, *change, *right])
    known = "; ".join(f"{name} {shown(row['nats_per_token'])}" for name, row in numbers["text"].items())
    heading = "## B8: do paths stay grammatical? NLL of the texts between the ends, and of the ends"
    found = table(heading, ["", *heads, "grammatical: between", "ends"], rows)
    return f"{found}\n\nNats per token of {known}. Grammatical texts are known on the corpus `grammar` alone."


def _b9(numbers: Mapping[str, Any]) -> str:
    kinds = ("mean", "samples", "floor")
    heads = ["", "words", "sentences", *(f"{what} of {who}" for what in ("BLEU", "words kept") for who in WHOSE)]
    heads += [f"length error of {who}" for who in WHOSE[1:]]
    rows = []
    for name, lengths in numbers["B9"].items():
        for words, row in lengths.items():
            values = [shown(row[kind]["bleu"], 1) for kind in kinds] + [share(row[kind]["kept"]) for kind in kinds]
            errors = [shown(row[kind]["length_error"]) for kind in kinds[1:]]
            rows.append([name, words, str(row["sentences"]), *values, *errors])
    return table("## B9: do posterior samples keep the sentence, and less so as it grows?", heads, rows)


def _b10(numbers: Mapping[str, Any]) -> str:
    heads = ["", "codes", "NLL", "per token", "grammatical", "different", "vocabulary", "words", "unknown", "‖z‖²"]
    rows = []
    for name, kinds in numbers["B10"].items():
        for kind in ("ordinary", "tail", "c = 0.1"):
            row = kinds[kind]
            nats = [shown(row["nats_per_sentence"]), shown(row["nats_per_token"]), share(row["grammatical"])]
            many = [f"{row['different']} of {row['texts']}", str(row["vocabulary"]), shown(row["words"])]
            rows.append([name, kind, *nats, *many, f"{100 * row['unknown']:.1f} %", shown(row["squared_norm"], 1)])
    one = next(iter(numbers["B10"].values()))
    note = f"\n\nTail: {one['stretch']['n']} maps with elements up to {one['bound']:.2f}, which keep volumes, on "
    note += f"average, and stretch by up to {shown(one['stretch'])}."
    return table("## B10: are tail samples less typical and yet grammatical?", heads, rows) + note


def _p7(numbers: Mapping[str, Any]) -> str:
    names = ("repeats", "nats_per_sentence", "nats_per_token")
    rows = [
        [model, decoding, *(shown(row[name]) for name in names), share(row["grammatical"])]
        for model, cells in numbers["P7"].items()
        for decoding, row in cells.items()
    ]
    heading = "## P7: the same seven codes by capacity and decoding: repeats on a path, NLL"
    return table(heading, ["", "decoding", "repeats of 7", "NLL", "per token", "grammatical"], rows)


def _sensitivity(numbers: Mapping[str, Any]) -> str:
    rows = []
    for name, found in numbers["sensitivity"].items():
        for curve in found["curves"]:
            at = ["–"] * len(found["distances"])
            if curve["changed"] is not None:  # no gradient where the decoder ignores the code
                both = zip(curve["changed"], curve["loss"], strict=True)
                at = [f"{100 * share:.0f} %, {nats:+.1f}" for share, nats in both]
            rows.append([name, curve["kind"], *at, shown(found["half"][curve["kind"]])])
    distances = next(iter(numbers["sensitivity"].values()))["distances"]
    heading = "## Sensitivity: share of changed texts, and nats of log p(x|z) lost, as codes move"
    return table(heading, ["", "direction", *(f"{one:g}" for one in distances), "half changed at"], rows)


TABLES: tuple[Callable[[Mapping[str, Any]], str], ...] = (_runs, _b8, _b9, _b10, _p7, _sensitivity)


def examples(
    plan: Mapping[str, Any], models: "Mapping[str, Trained]", corpus: str, seed: int
) -> list[tuple[str, list[str]]]:
    """Paths, posterior samples and tail samples to be read, each with its heading."""
    from textvae.generate.codec import MEASURED
    from textvae.generate.paths import homotopies, prior_ends, same_paths, text_ends
    from textvae.generate.sources import posterior_draws, tail_draws

    given = [tuple(pair) for pair in plan["page"][corpus]]
    found: list[tuple[str, list[str]]] = []

    def add(heading: str, paths: "Sequence[Homotopy]") -> None:
        for path in paths:
            found.append((heading, [marked(*one) for one in zip(path.texts, path.repeated, strict=True)]))

    for name in SHOWN:
        add(f"{name}, between two sentences", homotopies(models[name], text_ends(models[name], given), 7, "linear"))
    for name in SHOWN:
        if name != AUTOENCODER:
            model = models[name]
            add(f"{name}, between draws of the prior", homotopies(model, prior_ends(model, 2, seed), 7, "linear"))
    capacities = {name: model for name, model in models.items() if name.startswith("capacity-")}
    for name, cell in zip(
        capacities, same_paths(list(capacities.values()), [MEASURED], 1, 7, None, seed), strict=True
    ):
        add(f"{name}, the same seven codes, greedy", cell.homotopies)
    for name in SHOWN[:3]:
        model, text = models[name], given[0][0]
        drawn = model.decode(posterior_draws(model, [text], SAMPLES, seed)[0], MEASURED)
        lines = [
            f"input: {text}",
            f"mean: {model.reconstruct([text], MEASURED)[0]}",
            *(f"sample: {one}" for one in drawn),
        ]
        found.append((f"{name}, posterior of a sentence", lines))
        found.append((f"{name}, ordinary samples", model.sample(4, seed, MEASURED)))
        found.append((f"{name}, tail samples", model.decode(tail_draws(model, 4, seed), MEASURED)))
    return found


def marked(text: str, repeated: bool) -> str:
    """A text of a path; one that came before is marked."""
    return f"= {text}" if repeated else text
