# Two commands for a newcomer: `make demo` and `make test`. Each does all of its own set-up.

.DEFAULT_GOAL := help
.PHONY: help install debian demo check test chaos docs bench format clean

SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do $$p -c "$(SUITABLE)" 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
CODE := child_trainer cluster controller ps nascluster.py
# Real data for the tests, where there is some (see CONTRIBUTING.md).
NASCLUSTER_DATA ?= $(wildcard $(abspath ../shared/data))
export NASCLUSTER_DATA

help:
	@echo "make demo     install, then run a whole search on this machine (a few minutes)"
	@echo "make test     install, then run all checks and all tests"
	@echo "make chaos    install, then the long tests of failures: 50 kills and more, with their reports (an hour)"
	@echo "make docs     install, then run the commands of the documentation, also those that take minutes"
	@echo "make bench    install, then every measurement of benchmarks/, each with its table"
	@echo "make check    formatting, lint, types, import contracts, generated code"
	@echo "make format   bring the code into shape"
	@echo "make clean    remove the virtual environment and caches"

# Compiled on all cores: pip would do it on one, and many containers forbid Python to keep what it compiles later.
$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "nascluster needs Python 3.11 or 3.12 with the venv module (on Debian: apt-get install python3-venv)"; exit 2; }
	@echo "Installing into $(VENV) (PyTorch and Ray: some minutes the first time) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --constraint constraints.txt --group dev --editable .
	@$(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib $(CODE) || true
	@touch $@

install: $(VENV)/installed

demo: install
	@runs=$$HOME/nascluster_runs; name=demo; test ! -e $$runs/demo || name=demo-$$(date +%Y%m%d-%H%M%S); \
	$(BIN)/nascluster launch digits --name $$name

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m ps.wire.generate --check

# A real Prometheus and a real browser for the tests that ask for one: from Debian, where that may be installed without
# a question and without starting a service. Elsewhere those tests say what they lack, and are skipped.
debian:
	@missing=; command -v promtool >/dev/null || missing=prometheus; command -v chromium >/dev/null || missing="$$missing chromium"; \
	test -z "$$missing" || test "$$(id -u)" != 0 || test -d /run/systemd/system || ! command -v apt-get >/dev/null || { \
		echo "Installing$$missing from Debian ..."; export DEBIAN_FRONTEND=noninteractive; \
		{ timeout 60 apt-get -qq update; timeout 240 apt-get -qq install --no-install-recommends $$missing; } >/dev/null 2>&1 \
		|| echo "$$missing could not be installed; the tests that need it are skipped"; }

# Two processes: one for the tests that start a Ray, in turn, and the other for the rest (see CONTRIBUTING.md).
# What has changed is compiled first, as each search has a dozen processes.
test: check debian
	@$(BIN)/python -m compileall -q $(CODE)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

chaos: install
	NASCLUSTER_CHAOS=$${NASCLUSTER_CHAOS:-10} $(BIN)/python -m pytest tests/chaos tests/deploy tests/cluster/runners \
		$$(grep -rl --include='*.py' 'from tests.lengths import' tests | grep -v -e ^tests/chaos -e ^tests/deploy -e ^tests/cluster/runners) -s

docs: install
	NASCLUSTER_DOCS=1 $(BIN)/python -m pytest tests/docs

bench: install
	@set -e; for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python -m benchmarks.$$(basename $$script .py) || [ $$script = benchmarks/gpu_children.py ]; \
	done

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
