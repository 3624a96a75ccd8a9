"""A comparison as text: cells for a terminal, CSV, Markdown, and the notes that belong to the numbers."""

import csv
import io
import math
from collections.abc import Callable, Sequence

from textvae.comparison.members import Member
from textvae.comparison.rows import AVERAGED, DESCRIBED, ERRORS, MIXED, Row, Value
from textvae.errors import RequestError
from textvae.metrics.information import estimates
from textvae.metrics.signature import SOFTMAX, parse
from textvae.metrics.weights import caveat
from textvae.run.records import is_number

# Stands for a number that there is not, as on the command line.
DASH = "–"
HEAD = (
    "run",
    "NLL",
    "by",
    "bound of these",
    "vs base",
    "reconstr.",
    "KL",
    "MI",
    "active units",
    "shuffle gap",
    "speed",
    "KL weight",
    "method",
)
RATE_KINDS = {
    "upper": "KL upper: an upper bound on the rate, which has no closed form; the true one may be smaller.",
    "monte-carlo": "KL monte-carlo: estimated from one code a sentence; it has sampling error.",
    MIXED: "KL mixed: the runs of the row have rates of different kinds.",
}
BETWEEN = (
    "MI from one number to another: by an estimate from below and one from above, of a posterior that is random "
    "itself (semi-implicit, refined)."
)
ABOVE = (
    "MI of a posterior that is random itself (semi-implicit, refined) is an estimate from above; "
    "mutual_information_lower is the one from below."
)
SURROGATE = "NLL surrogate: the posterior has no density; a mixture of draws stands for it in the weights."


def cells(rows: Sequence[Row], by_seed: bool) -> list[list[str]]:
    """The table, head first: name, NLL and how it was found, other scores, and the method last.

    Behind ± stands the standard error over sentences, or with `by_seed` the standard deviation over seeds.
    """
    sizes = {row.values["mutual_information_sentences"] for row in rows} - {None}
    table = [list(HEAD)]
    if by_seed:
        table[0].insert(1, "seeds")
    for row in rows:
        value, spread = row.values, row.deviations
        error = value["nll_standard_error"] if not by_seed else spread["nll"]
        kind = value["rate_kind"]
        information = _spread(value["mutual_information"], spread["mutual_information"])
        if value["mutual_information"] is not None:
            below = value["mutual_information_lower"]
            lowest = None if below is None else _spread(below, spread["mutual_information_lower"])
            information = estimates(information, lowest, kind == "upper")
        if len(sizes) > 1 and value["mutual_information"] is not None:
            information += f" ({_text(value['mutual_information_sentences'], 0)})"
        small = isinstance(weight := value["final_kl_weight"], float) and abs(weight) < 0.01
        told = [
            row.name,
            _spread(value["nll"], error),
            estimator(row),
            _spread(value["bound_iw_sentences"], spread["bound_iw_sentences"]),
            signed(value["nll_relative_percent"], spread["nll_relative_percent"]),
            _spread(value["reconstruction"], spread["reconstruction"]),
            _spread(value["kl"], spread["kl"] if by_seed or kind == "exact" else value["kl_standard_error"])
            + (f" {kind}" if value["kl"] is not None and kind != "exact" else ""),
            information,
            units(row),
            _spread(value["shuffle_gap"], spread["shuffle_gap"]),
            _spread(value["relative_speed"], None, 2, "×"),
            _spread(weight, None, _digits(weight) if small else 2),
            row.method,
        ]
        if by_seed:
            told.insert(1, str(len(row.members)))
        table.append(told)
    return table


def chosen_cells(rows: Sequence[Row], by_seed: bool) -> list[list[str]]:
    """The table of the scores that were asked for: a row a run, or runs with their number; the method last."""
    names = list(rows[0].chosen)
    table = [["run", *(["seeds"] if by_seed else []), *map(shown, names), "method"]]
    for row in rows:
        scores = [_spread(value, spread, _digits(value)) for value, spread in row.chosen.values()]
        table.append([row.name, *([str(len(row.members))] if by_seed else []), *scores, row.method])
    return table


def _digits(value: object) -> int:
    """After the point: none of a count, two of what is 10 or more, else four, and six of what is almost 0."""
    if not isinstance(value, float):
        return 0
    return 2 if abs(value) >= 10 else 4 if abs(value) >= 0.01 or not value else 6


def estimator(row: Row) -> str:
    """How the NLL was found: exactly, or by so many importance samples on so many sentences."""
    kind, samples, sentences = (row.values[name] for name in ("nll_kind", "iw_samples", "iw_sentences"))
    if row.values["nll"] is None:
        return DASH
    if kind == MIXED:
        return MIXED
    known = "exact" if kind == "exact" else f"iw{_integer(samples)}"
    return f"{known}/{_integer(sentences)}" + (" surrogate" if kind == "surrogate" else "")


