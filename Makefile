# Two commands need nothing but Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Both cores on tests: two workers with one thread each.
TESTS := $(BIN)/python -m pytest -n 2 --durations=20 --durations-min=10
SMALL := $(addprefix --set ,data.corpus=grammar train.max_steps=50 model.latent=8 model.embedding=16 \
	model.encoder.hidden=16 model.decoder.hidden=16)

.PHONY: setup demo test check wheel explore clean

setup: .venv/.ready

# torch first: what comes after then finds it and pulls in no other build.
.venv/.ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/textvae quickstart

test: setup
	$(TESTS) -m "not slow"

# Everything that a change must pass: style, types, all tests with array shapes checked, examples in docstrings.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TESTS) --jaxtyping-packages=textvae,beartype.beartype

# What would be released: built, checked, installed into an environment of its own, and run there.
wheel: setup
	rm -rf build dist .wheel
	$(BIN)/pip install --quiet --constraint constraints.txt build twine
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv .wheel
	.wheel/bin/pip install --quiet --constraint constraints.txt torch
	.wheel/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	cd .wheel && bin/textvae --version && bin/textvae train --method bow --out run $(SMALL) \
		&& bin/textvae report run --iw-samples 2 --iw-sentences 10 && bin/textvae sample run -n 2

# Properties on new random input, many times over: not part of `check`, which must say the same each time.
explore: setup
	$(TESTS) -m hypothesis --hypothesis-profile=explore

clean:
	rm -rf .venv .wheel build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
