# `make` lists what there is. Everything runs in .venv, made from requirements.lock; servers come from deploy/native.
.DEFAULT_GOAL := help
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-lock
ARGS ?=
WORKERS ?= 0

.PHONY: help setup servers influxdb test lint demo live bench verify up-production backup restore export-dashboards import-dashboards up down scale logs lock clean

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

servers: setup  ## fetch Kafka and Prometheus into the cache; as root also a Chromium for the tests of pages
	@$(RUN) -m deploy.native fetch

influxdb: setup  ## build InfluxDB into the cache: 4 to 7 minutes, once
	@$(RUN) -m deploy.native build-influxdb

test: setup servers influxdb  ## every test, against real servers; ARGS="-k word" chooses, WORKERS=2 shares them between two processes
	@$(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

lint: setup  ## ruff
	@$(RUN) -m ruff check .

demo: setup  ## the whole stream on recorded data; Ctrl-C stops it. DEMO=compose or DEMO=native decides how
	@$(RUN) -m deploy.demo $(ARGS)

live: setup  ## the whole stream on live exchanges
	@$(RUN) -m deploy.demo --live $(ARGS)

bench: setup  ## benchmarks
	@$(RUN) -m benchmarks $(ARGS)

verify: setup  ## replay == live over the last hour, or ARGS="--from T --to T"; of the demo, or KAFKA_BOOTSTRAP_SERVERS
	@STRATEGIES_FILE=$${STRATEGIES_FILE:-$(firstword $(wildcard .native/demo/strategies.yaml) config/strategies.yaml)} $(RUN) -m services.replay verify $(ARGS)

up: setup  ## the whole stack in containers, on live exchanges, with the settings of .env; returns once all of it is ready
	@$(RUN) -m deploy.compose.stack up

down: setup  ## stop the stack; its data stays. ARGS=--volumes removes that too
	@$(RUN) -m deploy.compose.stack down $(ARGS)

scale: setup  ## indicators=3: so many workers share the work, twelve at most
	@$(RUN) -m deploy.compose.stack scale "$(indicators)"

logs: setup  ## what the stack's services say, as they say it; ARGS="ingest gateway" chooses
	@$(RUN) -m deploy.compose.stack logs $(ARGS)

up-production: setup  ## the stack for a server that others reach: docker-compose.production.yml; passwords and TLS of your own
	@export COMPOSE_FILE=docker-compose.production.yml
	docker compose run --rm --quiet-pull check
	docker compose up --detach --build --wait
	$(RUN) -m deploy.compose.annotate

backup: setup  ## InfluxDB, Grafana and Prometheus of the running stack into backups/
	@$(RUN) -m deploy.compose.backups make

restore: setup  ## FROM=backups/FILE: put a backup back into the running stack, and read back what it holds
	@$(RUN) -m deploy.compose.backups restore "$(FROM)"

export-dashboards: setup  ## what was changed in the running Grafana, into grafana/dashboards; ARGS=--check only says it
	@$(RUN) -m deploy.compose.dashboards export $(ARGS)

import-dashboards: setup  ## grafana/dashboards, or ARGS="FILE...", into a running Grafana
	@$(RUN) -m deploy.compose.dashboards import $(ARGS)

lock:  ## remake requirements.lock from pyproject.toml, with uv on PATH
	@uv pip compile --quiet --universal --python-version 3.11 --all-extras pyproject.toml \
	  --custom-compile-command "make lock" --no-emit-index-url --no-emit-find-links -o requirements.lock >/dev/null

clean:  ## remove .venv and what .native holds; the cache of servers stays
	@rm -rf $(VENV) .native
