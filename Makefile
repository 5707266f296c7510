# Two commands: `make bench` and `make test`. Each sets up .venv first.
#
# A machine with its own torch and no network: make bench PYTHON=python3 VENV=
# On a GPU: make gpu-check, which takes 9 minutes at most, and make gpu-tune, about 5; their files go
# to the folder OUT names.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= 2.13.0
ARGS ?=
# Tests run in processes side by side; one that ends early takes over what another has left.
WORKERS ?= -n $(shell nproc) --dist worksteal

ifeq ($(VENV),)
RUN := $(PYTHON)
BIN :=
else
RUN := $(VENV)/bin/python
BIN := $(VENV)/bin/
endif
CPP = $(shell find csrc tests bench -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
SOURCES := $(shell find csrc adamp_fused -name '*.[hc]*' -o -name '*.py') setup.py pyproject.toml
STAMPS := build/stamps-$(notdir $(VENV))

.PHONY: bench paper test proofs test-all test-frameworks nightly real-build gpu-check gpu-tune lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make bench       measure the step and train on real data (ARGS=--help for more)"
	@echo "make paper       replay the paper's experiments (ARGS=--quick: in a few minutes)"
	@echo "make test        run the test suite but for the long proofs"
	@echo "make proofs      run the long proofs: some planted faults, PTX, Triton targets, sanitizers"
	@echo "make test-all    both"
	@echo "make test-frameworks  train under Accelerate, Lightning, timm and others as they are on PyPI"
	@echo "make nightly     what takes longer: all planted faults, mutants of the kernels, generated tests"
	@echo "make real-build  compile the CUDA kernels without a GPU and check their machine code"
	@echo "make gpu-check   all that needs a GPU: tests, sanitizers, counts, benchmark"
	@echo "make gpu-tune    the best constants of the CUDA kernels (csrc/cuda/tuning.h) on a GPU"
	@echo "make lint        lint, format and type checks"

bench: $(STAMPS)/built
	PYTHONPATH=. $(RUN) -m bench $(ARGS)

paper: $(STAMPS)/built
	PYTHONPATH=. $(RUN) -m bench paper $(ARGS)

test: $(STAMPS)/built
	@echo "Left to make test-all: planted faults, PTX, two Triton targets, sanitizers on the emulation"
	@echo "Left to make test-frameworks: training under Accelerate, Lightning, timm and others"
	$(RUN) -m pytest $(WORKERS) -m "not proof and not nightly" $(ARGS)

proofs: $(STAMPS)/built
	$(RUN) -m pytest $(WORKERS) -m proof $(ARGS)

test-all: test proofs

# In an environment of its own, kept in ~/.cache, whose torch is that of the extension built here.
test-frameworks: $(STAMPS)/built
	PYTHONPATH=tests $(PYTHON) -m frameworks --torch $(TORCH) $(ARGS)

nightly: $(STAMPS)/built
	$(RUN) -m pytest $(WORKERS) -m nightly
	PYTHONPATH=tests $(RUN) -m kernels.emulation.mutants $(ARGS)
	$(RUN) -m pytest tests/parity/test_generated.py --hypothesis-profile=nightly

# In an environment of its own, kept in ~/.cache.
real-build:
	PYTHONPATH=tests $(PYTHON) -m kernels.real_build $(ARGS)

# Builds by itself, for the GPU at hand.
gpu-check: $(STAMPS)/packages
	PYTHONPATH=. $(RUN) -m bench.tools.gpu_check $(ARGS)

# Compiles each variant by itself.
gpu-tune: $(STAMPS)/packages
	PYTHONPATH=. $(RUN) -m bench.tools.tune $(ARGS)

lint: $(STAMPS)/packages
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(BIN)clang-format --dry-run --Werror $(CPP)

format: $(STAMPS)/packages
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .
	$(BIN)clang-format -i $(CPP)

$(STAMPS)/packages: requirements-dev.txt
	mkdir -p $(STAMPS)
ifneq ($(VENV),)
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet torch==$(TORCH)
	$(RUN) -m pip install --quiet -r requirements-dev.txt
endif
	touch $@

# In place, so that what is tested and measured is this tree.
$(STAMPS)/built: $(STAMPS)/packages $(SOURCES)
	$(RUN) setup.py build_ext --inplace
	touch $@

clean:
	rm -rf build .venv adamp_fused/*.so
