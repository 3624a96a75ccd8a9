"""Versions and hardware with which numbers are measured."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

import textvae


def machine(device: str = "auto") -> dict[str, Any]:
    """Return the versions and the hardware with which numbers are measured, for the `device` of the settings."""
    import numpy

    cuda = device != "cpu" and torch.cuda.is_available()
    return {
        "textvae": textvae.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """Return the name of the CPU, as far as the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    named = next((line for line in lines if line.startswith("model name")), "")
    return named.partition(":")[2].strip() or platform.processor() or platform.machine() or "cpu"
