# The two commands of the README: `make verify` and `make test`. Nothing has to be activated beforehand.
.DELETE_ON_ERROR:
.PHONY: verify verify-jax test test-jax lint format build bench rates corpus peers clean

PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_JAX := .venv-jax
READY_JAX := $(VENV_JAX)/.ready
VENV_PEERS := .venv-peers
READY_PEERS := $(VENV_PEERS)/.ready

verify: $(READY)
	$(BIN)/gradcheck verify --profile ci --out reports

# JAX has an environment of its own: PyTorch is not in it, and JAX is not in the other. JAX compiles a program
# for every shape, so what it compiled is kept.
verify-jax test-jax: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/$(VENV_JAX)/cache
verify-jax test-jax: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
verify-jax test-jax: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES := -1

verify-jax: $(READY_JAX)
	$(VENV_JAX)/bin/gradcheck verify --subject jax-cpu --profile ci --out $(VENV_JAX)/report

test: $(READY)
	$(BIN)/python -m pytest tests -n $(JOBS) --dist worksteal

# What needs JAX: it is left out of `make test`, with its reason.
test-jax: $(READY_JAX)
	$(VENV_JAX)/bin/python -m pytest tests/blackbox/test_check_jax.py tests/bench/test_bench_jax.py -n $(JOBS) --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(READY)
	$(BIN)/python -m build

# Single figures by pytest-benchmark, then ratios, bandwidth and memory: the second ends within twenty minutes.
bench: $(READY)
	$(BIN)/python -m pytest benchmarks --benchmark-only
	$(BIN)/gradcheck bench --out reports

# How often the checks err on the corpora of right and wrong implementations; the report shows the result.
rates: $(READY)
	$(BIN)/python -m tests.rates

# False alarms over PyTorch's own operators, outside of the tests: half an hour. The operator database needs one
# more package.
corpus: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,corpus]" "$(TORCH)"
	$(BIN)/python -m benchmarks.oracle.operators

# gradcheck.check beside the gradient checkers of PyTorch, JAX, SciPy and numdifftools: what each catches, whom
# it accuses, how long it takes. Its environment has all of them. An hour, and nothing else should run.
peers: $(READY_PEERS)
	OMP_NUM_THREADS=1 $(VENV_PEERS)/bin/python -W ignore -m benchmarks.oracle.speed
	OMP_NUM_THREADS=1 $(VENV_PEERS)/bin/python -W ignore -m benchmarks.oracle.detect
	$(VENV_PEERS)/bin/python -m benchmarks.oracle.tables

# PyTorch comes first and alone. It and the other versions are fixed, so that findings are those of the known
# list: another NumPy or Hypothesis computes and draws other numbers.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,dev]" "$(TORCH)"
	touch $@

$(READY_JAX): pyproject.toml constraints.txt
	test -x $(VENV_JAX)/bin/python || $(PYTHON) -m venv $(VENV_JAX)
	$(VENV_JAX)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[jax]"
	touch $@

$(READY_PEERS): pyproject.toml constraints.txt
	test -x $(VENV_PEERS)/bin/python || $(PYTHON) -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/python -m pip install --quiet --constraint constraints.txt "$(TORCH)"
	$(VENV_PEERS)/bin/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[torch,jax]" numdifftools==0.11.2 "$(TORCH)"
	touch $@

clean:
	rm -rf $(VENV) $(VENV_JAX) $(VENV_PEERS) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
