# On a fresh machine: `make demo` or `make test`. Nothing else is needed but Python 3.11 or newer.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
# A Python that was asked for may be pyenv's without being active: then its name runs nothing.
ifneq ($(origin PYTHON),file)
ASKED := $(PYTHON)
override PYTHON := $(shell \
	for python in "$(ASKED)" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/"$(ASKED)"; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
ifeq ($(PYTHON),)
$(error $(ASKED) is no Python 3.11 or newer that runs, here or among those of pyenv)
endif
# What is run on several of them has an environment for each, so that .venv stays.
ifneq ($(filter soak bench bench-%,$(MAKECMDGOALS)),)
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV ?= .venv-$(VERSION)
endif
endif
# The oldest dependencies go where they are in nobody's way.
ifneq ($(filter oldest,$(MAKECMDGOALS)),)
VENV ?= .venv-oldest
endif
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BASE ?= HEAD
# Each file of tests goes to one process, for what it prepares once.
AT_ONCE = --numprocesses=auto --maxprocesses=4 --dist=loadfile
ROUNDS ?= 10
PROGRAMS ?= 1000
RESULTS ?= build/benchmark$(VENV:.venv%=%).json
# Pyright asks the first python on the PATH where packages are; its --verifytypes reads no other option.
IN_VENV = PATH="$$(cd "$(BIN)" && pwd):$$PATH"

.PHONY: demo test oldest lint soak model schedules torture mutants fuzz bench bench-compare bench-plots clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	"$(BIN)/python" examples/demo.py

# Measured from the outside, since pytest loads our plugin, and the package, before its own plugins begin.
test: $(STAMP)
	"$(BIN)/coverage" erase
	"$(BIN)/coverage" run -m pytest -p no:randomly $(AT_ONCE)
	"$(BIN)/coverage" combine --quiet
	"$(BIN)/coverage" report

# The same tests with the oldest of what Tocsin needs that pyproject.toml allows.
OLDEST = import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	extras = project["optional-dependencies"]; \
	print(*[one.replace(">=", "==") for one in project["dependencies"] + extras["trio"] + extras["cli"]])
oldest: $(STAMP)
	"$(BIN)/python" -m pip install --quiet $$("$(BIN)/python" -c '$(OLDEST)')
	"$(BIN)/python" -m pytest -p no:randomly $(AT_ONCE)

lint: $(VENV)/.linted
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/python" -m mypy
	$(IN_VENV) pyright
	$(IN_VENV) pyright --ignoreexternal --verifytypes tocsin
	"$(BIN)/lint-imports"

# The suite in ROUNDS random orders, then in asyncio's debug mode and, from 3.12 on, with eager tasks.
SOAK = "$(BIN)/python" -m pytest $(AT_ONCE) $(ARGS)
soak: $(VENV)/.soaked
	@for round in $$(seq $(ROUNDS)); do echo "== round $$round of $(ROUNDS)"; $(SOAK) || exit; done
	@echo "== debug mode of asyncio"; PYTHONASYNCIODEBUG=1 $(SOAK)
	@if "$(BIN)/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; \
	then echo "== eager tasks"; $(SOAK) --eager-tasks; fi

# Ten million calls; ARGS="--seconds 60" for less, --help tells more.
torture: $(STAMP)
	"$(BIN)/python" -u -m tests.torture $(ARGS)

# A minute for each parser under atheris, then hypothesis at length. ARGS="--seconds 600 filter_text"
fuzz: $(VENV)/.fuzzing
	"$(BIN)/python" -m tests.fuzzing $(ARGS)
	"$(BIN)/python" -m pytest tests/test_fuzz.py tests/test_fuzzing.py --hypothesis-profile=long

# As many new programs as PROGRAMS says on each flavour and backend; ARGS="-k SrcuChain" for less of it.
model: $(STAMP)
	TOCSIN_MODEL_PROGRAMS="$(PROGRAMS)" "$(BIN)/python" -m pytest tests/test_model.py $(ARGS)

# ARGS=locks for one module, ARGS=--again for what survived last time. Taken up where it was broken off.
mutants: $(VENV)/.mutating
	"$(BIN)/python" -m tests.mutation $(ARGS)

# ARGS="--only 'sync dispatch'" for less of it; --help tells more.
bench: $(STAMP)
	"$(BIN)/python" -m tests.benchmarks --json "$(RESULTS)" $(ARGS)

# What has become dearer since BASE, a revision; status 1 when something has.
bench-compare: $(STAMP)
	"$(BIN)/python" -m tests.benchmarks.compare $(ARGS) -- "$(BASE)"

# The plots and the tables of the documentation, from what make bench has found on each Python.
bench-plots: $(STAMP)
	"$(BIN)/python" -m tests.benchmarks.plots build/benchmark*.json \
		--plots docs/explanation/images --page docs/explanation/performance.md $(ARGS)

# The orders in which small casts of tasks can use the lock and the grace period, all of them or up to
# the bounds that it prints; some minutes.
schedules: $(STAMP)
	"$(BIN)/python" -m tests.schedules_cases

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say make PYTHON=..." >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --editable ".[test]"
	@touch "$(STAMP)"

$(VENV)/.linted: $(STAMP)
	"$(BIN)/python" -m pip install --quiet --editable ".[lint]"
	@touch "$@"

$(VENV)/.soaked: $(STAMP)
	"$(BIN)/python" -m pip install --quiet --editable ".[soak]"
	@touch "$@"

$(VENV)/.fuzzing: $(STAMP)
	"$(BIN)/python" -m pip install --quiet --editable ".[fuzz]"
	@touch "$@"

$(VENV)/.mutating: $(STAMP)
	"$(BIN)/python" -m pip install --quiet --editable ".[mutation]"
	@touch "$@"

clean:
	rm -rf "$(VENV)" .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
