"""The log of a run: one record for some steps, means over their sentences, and one for each validation."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from textvae.files import appending, json_text, writing
from textvae.training.checkpoint import State


class Log:
    """`log.jsonl`, written by the leading process, and the sums of the logging interval under way.

    What a resumed run needs of these stands in the state: `sentences`, `tokens`, `sums` and `log_bytes`.
    """

    def __init__(self, path: Path, leads: bool, phased: bool) -> None:
        self.path, self.leads, self.phased = path, leads, phased
        self._sums = dict[str, Any]()
        self._file: BinaryIO | None = None
        self._began, self._tokens_at = 0.0, 0

    def restore(self, state: State) -> None:
        """Take the sums from a checkpoint's state."""
        self._sums = {name: torch.tensor(total, dtype=torch.float64) for name, total in state.sums.items()}

    @contextmanager
    def opened(self, state: State) -> Iterator[None]:
        """Open the file for appending, cut back to what the checkpoint knows of; the interval's time starts."""
        self._began, self._tokens_at = time.monotonic(), state.tokens
        if not self.leads:
            yield
            return
        self._file = appending(self.path)
        try:
            with writing(self.path):
                self._file.truncate(state.log_bytes)
            yield
        finally:
            with suppress(OSError):  # everything has been flushed, or the failure to do so reported
                self._file.close()

    def add(self, state: State, raw: Mapping[str, Tensor], sentences: int, tokens: int) -> None:
        """Add what a step on a batch gave, means over its sentences."""
        for name, value in raw.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double() * sentences
        state.sentences += sentences
        state.tokens += tokens

    def means(self, state: State) -> dict[str, float]:
        """Return the means over the sentences of the interval."""
        return {name: float(total) / state.sentences for name, total in self._sums.items()}

    def pause(self, seconds: float) -> None:
        """Leave these seconds out of the interval's speed."""
        self._began += seconds

    def end_interval(self, state: State) -> float:
        """Begin a new interval; return the tokens per second of the one that ends."""
        now = time.monotonic()
        speed = (state.tokens - self._tokens_at) / max(now - self._began, 1e-9)
        self._sums, state.sentences, state.tokens = {}, 0, 0
        self._tokens_at, self._began = 0, now
        return speed

    def write(self, state: State, record: dict[str, Any]) -> dict[str, Any]:
        """Append a record, with the number of its phase where there are several."""
        if self.phased:
            record["phase"] = state.phase
        if self._file is not None:
            with writing(self.path):
                self._file.write((json_text(record, indent=None) + "\n").encode())
                self._file.flush()
        return record

    def sync(self, state: State) -> None:
        """Bring the file to the disk, and the sums and its length into the state, which is to be saved."""
        assert self._file is not None
        with writing(self.path):
            os.fsync(self._file.fileno())
        state.log_bytes = self.path.stat().st_size
        state.sums = {name: float(total) for name, total in self._sums.items()}
