# make run starts everything on this machine, make test tests it; `make` lists the rest.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
VENV ?= .venv
PORT ?= 8080
DATA ?= .data
REPLICAS ?= 1
SECONDS ?= 60
BIN  := $(VENV)/bin
PY   := $(BIN)/python
INSTALL := VENV="$(VENV)" PYTHON="$(PYTHON)" sh requirements/install.sh
PROTOS  := $(shell find protos -name '*.proto') protos/generate.py
NODE    := node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' && command -v npm

# Measured by their own tests: tests/unit/NAME, and the contract suites they implement.
# `make test-all` runs these once, while it measures.
MEASURED := chassis session executor
CONTRACT_session  := tests/contract/store
CONTRACT_executor := tests/contract/channels tests/contract/agents

# Each of these is one process of tests. First what judges times, or needs a machine that is not
# busy: they mostly wait, so two of them are not. Then the rest, the longest first.
ALONE  := alone-nemesis alone-system alone-agents
BESIDE := coverage-executor coverage-session beside-contained beside-system beside-browser beside-units coverage-chassis

# Each stamp is touched when its step has succeeded, so that a second start is instant.
RUN_READY := $(VENV)/.ready-run
API_READY := $(VENV)/.ready-api
DEV_READY := $(VENV)/.ready-dev
PAGE_READY := services/gateway/static/vendor/STAMP
# What each backend needs beside the platform, when it is chosen.
AGENT_process = $(AGENT_READY)
AGENT_docker  = .agent-image
AGENT_READY := services/executor/agent/node_modules/.ready

help: ## Show these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

$(RUN_READY): requirements/run.txt requirements/build.txt requirements/install.sh
	@$(INSTALL) run build
	@touch $@

$(API_READY): $(RUN_READY) pyproject.toml $(PROTOS)
	@$(INSTALL) .
	@touch $@

$(DEV_READY): $(API_READY) requirements/dev.txt
	@$(INSTALL) dev
	@touch $@

# Without its third-party modules the page says what to do, and everything else works.
$(PAGE_READY): $(API_READY) services/gateway/vendor.py package.json package-lock.json
	-@{ $(NODE); } >/dev/null 2>&1 || $(INSTALL) node
	-@$(PY) -m services.gateway.vendor && touch $@

# What real agents run. It is large, so `make run` does without it; so do the tests, by name.
$(AGENT_READY): services/executor/agent/package.json services/executor/agent/package-lock.json services/executor/agent/install.sh | $(API_READY)
	-@{ $(NODE); } >/dev/null 2>&1 || $(INSTALL) node
	-@VENV="$(VENV)" sh services/executor/agent/install.sh && touch $@

agent-cli: $(AGENT_READY) ## Install the program that real agents run, at its pinned version
	@test -e $(AGENT_READY)

agent-image: agent-cli ## Build the Docker image that real agents run in
	@sh services/executor/agent/image.sh

# Without the image the platform runs, and says that it is missing.
.agent-image: $(API_READY)
	-@sh services/executor/agent/image.sh --is-current >/dev/null 2>&1 || $(MAKE) --no-print-directory agent-image

setup: $(DEV_READY) $(PAGE_READY) $(AGENT_READY) ## Install everything that development needs
	@:

protos: $(RUN_READY) ## Generate the Python API from protos/
	@$(PY) protos/generate.py

run: $(API_READY) $(PAGE_READY) $(AGENT_$(BACKEND)) ## Start everything on this machine [PORT=8080] [DATA=.data] [REPLICAS=1] [STORE=sqlite] [BACKEND=simulation] [KEY_FILE=] [UPSTREAM=]
	@$(PY) -m services.local --port "$(PORT)" --data "$(DATA)" --replicas "$(REPLICAS)"$(if $(STORE), --store "$(STORE)")$(if $(BACKEND), --backend "$(BACKEND)")$(if $(KEY_FILE), --key-file "$(KEY_FILE)")$(if $(UPSTREAM), --upstream "$(UPSTREAM)")

test: setup ## Run the tests; what this machine lacks is skipped by name
	@$(PY) -m pytest

test-all: setup ## Run the tests, and fail where one would be skipped
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target $(ALONE) REQUIRE=--require-all
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target $(BESIDE) REQUIRE=--require-all ONLY='-m "not contained and not alone"'

alone-agents: setup
	@$(PY) -m pytest -q $(REQUIRE) -m alone tests/contract/agents

alone-%: setup
	@$(PY) -m pytest -q $(REQUIRE) -m alone tests/$*

beside-contained: setup
	@$(PY) -m pytest -q $(REQUIRE) -m "contained and not alone" tests/contract/agents

beside-units: setup
	@$(PY) -m pytest -q $(REQUIRE) -m "not alone" tests/docs tests/nemesis tests/rooms tests/unit $(MEASURED:%=--ignore=tests/unit/%)

beside-%: setup
	@$(PY) -m pytest -q $(REQUIRE) -m "not alone" tests/$*

coverage: $(MEASURED:%=coverage-%) ## Measure chassis, session and executor by their own tests (95 % of branches)

coverage-%: setup
	@COVERAGE_FILE=.coverage-$* $(PY) -m pytest -q tests/unit/$* $(CONTRACT_$*) $(REQUIRE) $(ONLY) --cov=services/$* --cov-branch --cov-report=term-missing:skip-covered
	@COVERAGE_FILE=.coverage-$* $(PY) -m tests.rooms.branches $*

lint: setup ## Check style, imports between rooms, files, and the contract
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo 2>&1
	@$(BIN)/buf lint && $(BREAKING)
	@$(PY) -m pytest -q tests/rooms

types: setup ## Check types
	@$(BIN)/mypy

nemesis: setup ## Break a cluster, and judge what its clients saw [SECONDS=60] [SEED=N]
	@$(PY) -m tests.nemesis --seconds "$(SECONDS)" $(if $(SEED),--seed "$(SEED)")

bench: setup ## Measure this machine, and write the README's figures
	@$(PY) -m tests.load --out docs/benchmarks.json
	@$(PY) -m tests.load.readme

pins: ## Resolve requirements/ anew (needs uv)
	@sh requirements/compile.sh

clean: ## Remove the environment, what was generated, and caches; keeps DATA
	@rm -rf $(VENV) moorline/*/v1 services/gateway/static/vendor .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

RELEASE  := $(shell git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null)
BREAKING := $(if $(RELEASE),$(BIN)/buf breaking --against '.git#tag=$(RELEASE)',echo 'buf breaking: no release yet to compare with')

.PHONY: help setup agent-cli agent-image protos run test test-all coverage lint types nemesis bench pins clean
