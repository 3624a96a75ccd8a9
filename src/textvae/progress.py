"""Callbacks by which long work reports how far it has come."""

from collections.abc import Callable
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
