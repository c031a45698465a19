# `make` or `make help` lists what there is to do.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed$(if $(LOCKED),-locked)
EXTRAS := .[dev,offline,optuna,joblib,slurm]
LOWEST := .venv-lowest
# Old packages use what newer ones advise against.
QUIET := -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning
LOCK = .ci/$(shell $(PYTHON) .ci/requirements.py name)
COVERAGE := --cov=mask_lightning --cov-report=

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-all test-lowest chaos lint format coverage bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## install everything into .venv; LOCKED=1: exactly the files of the lock, by their hashes

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifdef LOCKED
	@test -f "$(LOCK)" || { echo "expected the lock $(LOCK), found none; write it with make setup lock"; exit 2; }
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement "$(LOCK)"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
else
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '$(EXTRAS)'
endif
	touch $(VENV)/.installed $@

lock: $(STAMP) ## write the lock for this Python and platform: a version and a hash per package
	$(BIN)/python .ci/requirements.py lock "$(LOCK)"

demo: $(STAMP) ## train on drawn portraits: scores and curves in a few minutes
	$(BIN)/python -m mask_lightning.train experiment=demo

test: $(STAMP) ## run the tests but for the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP) ## run all tests; they cover 90 % of the lines
	$(BIN)/python -m pytest $(COVERAGE) --cov-fail-under=90

test-lowest: $(STAMP) ## run the tests on the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/python .ci/requirements.py lowest > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/lowest.txt --editable '$(EXTRAS)'
	$(LOWEST)/bin/python -m pytest -m "not slow" $(QUIET)

chaos: $(STAMP) ## kill, fill, corrupt and mutate, on an idle machine: a table of what is lost
	$(BIN)/python tests/chaos/chaos.py tests/benchmarks/results/chaos.json

lint: $(STAMP) ## style, types, and the floors of the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(STAMP) ## as test, a half slower: list the lines that none runs, of which there may be 20 %
	$(BIN)/python -m pytest -m "not slow" --cov=mask_lightning --cov-report=term-missing:skip-covered --cov-fail-under=80

bench: $(STAMP) ## measure, on an idle machine: tests/benchmarks/results
	$(BIN)/python tests/benchmarks/run_all.py

clean: ## remove caches and builds, never runs
	rm -rf build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage *.egg-info
	find mask_lightning tests -name __pycache__ -type d -exec rm -rf {} +
