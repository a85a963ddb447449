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

# Two workers for two cores. A file of tests runs in one of them, the longest files first (`make seconds`).
WORKERS ?= 2
PYTEST  := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: install demo docs dist test test-all seconds lint fuzz audit bench gpu picture method-pictures clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing mmood and its tools into $(VENV): about 7 GB, several minutes ..."
	@start=$$(date +%s); $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[dev]' && echo "Installed in $$(($$(date +%s) - start)) s."
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/mmood demo

test: lint
	$(PYTEST) -m "not long"

# Also the long forms, and some 60,000 damaged files, not 1,000.
test-all: lint
	MMOOD_FUZZ=1200 $(PYTEST)

# Which file of tests takes how long, for the order in which they run.
seconds: $(STAMP)
	$(PYTEST) -m "not long" --record-seconds

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml mmood
	$(BIN)/hadolint docker/Dockerfile

# As many damaged files as `make test-all` tries, but other ones each time.
fuzz: $(STAMP)
	MMOOD_FUZZ_ANEW=1 MMOOD_FUZZ=1200 $(BIN)/python -m pytest tests/fuzz --quiet --capture=no

# The documentation site, in site/; a warning or a dead link between pages is an error (`--quiet` would switch that off).
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# sdist and wheel, checked, and the wheel tried in an environment of its own that has torch already.
dist: $(STAMP)
	rm -rf dist build/dist-check
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv build/dist-check
	build/dist-check/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	build/dist-check/bin/mmood --version
	build/dist-check/bin/mmood configs > build/dist-check/configs.txt

# Known vulnerabilities of the versions that the tests pass on; asks PyPI.
audit: $(STAMP)
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

bench: $(STAMP)
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# What only a GPU shows: its tests, then docs/gpu.md. Without a GPU it says so.
gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu --quiet --no-summary tests/test_gpu.py tests/scores/test_scores_on_gpu.py
	PYTHONPATH=tests/benchmarks $(BIN)/python -m gpu

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# The histograms of the methods pages: every score that needs no more than the demo world, tested on it.
method-pictures: demo
	$(BIN)/python docs/generators/demo_histograms.py demo-world

# The picture in the README: the first screen of the demo's report. Needs Chromium.
picture: demo
	chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
	  --disable-component-update --disable-sync --user-data-dir=$$(mktemp -d) --hide-scrollbars \
	  --window-size=1280,1500 --screenshot=docs/report.png "file://$$(pwd)/demo-world/report.html"