def units(row: Row) -> str:
    """Active units at the thresholds 0.01 and 0.2, of how many."""
    value = row.values
    if value["active_units_0.01"] is None or value["active_units_0.2"] is None:
        return DASH
    digits = 0 if len(row.members) == 1 else 1
    both = [_text(value[name], digits) for name in ("active_units_0.01", "active_units_0.2")]
    return " / ".join(both) + (f" of {_integer(value['latent'])}" if value["latent"] is not None else "")


def signed(percent: Value, spread: Value) -> str:
    """A change in percent with its sign."""
    text = _spread(percent, spread, 1, "%")
    return f"+{text}" if isinstance(percent, float) and round(percent, 1) > 0 else text


def notes(rows: Sequence[Row], baseline: Row | None, speed: Row | None, by_seed: bool) -> list[str]:
    """What the labels of the table mean, and what in it is to be compared with care.

    Of a table of chosen scores what its own columns mean, and no others.
    """
    if rows[0].chosen:
        return _notes_of_chosen(rows) + _cautions(rows, by_seed)
    every = [row.values for row in rows]
    told = ["Nats per sentence, the end mark counted. by: importance samples / sentences."]
    over = "standard deviation over seeds" if by_seed else "standard error over sentences"
    told[0] += f" ±: {over}."
    if any(value["bound_iw_sentences"] is not None for value in every):
        told[0] += " bound of these: on the NLL's sentences, which other columns are not."
    if baseline is not None:
        told.append(f"vs base: NLL relative to {_name(baseline)}.")
    kinds = dict.fromkeys(value["rate_kind"] for value in every if value["kl"] is not None)
    told += [RATE_KINDS[kind] for kind in kinds if isinstance(kind, str) and kind in RATE_KINDS]
    if any(value["nll_kind"] == "surrogate" for value in every):
        told.append(SURROGATE)
    told += _ceilings(rows)
    if any(value["mutual_information_lower"] is not None for value in every):
        told.append(BETWEEN)
    if any(value["active_units_0.01"] is not None for value in every):
        told.append("Active units: variance of their means above 0.01 / above 0.2.")
    if any(value["shuffle_gap"] is not None for value in every):
        told.append("Shuffle gap: what reconstruction loses with another sentence's code.")
    if speed is not None:
        told.append(f"Speed: tokens a second in training, relative to {_name(speed)}.")
    return told + _cautions(rows, by_seed)


def _notes_of_chosen(rows: Sequence[Row]) -> list[str]:
    """The notes of a table of scores that were asked for by name."""
    told = ["Numbers of the evaluations, by their path; docs/metrics.md says what each is and in what unit."]
    if any(spread is not None for row in rows for _, spread in row.chosen.values()):
        told[0] += " ±: standard deviation over seeds."
    names, every = rows[0].chosen.keys(), [row.values for row in rows]
    if names & {"kl", "bound"}:
        kinds = dict.fromkeys(value["rate_kind"] for value in every if value["kl"] is not None)
        told += [RATE_KINDS[kind] for kind in kinds if isinstance(kind, str) and kind in RATE_KINDS]
    if "nll_iw" in names:
        told += [SURROGATE] if any(value["nll_kind"] == "surrogate" for value in every) else []
    if "mutual_information" in names:
        told += _ceilings(rows)
        told += [ABOVE] if any(value["rate_kind"] == "upper" for value in every) else []
    return told


def _ceilings(rows: Sequence[Row]) -> list[str]:
    """What mutual information can be at most, for each number of sentences."""
    sizes = {
        row.values["mutual_information_sentences"] for row in rows if row.values["mutual_information"] is not None
    }
    return [
        f"MI of {size:,.0f} sentences and their codes can be at most {math.log(size):.2f} nats."
        for size in sorted(size for size in sizes if isinstance(size, (int, float)))
    ]


