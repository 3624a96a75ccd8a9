"""Variational autoencoders of text that do not collapse."""

__version__ = "0.1.0"
