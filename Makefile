SHELL := /bin/bash
PY := .venv/bin/python

.PHONY: setup demo test check bench torture soak fuzz audit lock format clean

setup: .venv/.ready  ## make .venv with everything, and Debian's DICOM peers where apt can

.venv/.ready: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh

demo: setup  ## push an MRI, a PET/CT and a normal study through the daemon into a PACS; pictures in demo-out/
	@scripts/isolated.sh $(PY) -m demo --out demo-out

test: setup  ## every test; starts the servers it needs; TEST="--ledger postgresql" for daemons with their ledger there
	@scripts/test.sh $(TEST)

check: setup  ## format, lint, types, layers, house rules
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m pytest -q tests/unit/test_house.py

bench: setup  ## every figure beside its peers' in one report, build/bench/report.md; BENCH="--only receive" for some
	@scripts/isolated.sh $(PY) -m benchmarks.report $(BENCH)

audit:  ## what the daemon is made of, and whether any of it is known to be vulnerable
	@scripts/audit.sh

lock:  ## requirements.lock anew, from pyproject.toml and constraints.txt
	@scripts/audit.sh lock

format:
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

clean:
	rm -rf .venv build demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

torture: setup  ## every fault test, then kill -9 at 100 random moments on a bad network; TORTURE="--kills 200" for more
	@tests=$$($(PY) -m tests.fault_tests) && scripts/isolated.sh $(PY) -m pytest -q $$tests
	@scripts/isolated.sh $(PY) -m tests.torture $(TORTURE)

fuzz: setup  ## fuzz what strangers send, guided by coverage, a minute each; FUZZ="header --seconds 600"; build/fuzz
	@$(PY) -c 'import atheris' 2>/dev/null || .venv/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@scripts/isolated.sh $(PY) -m tests.fuzz $(FUZZ)

soak: setup  ## an hour of small studies on 20 associations to a PACS that fails at random; build/soak
	@scripts/isolated.sh $(PY) -m tests.soak $(SOAK)