def _cautions(rows: Sequence[Row], by_seed: bool) -> list[str]:
    """What makes numbers of the table hard to compare."""
    members = [member for row in rows for member in row.members]
    told = []
    differing = _different(members, lambda m: _signature_parts(m))
    if differing:
        told.append(f"Careful: the evaluations differ in {differing}; --again makes them alike.")
    machines = {(m.run.environment.get("device"), m.run.environment.get("threads")) for m in members}
    if len(machines) > 1 and not rows[0].chosen:
        told.append("Careful: the runs were trained on different machines or threads; speeds say little.")
    if len({m.run.settings.train.precision for m in members}) > 1:
        told.append("Careful: the runs were trained in different precisions.")
    steps = {max((record["step"] for record in m.log if is_number(record.get("step"))), default=0) for m in members}
    if len(steps) > 1:
        told.append(f"Careful: the runs were trained for {', '.join(f'{n:,}' for n in sorted(steps))} steps.")
    uneven = {member.name: caveat(member.scores) for member in members}
    if not rows[0].chosen or "nll_iw" in rows[0].chosen:
        told += [f"Careful: {shown(name)}: {found}." for name, found in uneven.items() if found is not None]
    unfinished = [shown(m.name) for m in members if m.finished is False]
    if unfinished:
        told.append(f"Careful: training has not come to its end in {', '.join(unfinished)}.")
    again = [_name(row) for row in rows if by_seed and len(set(row.seeds)) < len(row.seeds)]
    if again:
        told.append(f"Careful: {', '.join(again)} has runs of the same seed; the deviation is too small.")
    return told


def _signature_parts(member: Member) -> dict[str, object]:
    """What a signature says of how a run was evaluated, less what belongs to the model."""
    try:
        _, found = parse(str(member.scores.get("signature")))
    except RequestError:
        return {}
    of = {"posterior", "rate", "k", "vocabulary", "split"}
    found = {"softmax": SOFTMAX, **found}  # of old evaluations, which do not name it
    parts: dict[str, object] = {name: value for name, value in found.items() if name not in of}
    if parts.get("bound") in ("exact", "none"):
        del parts["bound"]  # of a language model and of an autoencoder: they need no samples
    names = {"bound": "importance samples", "textvae": "version", "sentences": "sentences of the NLL"}
    return {names.get(name, name): value for name, value in parts.items()}


def _different(members: Sequence[Member], of: Callable[[Member], dict[str, object]]) -> str:
    """The names of the parts that have different values, with these."""
    values: dict[str, dict[object, None]] = {}
    for member in members:
        for name, value in of(member).items():
            values.setdefault(name, {})[value] = None
    return ", ".join(f"{name} ({', '.join(map(str, found))})" for name, found in values.items() if len(found) > 1)


def inert(cell: str) -> str:
    """A text that no spreadsheet takes for a formula.

    >>> inert("=1+2"), inert("vae")
    ("'=1+2", 'vae')
    """
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@")) or cell[:1] in "\t\r\n" else cell


def csv_text(rows: Sequence[Row], by_seed: bool) -> str:
    """The rows as CSV: every column, numbers in full precision, empty where there is none.

    A name that a spreadsheet would take for a formula has an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    deviations = [f"{name}_deviation" for name in AVERAGED] if by_seed else []
    columns = (*AVERAGED, *ERRORS, *DESCRIBED)
    chosen = [name for name in rows[0].chosen if name not in columns]
    deviations += [f"{name}_deviation" for name in chosen] if by_seed else []
    writer.writerow(["run", "method", "runs", "seeds", *columns, *chosen, *deviations])
    for row in rows:
        numbers = [row.values[name] for name in columns]
        numbers += [row.chosen[name][0] for name in chosen]
        numbers += [row.deviations[name] for name in AVERAGED] if by_seed else []
        numbers += [row.chosen[name][1] for name in chosen] if by_seed else []
        writer.writerow(
            [inert(row.name), inert(row.method), len(row.members), " ".join(map(str, row.seeds)), *numbers]
        )
    return file.getvalue()


def markdown(table: Sequence[Sequence[str]], told: Sequence[str]) -> str:
    """A Markdown table and its notes as a list."""
    head, *rest = [[escaped(cell) for cell in row] for row in table]
    rule = ["---" if place in (0, len(head) - 1) else "---:" for place in range(len(head))]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rest)]
    return "\n".join([*lines, "", *(f"- {escaped(note)}" for note in told)]) + "\n"


def shown(text: str) -> str:
    """Text of the user's without what does not print."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>#|~$&" else character for character in shown(text))


def _name(row: Row) -> str:
    return shown(row.name)


def _spread(value: object, spread: object, digits: int = 2, unit: str = "") -> str:
    """A number, with what stands behind ±."""
    if value is None:
        return DASH
    behind = "" if spread is None else f" ± {_text(spread, digits)}"
    return f"{_text(value, digits)}{behind}{' ' * (unit == '%')}{unit}"


def _text(value: object, digits: int) -> str:
    if not isinstance(value, (int, float)):
        return DASH
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero


def _integer(value: object) -> str:
    return _text(value, 0)
