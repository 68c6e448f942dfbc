# Every target makes its own set-up: the first `make run` on a fresh machine is all there is to do.
PYTHON ?= python3
# Another Python gets an environment of its own.
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS := $(shell find protos -name '*.proto')
# Most tests wait for processes rather than compute: more workers than processors.
PYTEST_ARGS ?= -n 5 --dist worksteal

.PHONY: help run test lint bench format clean
help:  ## What there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# An editable install of everything. The generated code follows the protos.
$(STAMP): pyproject.toml tools/hatch_build.py tools/generate_protos.py $(PROTOS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Trivet needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.13" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about a minute, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli]' --group dev
	@touch $@

run: $(STAMP)  ## Run a real task through every part of the system
	@$(BIN)/trivet run $(or $(TASK),examples/pipeline.json)

test: $(STAMP)  ## All tests: real processes, real sockets, real kills
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff, mypy, buf, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf lint protos
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## Format Python and protos
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

bench: $(STAMP)  ## Measure; writes bench/results.json
	$(BIN)/python -m bench

clean:  ## Remove everything that was made
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache
