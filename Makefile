# make demo   a whole labelling job on sample scenes, on this machine
# make test   the tests (sets up .venv first)
# make test-slow       the full-size network on the CPU, thousands of images: an hour, 16 GiB
# make test-reference  our checkpoint mapping and engine against Meta's own code, in a venv beside
# make test-readers    exports, read back by the tools they are for, each in a venv of its own
# make chaos  kills, restarts and store faults for five minutes, by a seed: make chaos ARGS="--seed 3"
# make bench, bench-engine, bench-scale, bench-export, bench-console  measure the whole path, the
#             engine alone, many images, exports, the console
# make chromium        the browser that the console is tested in (Debian, as root)
# make screenshots     pictures of the console for the documentation
# make check  ruff, mypy --strict, oxlint, import contracts, migrations, compose file
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test chromium screenshots test-slow test-reference test-readers chaos check bench bench-engine bench-scale bench-export bench-console lock format clean

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("maskmill needs Python 3.11 or newer (make PYTHON=python3.12 ...)" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (about 6 GB with PyTorch; a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/python -m maskmill demo

test: $(READY) chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not long" $(ARGS)

# Where it cannot be installed from here, the console's tests fail and say what is missing.
chromium:
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || test "$$(id -u)" != 0 \
		|| { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; }

screenshots: $(READY) chromium
	$(BIN)/python -m pytest tests/browser/screenshots.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/oxlint --deny-warnings api/console/static
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

test-slow: $(READY)
	$(BIN)/python -m pytest --timeout 3600 tests/slow $(ARGS)
	$(BIN)/python -m pytest -m long tests/unit
	GOOD_IMAGES_FOR_EACH_BAD=39 $(BIN)/python -m pytest --timeout 3600 tests/acceptance/test_bad_images.py

test-reference: .reference/.ready
	.reference/bin/python -m pytest -p no:anyio tests/reference $(ARGS)

# Meta's package has bounds on versions that the lock does not meet.
.reference/.ready: $(READY) pyproject.toml
	@test -x .reference/bin/python || $(PYTHON) -m venv .reference
	@echo "Setting up .reference (about 6 GB)"
	@$(BIN)/uv pip compile --quiet --no-header --no-annotate --extra worker --extra embedded --extra reference --group dev pyproject.toml -o .reference/lock
	@$(BIN)/uv pip install --quiet --python .reference/bin/python -r .reference/lock
	@$(BIN)/uv pip install --quiet --python .reference/bin/python --no-deps --editable .
	@touch $@

READERS ?= $(sort $(basename $(notdir $(wildcard tests/readers/test_*.py))))
READERS := $(READERS:test_%=%)

test-readers: $(READERS:%=.readers/%/.ready)
	@for reader in $(READERS); do echo "$$reader:"; \
		.readers/$$reader/bin/python -m pytest -c tests/readers/pytest.ini \
			tests/readers/test_$$reader.py $(ARGS) || exit 1; done

# Its own packages come first, behind them are those of $(VENV).
.readers/%/.ready: tests/readers/%.txt tests/readers/overrides.txt $(READY)
	@rm -rf .readers/$* && $(PYTHON) -m venv --without-pip .readers/$*
	@echo "Setting up .readers/$*"
	@$(BIN)/uv pip install --quiet --python .readers/$*/bin/python -r $< --override tests/readers/overrides.txt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.readers/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	@touch $@

chaos: $(READY)
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks.throughput

bench-engine: $(READY)
	$(BIN)/python -m benchmarks.engine $(ARGS)

bench-scale: $(READY)
	$(BIN)/python -m benchmarks.scale $(ARGS)

bench-export: $(READY)
	$(BIN)/python -m benchmarks.export $(ARGS)

bench-console: $(READY) chromium
	$(BIN)/python -m benchmarks.console $(ARGS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --extra worker --extra embedded --group dev pyproject.toml -o requirements.lock

# Passwords for docker compose, made once; letters and digits only, since they stand in URLs.
.env:
	@umask 077; for name in POSTGRES_PASSWORD BROKER_PASSWORD SIGNING_SECRET S3_PASSWORD GRAFANA_PASSWORD; do \
		echo "$$name=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(24))')"; done > $@
	@echo "Wrote .env with passwords made at random"

clean:
	rm -rf $(VENV) .reference .readers demo-output
