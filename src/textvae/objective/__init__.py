"""The objective: its terms, method presets, and which settings fit together."""
