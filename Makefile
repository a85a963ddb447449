# `make demo` and `make test` set everything up themselves, in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# On CPU, PyTorch can spend half of a training step in page faults; jemalloc keeps the pages. Used where it is installed.
JEMALLOC := $(firstword $(wildcard /usr/lib/*/libjemalloc.so.2))
ifneq ($(JEMALLOC),)
export LD_PRELOAD := $(JEMALLOC)
export MALLOC_CONF := oversize_threshold:0,dirty_decay_ms:5000
endif

.PHONY: install demo test lint fuzz audit bench picture clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/mmood demo

test: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml mmood
	$(BIN)/hadolint docker/Dockerfile

# Some 26,000 damaged files, other ones each time; `make test` tries some 400.
fuzz: $(STAMP)
	MMOOD_FUZZ=1200 $(BIN)/python -m pytest tests/fuzz --quiet --capture=no

# Known vulnerabilities of the versions that the tests pass on; asks PyPI.
audit: $(STAMP)
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

bench: $(STAMP)
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# The picture in the README: the first screen of the demo's report. Needs Chromium.
picture: demo
	chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
	  --disable-component-update --disable-sync --user-data-dir=$$(mktemp -d) --hide-scrollbars \
	  --window-size=1280,1500 --screenshot=docs/report.png "file://$$(pwd)/demo-world/report.html"
