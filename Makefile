# Two commands need Python 3.10 or newer and make, nothing else: `make train` and `make test`. Each sets up by itself.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=  # more options: make train ARGS="--trainer.max_epochs 5", make test ARGS="-k cli"
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Rooms whose tests take seconds.
QUICK := tests/config tests/models tests/system tests/test_architecture.py
# Whole files, for their fixtures; in the order of tests/conftest.py, which begins with those that take long.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TEST_TOOLS := 'timm>=1.0' 'pytest>=8' 'pytest-xdist>=3.7' 'hypothesis>=6.100' 'psutil>=5.9'
# The last step of each set-up; it exists only when everything before it has worked.
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

.PHONY: help setup train test check options lowest notebooks audit clean
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
	$(PIP) --editable .
	@touch $@

$(READY_DEV): $(READY)
	$(PIP) --editable '.[dev]'
	@touch $@

train: $(READY)  ## train CCT on real handwritten digits, offline, in about half a minute
	$(BIN)/cct fit --config digits $(ARGS)

test: $(READY_DEV)  ## lint, type check and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: $(READY_DEV)  ## lint, type check and the quick tests, in about a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q $(PARALLEL) $(QUICK) $(ARGS)

options: $(READY_DEV)  ## write the table of options anew, from which help, typos and completion are answered
	$(BIN)/python -m cct_lightning.commands.help.build

lowest:  ## the lowest versions of the dependencies, in build/lowest: models, training, tracking and command line
	@test -x build/uv/bin/uv || { $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install -q uv; }
	build/uv/bin/uv venv -q --allow-existing --python $(PYTHON) build/lowest
	build/uv/bin/uv pip install -q --python build/lowest --resolution lowest-direct -r requirements.txt -e . $(TEST_TOOLS)
	build/lowest/bin/python -m pytest $(PARALLEL) \
		tests/models tests/training tests/tracking tests/test_cli.py tests/test_fit.py $(ARGS)

notebooks: $(READY_DEV)  ## run the notebooks and render them with their outputs to build/notebooks/*.html
	$(BIN)/jupyter-nbconvert --to html --execute --output-dir build/notebooks notebooks/*.ipynb

audit: $(READY_DEV)  ## look the installed packages up in the databases of known vulnerabilities (needs the network)
	$(PIP) pip-audit
	$(BIN)/pip-audit --skip-editable

clean:  ## remove the virtual environment and what the tools left; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
