# make align       create the environment and align the embedded prompts
# make benchmark   measure the pipeline beside other ways to decode; ARGS="size=30M rounds=3"
# make compare     strategies side by side in the embedded world; ARGS="output=outputs/compare base.max_rows=400"
# make test        create the environment and run the tests; those without a cluster run beside the others and are printed last
# make lint        style, import rules, types

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OUTPUT ?= outputs/embedded
ARGS ?=

# Ray answers on loopback only, and asks nobody else anything.
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: align benchmark compare test lint clean

align: $(VENV)/.core
	$(BIN)/python -m jobs.align --config jobs/configs/embedded.yaml output=$(OUTPUT) $(ARGS)

benchmark: $(VENV)/.plots
	$(BIN)/python -m jobs.benchmark $(ARGS)

compare: $(VENV)/.plots
	$(BIN)/python -m jobs.compare --config jobs/configs/compare-embedded.yaml $(ARGS)

test: lint $(VENV)/.s3-server
	@export OMP_NUM_THREADS=1; \
	nice $(BIN)/python -m pytest -m "not ray" > $(VENV)/not-ray.log 2>&1 & others=$$!; \
	$(BIN)/python -m pytest -m ray; ray=$$?; \
	wait $$others; others=$$?; \
	cat $(VENV)/not-ray.log; exit $$((ray || others))

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) outputs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first: alone it installs the build that fits the machine's package index.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.plots: $(VENV)/.core
	$(PIP) --editable '.[plots]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.s3-server: tests/s3_server.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/s3-server
	$(VENV)/s3-server/bin/python -m pip install --quiet --disable-pip-version-check -r tests/s3_server.txt
	@touch $@
