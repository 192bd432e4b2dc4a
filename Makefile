# One command each. `make demo` and `make test` need nothing but Python with venv and headers, a C compiler and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES = pyproject.toml setup.py MANIFEST.in $(wildcard src/*) $(wildcard nnkern/*.py nnkern/*.pxd nnkern/*.pyi) \
          $(wildcard benchmarks/*.py benchmarks/peers/*.py)

.PHONY: demo test lint bench docs build clean
.DEFAULT_GOAL := build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# a stamp for each set of extras: what is installed is what the sources say
$(VENV)/%.stamp: $(SOURCES) | $(BIN)/python
	$(PIP) install ".[$*]"
	@touch $@

build: $(VENV)/demo.stamp

# trains a network on scikit-learn's digits
demo: $(VENV)/demo.stamp
	$(BIN)/nnkern train

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: | $(BIN)/python
	$(PIP) install "ruff>=0.8" "cython-lint>=0.16"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src nnkern

bench: $(VENV)/bench.stamp
	$(BIN)/nnkern bench $(BENCH_ARGS)

# docs/_build/index.html; a warning is an error
docs: $(VENV)/docs.stamp
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo docs/_build/index.html

clean:
	rm -rf build dist *.egg-info docs/_build docs/figures $(VENV)
