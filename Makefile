# `make` alone prints this help.
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 3000
export BENTOML_DO_NOT_TRACK := True

SERVE := .venv-serve
DEV := .venv
# uv, pinned by hash like all else, installs a lock in seconds. Packages are compiled once: where Python may not write
# (PYTHONDONTWRITEBYTECODE, another user's environment) each start would take twice as long.
BOOT := .venv-boot
SYNC := $(BOOT)/bin/uv pip sync --quiet --compile-bytecode --require-hashes --python
# PyAV, for what OpenCV can't decode; under the GPL as its wheels are distributed: CODECS= leaves it out.
CODECS ?= requirements/codecs.txt
# Those that benchmarks measure us against, each in .venv-bench-NAME.
PEERS := bentoml litserve fastapi
# Those that `tests.bench shots` compares with.
DETECTORS := scenedetect transnetv2
# What `train` and `export` make, and the checkpoint between them.
RECIPE ?= models/recipes/actions-lstm.toml
CHECKPOINT = runs/$(basename $(notdir $(RECIPE))).pt
# The model that is reproduced, and its version that ships.
MODEL ?= actions-lstm
SHIPPED = $(or $(shell ls models/zoo/$(MODEL) 2>/dev/null | sort --version-sort | tail -n 1),1)
# Where bundles go, as which version, and whether one that is there is replaced.
ZOO ?= models/zoo
VERSION ?= 1
REPLACE ?=
# Files of tests side by side: most of them wait for a process to start.
BESIDE := --numprocesses logical --maxprocesses 4 --dist loadfile

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

serve: $(SERVE)/.ready ## install what serving needs and start on PORT (3000) with the bundled model
	PORT=$(PORT) $(SERVE)/bin/python -m service serve

install-serve: $(SERVE)/.ready ## only install what serving needs

env: $(DEV)/.ready ## the environment with everything: training, tests

test: $(DEV)/.ready ## install what tests need and run all of them
	$(DEV)/bin/python -m pytest $(BESIDE)

test-fast: $(DEV)/.ready ## the tests without the slow ones
	$(DEV)/bin/python -m pytest $(BESIDE) -m "not slow"

lint: $(DEV)/.ready ## ruff and mypy
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

fuzz: $(DEV)/.ready ## decode broken videos: make fuzz FILES=10000 SEED=1
	$(DEV)/bin/python -m tests.fuzz --files $(or $(FILES),10000) --seed $(or $(SEED),1)

bench: $(DEV)/.ready $(PEERS:%=.venv-bench-%/.ready) ## real servers side by side: make bench [QUICK=1]
	$(DEV)/bin/python -m tests.bench all $(if $(QUICK),--quick)

train: needs-data $(DEV)/.ready ## train a recipe: make train RECIPE=models/recipes/actions-lstm.toml DATA=manifest.csv
	$(DEV)/bin/python -m models train --recipe $(RECIPE) --data $(DATA) $(if $(SPLIT),--split $(SPLIT)) --out $(CHECKPOINT)

export: needs-data $(DEV)/.ready ## export what it trained, proven on clips: make export RECIPE=recipe.toml DATA=manifest.csv
	$(DEV)/bin/python -m export $(CHECKPOINT) --out $(ZOO) --version $(VERSION) --clips $(DATA) $(if $(REPLACE),--replace)

reproduce: needs-data ## a model that ships, from its recipe: make reproduce MODEL=actions-lstm DATA=manifest.csv
	$(MAKE) train export RECIPE=models/recipes/$(MODEL).toml VERSION=$(SHIPPED) REPLACE=1
	$(DEV)/bin/python -m models card $(ZOO)/$(MODEL)/$(SHIPPED)

needs-data:
	@test -n "$(DATA)" || { echo "name the clips: make $(MAKECMDGOALS) DATA=manifest.csv (or a folder with one folder a class)"; exit 2; }

lock: $(BOOT)/.ready ## compile requirements/*.txt from pyproject.toml
	$(BOOT)/bin/python requirements/compile.py

clean: ## remove the environments
	rm -rf $(SERVE) $(DEV) $(BOOT) $(PEERS:%=.venv-bench-%) $(DETECTORS:%=.venv-bench-%)

$(BOOT)/.ready: requirements/boot.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(BOOT)
	$(BOOT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/boot.txt
	@touch $@

# The lock of serving: LOCK=, or the one once so named, or with CUDA where the driver is new enough, or for the CPU.
$(SERVE)/.ready: $(wildcard requirements/serve-*.txt) $(CODECS) requirements/choose.py $(BOOT)/.ready
	@set -e; named=$(or $(LOCK),$$(cat $(SERVE)/lock 2>/dev/null || true)); \
	lock=$${named:-$$($(PYTHON) requirements/choose.py)}; \
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) $(SERVE); \
	$(SYNC) $(SERVE)/bin/python $$lock $(CODECS); \
	if [ -n "$$named" ]; then echo "$$named" > $(SERVE)/lock; fi
	@touch $@

$(DEV)/.ready: requirements/dev.txt $(BOOT)/.ready
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) $(DEV)
	$(SYNC) $(DEV)/bin/python requirements/dev.txt
	@touch $@

.venv-bench-%/.ready: requirements/bench-%.txt $(BOOT)/.ready
	$(BOOT)/bin/uv venv --quiet --clear --python $(PYTHON) $(@D)
	$(SYNC) $(@D)/bin/python $<
	@touch $@


.PHONY: needs-data help serve install-serve env test test-fast lint fuzz bench train export reproduce lock clean
.DEFAULT_GOAL := help
