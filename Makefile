# `make` or `make help` lists what there is to do.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format coverage clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## install everything into .venv

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev,offline,optuna]'
	touch $@

demo: $(STAMP) ## train on drawn portraits: scores and curves in a few minutes
	$(BIN)/python -m mask_lightning.train experiment=demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

lint: $(STAMP) ## style, types, and the floors of the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(STAMP) ## run the tests and list the lines that none runs
	$(BIN)/python -m pytest --cov=mask_lightning --cov-report=term-missing:skip-covered

clean: ## remove caches and builds, never runs
	rm -rf build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage *.egg-info
	find mask_lightning tests -name __pycache__ -type d -exec rm -rf {} +
