"""Decoders p(x|z), one file each."""
