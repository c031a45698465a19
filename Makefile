# `make` or `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed$(if $(LOCKED),-locked)
EXTRAS := .[dev,docs,export,faces,offline,optuna,joblib,packed,serve,slurm]
LOWEST := .venv-lowest
# The lowest versions use functions that newer versions deprecate.
QUIET := -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning
LOCK = .ci/$(shell $(PYTHON) .ci/requirements.py name)
COVERAGE := --cov=mask_lightning --cov-report=
JOBS ?= 2
# Neighbouring tests stay together, as they share fixtures; a worker that is done takes half of another's rest.
PYTEST = OMP_NUM_THREADS=1 $(1)/python -m pytest --numprocesses $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup hooks lock demo docs test test-all test-lowest chaos lint lint-tests format coverage bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install the package and all tools in .venv; LOCKED=1: only files whose hashes are in the lock file

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifdef LOCKED
	@test -f "$(LOCK)" || { echo "expected the lock file $(LOCK), found none; write it with: make setup lock"; exit 2; }
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement "$(LOCK)"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
else
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '$(EXTRAS)'
endif
	touch $(VENV)/.installed $@

hooks: $(STAMP) ## run the linters before each git commit (pre-commit)
	$(BIN)/pre-commit install

lock: $(STAMP) ## write the lock file for this Python and platform: versions and hashes of all packages
	$(BIN)/python .ci/requirements.py lock "$(LOCK)"

demo: $(STAMP) ## train on generated portraits for about two minutes, and write a report page
	$(BIN)/python -m mask_lightning.train experiment=demo
	$(BIN)/python -m mask_lightning.report ckpt=$$(ls -td outputs/runs/*/ | head -1)
	@echo "your own photos: $(BIN)/python -m mask_lightning.train data.root=FOLDER experiment=best"

docs: $(STAMP) ## build the documentation into build/docs, without network access; a broken link is an error
	$(BIN)/python docs/hooks/results.py
	$(BIN)/python docs/hooks/diagram.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/docs/index.html"

test: $(STAMP) ## run all tests except those marked slow, in two processes; JOBS=8: in eight
	$(call PYTEST,$(BIN)) -m "not slow"

test-all: $(STAMP) ## run all tests; fails if they cover less than 90 % of the lines
	$(call PYTEST,$(BIN)) $(COVERAGE) --cov-fail-under=90

test-lowest: $(STAMP) ## run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/python .ci/requirements.py lowest > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/lowest.txt --editable '$(EXTRAS)'
	$(call PYTEST,$(LOWEST)/bin) -m "not slow" $(QUIET)

chaos: $(STAMP) ## kill runs, fill disks and corrupt inputs on an idle machine; print a table of the losses
	$(BIN)/python tests/chaos/chaos.py tests/benchmarks/results/chaos.json

lint: $(STAMP) ## check style, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-tests: $(STAMP) ## check the types of the tests, as CI does (a minute)
	$(BIN)/mypy tests

format: $(STAMP) ## fix style and formatting where possible
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(STAMP) ## run `make test` and list the lines not covered; fails if these are more than 20 %
	$(call PYTEST,$(BIN)) -m "not slow" --cov=mask_lightning --cov-report=term-missing:skip-covered --cov-fail-under=80

bench: $(STAMP) ## run the benchmarks on an idle machine; writes tests/benchmarks/results
	$(BIN)/python tests/benchmarks/run_all.py

clean: ## remove caches and build outputs; keeps .venv and outputs/
	rm -rf build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage *.egg-info
	find mask_lightning tests -name __pycache__ -type d -exec rm -rf {} +
