"""What is minimised: terms, schedules' use, presets, and which settings fit together."""
