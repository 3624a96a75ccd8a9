"""Progress on stderr: a bar if a terminal shows it, else an occasional plain line."""

import math
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from textvae.cli.output import note, number, plain

# Seconds between lines where stderr is no terminal.
INTERVAL = 10.0


class Bar:
    """Progress of one long piece of work; a context manager that clears its bar when it is done.

    `unit` is what is counted, such as "step", for the lines that stand in for a bar.
    """

    def __init__(self, title: str, unit: str = "", live: Any = None) -> None:
        self.title, self.unit = plain(title), unit
        self.live, self.shared = live, live is not None
        self.task: Any = None
        self.began = self.printed = time.monotonic()
        self.first: int | None = None

    def __enter__(self) -> "Bar":
        if not self.shared:
            self.live = live_display()
        if self.live is not None:
            self.task = self.live.add_task(self.title, total=None, text="preparing")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.remove_task(self.task)
            if not self.shared:
                self.live.stop()

    def update(self, done: int, total: int | None, text: str = "") -> None:
        """Show `done` of `total`, None if unknown; `text` stands beside it."""
        now = time.monotonic()
        if self.first is None:
            # What was done before this bar began, as in a resumed run, says nothing about the speed.
            self.first, self.began, self.printed = done, now, now
            if self.live is not None:
                self.live.remove_task(self.task)
                self.task = self.live.add_task(self.title, total=total, completed=done, text=text)
        if self.live is None:
            if now - self.printed >= INTERVAL:
                self.printed = now
                count, left = f"{self.unit} {done:,}".strip(), ""
                if total is not None:
                    seconds = (now - self.began) / max(done - self.first, 1) * (total - done)
                    count, left = f"{count} of {total:,}", f"{duration(seconds)} left"
                note(", ".join(filter(None, [f"{self.title}: {count}", text, left])))
        else:
            self.live.update(self.task, completed=done, total=total, text=text)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self.live is None:
            note(text)
        else:
            self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """A bar for each named part of the work, several at a time where parts run side by side."""

    def __init__(self) -> None:
        self.bars: dict[str, Bar] = {}
        self.live: Any = None

    def __enter__(self) -> "Bars":
        self.live = live_display()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, name: str, done: int, total: int) -> None:
        """Show the progress of a part; a finished part's bar disappears."""
        if name not in self.bars:
            self.bars[name] = Bar(name, live=self.live)
            if self.live is None:
                note(name)
            else:
                self.bars[name].__enter__()
        self.bars[name].update(done, total)
        if done >= total and self.live is not None:
            self.bars.pop(name).__exit__(None, None, None)

    def close(self) -> None:
        """Clear all bars."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.bars = {}


def live_display() -> Any:
    """Return a started display of bars on stderr; None if stderr is not a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    live = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, highlight=False),
        transient=True,
        redirect_stdout=False,
    )
    live.start()
    return live


class TrainingProgress:
    """Progress callback of `textvae.train`, shown on a bar; `step` is the newest one, None before the first.

    `notes` are printed at the first step, when nothing can be refused any more.
    """

    def __init__(self, bar: Bar, notes: Sequence[str] = ()) -> None:
        self.bar, self.notes = bar, notes
        self.step: int | None = None
        self.text = ""

    def __call__(self, step: int, total: int, record: dict[str, Any] | None) -> None:
        """Show the step and, when there is a new log record, its numbers."""
        if self.step is None:
            for line in self.notes:
                self.bar.line(line)
        self.step = step
        if record is not None and record["split"] == "valid":
            self.bar.line(validation_line(record))
        elif record is not None:
            self.text = training_text(record)
        self.bar.update(step, total, self.text)


def training_text(record: dict[str, Any]) -> str:
    """Return a training record in a few words; nats per sentence."""
    kl = f"KL {number(record['kl'])}, " if "kl" in record else ""
    speed = number(record["tokens_per_second"], 0)
    return f"{kl}reconstruction {number(record['reconstruction'])}, {speed} tokens/s"


def validation_line(record: dict[str, Any]) -> str:
    """Return a validation record in one line; nats per sentence.

    >>> validation_line({"step": 1200, "reconstruction": 20.0, "bound": 20.0, "perplexity_bound": 7.389})
    'validation at step 1,200: NLL 20.00 nats/sentence, perplexity 7.39'
    """
    begin = f"validation at step {record['step']:,}: "
    if record.get("bound") is None:
        code = f", {record['active_units']} active units" if "active_units" in record else ""
        return f"{begin}reconstruction {number(record['reconstruction'])} nats/sentence{code}"
    perplexity = f"perplexity {number(record['perplexity_bound'])}"
    if record.get("kl") is None:
        return f"{begin}NLL {number(record['bound'])} nats/sentence, {perplexity}"
    ceiling = math.log(record["mutual_information_sentences"])
    kind = record.get("rate_kind", "exact")
    label = "" if kind == "exact" else f" ({kind})"
    told = number(record["mutual_information"]) + (label if kind == "upper" else "")
    return (
        f"{begin}reconstruction {number(record['reconstruction'])} + KL {number(record['kl'])}{label} = "
        f"bound {number(record['bound'])} nats/sentence, {perplexity} or less, "
        f"MI {told} of at most {number(ceiling)}, "
        f"{record['active_units']} active units"
    )


def duration(seconds: float) -> str:
    """Return a duration in one or two units.

    >>> duration(59.0), duration(90.0), duration(7500.0)
    ('59 s', '1 min 30 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
