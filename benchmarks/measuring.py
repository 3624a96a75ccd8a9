"""What the benchmarks share: interleaved timing, a description of the machine, results as JSON."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from textvae.files import write_text


def timed(contenders: Mapping[str, Callable[[int], Any]], turns: int, turn: int = 1) -> dict[str, float]:
    """Seconds that each contender needs for steps 0 ... turns * turn - 1, `turn` of each in alternation.

    Each takes one step before the clock starts. With a single thread the clock is the processor's, which other
    programs on a busy machine hardly disturb.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    spent = dict.fromkeys(contenders, 0.0)
    for step in contenders.values():
        step(0)
    for number in range(turns):
        for name, step in contenders.items():
            began = clock()
            for at in range(number * turn, (number + 1) * turn):
                step(at)
            spent[name] += clock() - began
    return spent


def machine() -> dict[str, Any]:
    """Processor, threads, versions and the day."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "processor": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def write_json(path: str, results: Mapping[str, Any]) -> None:
    write_text(Path(path), json.dumps(results, indent=1, allow_nan=False) + "\n")
