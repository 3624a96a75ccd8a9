"""Callbacks by which long work reports how far it has come, and a bar for notebooks and terminals."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

# Called with how much is done and how much there is to do.
Progress: TypeAlias = Callable[[int, int], None]
# Called with the part of the work under way, such as "training vanilla", how much of it is done, and of how much.
PartProgress: TypeAlias = Callable[[str, int, int], None]
# Called after every step of training with the step, the planned total, and the newest log record if there is one.
StepProgress: TypeAlias = Callable[[int, int, dict[str, Any] | None], None]


def of_part(progress: PartProgress | None, part: str) -> Progress | None:
    """Return the progress of one part of the work; None if nobody listens."""
    return None if progress is None else lambda done, total: progress(part, done, total)


@contextmanager
def visible(progress: Callable[..., None] | bool | None, title: str, unit: str) -> Iterator[Any]:
    """Yield the function that long work reports to: the given one, that of a bar for True, None for False or None.

    The bar, of tqdm, is shown in a notebook and on a terminal, and nowhere else; without tqdm there is none.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    bar = _Bar(title, unit) if progress and os.environ.get("RANK", "0") == "0" else None
    try:
        yield None if bar is None or bar.kind is None else bar
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """A bar of tqdm as a callback of long work; it appears with the first report."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.bar: Any = None
        self.kind: Any = None
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self.kind = tqdm

    def __call__(self, done: int, total: int, record: Mapping[str, Any] | None = None) -> None:
        """Show how much is done, and of a new record of the log its main numbers."""
        if self.bar is None:
            about = {"desc": self.title, "unit": f" {self.unit}", "dynamic_ncols": True}
            # What was done before, as in a resumed run, says nothing about the speed.
            self.bar = self.kind(total=total, initial=done, disable=None, **about)
        if record is not None:
            self.bar.set_postfix_str(_numbers(record), refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def _numbers(record: Mapping[str, Any]) -> str:
    """Return the main numbers of a record of the log, in nats per sentence."""
    names = [name for name in ("reconstruction", "kl", "bound") if record.get(name) is not None]
    split = "validation: " if record["split"] == "valid" else ""
    return split + ", ".join(f"{name} {record[name]:.2f}" for name in names)
