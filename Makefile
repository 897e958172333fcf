# make run    the portal, from nothing
# make test   all checks and tests, from nothing
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What Python has compiled is kept, whatever the shell says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run demo quick test coverage test-matrix lint format faults attacks bench audit lock screenshots clean

help:
	@sed -n 's/^# make/make/p;s/^#  /  /p' Makefile

run: $(VENV)/.run
	@exec $(BIN)/python manage.py serve

# make demo   sends 15 tutors, 30 sessions and 25 feedback entries to the running portal; add
#             PORT=8001 if the portal was started with it
demo: $(VENV)/.run
	@exec $(BIN)/python manage.py generate --demo

# make quick  style, types, and the fast tests: no process is started
quick: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -m "not processes and not slow" --ignore $(FUZZ) -n auto

# Slow, and so is its collection, which makes all cases.
FUZZ := tests/test_schema_fuzz.py

# Twice as many as a small machine has cores: many tests wait for what they started.
PARALLEL := -n 4 --dist loadgroup

test: $(VENV)/.test lint
	$(BIN)/pytest $(PARALLEL)

# make coverage  the tests once more, and the lines that none of them reached; half as long again
coverage: $(VENV)/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# make test-matrix  the tests on Debian's PostgreSQL and Redis; TESTS selects some of them
TESTS := tests --ignore=tests/browser --ignore=tests/faults
test-matrix: $(VENV)/.test
	$(BIN)/python -m tests.matrix $(PARALLEL) $(TESTS)

# make lint   style, types, import layers, schema
lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

# make format formats the code
format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make faults  runs the full fault campaigns and writes docs/reliability.md; takes 20 minutes
faults: $(VENV)/.test
	FAULTS=long $(BIN)/pytest tests/faults -s -o timeout=3600

# make attacks  attacks a running portal and writes the results into docs/security.md
attacks: $(VENV)/.test
	ATTACKS=long $(BIN)/pytest tests/attacks -s -o timeout=3600

# make bench  measures the portal beside its peers and writes docs/performance.md; takes an hour and
#             a half, and needs wrk and redis-tools. To try it: ROWS="single batch" ROUNDS=1 SCALE=0.01
ROUNDS := 5
WORKERS := 1
SCALE := 1
bench: $(VENV)/bench/.done
	@$(VENV)/bench/bin/python -m tests.benchmarks \
		--rows "$(ROWS)" --rounds $(ROUNDS) --workers $(WORKERS) --scale $(SCALE)

# make audit  known vulnerabilities of the installed packages; asks the advisory service
# Without --strict, a package that could not be looked up would pass.
audit: $(VENV)/.run $(VENV)/tools/.done
	@$(VENV)/tools/bin/pip-audit --strict --path $(VENV)/lib/python3*/site-packages || \
		{ echo "Not clean: a package is known to be vulnerable, or was not found. See above." >&2; \
		exit 1; }

# make screenshots  makes the pictures in docs/images from the real pages; needs chromium
screenshots: $(VENV)/.test
	$(BIN)/python -m tests.browser.screenshots

# make clean  removes the virtual environment; the portal's data in var/ stays
clean:
	rm -rf $(VENV)

# make lock   makes the lock files from the short lists; commit both
lock: $(VENV)/tools/.done
	$(VENV)/tools/bin/uv pip compile $(LOCK) requirements.txt -o requirements.lock
	$(VENV)/tools/bin/uv pip compile $(LOCK) requirements-dev.txt -c requirements.lock -o requirements-dev.lock
	$(VENV)/tools/bin/uv pip compile $(LOCK) requirements-bench.txt -c requirements.lock -o requirements-bench.lock

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"

# uv is optional: it installs several times faster.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make run PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing $(1), once; this takes about half a minute."
	@test -x $(2)/bin/python || $(PYTHON) -m venv $(2) || \
		{ echo "Python needs its venv module (Debian: the package python3-venv)." >&2; exit 1; }
	@{ if command -v uv >/dev/null; then uv pip install --quiet --python $(2)/bin/python -r $(1); \
		else $(2)/bin/python -m pip install --quiet --disable-pip-version-check -r $(1); fi; \
		} >$(2)/install.log 2>&1 || { printf '%s\n' \
		"The packages of $(1) could not be installed; $(2)/install.log says why." \
		"Installing needs a package index that can be reached. To name a mirror:" \
		"  PIP_INDEX_URL=ADDRESS make run     (with uv: UV_DEFAULT_INDEX=ADDRESS)" \
		"or a folder of wheels, without any index:" \
		"  PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR make run     (with uv: UV_NO_INDEX=1 UV_FIND_LINKS=DIR)" \
		>&2; exit 1; }
endef

$(VENV)/.run: requirements.lock
	$(call install,requirements.lock,$(VENV))
	@touch $@

$(VENV)/.test: requirements-dev.lock
	$(call install,requirements-dev.lock,$(VENV))
	@touch $@ $(VENV)/.run

# A separate environment: the tools' packages do not mix with ours and are not audited.
$(VENV)/tools/.done: requirements-tools.txt
	$(call install,requirements-tools.txt,$(VENV)/tools)
	@touch $@

# Another one: the portal with its peers.
$(VENV)/bench/.done: requirements-bench.lock
	$(call install,requirements-bench.lock,$(VENV)/bench)
	@touch $@
