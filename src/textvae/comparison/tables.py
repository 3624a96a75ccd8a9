"""A comparison as text: cells for a terminal, CSV, Markdown, and the notes that belong to the numbers."""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from textvae.comparison.members import Member
from textvae.comparison.rows import Row, Value, by_importance, column
from textvae.errors import RequestError
from textvae.evaluation import schema
from textvae.evaluation.entry import Score
from textvae.evaluation.showing import DASH, MIXED, rounded, spread
from textvae.metrics.signature import SOFTMAX, parse
from textvae.metrics.weights import caveat
from textvae.run.records import is_number


class Column(NamedTuple):
    """A column of the table: its head, the text of a row, and the score that it shows, if it is one."""

    head: str
    cell: Callable[[Row], str]
    score: Score | None = None


def cells(rows: Sequence[Row], by_seed: bool) -> list[list[str]]:
    """Write the table, head first: name, NLL and how it was computed, other scores, and the method last.

    Behind ± stands the standard error over sentences, or with `by_seed` the standard deviation over seeds.
    """
    columns = table_columns(rows, by_seed)
    return [[column.head for column in columns], *([column.cell(row) for column in columns] for row in rows)]


def table_columns(rows: Sequence[Row], by_seed: bool) -> list[Column]:
    """Return the columns of the table: the scores that were asked for by name, if any were, or the usual ones."""
    name = [Column("run", lambda row: row.name)]
    seeds = [Column("seeds", lambda row: str(len(row.members)))] if by_seed else []
    scores = _chosen_columns(rows) if rows[0].chosen else _usual_columns(rows, by_seed)
    return [*name, *seeds, *scores, Column("method", lambda row: row.method)]


def _usual_columns(rows: Sequence[Row], by_seed: bool) -> list[Column]:
    """Return the columns of the schema of scores, and a comparison's own between and behind."""
    # Right of the bound, which stands beside the NLL.
    estimate = [
        Column("by", estimator),
        Column("vs base", lambda row: signed(*_of(row, "nll_relative_percent"))),
    ]
    columns: list[Column] = []
    for score in by_importance():
        if score.column:
            columns.append(Column(score.column, partial(score_cell, score, rows, by_seed), score))
            columns += estimate if score.name == "bound_iw_sentences" else []
    return [
        *columns,
        Column("speed", lambda row: spread(row.values["relative_speed"], None, 2, "×")),
        Column("KL weight", weight),
    ]


def _chosen_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of the scores that were asked for by name."""
    known = {score.name: score for score in schema.SCORES}

    def cell(name: str, row: Row) -> str:
        value, deviation = row.chosen[name]
        return spread(value, deviation, _digits(value))

    return [Column(shown(name), partial(cell, name), known.get(name)) for name in rows[0].chosen]


def score_cell(score: Score, rows: Sequence[Row], by_seed: bool, row: Row) -> str:
    """Write a score of a row, by its own function if it has one."""
    if score.cell is not None:
        return score.cell(row, rows, by_seed)
    return spread(*_of(row, column(score.name)))


def _of(row: Row, name: str) -> tuple[Value, Value]:
    """Return a column's value and deviation."""
    return row.values[name], row.deviations[name]


def weight(row: Row) -> str:
    """Write the last weight of the KL, a small one in as many digits as it takes."""
    value = row.values["final_kl_weight"]
    return spread(value, None, _digits(value) if isinstance(value, float) and abs(value) < 0.01 else 2)


def _digits(value: object) -> int:
    """Return the number of decimals: none for a count, two from 10 on, else four, and six near 0."""
    if not isinstance(value, float):
        return 0
    return 2 if abs(value) >= 10 else 4 if abs(value) >= 0.01 or not value else 6


def estimator(row: Row) -> str:
    """Write how the NLL was computed: exactly, or by so many importance samples on so many sentences."""
    kind, samples, sentences = (row.values[name] for name in ("nll_kind", "iw_samples", "iw_sentences"))
    if row.values["nll"] is None:
        return DASH
    if kind == MIXED:
        return MIXED
    known = "exact" if kind == "exact" else f"iw{rounded(samples)}"
    return f"{known}/{rounded(sentences)}" + (" surrogate" if kind == "surrogate" else "")


