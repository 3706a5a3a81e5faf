# Two commands do all the set-up on a machine that has Python 3.11 to 3.13 and make:
#   make demo   the main job, from data to a report      make test   the tests
# PYTHON=/path/to/python picks an interpreter, VENV=/path another place for the environment.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check

# What `make demo` and `make test` pass on: make demo ARGS="seed=1", make test ARGS="--slow -k wheel"
ARGS ?=

# The tests are small: one thread each is fastest, and two of them fill two cores.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false MPLBACKEND=agg PYTHONHASHSEED=0

.PHONY: help demo test docs lab prepare notebooks bench wheel clean distclean

help:
	@echo "make demo       generate, fine-tune, evaluate: a report in a few minutes"
	@echo "make test       notebooks in sync, notebooks run, pytest (ARGS=--slow: the long ones too)"
	@echo "make docs       the site, in _docs/"
	@echo "make lab        JupyterLab on the notebooks"
	@echo "make prepare    after an edit of a notebook: clean, export to chronos_dysts/, write README.md, check"
	@echo "make notebooks  execute the notebooks in place and store what they show (ARGS=22_metrics: one)"
	@echo "make bench      the benchmarks: stages in seconds, then ratios against what one would do instead"
	@echo "make wheel      the wheel, in dist/"
	@echo "make clean      remove what was built (make distclean: $(VENV) too)"

# ---- the environment: stamps, so that a second call does nothing ----

# Prints nothing and succeeds for a Python that will do.
SUITS := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null

$(VENV)/.created:
	@if ! "$(PY)" $(SUITS); then \
	  for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
	    if "$$python" $(SUITS); then found="$$python"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "chronos-dysts needs Python 3.11, 3.12 or 3.13: $(if $(PYTHON),'$(PYTHON)' is not one,none was found on the PATH)." >&2; \
	    echo "Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  echo "Creating $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv --clear "$(VENV)" || { \
	    echo "'$$found' makes no virtual environments here. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@touch $@

$(VENV)/.runtime: $(VENV)/.created requirements.txt setup.py settings.ini pyproject.toml
	@echo "Installing the runtime set into $(VENV): some minutes, once"
	@$(PIP) install -qq --requirement requirements.txt
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@$(PIP) check -q
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	@echo "Installing the development set into $(VENV)"
	@$(PIP) install -qq --requirement requirements-dev.txt
	@$(PIP) check -q
	@touch $@

# ---- what people do ----

demo: $(VENV)/.runtime
	@$(BIN)/chronos-dysts demo $(ARGS)

test: $(VENV)/.dev
	@$(PY) tools/notebooks.py check
	@$(TEST_ENV) $(BIN)/nbdev_test --n_workers 2 --do_print
	@$(TEST_ENV) $(PY) -m pytest $(ARGS)

docs: $(VENV)/.dev
	@$(PY) docs/build.py

lab: $(VENV)/.dev
	@$(BIN)/jupyter lab --notebook-dir . nbs/index.ipynb $(ARGS)

prepare: $(VENV)/.dev
	@$(PY) tools/notebooks.py prepare
	@$(PY) tools/notebooks.py check

notebooks: $(VENV)/.dev
	@$(TEST_ENV) $(PY) tools/notebooks.py run $(ARGS)
	@$(PY) tools/notebooks.py prepare

bench: $(VENV)/.dev
	@$(PY) benchmarks/run.py $(ARGS)
	@for name in windows training baselines metrics generation discovery forecasting evaluation explorer probing nano; do echo; echo "benchmarks/$$name.py"; $(PY) benchmarks/$$name.py || exit 1; done

wheel: $(VENV)/.dev
	@$(PY) -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf build dist _docs _proc _sphinx .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find nbs -name .ipynb_checkpoints -prune -exec rm -rf {} +

distclean: clean
	rm -rf "$(VENV)"
