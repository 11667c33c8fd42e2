# The two commands of the README: `make verify` and `make test`. Nothing has to be activated beforehand.
.DELETE_ON_ERROR:
.PHONY: verify test lint format build bench rates clean

PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

verify: $(READY)
	$(BIN)/gradcheck verify --profile ci --out reports

test: $(READY)
	$(BIN)/python -m pytest tests -n $(JOBS) --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(READY)
	$(BIN)/python -m build

bench: $(READY)
	$(BIN)/python -m pytest benchmarks --benchmark-only

# How often the checks err on the corpora of right and wrong implementations; the report shows the result.
rates: $(READY)
	$(BIN)/python -m tests.rates

# PyTorch comes first and alone. It and the other versions are fixed, so that findings are those of the known
# list: another NumPy or Hypothesis computes and draws other numbers.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[torch,dev]" "$(TORCH)"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
