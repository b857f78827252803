# Everything a newcomer needs: `make demo` and `make test`. Nothing else by hand.
#
#   make install          .venv with the project and all that it needs (done once, and again if pyproject.toml changes)
#   make demo  SEED=0     the whole loop, live; ARGS="--devices 6" for more options of `oel demo`
#   make test             the default suite;  make test-slow  the rest
#   make check            ruff, mypy, import-linter
#   make bar NAME=many    one bar, SEED=0;  make bars  all quick ones, with a table
#   make clean            caches and build results; .venv and runs/ stay

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
BIN := $(VENV)/bin
STAMP := $(VENV)/.edge-oel-installed

# No dependency calls home, and nothing but a package registry is ever asked for.
export DO_NOT_TRACK := 1
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_TELEMETRY_ENABLED := 0
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TRANSFORMERS_OFFLINE := 1

.PHONY: help install demo test test-slow check bar bars clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: Python cannot make virtual environments: sudo apt-get install python3-venv" >&2; exit 2; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  { echo "make: no C++ compiler, llama.cpp is built from source: sudo apt-get install g++" >&2; exit 2; }
	@command -v cmake >/dev/null || \
	  { echo "make: no cmake, llama.cpp is built from source: sudo apt-get install cmake" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing; llama.cpp is compiled once, which takes about five minutes on two cores."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/oel demo --seed $(SEED) $(ARGS)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bar: install
	@test -n "$(NAME)" || { echo "make: which bar? make bar NAME=many" >&2; $(BIN)/python tests/bench/run.py --list >&2; exit 2; }
	@SEED=$(SEED) $(BIN)/python tests/bench/run.py $(NAME)

bars: install
	@SEED=$(SEED) $(BIN)/python tests/bench/run.py --quick

clean:
	rm -rf build dist .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find client server shared deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +
