# Every target sets up .venv when it is missing or older than what it is made from: the demo with what
# it needs, the others with developers' tools, too.
VENV := .venv
# That of .venv stays; otherwise the first that is supported. Another: make demo PYTHON=...
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for one in $(VENV)/bin/python $(PYTHONS); \
	do $$one -c '$(SUPPORTED)' 2>/dev/null && echo $$one && break; done)
MINUTES ?= 5
SEED ?= 1
GPU_PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
PIP := $(BIN)/pip install --disable-pip-version-check -c constraints.txt

# Debian and Ubuntu keep ensurepip in a package of its own. Made over one of another Python, .venv would
# be a mix of both.
define MAKE_VENV
@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null || { echo "make: $(if $(PYTHON),$(PYTHON) is no,none of \
$(PYTHONS) is a) Python 3.11 to 3.14 with venv (Debian, Ubuntu: apt install python3-venv); give one as PYTHON=..." >&2; exit 1; }
@$(PYTHON) -m venv $$(test "$$($(BIN)/python -V 2>&1)" = "$$($(PYTHON) -V)" || echo --clear) $(VENV)
endef

.PHONY: demo docs docs-outputs test lint bench gpu fuzz clean

demo: $(RUNTIME)
	rm -rf runs/demo
	$(BIN)/ablate demo -o runs/demo

# One thread per worker: more than one per core makes torch's threads wait for each other. Compiled
# modules are kept, whatever the environment says: the tests start some hundred processes.
test: lint
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, in runs/site; a warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Runs the commands of the documents, and compares what they print with what the pages show: all of docs/
# in half an hour, or PAGES="docs/study.md docs/sweep.md". DATA is a folder with the model and photographs
# that some pages use (pages/printed_outputs.py names them). The quick ones are part of the tests.
docs-outputs: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pages.printed_outputs $(PAGES) $(if $(DATA),--data $(DATA))

bench: $(STAMP)
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/sweep.py --images 2

# Everything that only a GPU can tell, in at most ten minutes: docs/gpu.md. In an environment of
# yours: that of the other targets has the CPU's torch.
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py --device cuda -o runs/gpu

# 100,000 damaged files and 1,000 commands; a short run is part of the tests.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/attacks/fuzz.py --minutes $(MINUTES) --seed $(SEED)

# Without developers' tools; most of it is PyTorch.
$(RUNTIME): pyproject.toml constraints.txt
	$(MAKE_VENV)
	@echo "installing ablate-kit[eval] into $(VENV): PyTorch, SciPy, Matplotlib, pandas; about 300 MB to fetch, 1.1 GB on disk"
	$(PIP) --no-compile -e ".[eval]"
	@touch $@

$(VENV)/.docs: $(RUNTIME)
	$(PIP) --quiet -e ".[docs]"
	@touch $@

$(STAMP): pyproject.toml constraints.txt Makefile
	$(MAKE_VENV)
	$(PIP) --quiet -e ".[dev]"
	touch $@ $(RUNTIME)

clean:
	rm -rf $(VENV) runs
