# The two commands are `make demo` and `make test`; the rest is for those who carry this on.
#
# On Linux, PyPI's torch brings gigabytes of CUDA; for the CPU's build alone:
#     make demo TORCH="--index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
TORCH ?=
ARGS ?=
DEMO ?= demo
WORKERS ?= 2
BIN := .venv/bin
export OMP_WAIT_POLICY ?= passive
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: demo test slow spark check docs bench bench-small environment developer clean

demo: environment
	$(BIN)/etalage demo $(DEMO) $(ARGS)

# What a file's tests need is built once for the file, so a process takes whole files, the longest first
# (tests/conftest.py). One thread each: two that share two cores would only wait for each other. Byte code is
# kept, whatever the environment says: the tests start hundreds of processes, and each would compile all that
# it imports.
test slow: export PYTHONDONTWRITEBYTECODE :=
# All that the tests need is installed: one that is skipped because something is missing is a failure.
test slow: export ETALAGE_ALL_INSTALLED := 1
test: developer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder $(ARGS)

# What takes minutes for one answer: see docs/tests.md.
slow: developer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --numprocesses $(WORKERS) --dist worksteal $(ARGS)

# A shop on a Spark cluster that is started on loopback (examples/on_spark). ARGS=--small: the least of it.
spark: developer
	OMP_NUM_THREADS=1 $(BIN)/python examples/on_spark/run.py $(ARGS)

check: developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as one site, in build/site (mkdocs.yml); a link that leads nowhere is an error.
docs: developer
	$(BIN)/mkdocs build --strict

# Every script of benchmarks/ that has a command line, or only some: make bench ONLY="ncf beauty". Each finds its
# data in ../shared/data, or in the folder that ETALAGE_DATA names; hours. `bench-small` runs them on miniatures
# that they draw, in minutes, and writes nothing but build/bench-small.
BENCHMARKS := $(sort $(patsubst benchmarks/%.py,%,$(shell grep -l "^ *run_main(main)" benchmarks/*.py)))
ONLY ?= $(BENCHMARKS)

bench: developer
	@failed=""; for name in $(ONLY); do echo "--- $$name"; \
	  OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$name.py || failed="$$failed $$name"; done; \
	if [ -n "$$failed" ]; then echo "did not end well:$$failed" >&2; exit 1; fi

bench-small: developer
	@rm -rf build/bench-small; failed=""; for name in $(ONLY); do echo "--- $$name"; \
	  OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$name.py --small --out build/bench-small/$$name \
	    || failed="$$failed $$name"; done; \
	if [ -n "$$failed" ]; then echo "did not end well:$$failed" >&2; exit 1; fi

environment: .venv/.installed
developer: .venv/.developer

.venv/.installed: requirements/lock.txt pyproject.toml
	@echo "making the environment in .venv (once; some minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check $(TORCH) torch==2.13.0
	$(BIN)/pip install --disable-pip-version-check --requirement requirements/lock.txt
	$(BIN)/pip install --disable-pip-version-check --no-deps --editable .
	touch $@

# Installed from Debian where there is one: the page's tests need a browser, the kill sweeps strace, the online
# store's a Redis server, Spark's a Java (the package openjdk-17-jre-headless, and any other will do).
.venv/.developer: .venv/.installed requirements/lock-dev.txt
	$(BIN)/pip install --disable-pip-version-check --no-deps --requirement requirements/lock-dev.txt
	@for tool in chromium strace redis-server; do \
	  command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	command -v java > /dev/null || [ -n "$$JAVA_HOME" ] || missing="$$missing openjdk-17-jre-headless"; \
	if [ -n "$$missing" ]; then \
	  if command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing > /dev/null; \
	  else echo "the tests need$$missing; install them with your package manager" >&2; exit 1; fi; fi
	touch $@

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
