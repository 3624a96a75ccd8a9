"""Batches of an epoch, in the order of the seed, and this process's share of each."""

import numpy as np
import torch

from textvae.objective.settings import Settings
from textvae.parts.noise import Noise, mixed, step_noise
from textvae.text.batches import Batch, TokenStore, collate, epoch_batches, equal_length_batches
from textvae.training.job import Job

# Keeps the random numbers of updates of the encoder alone apart from those of steps.
INNER = 3


def epoch_data(store: TokenStore, settings: Settings, epoch: int) -> tuple[TokenStore, list[np.ndarray]]:
    """Return the text of one epoch and its batches, those of the whole job, as numbers of rows in it.

    Where a part of the model unfolds or reads all positions of a text at once, texts of like lengths are not
    brought together: that would save nothing, and batch statistics should not depend on length.
    """
    model, seed = settings.model, settings.train.seed
    store = store.drawn(seed, epoch)
    if settings.train.batches == "equal-length":
        return store, equal_length_batches(store.lengths, settings.train.batch_size, seed, epoch)
    lengths = np.ones_like(store.lengths) if model.fixed_length else store.lengths
    return store, epoch_batches(lengths, settings.train.batch_size, seed, epoch)


class Epochs:
    """The batches of one epoch after the other, with the random numbers that updates on them draw.

    `per_epoch` is the number of batches, the same in every epoch. With `keep` collated batches stay in memory until
    the epoch ends: for updates that come back to them.
    """

    def __init__(self, store: TokenStore, settings: Settings, job: Job) -> None:
        self.every, self.settings, self.job = store, settings, job
        self.per_epoch = len(epoch_data(store, settings, 0)[1])
        self.keep = False
        self.epoch, self._kept = -1, dict[int, Batch]()
        self.store, self.batches = store, list[np.ndarray]()

    def turn_to(self, epoch: int) -> None:
        """Make `epoch` the one that positions are of."""
        if epoch != self.epoch:
            self.epoch, self._kept = epoch, {}
            self.store, self.batches = epoch_data(self.every, self.settings, epoch)

    def sentences(self, position: int) -> int:
        """Return the number of sentences in a batch of the whole job."""
        return len(self.batches[position])

    def tokens(self, position: int) -> int:
        """Return the number of tokens in a batch of the whole job, end marks counted."""
        return int(self.store.lengths[self.batches[position]].sum())

    def position_for(self, inner: int) -> int:
        """Return the position of the batch for an update of the encoder alone, drawn by its number."""
        generator = np.random.default_rng([self.settings.train.seed, inner, INNER])
        return int(generator.integers(len(self.batches)))

    def given(self, position: int, number: int, *stream: int) -> tuple[Batch, Noise]:
        """Return this process's share of a batch and its noise, and seed dropout; both by `number` and `stream`."""
        seed, rows, job = self.settings.train.seed, self.batches[position], self.job
        torch.manual_seed(mixed(seed, number, *stream, job.rank))  # dropout and word dropout
        edges = [len(rows) * rank // job.world_size for rank in (job.rank, job.rank + 1)]
        batch = self._kept.get(position)
        if batch is None:
            batch = collate(self.store, rows[slice(*edges)]).to(job.device)
            if self.keep:
                self._kept[position] = batch
        return batch, step_noise(seed, number, len(rows), slice(*edges), job.device, *stream)
