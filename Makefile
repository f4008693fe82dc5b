# Every target sets up what it needs first; once that is done, it costs a fraction of a second.
.DEFAULT_GOAL := help
.PHONY: help setup drill test prove eval eval-quick bench bench-retrieval train-reranker train-moderation lint lock doctor clean

PYTHON ?= python3
SCENARIO ?=
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
UV := .cache/uv/bin/uv
COMPILE := $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --custom-compile-command "make lock"

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## environments, data, Prometheus and the model (6.4 GB of disk, 2 to 3 minutes the first time)
	@$(PYTHON) lab/bootstrap.py

drill: setup ## start a drill: the first scenario, or SCENARIO=its-name
	.venv/bin/lab start $(SCENARIO)

test: lint ## lint, then every test: drills last, alone on the machine
	.venv/bin/pytest --numprocesses 2 --dist loadfile tests/unit tests/service
	.venv/bin/pytest tests/drill

prove: setup ## run the controls that prove SCENARIO, or every scenario
	.venv/bin/lab prove $(or $(SCENARIO),--all)

bench: setup ## the gateway's cost, the generator's lag, retrieval, start and memory, side by side on this machine
	@.venv/bin/python -c "from lab.calibrate import machine; print(machine())"
	.venv/bin/python tests/bench/gateway_overhead.py
	.venv/bin/python tests/bench/generator_lag.py
	.venv/bin/python tests/bench/whole_stack.py
	$(MAKE) --no-print-directory bench-retrieval

eval: setup ## every suite of the evaluation gate at its full size: does the stack answer worse than its baseline?
	.venv/bin/lab eval run --full

eval-quick: setup ## the same at small sizes, in minutes
	.venv/bin/lab eval run --quick

bench-retrieval: setup ## quality and speed of each stage of retrieval, on every collection
	.venv/bin/python -m stack.rag.bench

train-reranker: setup ## train the cross-encoder again (an hour or two)
	.venv/bin/python -m stack.rag.training

train-moderation: setup ## train classifier, attributes and judge again, and fit the calibrations (about an hour)
	for part in minilm attributes hatesonar calibration judge; do \
	    .venv/bin/python -m stack.moderation.training $$part || exit; \
	done

lint: setup ## style and format of the code
	.venv/bin/ruff check
	.venv/bin/ruff format --check

doctor: setup ## say what is wrong with this machine or this set-up
	.venv/bin/lab doctor

lock: $(UV) ## pin the packages of pyproject.toml in requirements/*.lock
	$(COMPILE) pyproject.toml --group test --group train --group build --no-emit-package llm-design-lab -o requirements/lab.lock
	$(COMPILE) --group workers --constraint requirements/lab.lock -o requirements/workers.lock
	$(COMPILE) --group engine -o requirements/engine.lock
	$(COMPILE) --group data --no-deps -o requirements/data.lock

$(UV):
	$(PYTHON) -m venv .cache/uv
	.cache/uv/bin/pip install --quiet uv==0.13.9

clean: ## stop the drill, then remove environments, caches and runs
	-@[ ! -x .venv/bin/lab ] || .venv/bin/lab stop
	rm -rf .venv .cache runs .pytest_cache .ruff_cache .hypothesis
