# make install | serve | serve-ohif | test | test-e2e | fix | bench | weights | sample-data | readme

HOST ?= 127.0.0.1
PORT ?= 8000
STUDIES ?= sample-data
# Settings of the app as key=value, separated by spaces: make serve CONF="device=cuda preload=false"
CONF ?=

VENV = .venv
BIN = $(VENV)/bin
IS_RIGHT = import sys; sys.exit(sys.version_info[:2] != (3, 11))
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	$$name -c '$(IS_RIGHT)' 2>/dev/null && echo $$name && break; done)
SOURCES = lib apps/vs_clickseg/main.py apps/vs_clickseg/clickseg_app tests docs/results
# The server's own subprocesses call a bare `python`.
ON_PATH = PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: install serve serve-ohif test test-e2e check fix bench weights sample-data readme

install: $(VENV)/installed  ## the environment alone

$(VENV)/installed: requirements.lock requirements-server.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(IS_RIGHT)' || { echo "Python 3.11 is needed (MONAI\
	 Label ends below 3.12, SciPy begins at 3.11); found: $(or $(PYTHON),none). Name one by\
	 PYTHON=/path/to/python3.11." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-server.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

key = $(firstword $(subst =, ,$(1)))
# At the first = alone: a path or URL may hold others.
conf = --conf $(patsubst $(call key,$(1))=%,"$(call key,$(1))" "%",$(1))

# What `monailabel start_server` runs; the launcher itself would split paths at spaces.
serve: install  ## the server, on the sample data unless STUDIES= says otherwise
	$(ON_PATH) MONAI_LABEL_TRACKING_ENABLED=false $(BIN)/python -m monailabel.main start_server \
		--app apps/vs_clickseg --studies "$(STUDIES)" --host "$(HOST)" --port "$(PORT)" \
		$(foreach pair,$(CONF),$(call conf,$(pair)))

# A PACS of one's own: make serve-ohif STUDIES=http://pacs:8042/dicom-web
serve-ohif: install  ## the server on a PACS, and OHIF; without STUDIES= on an Orthanc of its own
	@case "$(STUDIES)" in sample-data | http://* | https://*) ;; *) echo "make serve-ohif wants the\
	 URL of a PACS in STUDIES=, or nothing for the sample data; got $(STUDIES). OHIF shows no\
	 folder." >&2; exit 1;; esac
	$(ON_PATH) PYTHONPATH=apps/vs_clickseg $(BIN)/python -m clickseg_app.serve_ohif \
		--host "$(HOST)" --port "$(PORT)" \
		$(if $(filter http://% https://%,$(STUDIES)),--studies "$(STUDIES)") \
		$(foreach pair,$(CONF),--conf "$(pair)")

# Tests share the cores among processes. Each computes on one thread: threads of several wait for
# each other longer than they compute.
test: install check  ## everything that CI runs
	$(ON_PATH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-e2e: $(VENV)/installed-e2e  ## Orthanc, the server and OHIF in a browser; screenshots in runs/e2e
	$(ON_PATH) $(BIN)/python -m pytest tests/e2e

E2E_PACKAGES = orthanc orthanc-dicomweb chromium fonts-dejavu-core

$(VENV)/installed-e2e: $(VENV)/installed requirements-e2e.lock
	@dpkg --status $(E2E_PACKAGES) > /dev/null 2>&1 || { test "$$(id -u)" = 0 \
		&& apt-get update --quiet && DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --quiet --no-install-recommends $(E2E_PACKAGES); } \
		|| echo "wanted are Debian's $(E2E_PACKAGES): what needs them will be skipped" >&2
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-e2e.lock && touch $@ \
		|| echo "requirements-e2e.lock cannot be installed: the test will be skipped" >&2

check: install  ## all of it but the tests
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy lib/clickseg apps/vs_clickseg/clickseg_app
	PYTHONPATH=lib:apps/vs_clickseg $(BIN)/lint-imports
	$(BIN)/python docs/results/draw.py --check

fix: install  ## rewrite what can be rewritten
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

readme: install  ## draw the tables of the README from docs/results
	$(BIN)/python docs/results/draw.py

bench: install  ## latencies and memory of the server; BENCH="--json FILE" keeps the numbers
	$(ON_PATH) $(BIN)/python tests/bench/bench.py $(BENCH)

# Outlines of the public data set, one patient a line (see "Weights" in the README); without them
# the tumors are made up, too.
CONTOURS ?=
RUN = runs/weights
comma = ,
AROUND = $(if $(CONTOURS), around outlines of Vestibular-Schwannoma-SEG (doi 10.7937/TCIA.9YTJ-5Q73$(comma) CC BY 4.0))
SOURCE = --source "A demonstration, not for clinical use: trained on synthetic heads of clickseg phantom$(AROUND)"

weights: install  ## make studies, train on them, put the weights into the package: about two hours
	$(BIN)/clickseg phantom $(RUN)/studies --count 80 --seed 1 \
		$(if $(CONTOURS),--contours "$(CONTOURS)" --split training)
	$(BIN)/clickseg train initial --studies $(RUN)/studies --config configs/demonstration.yaml --out $(RUN) $(SOURCE)
	$(BIN)/clickseg train correction --studies $(RUN)/studies --config configs/demonstration.yaml --out $(RUN) $(SOURCE)
	cp $(foreach name,initial correction,$(RUN)/$(name).pt $(RUN)/$(name).json) lib/clickseg/weights/

sample-data: install  ## make the six studies anew
	$(BIN)/clickseg phantom sample-data --force --seed 7 --count 2 --grid 240x240x20
	$(BIN)/clickseg phantom sample-data --force --seed 7 --start 2 --count 3 --grid 208x208x28 --unlabeled
	$(BIN)/clickseg phantom sample-data --force --seed 7 --start 5 --count 1 --grid 208x208x28 --unlabeled --without-t2 1