def signed(percent: Value, deviation: Value) -> str:
    """Write a change in percent with its sign."""
    text = spread(percent, deviation, 1, "%")
    return f"+{text}" if isinstance(percent, float) and round(percent, 1) > 0 else text


def notes(rows: Sequence[Row], baseline: Row | None, speed: Row | None, by_seed: bool) -> list[str]:
    """Explain the labels of the table, and what in it is to be compared with care.

    For a table of chosen scores explain its own columns alone.
    """
    if rows[0].chosen:
        return _notes_of_chosen(rows) + _cautions(rows, by_seed)
    told = ["Nats per sentence, the end mark counted. by: importance samples / sentences."]
    over = "standard deviation over seeds" if by_seed else "standard error over sentences"
    told[0] += f" ±: {over}."
    if any(row.values["bound_iw_sentences"] is not None for row in rows):
        told[0] += " bound of these: on the NLL's sentences, which other columns are not."
    if baseline is not None:
        told.append(f"vs base: NLL relative to {_name(baseline)}.")
    told += _notes_of([score for score in schema.SCORES if score.column], rows)
    if speed is not None:
        told.append(f"Speed: tokens a second in training, relative to {_name(speed)}.")
    return told + _cautions(rows, by_seed)


def _notes_of(scores: Sequence[Score], rows: Sequence[Row]) -> list[str]:
    """Explain scores, by the rows that have them."""
    found: dict[str, None] = {}
    for score in scores:
        own = [row.values for row in rows if row.values.get(column(score.paths[0])) is not None]
        found |= dict.fromkeys(score.notes(own) if score.notes is not None and own else [])
    return list(found)


def _notes_of_chosen(rows: Sequence[Row]) -> list[str]:
    """Explain a table of scores that were asked for by name."""
    told = ["Numbers of the evaluations, by their path; docs/metrics.md says what each is and in what unit."]
    if any(deviation is not None for row in rows for _, deviation in row.chosen.values()):
        told[0] += " ±: standard deviation over seeds."
    return told + _notes_of([score for score in schema.SCORES if score.name in rows[0].chosen], rows)


def _cautions(rows: Sequence[Row], by_seed: bool) -> list[str]:
    """Return notes on numbers of the table that are hard to compare."""
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
    """Return the parts of a signature that say how a run was evaluated, without those of the model."""
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
    """Return the names of the parts that have different values, with these."""
    values: dict[str, dict[object, None]] = {}
    for member in members:
        for name, value in of(member).items():
            values.setdefault(name, {})[value] = None
    return ", ".join(f"{name} ({', '.join(map(str, found))})" for name, found in values.items() if len(found) > 1)


def inert(cell: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    >>> inert("=1+2"), inert("vae")
    ("'=1+2", 'vae')
    """
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@")) or cell[:1] in "\t\r\n" else cell


def csv_text(rows: Sequence[Row], by_seed: bool) -> str:
    """Return the rows as CSV: every column, numbers in full precision, empty where there is none.

    A name that a spreadsheet would take for a formula has an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    averaged, columns = rows[0].columns.averaged, rows[0].columns.all
    deviations = [f"{name}_deviation" for name in averaged] if by_seed else []
    chosen = [name for name in rows[0].chosen if name not in columns]
    deviations += [f"{name}_deviation" for name in chosen] if by_seed else []
    writer.writerow(["run", "method", "runs", "seeds", *columns, *chosen, *deviations])
    for row in rows:
        numbers = [row.values[name] for name in columns]
        numbers += [row.chosen[name][0] for name in chosen]
        numbers += [row.deviations[name] for name in averaged] if by_seed else []
        numbers += [row.chosen[name][1] for name in chosen] if by_seed else []
        writer.writerow(
            [inert(row.name), inert(row.method), len(row.members), " ".join(map(str, row.seeds)), *numbers]
        )
    return file.getvalue()


def markdown(table: Sequence[Sequence[str]], told: Sequence[str]) -> str:
    """Return a Markdown table and its notes as a list."""
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
