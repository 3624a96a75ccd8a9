"""Scores of a trained run: likelihood, codes, reconstructions, samples, probes; and the diagnosis."""
