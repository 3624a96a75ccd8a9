"""The parts of a model: separate, swappable modules."""
