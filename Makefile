# Everything here needs Python 3.11 or newer and make; the rest is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# The first of these that is new enough and can make an environment; `make PYTHON=/path/to/python ...` overrules it.
SUITS := 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c $(SUITS) 2>/dev/null && echo $$p && break; done)

.PHONY: help demo test coverage docs lint format clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## choose 100 examples for a target with the bundled model: [TARGET=gsm8k|boolq|mbpp]
	@$(BIN)/handpick demo $(if $(TARGET),--target $(TARGET))

TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal -rs \
	-m "not slow and not gpu and not network"

test: $(VENV)/.installed-dev ## run the tests (less slow, GPU and network ones)
	$(TESTS) --durations=30

coverage: $(VENV)/.installed-dev ## run the same tests and say which lines of src they miss; twice the time
	$(TESTS) --cov --cov-report=term

docs: $(VENV)/.installed-docs ## build the site into build/site, strictly: pages, links, docstrings; it is read from disk
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "the site: build/site/index.html"

lint: $(VENV)/.installed-dev ## ruff (lint, format) and mypy in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and build outputs (not .venv, not runs)
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made once; the stamps are renewed when the dependencies change.
$(BIN)/python:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c $(SUITS) 2>/dev/null || { \
		echo "handpick needs Python 3.11 or newer with its venv module (on Debian and Ubuntu a package of its own," \
			"python3-venv); $(or $(PYTHON),python3) is: $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." \
			"Name another: make PYTHON=/path/to/python ..." >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing handpick and what it needs into $(VENV) (a few minutes the first time)"
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the development tools into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "installing what the site is built with into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@
