# `make` lists what there is. Everything runs in .venv, made from requirements.lock; servers come from deploy/native.
.DEFAULT_GOAL := help
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-lock
ARGS ?=

.PHONY: help setup servers influxdb test lint demo live bench lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: $(STAMP)  ## the Python environment, .venv

# A version manager's shim may be on PATH and still fail, so a Python counts only if it runs. PYTHON=/path/to/python decides.
$(STAMP): requirements.lock
	@found=
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi
	done
	if [ -z "$$found" ]; then
	  echo "setup: expected Python 3.11 or newer with venv, found none on PATH; install one, or give PYTHON=/path/to/python" >&2; exit 2
	fi
	if ! $(RUN) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then "$$found" -m venv --clear $(VENV); fi
	echo "setup: installing $$(grep -c == requirements.lock) packages into $(VENV) for $$($(RUN) -V)"
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

servers: setup  ## fetch Kafka and Prometheus into the cache
	@$(RUN) -m deploy.native fetch

influxdb: setup  ## build InfluxDB into the cache: 4 to 7 minutes, once
	@$(RUN) -m deploy.native build-influxdb

test: setup servers influxdb  ## every test, against real servers; ARGS="-k word" chooses
	@$(RUN) -m pytest $(ARGS)

lint: setup  ## ruff
	@$(RUN) -m ruff check .

demo: setup  ## the whole stream on recorded data; Ctrl-C stops it
	@$(RUN) -m deploy.demo $(ARGS)

live: setup  ## the whole stream on live exchanges
	@$(RUN) -m deploy.demo --live $(ARGS)

bench: setup  ## benchmarks
	@$(RUN) -m benchmarks $(ARGS)

lock:  ## remake requirements.lock from pyproject.toml, with uv on PATH
	@uv pip compile --quiet --universal --python-version 3.11 --all-extras pyproject.toml \
	  --custom-compile-command "make lock" --no-emit-index-url --no-emit-find-links -o requirements.lock >/dev/null

clean:  ## remove .venv and what .native holds; the cache of servers stays
	@rm -rf $(VENV) .native
