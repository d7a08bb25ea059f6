# One verb each: demo, test, services, condor, lint, docs, bench. Needs Python >= 3.11 and make; all else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test services condor lint docs bench fuzz clean

# The main job: a census of all Python sources of this interpreter on four engines, then serially, then compared.
demo: $(VENV)/.ready
	$(BIN)/python examples/source_census.py

# The whole suite, in three processes: most tests wait for others' processes.
test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Against real services (sshd on hosts of their own …), which are installed first: Debian or Ubuntu, as root.
services: $(VENV)/.ready-dev
	tests/services/install.sh
	$(BIN)/python -m pytest tests/services -p no:xdist

# The same against a real HTCondor, which takes 300 MB of another Debian release: apart from the rest, and not for every change.
condor: $(VENV)/.ready-dev
	tests/services/install_condor.sh
	$(BIN)/python -m pytest tests/services/condor_tests.py -p no:xdist

lint: $(VENV)/.ready-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# Writes the reference pages anew, then all pages as a site into build/docs.
docs: $(VENV)/.ready-dev
	$(BIN)/python docs/tools

# The short form; `.venv/bin/python bench/run.py --full` measures everything.
bench: $(VENV)/.ready
	$(BIN)/python bench/run.py

# Every decoder, and the scheduler's stimuli: `make fuzz RUNS=1000000` is thorough.
RUNS ?= 100000
FUZZED := from_client from_engine to_client to_engine signed file nanny stream stimuli values
fuzz: $(VENV)/.ready-fuzz
	for target in $(FUZZED); do $(BIN)/python tests/fuzz/run.py $$target $(RUNS) || exit 1; done

clean:
	rm -rf $(VENV) bench/.envs build .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A new venv if there is none; the stamps say what was last installed into it.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "enginery needs Python 3.11 or later, but $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[test,lint,docs]'
	@touch $@ $(VENV)/.ready

$(VENV)/.ready-fuzz: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[fuzz]'
	@touch $@ $(VENV)/.ready
