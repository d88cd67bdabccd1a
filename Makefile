# On a fresh clone every target creates the environment it needs. Only packages are downloaded.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# torch from PyPI includes CUDA. For a smaller download on a machine without a GPU:
#   make serve TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

.PHONY: install serve test test-bulk format bench bench-training bench-bulk quality

serve: $(VENV)/.serving
	$(BIN)/smner-serve --port $(PORT)

install: $(VENV)/.everything

# The last tests measure times and have the cores to themselves; the others share them.
test: $(VENV)/.everything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile --ignore=tests/service tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/service/http
	$(BIN)/pytest --ignore=tests/service/http tests/service

# On a Ray cluster of this machine's own, parts of which are killed.
test-bulk: $(VENV)/.bulk
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest tests/model/bulk

format: $(VENV)/.everything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# LitServe is compared only if the extra `bench` is installed, GLiNER only with OPTIONS="--gliner PYTHON", see
# tests/benchmarks/README.md. OPTIONS="--clients 4 --seconds 2 --rounds 1" for less.
bench: $(VENV)/.everything
	$(BIN)/python -m tests.benchmarks.serving $(OPTIONS)

# PASSIVE here and below: a spinning OpenMP barrier is ruinous where other work shares the cores.
# OPTIONS="--batches 2 --rounds 2" for less.
bench-training: $(VENV)/.everything
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.benchmarks.training $(OPTIONS)

# OPTIONS="--posts 256 --rounds 1" for less.
bench-bulk: $(VENV)/.bulk
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.benchmarks.bulk $(OPTIONS)

# Trains for hours, resumes where it stopped, and writes to runs/quality. OPTIONS="--seeds 0 --set epochs=2" for less;
# "--compare ideas" compares recipe keys, "--keep" adds results to docs/lab, "--tables" only rewrites its tables.
quality: $(VENV)/.everything
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.benchmarks.quality $(OPTIONS)

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	@echo "Installing packages into $(VENV); torch is large, this takes a few minutes."
	$(if $(TORCH_INDEX),$(PIP) install --quiet --constraint constraints.txt torch torchvision \
		--index-url $(TORCH_INDEX) --extra-index-url https://pypi.org/simple)
	@touch $@

$(VENV)/.serving: pyproject.toml constraints.txt | $(VENV)/.torch
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.everything: pyproject.toml constraints.txt | $(VENV)/.torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[train,dev,traces]'
	@touch $@ $(VENV)/.serving

$(VENV)/.bulk: $(VENV)/.everything
	$(PIP) install --quiet --constraint constraints.txt --editable '.[train,dev,bulk]'
	@touch $@
