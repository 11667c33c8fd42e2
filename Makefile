# The two commands of the README: `make verify` and `make test`. Nothing has to be activated beforehand.
.DELETE_ON_ERROR:
.PHONY: verify test lint format build clean

PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

verify: $(READY)
	$(BIN)/gradcheck verify --profile ci --out reports

test: $(READY)
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(READY)
	$(BIN)/python -m build

# PyTorch comes first and alone: the release is fixed, so that its findings are those of the known list.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[torch,dev]" "$(TORCH)"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
