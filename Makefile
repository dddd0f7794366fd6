# Every target sets up what it needs: Python 3.10+, make and a C compiler are enough, no root.
#   make demo      the main job, over MPI             make test      lint, types, tests (the fast ones)
#   make test-all  the slow tests too                 make bench     benchmarks against peers
#   make coverage  what the tests run through         make clean     removes all that these made
#   make test-slurm  the job scripts under a Slurm    make dist      wheels, tried in an empty environment
#   make test-external   real programs as solvers; installs CalculiX, FEniCSx and GetDP where it may (Debian, root)
# PYTHON=python3.12 make ...    picks another interpreter for the environment
# VENV=/path EXTRAS=dev CONSTRAINTS=/dev/null make ...
#                               uses an environment of your own and keeps its CUDA torch and its cluster's mpi4py

COMMA := ,
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RANKS ?= 3
EXTRAS ?= mpich,dev
RUN_EXTRAS ?= $(subst $(COMMA)dev,,$(EXTRAS))
CONSTRAINTS ?= constraints.txt
TEST_ARGS ?=
# one thread a rank: two OpenMP threads beside another busy process made training 4.5 times slower
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
PYTEST := $(THREADS) $(BIN)/python -m pytest
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist worksteal

.PHONY: setup demo test test-all test-external test-slurm coverage lint lint-format lint-rules lint-types dist bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@ $(VENV)/.installed-to-run

# the main job does without the tools of development
$(VENV)/.installed-to-run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(RUN_EXTRAS)]'
	touch $@

demo: $(VENV)/.installed-to-run
	$(THREADS) $(BIN)/mpiexec -n $(RANKS) $(BIN)/python -m mpi4py -m msvae run examples/demo/study.toml --output runs/demo --force </dev/null

lint: lint-format lint-rules lint-types

# .pre-commit-config.yaml runs them one by one
lint-format: setup
	$(BIN)/ruff format --check .

lint-rules: setup
	$(BIN)/ruff check .

lint-types: setup
	$(BIN)/mypy

test: lint
	$(PYTEST) -m "not slow" $(SIDE_BY_SIDE) $(TEST_ARGS) </dev/null

# a quarter slower than the tests alone
coverage: setup
	$(PYTEST) -m "not slow" $(SIDE_BY_SIDE) --cov --cov-report=term-missing:skip-covered $(TEST_ARGS) </dev/null

test-all: lint
	$(PYTEST) $(SIDE_BY_SIDE) $(TEST_ARGS) </dev/null

# what cannot be installed is skipped, and said
test-external: setup
	if test "$$(id -u)" = 0 && command -v apt-get > /dev/null; then \
		apt-get install --yes --no-install-recommends calculix-ccx getdp python3-dolfinx > /dev/null || true; fi
	$(PYTEST) tests/external -rs $(TEST_ARGS) </dev/null

# wheels into dist/: one for any machine, one with compiled kernels; both tried in an environment without a compiler
dist: setup
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	MSVAE_PREBUILT=1 $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python tests/try_wheels.py dist $(CONSTRAINTS)

# a Slurm of its own, as processes on this machine: needs root, and Debian's packages (installed where apt-get is)
test-slurm: setup
	command -v slurmctld >/dev/null || test -x /usr/sbin/slurmctld || apt-get install -y --quiet slurm-wlm munge
	$(PYTEST) -m slurm tests/slurm $(TEST_ARGS) </dev/null

bench: setup .venv-muspectre/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS),bench]'
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/solvers.py </dev/null
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/training.py </dev/null
	$(THREADS) $(BIN)/mpiexec -n 3 $(BIN)/python -m mpi4py benchmarks/dispatch.py </dev/null
	$(THREADS) $(BIN)/python benchmarks/random_fields.py </dev/null
	$(THREADS) $(BIN)/python benchmarks/push_forward.py </dev/null
	$(THREADS) $(BIN)/python benchmarks/inverse_design.py </dev/null

# muSpectre's wheel replaces muGrid's extension module, so it lives apart
.venv-muspectre/bin/python:
	$(PYTHON) -m venv .venv-muspectre
	.venv-muspectre/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) muSpectre

clean:
	rm -rf $(VENV) .venv-muspectre runs dist .coverage* .pytest_cache .mypy_cache .ruff_cache
