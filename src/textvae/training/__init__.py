"""The training loop and what surrounds it: updates, checkpoints, launch."""
