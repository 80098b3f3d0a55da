# Two commands do all the set-up: `make run` and `make test`. The rest is for those who change things.
# Needs only Python >= 3.11, make and the package index. Another interpreter: make run PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS = $(sort $(wildcard notebooks/*.ipynb) $(wildcard notebooks/solutions/*.ipynb))
# One thread: the arrays are tiny, and two contended threads are far slower than one.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MPLBACKEND ?= agg
# Many processes import the package: its bytecode is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-all test-rest test-oldest mutants show-selection fonts verify-full soak cuda lint lab notebooks figures results docs site slides student sheets exam browser clean help

run: $(READY)  ## prove every identity, show the agreement matrix, train a tiny HOPE on real text
	$(BIN)/python -m hope_ref run

# What `make test` selects: the options and the paths that `make mutants` reads as well.
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with tests/notebooks/sanitize.cfg
SELECTED := $(NBVAL) -m "not slow" --ignore=notebooks/solutions --ignore-glob="notebooks/A[1-9]*"
SELECTED_PATHS := tests notebooks
# Two files at a time on two cores; a file, a notebook too, stays in one process.
SPREAD := -n logical --maxprocesses=8 --dist loadfile --no-loadscope-reorder --durations=10
PYTEST = $(BIN)/python -m pytest $(SPREAD)
# COVERAGE=1: of the package, at least so many per cent.
COVER = $(if $(COVERAGE),--cov=hope_ref --cov-report=term --cov-fail-under=95 )

test: lint fonts  ## lint, types, the tests, every notebook of the course (strictly)
	$(PYTEST) $(COVER)$(SELECTED) $(SELECTED_PATHS)

test-all:  ## `make test` with coverage, then what it leaves out: slow tests, appendices, solutions, pages in a browser
	$(MAKE) test COVERAGE=1
	$(MAKE) test-rest

test-rest: $(READY) fonts  ## what `make test` leaves out
	$(PYTEST) -m slow tests
	$(PYTEST) $(NBVAL) notebooks/solutions notebooks/A[1-9]*.ipynb
	$(BIN)/python -m hope_ref verify --random 60 --finite 2000
	$(BIN)/python -m hope_ref soak --tokens 100000

# The lower bounds of pyproject.toml, each as an exact version. Notebooks are left out: stored outputs are of the newest.
OLDEST := .venv-oldest
test-oldest: $(OLDEST)/.ready  ## the tests with the oldest versions that pyproject.toml allows
	$(OLDEST)/bin/python -m pytest $(SPREAD) -m "not slow" tests --ignore=tests/docs --ignore=tests/notebooks

$(OLDEST)/.ready: pyproject.toml tests/lower_bounds.py | $(READY)
	$(PYTHON) -m venv $(OLDEST)
	$(BIN)/python tests/lower_bounds.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt -e '.[test]'
	@touch $(OLDEST)/.ready

mutants: $(READY)  ## plant each fault of tests/mutations in a copy: a test must turn red (ONLY="NAME ..." for some)
	$(BIN)/python tests/mutations/run.py $(ONLY)

show-selection:
	@printf '%s\n' '$(SELECTED)' '$(SELECTED_PATHS)'

fonts: $(READY)  # Matplotlib says on stderr that it builds its font cache: not within a notebook
	@$(BIN)/python -c 'import matplotlib.font_manager' 2>/dev/null

verify-full: $(READY)  ## 300 whole models with random options against the reference, 10,000 bounded ones run
	$(BIN)/python -m hope_ref verify --random 300 --finite 10000 --report results/random_configurations.json

soak: $(READY)  ## stream 1,000,000 tokens through a default model
	$(BIN)/python -m hope_ref soak

# The Python that is there, with no environment made and nothing fetched: the one named, else .venv's, else python3.
HERE = $(if $(filter file,$(origin PYTHON)),$(firstword $(wildcard $(BIN)/python) $(PYTHON)),$(PYTHON))
cuda:  ## all that only a GPU can say, in nine minutes, into results/ (TOY=1: toy sizes on a CPU; AGAIN=1; FOLDER=...)
	$(HERE) -m hope_ref cuda $(if $(TOY),--toy) $(if $(AGAIN),--again) $(if $(FOLDER),--folder "$(FOLDER)")

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The server's root is the repository's, or links out of notebooks/ would lead nowhere.
lab: $(READY)  ## open the course in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_run_it_and_read_the_map.ipynb

notebooks: $(READY) fonts  ## execute every notebook again, in place
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.timeout=300 $(NOTEBOOKS)

figures: $(READY)  ## draw every figure of the course and of the README
	$(BIN)/python -m hope_ref figures

results: $(READY)  ## write RESULTS.md and its figures again, from the records in results/experiments
	$(BIN)/python -m hope_ref experiment all --report
	$(BIN)/python -m hope_ref figures

docs: $(READY)  ## write ERRATA.md and NOTATION.md
	$(BIN)/python -m hope_ref docs

site: $(READY)  ## the course, the reference and all pages as a web site, in build/site
	$(BIN)/python docs/make.py site

slides: $(READY)  ## the notebooks as slides, in build/slides
	$(BIN)/python docs/make.py slides

student: $(READY)  ## the notebooks without solutions, for nbgrader, in build/student
	$(BIN)/python docs/make.py student

sheets: $(READY)  ## a sheet to print for each notebook, in build/sheets
	$(BIN)/python docs/make.py sheets

exam: $(READY)  ## an exam with fresh numbers, and its answers, in build/exam (SEED=7 for another one)
	$(BIN)/python docs/make.py exam --seed $(or $(SEED),1)

browser:  ## install Chromium, in which the tests look at site and slides (Debian or Ubuntu, as root)
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then exit 0; \
	elif ! command -v apt-get >/dev/null; then echo "make browser knows only apt-get (Debian, Ubuntu): install Chromium by hand"; exit 1; \
	elif [ "$$(id -u)" != 0 ]; then echo "make browser must be root: sudo make browser"; exit 1; \
	else apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; fi

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("hope_ref needs Python >= 3.11, but $(PYTHON) is %d.%d. Try: make PYTHON=python3.12" % v)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Python's venv module is missing: install it (on Debian or Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $(READY)

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12
