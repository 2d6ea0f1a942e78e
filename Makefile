# Two commands need Python 3.10 or newer and make, nothing else: `make train` and `make test`. Each sets up by itself.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The last step of the set-up; it exists only when everything before it has worked.
READY := $(VENV)/.ready

.PHONY: help setup train test clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## create the virtual environment and install the package into it

$(READY): requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@# A set-up that was killed half-way may have left an environment without a working pip: start over then.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); } || { \
		echo "Cannot create a virtual environment: install Python's venv module (Debian: apt install python3-venv)"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: $(READY)  ## train CCT on real handwritten digits, offline, in about half a minute
	$(BIN)/cct fit --config digits

test: $(READY)  ## lint, type check and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

clean:  ## remove the virtual environment and what the tools left; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
