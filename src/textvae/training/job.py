"""Processes that train together: device, rank and precision of this one, and how it meets the others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from textvae.errors import RequestError
from textvae.objective.settings import Settings
from textvae.parts.kernels.products import exactly
from textvae.run.folder import training_alone

# The variables that say which process this is, with what they are for one alone.
PLACE = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


@dataclass(frozen=True)
class Job:
    """One process of those that train a run together; alone it is rank 0 of 1."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    bf16: bool = False

    @property
    def leads(self) -> bool:
        """True for the process that writes the run's files."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """Compute matrix products in bfloat16, within, if the run's precision is bf16."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def barrier(self) -> None:
        """Wait for all processes of the job."""
        if self.world_size > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Restore afterwards what training does to torch's random state and precision."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []), exactly():
            yield

    @contextmanager
    def training(self, folder: Path, new: bool = False) -> Iterator[None]:
        """Lock the run folder for this job; nothing of it is read before.

        Raises:
            RequestError: in the leading process, as `training_alone`.
        """
        if not self.leads:
            self.barrier()
            yield
            return
        with training_alone(folder, new):
            self.barrier()
            yield


def join(settings: Settings) -> Job:
    """Return this process's place in the job; under `torchrun` connect it to the others.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, which `torchrun` sets. With CUDA each process
    takes its machine's device of its local rank, and processes communicate by NCCL; on CPUs by gloo.

    Raises:
        RequestError: if the settings ask for a CUDA device and none is visible.
    """
    wanted = settings.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("train.device = 'cuda': no CUDA device is visible; use 'cpu' or 'auto'")
    cuda = wanted != "cpu" and torch.cuda.is_available()
    rank, world, local = (int(os.environ.get(name, usual)) for name, usual in PLACE.items())
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        return Job(device, bf16=settings.train.precision == "bf16")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=world)
    return Job(device, rank, world, settings.train.precision == "bf16")
