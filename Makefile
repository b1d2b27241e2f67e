# Entry points for people. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help install run refresh status ui test coverage slow-test kill-test hostile-test fuzz audit screenshots \
	lint format docs bench lock s3 workers clean

PYTHON ?= python3
# uv does not compile; what the first run imports is compiled once, also where this is set
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
# only `make ... SOURCE=`: otherwise the environment and settings.env decide
CHOSEN := $(if $(filter command line,$(origin SOURCE)),MNIST_SOURCE=$(SOURCE))
# of the one lock, uv installs what is asked for; what is not in it, or has another hash, is refused
UV = $(BIN)/uv pip install --python $(BIN)/python
LOCKED = $(UV) --require-hashes --constraint requirements.lock --requirements pyproject.toml

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/run.stamp settings.env ## .venv with all that running needs, and a settings.env that works offline

run: install ## materialize everything (SOURCE=openml for all 70,000 digits)
	@$(CHOSEN) $(BIN)/mnist-pipeline run

refresh: install ## bring everything up to date in one run (SOURCE=openml for all 70,000 digits)
	@$(CHOSEN) $(BIN)/mnist-pipeline refresh

status: install ## which assets are up to date, and why the others are not
	@$(CHOSEN) $(BIN)/mnist-pipeline status

ui: install ## the Dagster UI on 127.0.0.1 (PORT=3001, SOURCE=openml for all 70,000 digits)
	@$(CHOSEN) $(BIN)/mnist-pipeline ui $(if $(filter command line,$(origin PORT)),--port $(PORT))

test: .venv/dev.stamp ## the tests
	@$(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

coverage: .venv/dev.stamp ## lines and branches of config, digits and incremental that their tests reach
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/coverage run -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder \
		$(foreach folder,config digits incremental,mnist_pipeline_tests/$(folder))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

slow-test: .venv/dev.stamp ## the tests that take minutes: the tutorial itself on all 70,000
	@$(BIN)/pytest -m slow

kill-test: .venv/dev.stamp ## kill a run at 60 points of its life, let eight processes crowd for 5 rounds (a quarter of an hour)
	@$(BIN)/pytest mnist_pipeline_tests/system/test_killed.py mnist_pipeline_tests/system/test_crowd.py \
		--kill-points 60 --crowd-rounds 5 --numprocesses 2 --durations 2

hostile-test: .venv/dev.stamp ## 100,000 hostile ARFF files and 20,000 pictures (half an hour)
	@$(BIN)/pytest mnist_pipeline_tests/system/test_hostile.py --hypothesis-profile many --durations 12

fuzz: .venv/dev.stamp ## fuzz the ARFF reader and pictures, guided by coverage, ten minutes each
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz
	@mkdir -p .fuzz/arff .fuzz/picture
	@for kind in arff picture; do $(BIN)/python -m mnist_pipeline_tests.support.fuzzing $$kind -max_total_time=600 \
		-max_len=30000 -rss_limit_mb=2048 -artifact_prefix=.fuzz/found-$$kind- \
		.fuzz/$$kind mnist_pipeline_tests/support/corpus/$$kind || exit 1; done

audit: .venv/dev.stamp ## known vulnerabilities of the locked packages (needs the network)
	@$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

lint: .venv/dev.stamp ## ruff, mypy, the contract of imports and spelling, as CI runs them
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/codespell *.md docs mnist_pipeline benchmarks deploy

format: .venv/dev.stamp ## fix what ruff can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: .venv/dev.stamp ## the docs as a site: build/site/index.html
	@rm -rf build/docs build/site .cache && mkdir -p build/docs
	@cp -r README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md LICENSE docs notebooks build/docs
	@$(BIN)/zensical build --strict

screenshots: .venv/dev.stamp ## pictures of the Dagster UI for the docs (needs chromium)
	@$(BIN)/pytest mnist_pipeline_tests/system/test_ui.py -k "plots_pictures or alpha" --screenshots docs/images

bench: .venv/dev.stamp ## what refresh costs when nothing changed; everything on all digits, into docs/benchmarks.md (half an hour)
	@$(BIN)/python -m benchmarks.full

lock: | .venv/bin/uv ## lock what pyproject.toml asks for, keeping pins that still fit
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
		--all-extras --group dev pyproject.toml --output-file requirements.lock

s3: .venv/s3.stamp ## boto3 into .venv, for a store in a bucket

workers: .venv/workers.stamp ## Celery and PostgreSQL into .venv, for many machines

clean: ## remove .venv and caches; data/ and settings.env stay
	@rm -rf .venv .coverage .fuzz .hypothesis .mypy_cache .ruff_cache .pytest_cache .cache dist build .tmp_dagster_home_*
	@find . -name __pycache__ -not -path './data/*' -prune -exec rm -rf {} +

# of an earlier version's .env, if there is one
settings.env: | .venv/run.stamp
	@$(BIN)/python -m mnist_pipeline.config.settings_file

.venv/bin/uv:
	@echo "creating .venv"
	@{ $(PYTHON) -m venv .venv && sed -n '/^uv==/,/[^\]$$/p' requirements.lock | $(BIN)/pip install --quiet \
		--disable-pip-version-check --require-hashes --no-deps --requirement /dev/stdin; } || { rm -rf .venv; exit 1; }

.venv/run.stamp: requirements.lock pyproject.toml | .venv/bin/uv
	@$(LOCKED) --group build
	@$(UV) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@$(LOCKED) --all-extras --group dev
	@touch $@

.venv/s3.stamp .venv/workers.stamp: .venv/%.stamp: .venv/run.stamp
	@$(LOCKED) --extra $*
	@touch $@
