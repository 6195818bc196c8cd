# Everything a checkout can do. `make` alone lists it; every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCHMARKS := cli submit agents restart start telemetry memory gpu.memory gpu.speed gpu.job gpu.double launches coverage trace scheduling plan admission carry watch

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-quick coverage dist cuda-double test-cuda chaos check docs format openapi constraints clean $(BENCHMARKS:%=bench-%)

help:
	@echo 'make demo         a fleet, three jobs and their adapters, in under four minutes'
	@echo 'make test         every test (TESTS="tests/jobs -x" for some)'
	@echo 'make test-quick   those without processes, Ray or PostgreSQL: a few minutes on two free cores'
	@echo 'make coverage     lines and branches of the pure packages, and the floor that they keep'
	@echo 'make cuda-double  CUDA without a GPU: a CUDA build of torch in .venv-cuda, in front of a stand-in (2.7 GB, once)'
	@echo 'make test-cuda    the tests that run on it'
	@echo 'make soak         worlds of faults for an hour (ARGS="--seconds 60" for less, ARGS=SEED for one)'
	@echo 'make check        lint, format, types, import contracts and documentation'
	@echo 'make docs         the documentation as a site, in build/site'
	@echo 'make format       apply the format that `make check` asks for'
	@echo 'make openapi      write docs/openapi.json again, after a change of routes'
	@echo 'make bench-NAME   NAME is one of: $(BENCHMARKS)'
	@echo 'make chaos        real faults at each phase of a real job (ARGS="--faults ... --phases ...")'
	@echo 'make dist         wheel and sdist in dist/, checked, and tried in an empty environment (a few minutes)'
	@echo 'make setup        only set up .venv'
	@echo 'make constraints  pin the newest versions that pyproject.toml allows'
	@echo 'make clean        remove what the above made, .venv too'

setup: $(READY)

$(READY): pyproject.toml constraints.txt .ci/setup
	@PYTHON='$(PYTHON)' VENV='$(VENV)' .ci/setup
	@touch $@

demo: $(READY)
	@$(BIN)/python -m deploy.demo.run $(DEMO)

# What waits for real processes runs alone, last: it watches the clock. tests/workers runs apart from the rest, for an
# agent that closes ends the children of its process, and those of a test's are the databases of other tests.
# Both start processes on a machine that others may be using, so what failed there is tried once more. The first
# failure stays in the output: it is a fault of the test or of the product, to be fixed.
define WITH_PROCESSES
$(BIN)/python -m pytest --cache-clear $(1) || { echo 'A second try of what failed:'; $(BIN)/python -m pytest --last-failed $(1); }
endef
ALONE := tests/acceptance
test: $(READY)
ifdef TESTS
	@$(BIN)/python -m pytest $(TESTS)
else
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ALONE:%=--ignore=%) --ignore=tests/workers --ignore=tests/cuda_double
	@$(call WITH_PROCESSES,-n 2 --dist loadfile tests/workers)
	@$(call WITH_PROCESSES,-n 2 --dist loadfile -m 'not slow' tests/cuda_double)
	@$(call WITH_PROCESSES,$(ALONE))
endif

# For the loop at a desk: what needs no process, no Ray and no PostgreSQL. Without the poisoning of every column, which
# takes a sixth of the time.
PURE := tests/jobs tests/scheduler tests/simulate
test-quick: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -k 'not postgresql' \
		--ignore=tests/api/edge/test_unreadable.py $(PURE) tests/whatif tests/control tests/api $(TESTS)

# Of the pure packages, by their own tests; the floor is in pyproject.toml. On its own, for measuring slows them down and
# the rest of `make test` says nothing of what it holds.
coverage: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report term $(PURE)

# Real allocator, no GPU: docs/cuda-double.md.
cuda-double: $(READY)
	@VENV='$(VENV)' .ci/cuda-double

test-cuda: $(READY)
	@$(BIN)/python -m pytest tests/cuda_double $(TESTS)

# A server and its hosts on a virtual clock, with faults drawn from one seed after another.
soak: $(READY)
	@$(BIN)/python -m tests.faults $(ARGS)

# NO_MKDOCS_2_WARNING: what the theme prints of its own future.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases deploy benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m orchestrator.api.openapi_file --check
	$(MKDOCS)

docs: $(READY)
	@$(MKDOCS) && echo build/site/index.html

# docs/openapi.json, made from the routes.
openapi: $(READY)
	@$(BIN)/python -m orchestrator.api.openapi_file

dist: $(READY)
	@PYTHON='$(PYTHON)' VENV='$(VENV)' .ci/dist

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BENCHMARKS:%=bench-%): bench-%: $(READY)
	@$(BIN)/python -m benchmarks.$* $(ARGS)

chaos: $(READY)
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

# A venv of its own, so that nothing which happens to be installed gets pinned. `+cpu` is this machine's build of torch;
# CUDA's wheels are pinned by torch itself.
constraints:
	rm -rf build/pin && $(PYTHON) -m venv build/pin
	build/pin/bin/pip install --quiet --editable '.[worker,dev]'
	(sed '/^[^#]/,$$d' constraints.txt && build/pin/bin/pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//') > build/pin.txt
	mv build/pin.txt constraints.txt && rm -rf build/pin

clean:
	rm -rf $(VENV) .venv-cuda .demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
