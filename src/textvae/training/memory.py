"""Memory that training needs, estimated from settings alone, against what the machine has."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from textvae.errors import RequestError
from textvae.model import assemble
from textvae.objective.settings import Settings
from textvae.settings import Adam, Sgd

# Files in which a container is told its limit: control groups of version 2, and of version 1.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# What sizes are usual where some hundreds are not.
USUAL = {"data.tokenizer.vocabulary": 10_000, "data.max_length": 100, "data.window": 100}


def check_memory(
    settings: Settings,
    vocabulary: int,
    tokens: int,
    device: torch.device,
    names: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Refuse a model that cannot be trained in the memory of this machine, before anything is allocated.

    Counted are weights, gradients, the optimizer's slots, the logits of the largest batch, which has `tokens` with
    its padding, and what a posterior or prior of many components makes: training takes more than that, so whatever
    is refused would have failed.

    Raises:
        RequestError: naming the largest of the sizes, what it needs and what there is.
    """
    weights, has = weight_bytes(settings, vocabulary, names), total_memory(device)
    parts = {
        _largest(settings, vocabulary): math.inf if weights is None else weights * (2 + _slots(settings)),
        f"train.batch_size = {settings.train.batch_size}": logit_bytes(settings, vocabulary, tokens),
        **component_bytes(settings),
    }
    if sum(parts.values()) <= has:
        return
    what, need = max(parts.items(), key=lambda part: part[1])
    amount = "more than any machine has" if need == math.inf else said(sum(parts.values()))
    where = "this GPU" if device.type == "cuda" else "this machine"
    raise RequestError(f"{what}: needs {amount} of memory to train, {where} has {said(has)}; give less")


def weight_bytes(
    settings: Settings, vocabulary: int, names: Mapping[str, Sequence[str]] | None = None
) -> int | None:
    """Bytes of the model's weights and buffers, in float32; None where they are too many to be counted."""
    try:
        with torch.device("meta"):  # shapes alone
            model = assemble(settings.model, vocabulary, settings.terms(), settings.data.positions, names)
    except (RuntimeError, TypeError) as error:  # torch says either of a size beyond 64 bits
        if "overflow" not in str(error).lower():
            raise
        return None
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def logit_bytes(settings: Settings, vocabulary: int, tokens: int) -> int:
    """Bytes of one batch's logits, of which training holds one array: a row for each token of each drawn code."""
    codes = settings.model.posterior.codes() if settings.model.latent else 1
    size = 2 if settings.train.precision == "bf16" else 4
    return tokens * codes * vocabulary * size


def component_bytes(settings: Settings) -> dict[str, int]:
    """Bytes of what components make in a step, by the setting that says how many there are.

    A semi-implicit posterior sends noise through its network for every component of every sentence; a VampPrior's
    pseudo-sentences are read by the encoder.
    """
    model, found = settings.model, dict[str, int]()
    if not model.latent:
        return found
    for setting, numbers in model.posterior.step_numbers(model.latent).items():
        found[f"model.posterior.{setting}"] = 4 * settings.train.batch_size * numbers
    for setting, numbers in model.prior.step_numbers(model.encoder.hidden_size).items():
        found[f"model.prior.{setting}"] = 4 * numbers
    return found


def total_memory(device: torch.device | None = None) -> int:
    """Bytes of memory of a GPU, or of this machine or the container that the program runs in."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # another version, or no limit: "max"
            continue
    return min(found)


def said(count: int | float) -> str:
    """Return a number of bytes for reading.

    >>> said(2.7e12), said(23e9), said(4e5)
    ('2.7 TB', '23 GB', '0.4 MB')
    """
    unit = next((unit for unit in ("TB", "GB") if count >= _UNITS[unit]), "MB")
    return (
        f"{count / _UNITS[unit]:,.2g} {unit}"
        if count < 99 * _UNITS[unit]
        else f"{count / _UNITS[unit]:,.0f} {unit}"
    )


_UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6}


def _slots(settings: Settings) -> int:
    """Numbers that the optimizer keeps of each weight, in the phase that keeps most."""
    used = [settings.train.optimizer, *(phase.optimizer for phase in settings.phase if phase.optimizer)]
    return max(2 if isinstance(one, Adam) else int(isinstance(one, Sgd) and one.momentum > 0) for one in used)


def _largest(settings: Settings, vocabulary: int) -> str:
    """Return the size that is most above what is usual, of those that the model is made of, as a setting."""
    sizes = {f"model.{place}": size for place, size in _whole(settings.model.model_dump())}
    sizes |= {
        f"objective.{name}.{place}": size
        for name, term in settings.terms().items()
        for place, size in _whole(term.model_dump())
    }
    sizes["data.tokenizer.vocabulary"] = vocabulary
    if settings.model.fixed_length:
        sizes["data.max_length" if settings.data.window is None else "data.window"] = settings.data.positions
    name = max(sizes, key=lambda name: sizes[name] / USUAL.get(name, 256))
    return f"{name} = {sizes[name]}"


def _whole(table: Any, place: str = "") -> list[tuple[str, int]]:
    """Return the whole numbers of a table, each with its path."""
    if isinstance(table, dict):
        inner = [(f"{place}.{name}" if place else name, value) for name, value in table.items()]
    elif isinstance(table, (list, tuple)):
        inner = [(f"{place}[{number}]", value) for number, value in enumerate(table)]
    else:
        return [(place, table)] if isinstance(table, int) and not isinstance(table, bool) else []
    return [found for name, value in inner for found in _whole(value, name)]
