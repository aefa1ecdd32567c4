# make venv | demo | test | lint | docs | docs-serve | benchmark | clean
#
# `make demo` and `make test` make the environment first when it is missing or when setup.py or constraints.txt changed.
# Variables: PYTHON=python3.11  PIP_ARGS="--no-cache-dir"  TEST="tests -k ctc"  TEST_WORKERS=3
#            DEMO_OUT=demo_out  DEMO_ARGS="--seed 1"

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON    ?= python3.11
VENV      ?= .venv
PIP_ARGS  ?=
TEST      ?= tests
TEST_ARGS ?=
TEST_WORKERS ?= 3
DEMO_OUT  ?= demo_out
DEMO_ARGS ?=
BENCHMARK_ARGS ?=

PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CORES := $(shell nproc 2>/dev/null || echo 2)
SOURCES := nemo_oracle_kd hydra_plugins conf examples tests benchmarks docs/tools setup.py
INSTALL := .ci/install $(PY) $(PIP_ARGS)

UNCOMPILED := /transformers/(models/(?!auto/)|generation/|pipelines/)|/torch/testing/_internal/common_(?!dtype)|/tests?/|/pygments/lexers/[a-z]|/sympy/physics/|/nemo/collections/(tts|speechlm2)/|/(wandb|opentelemetry|aistore|indic_numtowords|setuptools|pip|uv)/
COMPILE = $(PY) -m compileall -q -x '$(UNCOMPILED)' -j $(CORES)

.PHONY: help venv demo test lint format docs docs-serve benchmark clean

help:
	@sed -n '1,6s/^# \{0,1\}//p' Makefile

venv: $(STAMP)

# The stamp is written last: after an interruption the next make goes on where the installation stopped.  An environment
# whose pip does not start is replaced.  Bytecode is compiled on all cores, except what nobody imports; that of PyTorch while the rest
# is downloaded.
$(STAMP): setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.10 to 3.12 and run make PYTHON=python3.x"; exit 1; }
	@rm -f $(STAMP)
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then echo "[1/4] new environment in $(VENV)"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); fi
	@echo "[2/4] PyTorch and build tools"; $(INSTALL) -q setuptools torch
	@echo "[3/4] NeMo and the rest (about 150 packages, ten seconds to some minutes)"; \
	($(COMPILE) $(VENV)/lib/python*/site-packages/torch >/dev/null 2>&1 &); $(INSTALL) --no-build-isolation -e '.[test,lint]'
	@echo "[4/4] bytecode"; $(COMPILE) $(VENV)/lib >/dev/null 2>&1 || true
	@touch $(STAMP)
	@echo "environment ready: $(VENV)"

demo: export OMP_NUM_THREADS ?= $(CORES)
demo: $(STAMP)
	$(PY) examples/demo/run.py --out $(DEMO_OUT) $(DEMO_ARGS)

# Processes of one thread each: the tests use tiny tensors, for which more threads only wait for each other. The third
# process works while tests of the others wait for commands that they started, and who has no test left takes over others.
test: export OMP_NUM_THREADS ?= 1
test: export MKL_NUM_THREADS ?= 1
test: $(STAMP)
	@started=$$SECONDS; status=0; $(PY) -m pytest -n $(TEST_WORKERS) --dist worksteal $(TEST) $(TEST_ARGS) || status=$$?; \
	if [ $$status -eq 0 ]; then verdict=PASSED; else verdict="FAILED (pytest exit code $$status)"; fi; \
	echo "make test: $$verdict in $$((SECONDS - started)) s"; exit $$status

lint: $(STAMP)
	@existing=$$(ls -d $(SOURCES) 2>/dev/null || true); \
	$(PY) -m ruff check $$existing; $(PY) -m isort --check-only --quiet $$existing; $(PY) -m black --check --quiet $$existing; \
	echo "make lint: PASSED"

format: $(STAMP)
	@existing=$$(ls -d $(SOURCES) 2>/dev/null || true); \
	$(PY) -m ruff check --fix --quiet $$existing || true; $(PY) -m isort --quiet $$existing; $(PY) -m black --quiet $$existing

# The site's own packages come with the first `make docs`, so that nobody waits for them who only runs the tests.
$(VENV)/.docs-installed: $(STAMP)
	@$(INSTALL) -q --no-build-isolation -e '.[docs]'; touch $@

docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --clean
	@echo "make docs: site/index.html"

docs-serve: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs serve --strict

benchmark: export OMP_NUM_THREADS ?= $(CORES)
benchmark: $(STAMP)
	$(PY) benchmarks/run.py $(BENCHMARK_ARGS)

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis $(DEMO_OUT)
	find nemo_oracle_kd hydra_plugins conf tests examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
